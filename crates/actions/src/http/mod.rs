//! Talking HTTP to the systems of the environment. Nothing here knows a particular service; nothing
//! else in this crate builds an HTTP client.

mod answer;
mod call;
mod check;
mod client;
mod journey;
#[cfg(test)]
mod journey_tests;
mod poll;
#[cfg(test)]
pub(crate) mod stand_in;
#[cfg(test)]
mod tests;

pub(crate) use call::{Api, Reply};
pub use check::HttpCheck;
pub use journey::Journey;
pub(crate) use poll::{Look, Wait, pause, until};
