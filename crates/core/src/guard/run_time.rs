//! The guards again, right before an effect, on rendered parameters: what only a template knew is known
//! now, so a scratch connection that points at a live database is caught here. Compares addresses; it
//! asks no server who it is: what a drill writes to is asked by its actions (G02).

use std::collections::BTreeSet;

use serde_json::Value;

use super::facts::{Facts, listed, same_database, writes};
use super::g01::is_exempt;
use super::{g03, g04, g07};
use crate::action::{Access, Description, Registry};
use crate::compile::Waiver;
use crate::document::Kind;
use crate::environment::{Environment, EnvironmentKind};
use crate::workflow::{Step, Workflow};

/// A golden rule that a step is about to break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The guard's code.
    pub guard: &'static str,
    /// Lower-case phrase: what is wrong.
    pub message: String,
    /// The mend.
    pub help: String,
}

/// What forbids a step with these rendered parameters; empty when nothing does. Waived guards are left out.
/// For a step with `for_each`, call it for each instance with that instance's parameters.
pub fn at_run_time(
    workflow: &Workflow,
    step: &Step,
    params: &Value,
    environment: &Environment,
    registry: &dyn Registry,
    waivers: &[Waiver],
) -> Vec<Violation> {
    let facts = Facts::new(workflow, Some(environment), registry);
    let Some(description) = facts.description(step) else { return Vec::new() };
    let mut found = Vec::new();
    targets(&facts, step, description, params, environment, &mut found);
    checksum(step, description, params, &mut found);
    drill(workflow, step, description, environment, &mut found);
    unmasked(&facts, step, description, params, environment, &mut found);
    found.retain(|violation| !waivers.iter().any(|waiver| waiver.guard == violation.guard));
    found
}

fn targets(
    facts: &Facts<'_>,
    step: &Step,
    description: &Description,
    params: &Value,
    environment: &Environment,
    found: &mut Vec<Violation>,
) {
    let mut live = BTreeSet::new();
    let mut restored = BTreeSet::new();
    for target in description.targets.iter().filter(|target| writes(target.access)) {
        let Some(value) = params.get(target.param) else { continue };
        for (name, connection) in same_database(environment, value) {
            if connection.live {
                live.insert(name.clone());
            }
            if target.access == Access::Restore {
                restored.insert(name.clone());
            }
        }
        // A connection may say of itself that users depend on it, whatever its address.
        if value.get("live") == Some(&Value::Bool(true)) {
            let name = value.get("name").or_else(|| value.get("host")).and_then(Value::as_str);
            live.insert(name.unwrap_or("a live connection").to_owned());
        }
    }
    if !live.is_empty() && !is_exempt(facts, step) {
        if !facts.is_dominated_by_tag(step, "freeze") {
            found.push(Violation {
                guard: "G01",
                message: format!(
                    "step `{}` would write to live {}, and writes are not frozen",
                    step.path,
                    listed(&live)
                ),
                help: "put a step with `tags: [freeze]` before it".to_owned(),
            });
        }
        if environment.kind == EnvironmentKind::Production && !facts.is_approved(step) {
            found.push(Violation {
                guard: "G05",
                message: format!(
                    "step `{}` would change live {} in production, and nobody approved it",
                    step.path,
                    listed(&live)
                ),
                help: "add `approval: { prompt: … }` to the step".to_owned(),
            });
        }
    }
    if !restored.is_empty() {
        let overwrites = params.get("overwrite") == Some(&Value::Bool(true));
        let lacks = g07::missing(facts, step, &restored, overwrites);
        found.extend(lacks.into_iter().map(|(message, help)| Violation {
            guard: "G07",
            message,
            help: help.to_owned(),
        }));
    }
}

fn checksum(step: &Step, description: &Description, params: &Value, found: &mut Vec<Violation>) {
    if !description.targets.iter().any(|target| target.access == Access::Restore) {
        return;
    }
    for name in g04::backup_params(description) {
        let unverified =
            params.get(name).is_some_and(|backup| !backup.is_null() && !g04::has_checksum(backup));
        if unverified {
            found.push(Violation {
                guard: "G04",
                message: format!("step `{}` would restore a backup without a checksum", step.path),
                help: "restore a backup that has its sha256 recorded beside it".to_owned(),
            });
        }
    }
}

/// A drill writes only while it is known of every live database who it is: else nothing can be compared.
fn drill(
    workflow: &Workflow,
    step: &Step,
    description: &Description,
    environment: &Environment,
    found: &mut Vec<Violation>,
) {
    if workflow.kind != Kind::Drill || !description.targets.iter().any(|target| writes(target.access)) {
        return;
    }
    let unknown: BTreeSet<String> = match &environment.guarded {
        Some(live) => live.iter().filter(|one| one.identity.is_none()).map(|one| one.label()).collect(),
        None => ["every environment".to_owned()].into(),
    };
    if !unknown.is_empty() {
        found.push(Violation {
            guard: "G02",
            message: format!(
                "step `{}` of a drill would write, and the live database of {} is not known",
                step.path,
                listed(&unknown)
            ),
            help: "record it as the connection's `identity:`, what `select system_identifier || '/' || \
                   current_database() from pg_control_system()` says there, or make it reachable"
                .to_owned(),
        });
    }
}

fn unmasked(
    facts: &Facts<'_>,
    step: &Step,
    description: &Description,
    params: &Value,
    environment: &Environment,
    found: &mut Vec<Violation>,
) {
    let restores = description.targets.iter().any(|target| target.access == Access::Restore);
    if !restores || environment.kind == EnvironmentKind::Production {
        return;
    }
    let names = g04::backup_params(description);
    let mut backups = names.iter().filter_map(|name| params.get(name)).filter(|backup| !backup.is_null());
    let is_masked = params.get("mask").is_some_and(|mask| !mask.is_null());
    // The step itself is not among them here: its `mask` may have turned out to be nothing.
    let Some(own) = facts.graph.step(step.path.as_str()) else { return };
    let is_masked_after = g03::masks(facts, own).iter().any(|mask| mask.path != step.path);
    if backups.any(|backup| g03::brings_production(backup, environment)) && !is_masked && !is_masked_after {
        found.push(Violation {
            guard: "G03",
            message: format!(
                "step `{}` would restore production data into {} unmasked",
                step.path, environment.name
            ),
            help: "give it `mask: RULES.yaml` and `mask_key`".to_owned(),
        });
    }
}
