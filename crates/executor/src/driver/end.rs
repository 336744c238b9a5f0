//! How a sitting ended: what the last screen of `run` and `resume` is made from. Comes from the state alone, so
//! `status` says the same later.

use std::collections::BTreeMap;

use runbook_core::template::render;
use runbook_core::workflow::{StepPath, Workflow};
use serde::Serialize;
use serde_json::Value;

use super::pinned::Loaded;
use crate::machine::{Force, Machine, State, UndoState};
use crate::record::{Choice, Ended, Final};

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunOutcome {
    /// All that had to be done is done.
    Succeeded,
    /// A step failed; the run can be resumed, rolled back or cancelled.
    Failed,
    /// A step failed and the run was given up, as its runbook says; its `finally` steps ran.
    GivenUp,
    /// A precondition, a guard or an approver is against a step; the run can be resumed.
    Refused,
    /// A person must say whether an effect happened.
    InDoubt,
    /// Somebody asked for a pause.
    Paused,
    /// The run took longer than its deadline; a resume goes on beyond it.
    DeadlinePassed,
    /// Only people can move it on.
    Waiting,
    /// The process was asked to stop.
    Stopped,
    /// Given up on request.
    Cancelled,
    /// Its effects were taken back.
    RolledBack,
    /// No process works on it and none has said why: it was killed.
    Interrupted,
}

impl RunOutcome {
    /// The exit status of the command that drove the run there. A run that was rolled back did not do what
    /// `run` was asked to; the `rollback` command, whose success it is, says so itself.
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Succeeded => 0,
            Self::Refused => 4,
            Self::Failed | Self::GivenUp => 5,
            Self::InDoubt => 6,
            Self::Paused
            | Self::DeadlinePassed
            | Self::Waiting
            | Self::Stopped
            | Self::Cancelled
            | Self::RolledBack
            | Self::Interrupted => 7,
        }
    }
}

/// A step that stands in the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// The step instance.
    pub step: StepPath,
    /// Its title.
    pub title: String,
    /// Failed, refused, in doubt or asked.
    pub state: State,
    /// Could not …
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Stable code.
    pub code: Option<String>,
    /// Attempts in all.
    pub attempts: u32,
    /// The author's words for this case.
    pub if_it_fails: Option<String>,
    /// What the failure was: the step's undo, not the step.
    pub in_undo: bool,
    /// What there is to choose from, where it asks which.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Choice>,
}

/// How a sitting ended.
#[derive(Debug, Clone)]
pub struct RunEnd {
    /// The run's id.
    pub run: String,
    /// How it ended.
    pub outcome: RunOutcome,
    /// Steps that stand in the way, in the order of the workflow.
    pub problems: Vec<Problem>,
    /// What is still in force (P12).
    pub in_force: Vec<Force>,
    /// The runbook's outputs, when it succeeded.
    pub outputs: BTreeMap<String, Value>,
    /// Why the outputs could not be worked out.
    pub outputs_error: Option<String>,
}

impl RunEnd {
    /// From the state of a run.
    pub fn of(loaded: &Loaded) -> Self {
        let machine = &loaded.machine;
        let outcome = outcome(machine);
        let mut end = Self {
            run: loaded.run.clone(),
            outcome,
            problems: problems(machine, &loaded.workflow),
            in_force: machine.in_force().to_vec(),
            outputs: BTreeMap::new(),
            outputs_error: None,
        };
        if outcome == RunOutcome::Succeeded {
            end.take_outputs(loaded);
        }
        end
    }

    /// The exit status of the command that drove the run there.
    pub fn exit_status(&self) -> u8 {
        self.outcome.exit_status()
    }

    fn take_outputs(&mut self, loaded: &Loaded) {
        let output = |path: &StepPath| loaded.machine.output(path);
        let (workflow, facts) = (&loaded.workflow, loaded.facts());
        let scope = workflow.scope_of_outputs(None, &loaded.environment, &facts, &output);
        for (name, template) in &workflow.outputs {
            match render(template, &scope) {
                Ok(value) => drop(self.outputs.insert(name.clone(), value)),
                Err(error) => self.outputs_error = Some(format!("work out the output `{name}`: {error}")),
            }
        }
    }
}

pub(crate) fn outcome(machine: &Machine) -> RunOutcome {
    if let Some(finished) = machine.finished() {
        return match finished {
            Final::Succeeded => RunOutcome::Succeeded,
            Final::Failed => RunOutcome::GivenUp,
            Final::Cancelled => RunOutcome::Cancelled,
            Final::RolledBack => RunOutcome::RolledBack,
        };
    }
    match machine.closed().filter(|_| machine.sitting().is_none()).map(|c| c.why) {
        Some(Ended::Failed) => RunOutcome::Failed,
        Some(Ended::InDoubt) => RunOutcome::InDoubt,
        Some(Ended::Refused) => RunOutcome::Refused,
        Some(Ended::Paused) => RunOutcome::Paused,
        Some(Ended::Deadline) => RunOutcome::DeadlinePassed,
        Some(Ended::Waiting) => RunOutcome::Waiting,
        Some(Ended::Stopped) => RunOutcome::Stopped,
        None => RunOutcome::Interrupted,
    }
}

pub(crate) fn problems(machine: &Machine, workflow: &Workflow) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (node, step) in machine.nodes().zip(&workflow.steps) {
        for i in node.instances {
            let undo = match &i.undo {
                Some(UndoState::Failed(why)) => Some(why.clone()),
                _ => None,
            };
            let stands = matches!(i.state, State::Failed | State::Refused | State::InDoubt | State::Asked);
            if !stands && undo.is_none() {
                continue;
            }
            let failure = i.failure.as_ref();
            let asked = i.approval.as_ref().filter(|_| i.state == State::Asked);
            let message = failure.map(|f| f.message.clone()).or(asked.map(|a| a.request.prompt.clone()));
            problems.push(Problem {
                step: i.path.clone(),
                title: step.title.clone(),
                state: i.state,
                in_undo: undo.is_some(),
                message: undo.or(message).unwrap_or_default(),
                hint: failure.and_then(|f| f.hint.clone()),
                code: failure.and_then(|f| f.code.clone()),
                attempts: i.attempts,
                if_it_fails: step.if_it_fails.clone(),
                options: asked.map(|a| a.request.options.clone()).unwrap_or_default(),
            });
        }
    }
    problems
}
