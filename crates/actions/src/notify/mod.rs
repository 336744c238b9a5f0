//! Telling people outside the run.

mod send;
mod text;

pub use send::Notify;

#[cfg(test)]
mod tests;
