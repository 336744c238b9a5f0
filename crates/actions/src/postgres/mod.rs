//! PostgreSQL: sessions that a successor can find and end, restoring a dump, checking what came of it,
//! queries, migrations, and tests of policies.

mod catalog;
mod check;
mod dump;
mod execute;
mod migrate;
mod query;
mod restore;
mod session;
mod split;
mod sql;
mod suite;
mod words;

pub use check::{Check, CheckOutputs, CheckParams, Checked};
pub use dump::{Dump, DumpOutputs, DumpParams, Tool, tool_for, tools};
pub use execute::{Execute, ExecuteOutputs, ExecuteParams};
pub use migrate::{Migrate, MigrateOutputs, MigrateParams};
pub use query::{Expect, Query, QueryOutputs, QueryParams};
pub use restore::{Profile, Restore, RestoreOutputs, RestoreParams, Skipped, Verify};
pub use session::{Session, connect, fence};
pub use suite::{Identity, Test, TestOutputs, TestParams, TestResult};

#[cfg(test)]
mod tests;
