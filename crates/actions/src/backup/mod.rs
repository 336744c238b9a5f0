//! The backup bucket: what it holds, which dump to restore, how far one can be trusted, what is inside it, what goes.

pub mod catalog;
pub mod inspect;
mod prune;
pub(crate) mod reading;
mod select;
pub mod verify;
mod write;
pub(crate) mod writing;

pub use prune::{Prune, PruneOutputs, PruneParams};
pub use select::{Select, SelectParams};
pub use verify::Verify;
pub use write::{Write, WriteOutputs, WriteParams};
