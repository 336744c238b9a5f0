//! The schema of a runbook file.

use serde_json::{Map, Value, json};

use super::{DRAFT, ID, duration, named, object, parameters, step, text};
use crate::action::Description;

/// The schema of runbook files with these actions: `uses` completes their names and each `with` is typed
/// by the action beside it. The order of the descriptions is kept, so give them sorted.
pub fn runbook(descriptions: &[&Description]) -> Value {
    let mut defs = Map::new();
    defs.insert("template".into(), parameters::template());
    for action in descriptions {
        let with = parameters::with(action.name, &action.params, &mut defs);
        defs.insert(format!("with.{}", action.name), with);
    }
    defs.insert("step".into(), step::step(descriptions));
    let mut schema = object(
        "One runbook: what is done, in which order, and what must hold.",
        &["name", "kind", "steps"],
        keys(),
    );
    if let Some(entries) = schema.as_object_mut() {
        entries.shift_insert(0, "$schema".into(), json!(DRAFT));
        entries.shift_insert(1, "title".into(), json!("Runbook"));
        entries.insert("$defs".into(), Value::Object(defs));
    }
    schema
}

fn keys() -> Value {
    json!({
        "name": { "type": "string", "pattern": ID, "description": "Short name, unique in the folder: `path-b`." },
        "title": text("One line for people."),
        "why": text("Prose about the whole: when to reach for it, and when not."),
        "kind": {
            "description": "What it is for. A drill never touches what is live.",
            "enum": ["incident", "drill", "maintenance"],
        },
        "objectives": object("What the run is measured against.", &[], json!({
            "rpo": duration("Data lost at most."),
            "rto": duration("Time to reopen at most."),
        })),
        "inputs": named("Values that are asked for when a run starts; `inputs.NAME` in templates.", input()),
        "steps": steps("The steps. Each needs the one above it unless `needs` says otherwise.", 1),
        "on_failure": steps("Run when the run is given up as failed or cancelled.", 0),
        "finally": steps("Run last, whatever happened.", 0),
        "outputs": named("Values of the whole, as templates over the steps; `steps.ID.NAME` for a runbook that uses this one.", json!(true)),
        "deadline": duration("No step is started after this long."),
    })
}

fn steps(help: &str, least: u32) -> Value {
    json!({ "type": "array", "description": help, "minItems": least, "items": { "$ref": "#/$defs/step" } })
}

fn input() -> Value {
    object(
        "An input.",
        &["type"],
        json!({
            "type": {
                "description": "Its type. A timestamp is RFC 3339 or the word `latest`.",
                "enum": ["string", "integer", "number", "boolean", "timestamp", "duration", "list", "map"],
            },
            "default": { "description": "Taken when nothing is given." },
            "required": {
                "type": "boolean",
                "description": "True unless there is a default. A missing optional input is `none`.",
            },
            "enum": { "type": "array", "minItems": 1, "description": "The values that are allowed." },
            "help": text("What a person is asked."),
        }),
    )
}
