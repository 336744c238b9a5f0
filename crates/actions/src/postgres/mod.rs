//! PostgreSQL: sessions that a successor can find and end, restoring a dump, checking what came of it,
//! queries, migrations, masking, and tests of policies.

mod catalog;
mod check;
mod dump;
mod execute;
mod identity;
mod mask;
mod migrate;
mod query;
mod read_only;
mod restore;
mod rows;
mod session;
mod split;
mod sql;
mod suite;
mod temporary;
mod upsert;
mod words;

pub use check::{Check, CheckOutputs, CheckParams, Checked};
pub use dump::{Dump, DumpOutputs, DumpParams, Tool, tool_for, tools};
pub use execute::{Execute, ExecuteOutputs, ExecuteParams};
pub use identity::identity;
pub(crate) use identity::outside;
pub use mask::{
    LeakCheck, LeakCheckOutputs, LeakCheckParams, Mask, MaskOutputs, MaskParams, Masked, TaintFile,
};
pub use migrate::{Migrate, MigrateOutputs, MigrateParams};
pub use query::{Expect, Query, QueryOutputs, QueryParams};
pub use read_only::{ReadOnly, ReadOnlyOutputs, ReadOnlyParams};
pub use restore::{Profile, Restore, RestoreOutputs, RestoreParams, Skipped, Verify};
pub use rows::{
    Columns, ExtractOutputs, ExtractParams, ExtractRows, ParentRows, RestoreTable, RestoreTableOutputs,
    RestoreTableParams, RowsFile, Via,
};
pub use session::{Session, connect, fence};
pub use suite::{Identity, Test, TestOutputs, TestParams, TestResult};
pub use temporary::{CreateDatabase, CreateParams, CreatedDatabase, DropDatabase, DropOutputs, DropParams};
pub use upsert::{
    ChangedColumn, Difference, DifferenceOutputs, DifferenceParams, Update, UpdateWord, Upsert,
    UpsertOutputs, UpsertParams,
};

#[cfg(test)]
mod tests;
