//! `cargo xtask bench`: the product beside what a user would do instead, in interleaved rounds on the same machine, the
//! order reversed each round. Prints every round, then medians; asserts that results are equal, and nothing of time.

mod dataset;
mod engine;
mod extract;
mod process;
mod restore;
mod resume;
mod server;
mod stats;
mod storage;
mod throttle;
mod world;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::shell::{Failure, cargo, root, run, say};

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// The engine's overhead against bare SQLite.
    Engine,
    /// `postgres.restore` against download and `gunzip | psql`, and against download and `pg_restore -j N`.
    Restore(restore::Options),
    /// `postgres.extract_rows` against restoring the dump into a temporary database.
    Extract(extract::Options),
    /// `storage.restore` against `rclone copy`.
    Storage(storage::Options),
}

/// What all benches on a data set take.
#[derive(Args)]
pub(crate) struct Common {
    /// Bytes of SQL text: 20M, 250M, 1G.
    #[arg(long, default_value = "250M", value_parser = dataset::bytes)]
    size: u64,
    /// Percent of the rows that are in the largest table.
    #[arg(long, default_value_t = 54, value_parser = clap::value_parser!(u32).range(1..=99))]
    skew: u32,
    /// Percent of the largest table's rows, the latest ones, that its full-text index holds. Its build is one long step on one
    /// core, a quarter of the server's work where it holds all.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100))]
    full_text: u32,
    /// Bytes a second that the object store gives to all its readers together: 50M, 200M; `full` for no limit.
    #[arg(long, default_value = "full", value_parser = rate)]
    rate: Rate,
    /// How often each thing is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Measure this program instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Store the dumps without a checksum of the store's own.
    #[arg(long)]
    no_store_checksum: bool,
}

impl Common {
    fn shape(&self) -> dataset::Shape {
        dataset::Shape { bytes: self.size, skew: self.skew, full_text: self.full_text }
    }
}

/// Bytes a second, or no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate(Option<u64>);

fn rate(text: &str) -> Result<Rate, String> {
    if text == "full" { Ok(Rate(None)) } else { dataset::bytes(text).map(|bytes| Rate(Some(bytes))) }
}

impl Rate {
    fn shown(self) -> String {
        self.0.map_or_else(|| "at full speed".to_owned(), |rate| format!("at {} MiB/s", rate >> 20))
    }
}

pub(crate) fn bench(what: Bench) -> Result<(), Failure> {
    match what {
        Bench::Engine => engine::engine(),
        Bench::Restore(options) => restore::restore(&options),
        Bench::Extract(options) => extract::extract(&options),
        Bench::Storage(options) => storage::storage(&options),
    }
}

/// Where benches keep their things.
fn folder() -> PathBuf {
    crate::shell::target().join("bench")
}

/// The optimised product.
fn product(given: Option<&PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return std::path::absolute(given).map_err(|error| format!("find `{}`: {error}", given.display()));
    }
    say("building with optimisation …");
    run(cargo().args(["build", "--release", "--locked", "--package", "runbook-cli", "--bin", "runbook"]))?;
    Ok(crate::shell::target().join("release/runbook"))
}

/// Each round's order: that of the list, and the other way round every second time.
fn order<T: Copy>(all: &[T], round: u32) -> Vec<T> {
    let mut order = all.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Where this repository's root is, for messages.
fn shown(path: &std::path::Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}
