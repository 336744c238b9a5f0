//! A tree to a [`Document`](crate::document::Document), by hand, so that all mistakes of a file are
//! found at once, each at its place and with its mend. Knows the keys of the language and their
//! shapes; knows no action, no environment and no other file.

mod entry;
pub(crate) mod fields;
mod input;
mod runbook;
pub(crate) mod scalar;
pub(crate) mod spellings;
mod step;
mod value;

#[cfg(test)]
mod tests;

pub use input::coerce_input;
pub use runbook::{INPUTS_MAX, STEPS_MAX, runbook};
pub use scalar::parse_duration;
