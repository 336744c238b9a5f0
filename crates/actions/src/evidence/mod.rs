//! What a run proves, written down: what was seen, measured objectives, and the record of a drill that an auditor
//! asks for. Files of the run, beside its journal; changes nothing else but the bucket of drill records.

mod files;
mod measure;
mod record;
mod save;

pub use measure::Measure;
pub use record::Record;
pub use save::Save;

#[cfg(test)]
mod tests;
