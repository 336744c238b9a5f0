//! Talking HTTP to the systems of the environment. Nothing here knows a particular service; nothing
//! else in this crate builds an HTTP client.

mod answer;
mod ask;
mod call;
mod check;
mod client;
mod poll;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

pub(crate) use ask::{Question, Who, ask};
pub(crate) use call::{Api, Reply};
pub use check::HttpCheck;
pub(crate) use poll::{Look, Wait, pause, until};
