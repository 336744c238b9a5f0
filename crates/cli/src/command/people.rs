//! What people say to a run, live or not: `approve`, `deny`, `note`, `pause`, `cancel`, `resolve`. Each is
//! one record; a live engine sees it within a tenth of a second.

use runbook_core::workflow::StepPath;
use runbook_executor::machine::State;
use runbook_executor::record::Verdict;
use runbook_executor::requests::{RequestError, Resolution};
use runbook_executor::view::RunView;

use crate::arguments::{Answer, Approve, Global, Note, Reasoned, Resolve};
use crate::command::journal;
use crate::command::run::{self, Opened};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::ui::Ui;

/// A run and who speaks to it.
struct Speaking {
    opened: Opened,
    run: String,
    actor: String,
}

fn speaking(global: &Global, given: &str) -> Result<Speaking, Failure> {
    let opened = run::open(&project::state_dir(global)?)?;
    let row = journal::find(opened.journal.as_ref(), given)?;
    Ok(Speaking { opened, run: row.id, actor: project::actor(global) })
}

fn told(ui: &Ui, speaking: &Speaking, text: &str) -> Exit {
    if ui.json {
        let line = serde_json::json!({ "v": 1, "kind": "said", "run": speaking.run, "message": text });
        ui.line(&line.to_string());
    } else {
        ui.line(text);
    }
    Exit::Succeeded
}

pub(crate) fn approve(ui: &Ui, global: &Global, given: &Approve) -> Result<Exit, Failure> {
    let (choose, given) = (given.choose.as_deref(), &given.answer);
    let speaking = speaking(global, &given.run)?;
    let step = asked(&speaking, given.step.as_deref())?;
    let engine = &speaking.opened.engine;
    if let Some(choice) = choose {
        let Some(reason) = given.reason.clone().filter(|reason| !reason.trim().is_empty()) else {
            return Err(Failure::usage("a decision wants --reason: why this one?"));
        };
        let prompt = engine.choose(&speaking.run, &step, &speaking.actor, reason, choice)?;
        let text = format!("{} chose {choice} at step {step}: {prompt}", speaking.actor);
        return Ok(told(ui, &speaking, &text));
    }
    let prompt = engine.approve(&speaking.run, &step, &speaking.actor, given.reason.clone())?;
    Ok(told(ui, &speaking, &format!("{} said yes to step {step}: {prompt}", speaking.actor)))
}

pub(crate) fn deny(ui: &Ui, global: &Global, given: &Answer) -> Result<Exit, Failure> {
    let speaking = speaking(global, &given.run)?;
    let step = asked(&speaking, given.step.as_deref())?;
    speaking.opened.engine.deny(&speaking.run, &step, &speaking.actor, given.reason.clone())?;
    Ok(told(ui, &speaking, &format!("{} said no to step {step}", speaking.actor)))
}

/// The step that is meant: the one named, or the only one that asks.
fn asked(speaking: &Speaking, given: Option<&str>) -> Result<StepPath, Failure> {
    if let Some(step) = given {
        return Ok(StepPath::new(step));
    }
    let view = RunView::of(&speaking.opened.engine.load(&speaking.run)?);
    let asking: Vec<&StepPath> =
        view.steps.iter().filter(|step| step.state == Some(State::Asked)).map(|step| &step.step).collect();
    match asking.as_slice() {
        [step] => Ok((*step).clone()),
        [] => Err(Failure::usage(format!("no step of run {} asks", speaking.run))
            .hint(format!("see where it stands: runbook status {}", speaking.run))),
        several => {
            let names: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(Failure::usage(format!("several steps ask: {}", names.join(", "))).hint("name the step"))
        }
    }
}

pub(crate) fn note(ui: &Ui, global: &Global, given: &Note) -> Result<Exit, Failure> {
    let speaking = speaking(global, &given.run)?;
    speaking.opened.engine.note(&speaking.run, &speaking.actor, &given.text)?;
    Ok(told(ui, &speaking, "noted"))
}

pub(crate) fn pause(ui: &Ui, global: &Global, given: &Reasoned) -> Result<Exit, Failure> {
    let speaking = speaking(global, &given.run.run)?;
    speaking.opened.engine.pause(&speaking.run, &speaking.actor, given.reason.clone())?;
    Ok(told(ui, &speaking, &format!("run {} stops after the running steps", speaking.run)))
}

pub(crate) fn cancel(ui: &Ui, global: &Global, given: &Reasoned) -> Result<Exit, Failure> {
    let speaking = speaking(global, &given.run.run)?;
    speaking.opened.engine.cancel(&speaking.run, &speaking.actor, given.reason.clone())?;
    let exit =
        told(ui, &speaking, &format!("run {} is given up: no further step of it starts", speaking.run));
    if speaking.opened.engine.is_driven(&speaking.run)? {
        let short = speaking.run.get(..8).unwrap_or(&speaking.run);
        ui.remark(&format!(
            "\nThe process that works on it brings it to its end. next: runbook status {short}"
        ));
        return Ok(exit);
    }
    // Nobody else would: what runs after a cancel runs here, and the environment is free afterwards.
    run::end_cancelled(ui, &speaking.opened, &speaking.run, speaking.actor.clone())
}

pub(crate) fn resolve(ui: &Ui, global: &Global, given: &Resolve) -> Result<Exit, Failure> {
    let speaking = speaking(global, &given.run)?;
    let step = StepPath::new(given.step.as_str());
    let outputs = match &given.outputs {
        None => None,
        Some(text) => Some(
            serde_json::from_str(text)
                .map_err(|error| Failure::usage("could not read --outputs as JSON").because(error))?,
        ),
    };
    let Some(reason) = &given.reason else {
        return Err(Failure::usage("a resolution wants --reason: how do you know?"));
    };
    let loaded = speaking.opened.engine.load(&speaking.run)?;
    let finished = loaded.machine.instance(&step).is_some_and(|instance| instance.state == State::Done);
    if given.again && finished {
        speaking.opened.engine.rerun(&speaking.run, &step, &speaking.actor, reason)?;
    } else {
        let verdict = if given.done { Verdict::Done } else { Verdict::Again };
        let answer = Resolution { verdict, reason: reason.clone(), outputs };
        speaking.opened.engine.resolve(&speaking.run, &step, &speaking.actor, answer)?;
    }
    let exit = told(ui, &speaking, &format!("step {step} is settled"));
    ui.remark(&format!("\nnext: runbook resume {}", speaking.run.get(..8).unwrap_or(&speaking.run)));
    Ok(exit)
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Engine(error) => error.into(),
            RequestError::Refused(..) | RequestError::Nothing { .. } => {
                Failure::new(Exit::Refused, format!("could not {error}"))
            }
            RequestError::Busy(_) => Failure::new(Exit::Internal, "could not tell the run").because(error),
        }
    }
}
