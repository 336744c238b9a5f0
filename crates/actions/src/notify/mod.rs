//! Telling people outside the run.

mod send;
pub(crate) mod text;

pub use send::Notify;

#[cfg(test)]
mod tests;
