//! Talking HTTP to the systems of the environment. Nothing here knows a particular service; nothing
//! else in this crate builds an HTTP client.

mod answer;
mod call;
mod check;
mod client;
mod poll;
mod request;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

pub(crate) use call::{Api, Reply};
pub use check::{Check, HttpCheck};
pub(crate) use check::{Held, holds};
pub(crate) use poll::{Look, Wait, pause, until};
pub use request::HttpRequest;
pub use request::Verb;
pub(crate) use request::{Answered, Asking, ask, settle_by};
