//! What was changed where, what was proven, what was left out, what is left to do.

use runbook_core::action::Effect;
use runbook_core::evidence;
use serde_json::Value;

use super::{
    Change, CheckLine, Evidence, Facts, FollowUp, ForceLine, LeftOut, Level, SystemChanges, action_of,
};
use crate::driver::Loaded;
use crate::machine::{State, UndoState};
use crate::record::{Record, SkippedWhy};

/// Notes that begin so are things to do.
const FOLLOW_UP: &str = "follow-up:";

/// The systems by the first part of an action's name; what is not listed is named by that part. None: nothing outside
/// the run is changed.
fn system(action: &str) -> Option<String> {
    let family = action.split('.').next().unwrap_or(action);
    let name = match family {
        "flow" | "incident" | "approval" | "secret" | "evidence" | "objectives" | "wait" => return None,
        "postgres" => "PostgreSQL",
        "supabase" => "Supabase",
        "storage" => "Supabase Storage",
        "vercel" => "Vercel",
        "backup" => "Backup bucket",
        "http" | "job" => "Application",
        "notify" => "Messages",
        "page" => "PagerDuty",
        "ticket" => "Tickets",
        "dns" => "DNS",
        "email" => "E-mail",
        "paypal" => "PayPal",
        "paymongo" => "PayMongo",
        "manual" => "By hand",
        other => other,
    };
    Some(name.to_owned())
}

pub(super) fn changes(facts: &Facts<'_>) -> Vec<SystemChanges> {
    let mut found: Vec<SystemChanges> = Vec::new();
    let mut instances = facts.instances.clone();
    instances.sort_by_key(|(_, i)| (i.ended_at.or(i.first_started_at), i.settled_seq));
    for (step, i) in instances {
        let effect = facts.loaded.machine.bone(&i.path).map_or(Effect::Read, |bone| bone.effect);
        let Some(system) = action_of(step).and_then(system).filter(|_| effect != Effect::Read) else {
            continue;
        };
        let note = match (&i.undo, i.state) {
            (Some(UndoState::Done), _) => Some("taken back".to_owned()),
            (Some(UndoState::Failed(_)), _) => Some("could not be taken back".to_owned()),
            (Some(UndoState::Skipped(_)), _) => Some("kept at the rollback".to_owned()),
            (_, State::Done) => i.by_key_of.as_ref().map(|by| format!("done before, by {by}")),
            (_, State::Running) => Some("under way".to_owned()),
            _ if i.may_have_effect() => Some("perhaps: the step did not end well".to_owned()),
            _ => continue,
        };
        let summary =
            i.outcome.as_ref().map(|outcome| outcome.summary.as_str()).filter(|text| !text.is_empty());
        let text = summary.map_or_else(|| step.title.clone(), |summary| format!("{}: {summary}", step.title));
        let change = Change { step: i.path.clone(), at: i.ended_at, text, note };
        match found.iter_mut().find(|known| known.system == system) {
            Some(known) => known.changes.push(change),
            None => found.push(SystemChanges { system, changes: vec![change] }),
        }
    }
    found
}

pub(super) fn evidence(facts: &Facts<'_>) -> Evidence {
    let blank = |(level, meaning): &(&str, &str)| Level {
        level: (*level).to_owned(),
        meaning: (*meaning).to_owned(),
        proven_by: Vec::new(),
    };
    let mut levels: Vec<Level> = evidence::LEVELS.iter().map(blank).collect();
    let mut checks = Vec::new();
    for &(step, i) in &facts.instances {
        let Some(action) = action_of(step) else { continue };
        if let (Some(outcome), State::Done) = (&i.outcome, i.state) {
            let params = i.last.as_ref().map_or(&Value::Null, |attempt| &attempt.params);
            let found = evidence::checks_of(action, params, &outcome.outputs);
            checks.extend(found.into_iter().map(|check| CheckLine {
                step: i.path.clone(),
                at: i.ended_at,
                check,
            }));
            for level in evidence::levels_of(action, &outcome.outputs) {
                let line = levels.iter_mut().find(|line| line.level == level);
                line.into_iter().for_each(|line| line.proven_by.push(i.path.clone()));
            }
        }
        let proves = step.tags.iter().any(|tag| tag == "validate") || action == "postgres.restore";
        if let (Some(failure), true) =
            (&i.failure, proves && matches!(i.state, State::Failed | State::Refused))
        {
            checks.push(CheckLine {
                step: i.path.clone(),
                at: i.ended_at,
                check: evidence::Check {
                    name: step.title.clone(),
                    expected: "passes".to_owned(),
                    observed: format!("could not {}", failure.message),
                    ok: false,
                },
            });
        }
    }
    Evidence { levels, checks }
}

pub(super) fn left_out(facts: &Facts<'_>) -> Vec<LeftOut> {
    let (machine, workflow) = (&facts.loaded.machine, &facts.loaded.workflow);
    let mut found = Vec::new();
    for waiver in machine.waived() {
        let rule = runbook_core::guard::explain(&waiver.guard).map_or("", |explanation| explanation.rule);
        found.push(LeftOut {
            how: "waived".to_owned(),
            what: waiver.guard.clone(),
            title: rule.to_owned(),
            why: format!("{}: {}", waiver.by, waiver.reason),
        });
    }
    for (node, step) in machine.nodes().zip(&workflow.steps) {
        if action_of(step).is_none() {
            continue;
        }
        let condition = || step.condition.as_ref().map_or("", |condition| condition.0.as_str());
        let (how, why) = match node.skipped {
            Some(SkippedWhy::Condition) => ("skipped", format!("its condition is false: {}", condition())),
            Some(SkippedWhy::Within) => {
                ("skipped", "the runbook that it belongs to was not entered".to_owned())
            }
            None if !node.settled
                && node.instances.iter().all(|i| i.state == State::Waiting && i.attempts == 0) =>
            {
                ("not started", "the run did not come to it".to_owned())
            }
            None => {
                match node.instances.iter().find(|i| i.state == State::Failed && step.continue_on_error) {
                    Some(i) => {
                        let why =
                            i.failure.as_ref().map_or_else(String::new, |failure| failure.message.clone());
                        ("failed, and the run went on", why)
                    }
                    None => continue,
                }
            }
        };
        found.push(LeftOut {
            how: how.to_owned(),
            what: step.path.to_string(),
            title: step.title.clone(),
            why,
        });
    }
    found
}

pub(super) fn in_force(loaded: &Loaded) -> Vec<ForceLine> {
    let line = |force: &crate::machine::Force| ForceLine {
        text: force.what.text.clone(),
        step: force.step.clone(),
        since: force.since,
    };
    loaded.machine.in_force().iter().map(line).collect()
}

pub(super) fn follow_ups(facts: &Facts<'_>) -> Vec<FollowUp> {
    let mut found = Vec::new();
    for (step, i, outputs) in facts.outputs(|action| action.starts_with("ticket.")) {
        let text =
            |names: &[&str]| names.iter().find_map(|name| outputs.get(name)?.as_str().map(str::to_owned));
        let title =
            text(&["title", "summary"]).or_else(|| i.outcome.as_ref().map(|outcome| outcome.summary.clone()));
        found.push(FollowUp {
            how: "ticket".to_owned(),
            text: title.filter(|title| !title.is_empty()).unwrap_or_else(|| step.title.clone()),
            url: text(&["url", "html_url"]),
            from: i.path.to_string(),
        });
    }
    for (_, record) in &facts.loaded.records {
        let Record::Noted { by, text } = record else { continue };
        let is_task = text.get(..FOLLOW_UP.len()).is_some_and(|start| start.eq_ignore_ascii_case(FOLLOW_UP));
        if is_task {
            let task = text[FOLLOW_UP.len()..].trim().to_owned();
            found.push(FollowUp { how: "note".to_owned(), text: task, url: None, from: by.clone() });
        }
    }
    for problem in crate::driver::problems_of(&facts.loaded.machine, &facts.loaded.workflow) {
        let hint = problem.hint.map(|hint| format!(" {hint}")).unwrap_or_default();
        let text = format!("{}: {}.{hint}", problem.title, problem.message);
        found.push(FollowUp { how: "problem".to_owned(), text, url: None, from: problem.step.to_string() });
    }
    found
}
