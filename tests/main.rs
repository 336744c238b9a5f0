//! End to end: the built binary against real servers. Each test owns its state directory, its sandbox and
//! its ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at that line")]

mod bad_dumps;
mod broken_runbooks;
mod canaries;
mod commands;
mod drill;
mod guards;
mod in_doubt;
mod leftovers;
mod live_runs;
mod path_b;
mod path_b_killed;
mod plan;
mod production_restore;
mod report;
mod repository;
mod validation;
mod world;
