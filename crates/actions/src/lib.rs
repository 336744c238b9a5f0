//! How it is done in the world: one module per system, each action a parameter struct, an output
//! struct and the code between.
//!
//! | module   | what it talks to                                     |
//! |----------|------------------------------------------------------|
//! | `typed`  | nothing: makes an [`runbook_core::action::Action`] of typed code |
//!
//! The one rule: an action never decides whether it may run again. It says what the world looks
//! like (`Aftermath`), and the executor decides.

mod registry;
pub mod typed;

pub use registry::registry;
