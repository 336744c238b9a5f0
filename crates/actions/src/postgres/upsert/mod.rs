//! Rows of a file put into a table: `difference` says what would change, `action` does it in one transaction with the
//! step's key, `undo` takes it back while nobody has changed the rows since.

mod action;
mod difference;
mod keys;
mod params;
mod parents;
mod stage;
mod target;
mod undo;

pub use action::Upsert;
pub use difference::Difference;
pub use params::{
    ChangedColumn, DifferenceOutputs, DifferenceParams, Update, UpdateWord, UpsertOutputs, UpsertParams,
};
pub(super) use stage::quiet;

#[cfg(test)]
mod tests;
