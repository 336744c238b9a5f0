//! One file a command, or a family of them: parse, do, show.

mod actions;
mod backups;
mod bound;
mod check;
mod doctor;
mod explain;
mod graph;
mod journal;
mod live;
mod needs;
mod new;
mod people;
mod plan;
mod report;
mod run;
mod sandbox;
mod status;

use runbook_executor::driver::EngineError;
use runbook_executor::store::LeaseError;
use tokio::runtime::{Builder, Runtime};

use crate::arguments::{Arguments, Command, DrillCommand, Global, Schema, SchemaKind};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen;
use crate::ui::Ui;

/// Carries a command out.
pub(crate) fn dispatch(ui: &Ui, arguments: &Arguments) -> Result<Exit, Failure> {
    let global: &Global = &arguments.global;
    match &arguments.command {
        Command::Run(given) => run::run(ui, global, given),
        Command::Resume(given) => run::resume(ui, global, given),
        Command::Rollback(given) => run::rollback(ui, global, given),
        Command::Status(given) => status::status(ui, global, given),
        Command::Logs(given) => status::logs(ui, global, given),
        Command::Report(given) => report::report(ui, global, given),
        Command::Drill(given) => match &given.command {
            DrillCommand::History(given) => report::drill_history(ui, global, given),
        },
        Command::List(given) => journal::list(ui, global, given),
        Command::Verify(given) => journal::verify(ui, global, given),
        Command::Export(given) => journal::export(ui, global, given),
        Command::Import(given) => journal::import(ui, global, given),
        Command::Approve(given) => people::approve(ui, global, given),
        Command::Deny(given) => people::deny(ui, global, given),
        Command::Note(given) => people::note(ui, global, given),
        Command::Pause(given) => people::pause(ui, global, given),
        Command::Cancel(given) => people::cancel(ui, global, given),
        Command::Resolve(given) => people::resolve(ui, global, given),
        Command::Check(given) => check::check(ui, global, given),
        Command::Plan(given) => plan::plan(ui, global, given),
        Command::Graph(given) => graph::graph(ui, global, given),
        Command::New(given) => new::new(ui, given),
        Command::Actions(given) => actions::actions(ui, given),
        Command::Explain(given) => explain::explain(ui, given),
        Command::Backups(given) => backups::backups(ui, global, given),
        Command::Doctor(given) => doctor::doctor(ui, global, given),
        Command::Sandbox(given) => sandbox::run(ui, global, &given.command),
        Command::Schema(given) => schema(ui, given),
        Command::Completions(given) => {
            let mut command = <Arguments as clap::CommandFactory>::command();
            let mut script = Vec::new();
            clap_complete::generate(given.shell, &mut command, "runbook", &mut script);
            ui.block(&String::from_utf8_lossy(&script));
            Ok(Exit::Succeeded)
        }
    }
}

fn schema(ui: &Ui, given: &Schema) -> Result<Exit, Failure> {
    use runbook_core::action::Registry as _;
    let registry = runbook_actions::registry();
    let schema = match given.what {
        SchemaKind::Runbook => runbook_core::schema::runbook(&registry.descriptions()),
        SchemaKind::Environment => runbook_core::schema::environment(),
        SchemaKind::Events => screen::events_schema(),
    };
    let text =
        serde_json::to_string_pretty(&schema).map_err(|error| Failure::io("write the schema", error))?;
    ui.line(&text);
    Ok(Exit::Succeeded)
}

fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::io("start the runtime", error))
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Lease(error) => error.into(),
            EngineError::Fenced(_) | EngineError::LeaseEnded => Failure::new(Exit::Held, "could not go on")
                .because(error)
                .hint("`runbook status` says who holds it"),
            EngineError::Illegal(_) => {
                Failure::new(Exit::Refused, "the run does not take that now").because(error)
            }
            EngineError::OtherPlan { .. } => Failure::new(Exit::Internal, "could not resume").because(error),
            EngineError::Compile { sources, diagnostics, .. } => Failure::new(
                Exit::Internal,
                format!(
                    "this version of runbook does not accept what the run was started from:\n{}",
                    crate::excerpt::render(&diagnostics, &sources, false)
                ),
            )
            .hint("resume it with the version that started it"),
            error => Failure::new(Exit::Internal, "could not work on the run").because(error),
        }
    }
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        Failure::new(Exit::Held, "somebody else is at work")
            .because(error)
            .note("Nothing was changed by this call.")
    }
}
