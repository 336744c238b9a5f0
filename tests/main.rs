//! End to end: the built binary against real servers. Each test owns its state directory, its sandbox and
//! its ports.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at that line")]

mod action_examples;
mod backup_runbook;
mod bad_dumps;
mod bookshop;
mod broken_runbooks;
mod canaries;
mod commands;
mod decide;
mod drill;
mod guards;
mod in_doubt;
mod leftovers;
mod live_runs;
mod matrix;
mod ops_actions;
mod path_a;
mod path_b;
mod path_b_killed;
mod path_c;
mod path_d;
mod plan;
mod post_restore;
mod procedures;
mod production_restore;
mod prune;
mod report;
mod repository;
mod restore;
mod rollback_runbook;
mod rotate_secrets;
mod schedules;
mod shell_killed;
mod spec_ops;
mod spec_providers;
mod spec_storage;
mod staging_refresh;
mod turns;
mod validation;
mod wide_rows;
mod world;
