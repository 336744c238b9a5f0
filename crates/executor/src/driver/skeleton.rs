//! A workflow to what the machine needs to know of it.

use std::collections::{BTreeSet, HashMap};

use runbook_core::action::{Access, Effect, Registry};
use runbook_core::template::references;
use runbook_core::workflow::{Step, StepPath, Undo, Work, Workflow};
use serde_json::Value;

use crate::machine::{Bone, Skeleton, UndoPlan};

const KEPT: &str = "restored databases are kept for forensics";

/// What the machine needs to know of a workflow. An action that the registry does not know counts as one
/// that must not be repeated.
pub fn skeleton_of(workflow: &Workflow, registry: &dyn Registry) -> Skeleton {
    let at: HashMap<&StepPath, usize> =
        workflow.steps.iter().enumerate().map(|(n, s)| (&s.path, n)).collect();
    let kept = restored_into(workflow, registry);
    let bone = |(n, step): (usize, &Step)| {
        let within = step.begin().and_then(|begin| at.get(&begin).copied()).filter(|&begin| begin != n);
        let mut needs: Vec<usize> = step.needs.iter().filter_map(|need| at.get(need).copied()).collect();
        // Entering comes first, whatever `needs` says; across phases the phase sees to that.
        let entered_before = within.filter(|&w| workflow.steps[w].phase == step.phase && !needs.contains(&w));
        needs.extend(entered_before);
        let description = match &step.work {
            Work::Action { name } => registry.get(name).map(|action| action.description()),
            Work::Begin | Work::End { .. } => None,
        };
        let calls = matches!(step.work, Work::Action { .. });
        let effect = description.map_or(if calls { Effect::Once } else { Effect::Read }, |d| d.effect);
        let own_probe = effect == Effect::Once && description.is_some_and(|d| d.has_probe);
        Bone {
            path: step.path.clone(),
            needs,
            within,
            phase: step.phase,
            conditional: step.condition.is_some(),
            each: step.for_each.as_ref().map(|each| each.max_parallel.max(1)),
            // Entering a used runbook may want an approval as well; leaving it has none.
            asks: step.approval.is_some() || description.is_some_and(|d| d.asks),
            calls,
            effect,
            probe: step.probe.is_some() || own_probe,
            attempts_max: step.retry.max_attempts.max(1),
            on_exhausted: step.retry.on_exhausted,
            continue_on_error: step.continue_on_error,
            undo: undo_plan(step, registry, &kept),
            point_of_no_return: step.point_of_no_return,
        }
    };
    Skeleton { steps: workflow.steps.iter().enumerate().map(bone).collect(), deadline: workflow.deadline }
}

fn undo_plan(step: &Step, registry: &dyn Registry, kept: &BTreeSet<StepPath>) -> UndoPlan {
    let Work::Action { name } = &step.work else { return UndoPlan::Nothing };
    let description = registry.get(name).map(|action| action.description());
    match &step.undo {
        Undo::Uses { .. } => UndoPlan::Act,
        Undo::None => UndoPlan::Keep("the runbook says so".to_owned()),
        Undo::Auto if description.is_some_and(|d| d.effect == Effect::Read) => UndoPlan::Nothing,
        Undo::Auto if kept.contains(&step.path) => UndoPlan::Keep(KEPT.to_owned()),
        Undo::Auto if description.is_some_and(|d| d.has_undo) => UndoPlan::Act,
        Undo::Auto => UndoPlan::Keep(format!("`{name}` cannot be taken back")),
    }
}

/// Steps that restore, and steps that made what is restored into.
fn restored_into(workflow: &Workflow, registry: &dyn Registry) -> BTreeSet<StepPath> {
    let mut kept = BTreeSet::new();
    for step in &workflow.steps {
        let Work::Action { name } = &step.work else { continue };
        let Some(description) = registry.get(name).map(|action| action.description()) else { continue };
        for target in description.targets.iter().filter(|t| t.access == Access::Restore) {
            kept.insert(step.path.clone());
            let Some(Value::String(text)) = step.with.get(target.param).map(|t| &t.0) else { continue };
            for used in references(text).into_iter().filter(|r| r.path[0] == "steps") {
                kept.extend(used.path.get(1).map(|id| StepPath::new(format!("{}{id}", step.scope))));
            }
        }
    }
    kept
}
