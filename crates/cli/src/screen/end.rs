//! The last screen of `run`, `resume` and `rollback`: how it ended, what stands in the way, what is still in
//! force, what to type next. Pure.

use std::fmt::Write as _;

use jiff::Timestamp;
use runbook_executor::driver::{Loaded, Problem, RunEnd, RunOutcome};
use runbook_executor::machine::State;
use runbook_executor::store::LeaseInfo;
use runbook_executor::view::RunView;
use serde_json::{Value, json};

use super::safe;
use super::status::{in_force, next_commands, objectives};
use crate::words::{count, duration};

/// The screen.
pub(crate) fn end(loaded: &Loaded, end: &RunEnd, lease: Option<&LeaseInfo>, now: Timestamp) -> String {
    let view = RunView::of(loaded);
    let took = duration(view.elapsed(now));
    let mut text = format!("\nRun {} {} after {took}\n", view.run, heading(end.outcome));
    for problem in &end.problems {
        tell(&mut text, problem);
    }
    if end.outcome == RunOutcome::Succeeded {
        objectives(&mut text, loaded, now);
        for (name, value) in &end.outputs {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(text, "  {name}: {}", safe(&shown));
        }
        if let Some(error) = &end.outputs_error {
            let _ = writeln!(text, "  could not {}", safe(error));
        }
    } else {
        let done =
            view.steps.iter().filter(|step| step.state == Some(State::Done) && step.action.is_some()).count();
        let all = view.steps.iter().filter(|step| step.action.is_some()).count();
        let _ = writeln!(
            text,
            "\n  {done} of {} done; nothing that is done will be done again",
            count(all, "step")
        );
    }
    in_force(&mut text, &view);
    text.push('\n');
    for (at, next) in next_commands(&view, lease).iter().enumerate() {
        let label = if at == 0 { "next:" } else { "     " };
        let _ = writeln!(text, "{label} {next}");
    }
    text
}

fn heading(outcome: RunOutcome) -> &'static str {
    match outcome {
        RunOutcome::Succeeded => "succeeded",
        RunOutcome::Failed => "stopped: a step failed,",
        RunOutcome::GivenUp => "failed and was given up",
        RunOutcome::Refused => "stopped: a step was refused,",
        RunOutcome::InDoubt => "stopped: a step is in doubt,",
        RunOutcome::Paused => "paused",
        RunOutcome::DeadlinePassed => "stopped at its deadline",
        RunOutcome::Waiting => "waits for people",
        RunOutcome::Stopped => "stopped as asked",
        RunOutcome::Cancelled => "was cancelled",
        RunOutcome::RolledBack => "was rolled back",
        RunOutcome::Interrupted => "was interrupted",
    }
}

fn tell(text: &mut String, problem: &Problem) {
    let step = &problem.step;
    let heading = match problem.state {
        _ if problem.in_undo => format!("step `{step}` could not be taken back"),
        State::Asked => format!("step `{step}` asks"),
        State::Refused => format!("step `{step}` was refused"),
        State::InDoubt => format!("step `{step}` is in doubt: whether its effect happened is not known"),
        _ if problem.attempts > 1 => format!("step `{step}` failed after {} attempts", problem.attempts),
        _ => format!("step `{step}` failed"),
    };
    let _ = writeln!(text, "\n  {heading}");
    let _ = writeln!(text, "    {}", safe(&problem.message));
    for option in &problem.options {
        let _ = writeln!(text, "      {}: {}", safe(&option.name), safe(&option.text));
    }
    if let Some(hint) = &problem.hint {
        let _ = writeln!(text, "    hint: {}", safe(hint));
    }
    if let Some(words) = problem.if_it_fails.as_ref().filter(|_| problem.state != State::Asked) {
        let _ = writeln!(text, "    {}", safe(words.trim()));
    }
}

/// The same for programs: the last line of `run` and `resume`.
pub(crate) fn end_line(loaded: &Loaded, end: &RunEnd, lease: Option<&LeaseInfo>, status: u8) -> Value {
    let view = RunView::of(loaded);
    json!({
        "v": 1, "kind": "end", "run": end.run, "outcome": end.outcome, "status": status,
        "problems": end.problems, "in_force": view.in_force, "outputs": end.outputs,
        "next": next_commands(&view, lease),
    })
}
