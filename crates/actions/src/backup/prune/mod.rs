//! `backup.prune`: deletes the days that nobody keeps any more: dump, checksum, index and manifests of a day together.
//! Counts days that are there, not days of the calendar, so that neither a wrong clock nor a pause of the backups makes
//! it delete more; what it is not sure of, it keeps.

mod action;
mod rules;
#[cfg(test)]
mod tests;

pub use action::{Prune, PruneOutputs, PruneParams};
