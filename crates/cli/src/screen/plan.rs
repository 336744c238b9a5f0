//! What a run would do: the steps, what each would change in the real target, what would be lost, the
//! digest. Pure.

use std::fmt::Write as _;

use runbook_core::action::{Access, Description, Preview};
use runbook_core::workflow::{Phase, Step, Undo, Workflow};
use serde_json::{Value, json};

use super::safe;
use crate::words::{count, wrap};

/// One step and what is known of it before.
pub(crate) struct PlannedStep<'a> {
    /// The step.
    pub(crate) step: &'a Step,
    /// Its action.
    pub(crate) action: &'a Description,
    /// What it would do, or why that cannot be told.
    pub(crate) preview: Preview,
}

/// The screen.
pub(crate) fn plan(
    workflow: &Workflow,
    environment: &str,
    steps: &[PlannedStep<'_>],
    width: usize,
) -> String {
    let mut text = format!("Plan: {} in {environment}   {}\n\n", workflow.name, safe(&workflow.title));
    let path = steps.iter().map(|s| s.step.path.as_str().chars().count()).max().unwrap_or(4).max(4);
    let action = steps.iter().map(|s| s.action.name.len()).max().unwrap_or(6).max(6);
    let _ = writeln!(text, "      {:path$}  {:action$}  {:12}  undo", "step", "action", "effect");
    let mut phase = Phase::Main;
    for (at, planned) in steps.iter().enumerate() {
        if planned.step.phase != phase {
            phase = planned.step.phase;
            let _ = writeln!(text, "\n{}:", if phase == Phase::Finally { "finally" } else { "on_failure" });
        }
        let _ = writeln!(
            text,
            "{:4}  {:path$}  {:action$}  {:12}  {}",
            at + 1,
            planned.step.path.as_str(),
            planned.action.name,
            effect(planned),
            undo(planned)
        );
        details(&mut text, planned, width);
    }
    end(&mut text, workflow, steps);
    text
}

fn details(text: &mut String, planned: &PlannedStep<'_>, width: usize) {
    let mut say = |words: &str| wrap(text, &safe(words), 8, width);
    if let Some(condition) = &planned.step.condition {
        say(&format!("only if {}", condition.0));
    }
    if planned.step.approval.is_some() || planned.action.asks {
        say("asks a person before");
    }
    match &planned.preview {
        Preview::Changes { lines, destroys } => {
            lines.iter().for_each(|line| say(line));
            if let Some(destroys) = destroys {
                say(&format!("DESTROYS: {destroys}"));
            }
        }
        Preview::Unknown(why) => {
            say(&format!("cannot preview: {why}"));
        }
    }
}

fn effect(planned: &PlannedStep<'_>) -> &'static str {
    let worst = planned.action.targets.iter().map(|target| target.access).max_by_key(|access| match access {
        Access::Read => 0,
        Access::Write => 1,
        Access::Restore => 2,
        Access::Destroy => 3,
    });
    match (worst, planned.action.effect) {
        _ if destroys(planned) => "DESTROYS",
        (Some(Access::Destroy), _) => "DESTROYS",
        (Some(Access::Restore), _) => "fills",
        (Some(Access::Write), _) => "writes",
        (_, runbook_core::action::Effect::Read) => "reads",
        _ if planned.action.asks => "asks",
        _ => "changes",
    }
}

fn destroys(planned: &PlannedStep<'_>) -> bool {
    matches!(&planned.preview, Preview::Changes { destroys: Some(_), .. })
}

fn undo(planned: &PlannedStep<'_>) -> &'static str {
    match (&planned.step.undo, planned.action.has_undo) {
        (Undo::None, _) | (Undo::Auto, false) => "-",
        (Undo::Auto, true) | (Undo::Uses { .. }, _) => "yes",
    }
}

fn end(text: &mut String, workflow: &Workflow, steps: &[PlannedStep<'_>]) {
    let losses = steps.iter().filter_map(|planned| match &planned.preview {
        Preview::Changes { destroys: Some(destroys), .. } => Some(destroys),
        _ => None,
    });
    for loss in losses {
        let _ = writeln!(text, "\nWould be lost: {}.", safe(loss));
    }
    let digest = workflow.digest.get(..12).unwrap_or(&workflow.digest);
    let _ = writeln!(text, "\nPlan {digest}: {}. Nothing was changed.", count(steps.len(), "step"));
}

/// The same for programs.
pub(crate) fn plan_line(workflow: &Workflow, environment: &str, steps: &[PlannedStep<'_>]) -> Value {
    let steps: Vec<Value> = steps
        .iter()
        .map(|planned| {
            json!({
                "step": planned.step.path, "title": planned.step.title, "action": planned.action.name,
                "effect": planned.action.effect, "needs": planned.step.needs, "tags": planned.step.tags,
                "asks": planned.step.approval.is_some() || planned.action.asks, "preview": planned.preview,
            })
        })
        .collect();
    json!({
        "v": 1, "kind": "plan", "runbook": workflow.name, "environment": environment,
        "plan": workflow.digest, "steps": steps,
    })
}
