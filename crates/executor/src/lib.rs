//! Where a run stands and what comes next: state machine, journal, driver.

pub mod driver;
pub mod event;
pub mod holder;
pub mod machine;
pub mod record;
pub mod requests;
#[cfg(test)]
mod sim;
pub mod store;
pub mod view;
pub mod portable;
pub mod redact;
pub mod secrets;
pub mod vault;
