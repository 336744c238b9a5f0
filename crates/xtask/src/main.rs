//! Development chores: `cargo xtask demo`, `test`, `schemas`, `bench`. Installs what is missing and says
//! so first. Knows the product only as a binary: nothing of it is linked here.

mod bench;
mod demo;
mod postgres;
mod shell;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development chores of runbook")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run Path B on the sandbox, kill it half way, resume it, and show what came of it.
    Demo {
        /// Keep the sandbox running afterwards, to look around.
        #[arg(long)]
        keep: bool,
    },
    /// Formatting, clippy with warnings denied, every test, in that order of cheapness.
    Test,
    /// Write `schemas/` anew from the types.
    Schemas,
    /// Measure, side by side with what a user would use instead.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        what: bench::Bench,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.chore {
        Chore::Demo { keep } => demo::demo(keep),
        Chore::Test => test::test(),
        Chore::Schemas => test::schemas(),
        Chore::Bench { what } => bench::bench(what),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
