//! One hash over everything that decides what would be done. Prose and places are left out: a comment
//! or a better title does not change a plan.

use serde_json::{Value, json};

use super::request::Waiver;
use crate::environment::Environment;
use crate::key::digest_with_list;
use crate::workflow::{Check, Step, Undo, Work, Workflow};

pub(super) fn digest(workflow: &Workflow, environment: Option<&Environment>, waivers: &[Waiver]) -> String {
    let rest = [
        ("version", json!(1)),
        ("name", json!(workflow.name)),
        ("kind", json!(workflow.kind)),
        ("deadline", json!(workflow.deadline)),
        ("inputs", json!(workflow.inputs)),
        ("outputs", json!(workflow.outputs)),
        ("environment", json!(environment)),
        ("waivers", json!(waivers)),
    ];
    let rest = rest.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    digest_with_list(&rest, "steps", workflow.steps.iter().map(step))
}

fn step(step: &Step) -> Value {
    json!({
        "path": step.path,
        "scope": step.scope,
        "phase": step.phase,
        "work": work(&step.work),
        "with": step.with,
        "needs": step.needs,
        "condition": step.condition,
        "preconditions": step.preconditions.iter().map(check).collect::<Vec<_>>(),
        "postconditions": step.postconditions.iter().map(check).collect::<Vec<_>>(),
        "for_each": step.for_each.as_ref().map(|each| json!([each.items, each.as_name, each.key, each.max_parallel])),
        "timeout": step.timeout,
        "retry": step.retry,
        "idempotency_key": step.idempotency_key,
        "probe": step.probe.as_ref().map(|probe| json!([probe.action, probe.with, probe.happened])),
        "approval": step.approval.as_ref().map(|approval| json!({
            "prompt": approval.prompt,
            "min_approvals": approval.min_approvals,
            "timeout": approval.timeout,
            "approvers": approval.approvers,
            "four_eyes": approval.four_eyes,
        })),
        "continue_on_error": step.continue_on_error,
        "undo": match &step.undo {
            Undo::Auto => json!("auto"),
            Undo::None => json!("none"),
            Undo::Uses { action, with } => json!([action, with]),
        },
        "point_of_no_return": step.point_of_no_return,
        "tags": step.tags,
    })
}

fn work(work: &Work) -> Value {
    match work {
        Work::Action { name } => json!({ "action": name }),
        Work::Begin => json!("begin"),
        Work::End { outputs } => json!({ "end": outputs }),
    }
}

fn check(check: &Check) -> Value {
    json!([check.check, check.message])
}
