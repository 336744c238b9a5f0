//! The dumps in the backup bucket: which one to restore.

mod select;

pub use select::{Select, SelectParams};
