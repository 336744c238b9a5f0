//! Evidence: what was seen, kept as a file beside the journal.

mod save;

pub use save::Save;
