//! PayMongo, through its API: webhooks and their secrets, test payments, and what was missed. Facts:
//! PayMongo's guides and its libraries, as of 2026.

mod api;
mod missed;
mod repoint;
mod rotate;
mod switch;
mod test_event;

pub use missed::MissedEvents;
pub use repoint::Repoint;
pub use rotate::RotateSecret;
pub use switch::{Pause, Resume};
pub use test_event::TestEvent;

#[cfg(test)]
mod tests;
