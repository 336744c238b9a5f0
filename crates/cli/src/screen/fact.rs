//! A record as one line for people: a verb and what it is about. Pure; both the lines in a pipe and the live
//! screen show these. Records that people need not see give nothing.

use std::time::Duration;

use runbook_core::workflow::StepPath;
use runbook_executor::event::{Event, News};
use runbook_executor::machine::State;
use runbook_executor::record::{Ended, Final, Record, RefusedWhy, SkippedWhy, Then, Verdict};

use super::safe;
use crate::words::{count, duration};

/// How a line is meant; never told by colour alone, since the verb says it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Something ended well.
    Good,
    /// Something went wrong.
    Bad,
    /// A person should look.
    Ask,
    /// News.
    Plain,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// How it is meant.
    pub(crate) mood: Mood,
    /// At most 12 letters.
    pub(crate) verb: &'static str,
    /// The rest.
    pub(crate) text: String,
    /// The step that starts: a live screen shows it in its block, not as a line.
    pub(crate) starts: bool,
}

fn line(mood: Mood, verb: &'static str, text: String) -> Option<Fact> {
    Some(Fact { mood, verb, text: safe(&text), starts: false })
}

/// What an event says, if it says anything.
pub(crate) fn fact(event: &Event<'_>) -> Option<Fact> {
    match event.news {
        News::Record { record, .. } => of_record(event, record),
        News::Warning(text) => line(Mood::Ask, "Warning", text.to_owned()),
        News::Stopping => line(
            Mood::Ask,
            "Stopping",
            "what runs comes to its end or to a checkpoint; Ctrl-C again stops now".to_owned(),
        ),
        News::Progress { .. } | News::Tick => None,
    }
}

/// Whether what an earlier attempt of the step began is coming to its end.
pub(super) fn is_ending(event: &Event<'_>, step: &StepPath) -> bool {
    event.machine.instance(step).is_some_and(|i| matches!(i.state, State::Interrupted { .. }))
}

fn of_record(event: &Event<'_>, record: &Record) -> Option<Fact> {
    of_run(event, record).or_else(|| of_people(record)).or_else(|| of_step(event, record))
}

fn of_run(event: &Event<'_>, record: &Record) -> Option<Fact> {
    match record {
        Record::Opened { epoch: 1, .. } => {
            let workflow = event.workflow;
            let plan = workflow.digest.get(..12).unwrap_or(&workflow.digest);
            let what =
                format!("run {}: {}, {}, plan {plan}", event.run, workflow.name, count(steps(event), "step"));
            line(Mood::Plain, "Started", what)
        }
        Record::Opened { epoch, .. } => {
            line(Mood::Plain, "Resumed", format!("run {} (epoch {epoch})", event.run))
        }
        Record::Closed { why, .. } => {
            let (mood, text) = match why {
                Ended::Failed => (Mood::Bad, "a step failed"),
                Ended::InDoubt => (Mood::Ask, "a step is in doubt"),
                Ended::Refused => (Mood::Bad, "a step was refused"),
                Ended::Paused => (Mood::Ask, "somebody asked for a pause"),
                Ended::Deadline => (Mood::Bad, "the run is past its deadline"),
                Ended::Waiting => (Mood::Ask, "it waits for people"),
                Ended::Stopped => (Mood::Ask, "it was asked to stop"),
            };
            line(mood, "Stopped", format!("run {}: {text}", event.run))
        }
        Record::RunFinished { outcome } => match outcome {
            Final::Succeeded => {
                line(Mood::Good, "Succeeded", format!("run {} in {}", event.run, duration(event.elapsed)))
            }
            Final::Failed => line(Mood::Bad, "Failed", format!("run {}, given up", event.run)),
            Final::Cancelled => line(Mood::Ask, "Cancelled", format!("run {}", event.run)),
            Final::RolledBack => line(Mood::Ask, "Rolled back", format!("run {}", event.run)),
        },
        _ => None,
    }
}

fn of_people(record: &Record) -> Option<Fact> {
    let because = |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |r| format!(": {r}"));
    match record {
        Record::ApprovalRequested(asked) => {
            let names: Vec<&str> = asked.options.iter().map(|option| option.name.as_str()).collect();
            let which = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            line(Mood::Ask, "Asking", format!("{}: {}{which}", asked.step, asked.prompt))
        }
        Record::ApprovalGiven { step, by, reason, choice: Some(choice), .. } => {
            line(Mood::Good, "Decided", format!("{step}: {choice}, by {by}{}", because(reason)))
        }
        Record::ApprovalGiven { step, by, reason, .. } => {
            line(Mood::Good, "Approved", format!("{step} by {by}{}", because(reason)))
        }
        Record::ApprovalDenied { step, by, reason, .. } => {
            line(Mood::Bad, "Denied", format!("{step} by {by}{}", because(reason)))
        }
        Record::ApprovalExpired { step } => {
            line(Mood::Ask, "Expired", format!("{step}: nobody answered in time"))
        }
        Record::ApprovalVoided { step, why } => line(Mood::Ask, "Voided", format!("{step}: {why}")),
        Record::Resolved { step, verdict, by, reason, .. } => {
            let verdict = match verdict {
                Verdict::Done => "its effect is there",
                Verdict::Again => "it is done again",
            };
            line(Mood::Plain, "Resolved", format!("{step} by {by}: {verdict} ({reason})"))
        }
        Record::PauseRequested { by, reason } => {
            line(Mood::Ask, "Pausing", format!("for {by}{}", because(reason)))
        }
        Record::CancelRequested { by, reason } => {
            line(Mood::Ask, "Cancelling", format!("for {by}{}", because(reason)))
        }
        Record::RollbackRequested { by, reason } => {
            line(Mood::Ask, "Undoing", format!("for {by}{}", because(reason)))
        }
        Record::Rerun { step, by, reason } => line(Mood::Ask, "Again", format!("{step} for {by}: {reason}")),
        Record::Noted { by, text } => line(Mood::Plain, "Note", format!("{by}: {text}")),
        Record::GuardWaived { guard, by, reason } => {
            line(Mood::Ask, "Waived", format!("{guard} by {by}: {reason}"))
        }
        _ => None,
    }
}

fn of_step(event: &Event<'_>, record: &Record) -> Option<Fact> {
    match record {
        Record::AttemptStarted(start) => {
            let again =
                if start.attempt > 1 { format!(", attempt {}", start.attempt) } else { String::new() };
            let text = format!("{}{again}", start.step);
            line(Mood::Plain, "Running", text).map(|fact| Fact { starts: true, ..fact })
        }
        Record::StepDone(done) => {
            let inner = done.step.as_str().ends_with("/(begin)")
                || event.workflow.step(&done.step).is_some_and(is_end);
            if inner {
                return None;
            }
            let took = duration(Duration::from_millis(done.duration_ms));
            let summary = if done.outcome.summary.is_empty() {
                String::new()
            } else {
                format!(": {}", done.outcome.summary)
            };
            let before =
                done.by_key_of.as_ref().map_or_else(String::new, |by| format!(" (done before by {by})"));
            line(Mood::Good, "Done", format!("{}{summary}{before} in {took}", done.step))
        }
        Record::AttemptFailed(failed) => {
            let (mood, verb, then) = match failed.then {
                Then::Retry(at) => {
                    (Mood::Ask, "Retry", format!("; next attempt at {}", super::local_time(at)))
                }
                Then::GiveUp => (Mood::Bad, "Failed", String::new()),
                Then::Stopped => (Mood::Ask, "Checkpoint", String::new()),
            };
            let text =
                format!("{} (attempt {}): could not {}{then}", failed.step, failed.attempt, failed.message);
            line(mood, verb, text)
        }
        Record::StepSkipped { step, why } => {
            let why = match why {
                SkippedWhy::Condition => "its condition is false",
                SkippedWhy::Within => return None,
            };
            line(Mood::Plain, "Skipped", format!("{step}: {why}"))
        }
        Record::StepRefused { step, why, message, .. } => {
            let why = match why {
                RefusedWhy::Precondition => "a precondition does not hold",
                RefusedWhy::Guard => "a guard is against it",
                RefusedWhy::Key => "its idempotency key is taken",
            };
            line(Mood::Bad, "Refused", format!("{step}: {why}: {message}"))
        }
        Record::StepFailed { step, message, .. } => {
            line(Mood::Bad, "Failed", format!("{step}: could not {message}"))
        }
        Record::StepInDoubt { step, why } => line(Mood::Ask, "In doubt", format!("{step}: {why}")),
        Record::Fenced { step, ended, .. } => line(
            Mood::Plain,
            "Fenced",
            format!("{step}: {} of an earlier attempt ended", count(*ended as usize, "session")),
        ),
        Record::UndoStarted { step, .. } => line(Mood::Plain, "Undoing", step.to_string()),
        Record::Undone { step, outcome } => {
            line(Mood::Good, "Undone", format!("{step}: {}", outcome.summary))
        }
        Record::UndoFailed { step, message, .. } => {
            line(Mood::Bad, "Failed", format!("{step}: could not undo: {message}"))
        }
        Record::UndoSkipped { step, why } => line(Mood::Plain, "Kept", format!("{step}: {why}")),
        _ => None,
    }
}

fn is_end(step: &runbook_core::workflow::Step) -> bool {
    matches!(step.work, runbook_core::workflow::Work::End { .. })
}

/// Steps that a person wrote: groups count by what is in them.
fn steps(event: &Event<'_>) -> usize {
    let action = |step: &&runbook_core::workflow::Step| {
        matches!(step.work, runbook_core::workflow::Work::Action { .. })
    };
    event.workflow.steps.iter().filter(action).count()
}
