//! The `runbook` binary: what a person sees and types. Parses, dispatches, and turns what came of it into an
//! exit status; everything else is in the modules.

mod arguments;
mod command;
mod excerpt;
mod exit;
mod failure;
mod log;
mod project;
mod reading;
mod screen;
mod ui;
mod words;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    log::start();
    let ui = ui::Ui::new(&arguments.global);
    match command::dispatch(&ui, &arguments) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell(&ui);
            failure.exit().into()
        }
    }
}
