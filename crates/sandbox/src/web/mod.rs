//! What all HTTP stand-ins share: listeners whose connections can be cut, faults, and the count of effects.

mod effects;
mod fault;
mod listener;

pub(crate) use effects::Effects;
pub use fault::{Cut, Fault, Service};
pub(crate) use fault::{Faults, layer};
pub(crate) use listener::{bind, serve};
