//! `postgres.dump`: a database into the backup bucket, as a custom-format archive that no disk of this machine sees, with
//! its index and its sha256 beside it. The sha256 is written last, after the object was read back: a dump that has one
//! is whole.

mod action;
mod child;
mod params;
mod said;
mod stream;
#[cfg(test)]
mod tests;
mod tool;

pub use action::Dump;
pub use params::{DumpOutputs, DumpParams};
pub use tool::{Tool, tool_for, tools};
