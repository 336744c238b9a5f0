//! What a run proves, written down: measured objectives, and the record of a drill that an auditor asks for.

mod files;
mod measure;
mod record;

pub use measure::Measure;
pub use record::Record;

#[cfg(test)]
mod tests;
