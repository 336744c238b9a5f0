//! PayPal, through its REST API: where events go, what was missed, and test events. Facts: PayPal's OpenAPI
//! document of the webhooks API, and its guides, as of 2026.

mod api;
mod missed;
mod point;
mod secrets;
mod test_event;
mod verify;

pub use missed::MissedEvents;
pub use point::{Pause, Repoint, Resume};
pub use secrets::Secrets;
pub use test_event::TestEvent;
pub use verify::VerifySignature;

#[cfg(test)]
mod tests;
