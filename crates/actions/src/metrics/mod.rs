//! Prometheus, or what speaks its HTTP API: one value now, and a watch over a while. An empty result is
//! unknown, never zero.

mod api;
mod judge;
mod query;
mod watch;

pub use query::Query;
pub use watch::Watch;

#[cfg(test)]
mod tests;
