//! RPO and RTO as they were measured, and where the time went.

use jiff::Timestamp;
use runbook_core::workflow::{Phase, Step};
use serde_json::Value;

use super::{
    BackupLine, Facts, Measured, Objectives, PhaseTime, StepLine, Stretch, action_of, moment, seconds,
};
use crate::machine::{Instance, State};

/// The phases of a restore, in the order in which an untagged step moves through them.
const PHASES: [&str; 6] = ["freeze", "backup", "restore", "validate", "expose", "verify"];

pub(super) fn objectives(facts: &Facts<'_>) -> Objectives {
    let workflow = &facts.loaded.workflow;
    let started_at = facts.loaded.facts().started_at;
    let declared = facts.outputs(|action| action == "incident.declare");
    let declared = declared.first().and_then(|(.., outputs)| moment(outputs, "declared_at"));
    let declared_at = declared.unwrap_or(started_at);
    let backup = backup(facts);
    let frozen_at = ended(facts, |step| has_tag(step, "freeze"));
    let reopened_at = reopened(facts);
    let restore_point = backup.as_ref().and_then(|backup| backup.taken_at);
    let data_loss = restore_point.map(|from| {
        let until = frozen_at.unwrap_or(declared_at);
        let why = if frozen_at.is_some() { "writes were frozen" } else { "it was declared" };
        Stretch { from, until, seconds: seconds(from, until), why: why.to_owned() }
    });
    let rpo = measured(workflow.rpo, restore_point.map(|from| seconds(from, declared_at)), true);
    let took = reopened_at.or_else(|| facts.loaded.machine.finished().is_none().then_some(facts.last_at));
    let rto = took.map(|until| seconds(declared_at, until));
    Objectives {
        declared_at,
        declared: declared.is_some(),
        backup,
        rpo,
        rto: measured(workflow.rto, rto, reopened_at.is_some()),
        data_loss,
        frozen_at,
        reopened_at,
    }
}

/// An objective that is missed already is missed, whether the measurement is over or not.
fn measured(target: Option<std::time::Duration>, seconds: Option<f64>, over: bool) -> Measured {
    let met = match (target, seconds) {
        (Some(target), Some(seconds)) => {
            let kept = seconds <= target.as_secs_f64();
            (over || !kept).then_some(kept)
        }
        _ => None,
    };
    Measured { target_seconds: target.map(|target| target.as_secs()), seconds, met }
}

/// The backup that was restored; the one that was chosen, where none was restored yet.
fn backup(facts: &Facts<'_>) -> Option<BackupLine> {
    let restores = facts.outputs(|action| action == "postgres.restore");
    let restored = restores.last().and_then(|(_, instance, _)| instance.last.as_ref()?.params.get("backup"));
    let chosen = facts.outputs(|action| action == "backup.select");
    let (backup, is_restored) = match (restored, chosen.last()) {
        (Some(backup), _) => (backup, true),
        (None, Some((.., outputs))) => (*outputs, false),
        (None, None) => return None,
    };
    let text = |field: &str| backup.get(field).and_then(Value::as_str).map(str::to_owned);
    Some(BackupLine {
        url: text("url")?,
        sha256: text("sha256"),
        size_bytes: backup.get("size_bytes").and_then(Value::as_u64),
        taken_at: moment(backup, "taken_at"),
        restored: is_restored,
    })
}

/// When everything that was closed was open: the last step that opens something. A runbook that opens nothing, such as a
/// drill, is through when its last proof is there.
fn reopened(facts: &Facts<'_>) -> Option<Timestamp> {
    let opens = |step: &Step| has_tag(step, "expose") || has_tag(step, "unfreeze");
    let proves = |step: &Step| has_tag(step, "validate");
    if facts.loaded.workflow.steps.iter().any(opens) {
        all_ended(facts, opens)
    } else {
        all_ended(facts, proves)
    }
}

/// The end of the last of some steps, if all of them are done or do not apply.
fn all_ended(facts: &Facts<'_>, wanted: impl Fn(&Step) -> bool) -> Option<Timestamp> {
    let nodes = facts.loaded.machine.nodes().zip(&facts.loaded.workflow.steps);
    let open = nodes
        .filter(|(_, step)| wanted(step))
        .any(|(node, _)| !node.settled || node.instances.iter().any(|i| !is_over(i)));
    if open { None } else { ended(facts, wanted) }
}

fn is_over(instance: &Instance) -> bool {
    matches!(instance.state, State::Done | State::Skipped)
}

/// The end of the last of some steps that are done.
fn ended(facts: &Facts<'_>, wanted: impl Fn(&Step) -> bool) -> Option<Timestamp> {
    let done = facts.instances.iter().filter(|(step, i)| i.state == State::Done && wanted(step));
    done.filter_map(|(_, i)| i.ended_at).max()
}

/// Whether a step is tagged `TAG` or `TAG:NAME`.
fn has_tag(step: &Step, tag: &str) -> bool {
    step.tags
        .iter()
        .any(|written| written == tag || written.strip_prefix(tag).is_some_and(|rest| rest.starts_with(':')))
}

/// The phase of each step of a workflow. Tags and actions say it; a step without such a sign belongs to what the steps
/// above it lead to: what follows the choice of a backup restores, what follows a proof opens.
pub(super) fn phases_of(steps: &[Step]) -> Vec<String> {
    let mut now = 0;
    let mut found = Vec::with_capacity(steps.len());
    for step in steps {
        let own = step.tags.iter().find_map(|tag| tag.strip_prefix("phase:"));
        if let Some(own) = own {
            found.push(own.to_owned());
            continue;
        }
        let sign = sign_of(step);
        match sign {
            Some(at) => now = now.max(at),
            // Steps of these are few and named by their sign; what follows is the next thing.
            None if matches!(PHASES[now], "backup" | "validate" | "expose") => now += 1,
            None => {}
        }
        found.push(PHASES[sign.unwrap_or(now)].to_owned());
    }
    found
}

fn sign_of(step: &Step) -> Option<usize> {
    let place = |name: &str| PHASES.iter().position(|phase| *phase == name);
    let action = action_of(step).unwrap_or_default();
    let by_tag =
        [("freeze", "freeze"), ("unfreeze", "verify"), ("expose", "expose"), ("validate", "validate")];
    let tagged = by_tag.into_iter().find(|(tag, _)| has_tag(step, tag)).and_then(|(_, phase)| place(phase));
    tagged.or_else(|| match action {
        "incident.declare" => place("freeze"),
        _ if action.starts_with("backup.") => place("backup"),
        "postgres.check" => place("validate"),
        _ => None,
    })
}

/// Where the time from the declaration to the reopening went. Each phase begins where the one before ended, so that they
/// add up.
pub(super) fn phases(facts: &Facts<'_>, steps: &[StepLine], objectives: &Objectives) -> Vec<PhaseTime> {
    let end = objectives.reopened_at.unwrap_or(facts.last_at);
    let mut order: Vec<&str> = Vec::new();
    for line in steps.iter().filter(|line| is_main(facts, line)) {
        if line.started_at.is_some() && !order.contains(&line.phase.as_str()) {
            order.push(&line.phase);
        }
    }
    let mut found: Vec<PhaseTime> = Vec::new();
    let mut from = objectives.declared_at;
    for name in order {
        let members = || steps.iter().filter(|line| line.phase == name && is_main(facts, line));
        let last = members()
            .filter_map(|line| line.started_at.map(|at| line.ended_at.unwrap_or(facts.last_at).max(at)));
        let until = last.max().unwrap_or(from).clamp(from, end.max(from));
        let count = members().filter(|line| line.started_at.is_some()).count();
        found.push(PhaseTime {
            name: name.to_owned(),
            from,
            until,
            seconds: seconds(from, until),
            steps: u32::try_from(count).unwrap_or(u32::MAX),
        });
        from = until;
    }
    found
}

fn is_main(facts: &Facts<'_>, line: &StepLine) -> bool {
    let step = facts.instances.iter().find(|(_, instance)| instance.path == line.step);
    step.is_none_or(|(step, _)| step.phase == Phase::Main)
}
