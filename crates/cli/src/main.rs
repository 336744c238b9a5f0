//! The `runbook` binary: what a person sees and types. Parses, dispatches, and turns what came of it into an
//! exit status; everything else is in the modules.

mod arguments;
mod command;
mod excerpt;
mod exit;
mod failure;
mod project;
mod reading;
mod screen;
mod ui;
mod words;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    let filter = EnvFilter::try_from_env("RUNBOOK_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let ui = ui::Ui::new(&arguments.global);
    match command::dispatch(&ui, &arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell(&ui);
            failure.exit().into()
        }
    }
}
