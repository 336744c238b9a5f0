//! Single rows out of a dump. `extract` is the action; `source` decides what is read and trusted, `scan` goes through
//! it, `pick` takes what is wanted to a `file`.

mod database;
mod extract;
pub(crate) mod file;
mod index;
mod keys;
mod load;
mod pick;
mod scan;
pub(crate) mod source;

pub use extract::{ExtractOutputs, ExtractParams, ExtractRows, ParentRows, Via};
pub use file::RowsFile;
pub use keys::Columns;
pub use load::{RestoreTable, RestoreTableOutputs, RestoreTableParams};

#[cfg(test)]
mod tests;
