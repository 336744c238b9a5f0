//! The schema of one step.

use serde_json::{Value, json};

use super::{ID, NAME, duration, flag, joined, object, text, texts};
use crate::action::{Description, Effect};

/// A runbook used as a step.
const FILE: &str = "^\\.\\.?/.*\\.ya?ml$";

/// One entry of `steps`.
pub(super) fn step(descriptions: &[&Description]) -> Value {
    let properties = joined(what(descriptions), joined(order(), joined(trouble(descriptions), prose())));
    typed(object("A step.", &["id", "uses"], properties), descriptions)
}

/// A map with `uses` and `with`, the second typed by the first.
fn typed(mut schema: Value, descriptions: &[&Description]) -> Value {
    let rules: Vec<Value> = descriptions.iter().map(|action| rule(action)).collect();
    if !rules.is_empty() {
        schema["allOf"] = Value::Array(rules);
    }
    schema
}

/// `with` has the type of the action that `uses` names.
fn rule(action: &Description) -> Value {
    let needs_with =
        action.params.get("required").and_then(Value::as_array).is_some_and(|required| !required.is_empty());
    let mut then = json!({ "properties": { "with": { "$ref": format!("#/$defs/with.{}", action.name) } } });
    if needs_with {
        then["required"] = json!(["with"]);
    }
    json!({ "if": { "properties": { "uses": { "const": action.name } }, "required": ["uses"] }, "then": then })
}

fn names(descriptions: &[&Description]) -> Value {
    let names: Vec<&str> = descriptions.iter().map(|action| action.name).collect();
    let help: Vec<&str> = descriptions.iter().map(|action| action.summary).collect();
    // The second keyword is what editors show beside each name.
    json!({ "enum": names, "enumDescriptions": help })
}

fn what(descriptions: &[&Description]) -> Value {
    json!({
        "id": { "type": "string", "pattern": ID, "description": "Names the step and its checkpoint: unique and stable." },
        "title": text("One line for people; the id when left out."),
        "uses": {
            "description": "The action, or another runbook as `./file.yaml`.",
            "anyOf": [names(descriptions), { "type": "string", "pattern": FILE }],
        },
        "with": { "type": "object", "description": "The action's parameters; values may be templates." },
    })
}

fn order() -> Value {
    json!({
        "needs": texts("Steps that come first, instead of the one above. `[]` starts at once."),
        "if": expression("An expression; false: the step is skipped."),
        "preconditions": checks("What must hold before the step; checked again on every resume."),
        "postconditions": checks("What must hold after the step."),
        "for_each": object("Runs the step once per item.", &["items", "key"], json!({
            "items": {
                "description": "A list, or a template that gives one.",
                "anyOf": [{ "type": "array" }, { "$ref": "#/$defs/template" }],
            },
            "as": { "type": "string", "pattern": NAME, "default": "item", "description": "The item's name in templates." },
            "key": text("What tells the items apart, as a template: unique, and the same on every resume."),
            "max_parallel": { "type": "integer", "minimum": 1, "maximum": 256, "default": 1, "description": "Instances in flight at once." },
        })),
        "approval": object("Asked before the effect.", &["prompt"], json!({
            "prompt": text("The question; may hold templates."),
            "min_approvals": { "type": "integer", "minimum": 1, "maximum": 20, "default": 1, "description": "How many must say yes." },
            "timeout": duration("How long the question stands."),
            "approvers": texts("Who may answer; the environment's approvers when left out."),
        })),
        "tags": texts("Words that the golden rules look for: `freeze`, `unfreeze`, `validate`, `expose`, `mask`."),
    })
}

fn trouble(descriptions: &[&Description]) -> Value {
    let readers: Vec<&Description> =
        descriptions.iter().copied().filter(|action| action.effect == Effect::Read).collect();
    json!({
        "timeout": duration("Longest time of one attempt."),
        "retry": retry(),
        "idempotency_key": text("Names the effect beyond this run: what was done under it in this environment is not done again."),
        "probe": typed(probe(&readers), &readers),
        "continue_on_error": flag("A failure does not stop what needs this step."),
        "undo": {
            "description": "What a rollback does, instead of the action's own undo.",
            "anyOf": [
                { "const": "none", "description": "Leave the effect as it is." },
                typed(undo(descriptions), descriptions),
            ],
        },
        "point_of_no_return": flag("After this step a rollback is refused."),
    })
}

fn probe(readers: &[&Description]) -> Value {
    let properties = json!({
        "uses": joined(names(readers), json!({ "description": "An action that only reads." })),
        "with": { "type": "object", "description": "Its parameters." },
        "happened": expression("An expression over `probe`, the action's outputs: true when the effect is there."),
    });
    object("Settles the step when its outcome is not known.", &["uses", "happened"], properties)
}

fn undo(descriptions: &[&Description]) -> Value {
    let properties = json!({
        "uses": joined(names(descriptions), json!({ "description": "The action that takes the effect back." })),
        "with": { "type": "object", "description": "Its parameters." },
    });
    object("Another action.", &["uses"], properties)
}

fn retry() -> Value {
    object(
        "What happens after a failed attempt.",
        &[],
        json!({
            "max_attempts": { "type": "integer", "minimum": 1, "maximum": 100, "default": 3, "description": "Attempts since the last resume, the first included." },
            "initial_interval": duration("Wait before the second attempt."),
            "multiplier": { "type": "number", "minimum": 1, "maximum": 100, "default": 2, "description": "Growth of the wait." },
            "max_interval": duration("Longest wait."),
            "jitter": { "type": "number", "minimum": 0, "maximum": 1, "default": 0.2, "description": "Share of the wait that is random." },
            "on_exhausted": { "enum": ["pause", "fail"], "default": "pause", "description": "When the attempts are used up: ask a person, or fail." },
        }),
    )
}

fn prose() -> Value {
    json!({
        "why": text("Why the step is there, for the person who reads along."),
        "if_it_fails": text("What a person should know and do when it failed."),
        "expect": object("What is normal.", &[], json!({ "duration": duration("How long it takes.") })),
    })
}

fn expression(help: &str) -> Value {
    json!({ "type": ["string", "boolean"], "description": help })
}

fn checks(help: &str) -> Value {
    json!({
        "type": "array",
        "description": help,
        "items": object("A condition.", &["check"], json!({
            "check": expression("An expression that must be true."),
            "message": text("What to say when it is not; may hold templates."),
        })),
    })
}
