//! What all HTTP stand-ins share: listeners whose connections can be cut, and faults.

mod fault;
mod listener;

pub use fault::{Cut, Fault, Service};
pub(crate) use fault::{Faults, layer};
pub(crate) use listener::{bind, serve};
