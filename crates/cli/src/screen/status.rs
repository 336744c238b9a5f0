//! Where a run stands: from its journal alone, so also for a run that crashed. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use runbook_core::workflow::{Step, Work};
use runbook_executor::driver::{Loaded, RunOutcome};
use runbook_executor::holder::Liveness;
use runbook_executor::machine::State;
use runbook_executor::record::{Ended, Final};
use runbook_executor::store::LeaseInfo;
use runbook_executor::view::{RunView, StepView};
use serde_json::{Value, json};

use super::{local_time, safe};
use crate::words::duration;

/// What was measured against the objectives, as far as the journal tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// From the restore point to the declaration: the data that is lost at most.
    pub(crate) rpo: Option<Duration>,
    /// From the declaration to the end, or to now.
    pub(crate) rto: Option<Duration>,
}

impl Measured {
    /// From the outcomes of `backup.select` and `incident.declare`; without a declaration the run's start counts.
    pub(crate) fn of(loaded: &Loaded, now: Timestamp) -> Self {
        let begun = loaded.machine.started().map(|started| started.at);
        let declared = output(loaded, "incident.declare", "declared_at").or(begun);
        let restored = output(loaded, "backup.select", "taken_at");
        let last = loaded.records.last().map(|(at, _)| *at);
        let end = if loaded.machine.finished().is_some() { last } else { Some(now) };
        let between = |from: Option<Timestamp>, to: Option<Timestamp>| {
            Duration::try_from(to?.duration_since(from?)).ok()
        };
        Self { rpo: between(restored, declared), rto: between(declared, end) }
    }
}

/// A moment in the outputs of the first finished step that calls an action.
fn output(loaded: &Loaded, action: &str, field: &str) -> Option<Timestamp> {
    let calls = |step: &&Step| matches!(&step.work, Work::Action { name } if name == action);
    let mut found = loaded.workflow.steps.iter().filter(calls);
    found.find_map(|step| loaded.machine.output(&step.path)?.get(field)?.as_str()?.parse().ok())
}

/// One or two words: the state of the run as a whole.
pub(crate) fn state_word(loaded: &Loaded, lease: Option<&LeaseInfo>) -> &'static str {
    match (loaded.machine.finished(), lease.map(|lease| lease.alive)) {
        (Some(Final::Succeeded), _) => "succeeded",
        (Some(Final::Failed), _) => "failed",
        (Some(Final::Cancelled), _) => "cancelled",
        (Some(Final::RolledBack), _) => "rolled back",
        (None, Some(Liveness::Alive)) => "running",
        (None, Some(Liveness::Unknown)) => "running, perhaps",
        (None, Some(Liveness::Dead)) => "killed, can be resumed",
        (None, None) => match loaded.machine.closed().map(|closed| closed.why) {
            None => "not started",
            Some(Ended::Failed) => "failed, can be resumed",
            Some(Ended::InDoubt) => "in doubt",
            Some(Ended::Refused) => "refused, can be resumed",
            Some(Ended::Paused) => "paused",
            Some(Ended::Deadline) => "past its deadline",
            Some(Ended::Waiting) => "waiting for people",
            Some(Ended::Stopped) => "stopped, can be resumed",
        },
    }
}

/// The screen.
pub(crate) fn status(loaded: &Loaded, lease: Option<&LeaseInfo>, now: Timestamp) -> String {
    let view = RunView::of(loaded);
    let state = state_word(loaded, lease);
    let mut text = format!("Run {}   {} in {}   {state}\n", view.run, view.runbook, view.environment);
    head(&mut text, loaded, &view, lease, now);
    text.push('\n');
    steps(&mut text, &view);
    in_force(&mut text, &view);
    text.push('\n');
    for (at, next) in next_commands(&view, lease).iter().enumerate() {
        let label = if at == 0 { "next:" } else { "     " };
        let _ = writeln!(text, "{label} {next}");
    }
    text
}

fn head(text: &mut String, loaded: &Loaded, view: &RunView, lease: Option<&LeaseInfo>, now: Timestamp) {
    let plan = view.digest.get(..12).unwrap_or(&view.digest);
    let _ =
        writeln!(text, "  started   {} by {}, plan {plan}", local_time(view.started_at), safe(&view.actor));
    let holder = lease.map_or_else(
        || "nobody".to_owned(),
        |lease| format!("{} since {}", safe(&lease.holder.to_string()), local_time(lease.since)),
    );
    let _ = writeln!(text, "  holder    {holder}");
    objectives(text, loaded, now);
}

/// RPO and RTO against their objectives, as far as both are known.
pub(super) fn objectives(text: &mut String, loaded: &Loaded, now: Timestamp) {
    let measured = Measured::of(loaded, now);
    for (name, measured, objective) in
        [("RPO", measured.rpo, loaded.workflow.rpo), ("RTO", measured.rto, loaded.workflow.rto)]
    {
        if let (Some(measured), Some(objective)) = (measured, objective) {
            let kept = if measured <= objective { "within" } else { "OVER" };
            let objective = duration(objective);
            let _ =
                writeln!(text, "  {name}       {}, {kept} the objective of {objective}", duration(measured));
        }
    }
}

fn steps(text: &mut String, view: &RunView) {
    let shown: Vec<&StepView> = view.steps.iter().filter(|step| step.action.is_some()).collect();
    let widest = shown.iter().map(|step| step.step.as_str().chars().count()).max().unwrap_or(0).min(40);
    let is_untouched = |step: &StepView| step.word == "waiting" && step.attempts == 0;
    let mut waiting = 0;
    for step in shown {
        if is_untouched(step) {
            waiting += 1;
            if waiting > 1 {
                continue;
            }
        }
        let mut line = format!("  {} {:widest$}  {:9}", sign(step), step.step.as_str(), step.word);
        if let Some(took) = took(step) {
            let _ = write!(line, "  {:>7}", duration(took));
        }
        if step.attempts > 1 {
            let _ = write!(line, "  {} attempts", step.attempts);
        }
        if let Some(about) = about(step) {
            let _ = write!(line, "  {}", safe(&about));
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if waiting > 1 {
        let _ = writeln!(text, "  ○ {} more waiting", waiting - 1);
    }
}

fn sign(step: &StepView) -> &'static str {
    if step.undo.is_some() {
        return "↶";
    }
    match step.state {
        None | Some(State::Waiting) => "○",
        Some(State::Running) => "●",
        Some(State::Asked | State::Retrying { .. } | State::Interrupted { .. }) => "◷",
        Some(State::InDoubt) => "?",
        Some(State::Done) => "✓",
        Some(State::Skipped) => "-",
        Some(State::Refused | State::Failed) => "✗",
    }
}

fn took(step: &StepView) -> Option<Duration> {
    Duration::try_from(step.ended_at?.duration_since(step.started_at?)).ok()
}

fn about(step: &StepView) -> Option<String> {
    let asked = step.question.as_ref().filter(|_| step.state == Some(State::Asked));
    let question = asked.map(|asked| match asked.options.as_slice() {
        [] => format!("{} ({} of {})", asked.prompt, asked.given.len(), asked.min),
        options => {
            let options = options.iter().map(|option| format!("{}: {}", option.name, option.text));
            format!("{} {}", asked.prompt, options.collect::<Vec<_>>().join(" "))
        }
    });
    step.undo.clone().or(question).or_else(|| step.message.clone()).or_else(|| step.summary.clone())
}

/// P12: said in every status and at every end.
pub(super) fn in_force(text: &mut String, view: &RunView) {
    if view.in_force.is_empty() && view.waived.is_empty() {
        return;
    }
    text.push_str("\nStill in force:\n");
    for force in &view.in_force {
        let since = local_time(force.since);
        let _ = writeln!(text, "  {} ({}, {since})", safe(&force.text), force.step);
    }
    for waiver in &view.waived {
        let (guard, by, why) = (&waiver.guard, safe(&waiver.by), safe(&waiver.reason));
        let _ = writeln!(text, "  guard {guard} is waived by {by}: {why}");
    }
}

/// What to type next, the likeliest first.
pub(super) fn next_commands(view: &RunView, lease: Option<&LeaseInfo>) -> Vec<String> {
    let run = view.run.get(..8).unwrap_or(&view.run);
    let mut next = Vec::new();
    for step in &view.steps {
        match step.state {
            Some(State::Asked) => {
                let options = step.question.iter().flat_map(|question| &question.options);
                let names: Vec<String> = options.map(|option| safe(&option.name)).collect();
                if !names.is_empty() {
                    let (step, names) = (&step.step, names.join("|"));
                    next.push(format!("runbook approve {run} {step} --choose {names} --reason \"…\""));
                    continue;
                }
                next.push(format!("runbook approve {run} {}", step.step));
                next.push(format!("runbook deny {run} {}", step.step));
            }
            Some(State::InDoubt) => {
                next.push(format!(
                    "runbook resolve {run} {} --done --reason \"…\"    # its effect is there",
                    step.step
                ));
                next.push(format!(
                    "runbook resolve {run} {} --again --reason \"…\"   # it is not",
                    step.step
                ));
            }
            _ => {}
        }
    }
    let alive = lease.is_some_and(|lease| lease.alive != Liveness::Dead);
    match view.outcome {
        Some(RunOutcome::Succeeded) => next.push(format!("runbook verify {run}")),
        Some(RunOutcome::GivenUp | RunOutcome::Cancelled) => {
            next.push(format!("runbook logs {run}"));
        }
        Some(RunOutcome::RolledBack) => next.push(format!("runbook logs {run}")),
        _ if alive => next.push(format!("runbook logs {run} --follow")),
        _ => {
            next.push(format!("runbook resume {run}"));
            next.push(format!("runbook rollback {run}"));
        }
    }
    next
}

/// The same for programs.
pub(crate) fn status_line(loaded: &Loaded, lease: Option<&LeaseInfo>, now: Timestamp) -> Value {
    let view = RunView::of(loaded);
    let measured = Measured::of(loaded, now);
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    let steps: Vec<Value> = view
        .steps
        .iter()
        .filter(|step| step.action.is_some())
        .map(|step| {
            json!({
                "step": step.step, "title": step.title, "action": step.action, "state": step.word,
                "attempts": step.attempts, "seconds": seconds(took(step)), "about": about(step),
                "question": step.question, "outputs": loaded.machine.output(&step.step),
            })
        })
        .collect();
    json!({
        "v": 1, "kind": "status", "run": view.run, "runbook": view.runbook, "environment": view.environment,
        "state": state_word(loaded, lease), "plan": view.digest, "records": loaded.machine.seq(),
        "holder": lease.map(|lease| json!({
            "host": lease.holder.host, "pid": lease.holder.pid, "actor": lease.holder.actor,
            "since": lease.since, "epoch": lease.epoch, "alive": format!("{:?}", lease.alive).to_lowercase(),
        })),
        "objectives": { "rpo_seconds": view.rpo_seconds, "rto_seconds": view.rto_seconds },
        "measured": { "rpo_seconds": seconds(measured.rpo), "rto_seconds": seconds(measured.rto) },
        "steps": steps, "in_force": view.in_force, "waived": view.waived,
        "next": next_commands(&view, lease),
    })
}
