//! JSON Schemas (2020-12) of runbooks and environment files, for editors: completion, help at the
//! pointer, red lines. They say the same as `decode`, and a test holds the two together; what a schema
//! cannot say (a duplicate id, a missing step) is left to `check`.

mod environment;
mod parameters;
mod runbook;
mod step;

#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

pub use environment::environment;
pub use runbook::runbook;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// A number with a unit, or a sum of them; `decode::parse_duration`.
const DURATION: &str = "^([0-9]+(ms|s|m|h|d) *)+$";
/// Steps and runbooks.
const ID: &str = "^[a-z][a-z0-9_-]{0,63}$";
/// What templates reach with a dot.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]{0,63}$";

/// Text with help.
fn text(help: &str) -> Value {
    json!({ "type": "string", "minLength": 1, "description": help })
}

/// A duration with help.
fn duration(help: &str) -> Value {
    json!({ "type": "string", "pattern": DURATION, "description": format!("{help} Such as `90s`, `45m`, `1h 30m`.") })
}

/// A boolean with help and default.
fn flag(help: &str) -> Value {
    json!({ "type": "boolean", "default": false, "description": help })
}

/// A list of texts with help.
fn texts(help: &str) -> Value {
    json!({ "type": "array", "items": { "type": "string", "minLength": 1 }, "description": help })
}

/// A map with these keys and no others.
fn object(help: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": help,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A map from names to something.
fn named(help: &str, value: Value) -> Value {
    json!({
        "type": "object",
        "description": help,
        "propertyNames": { "pattern": NAME },
        "additionalProperties": value,
    })
}

/// Both maps' entries; the second wins.
fn joined(first: Value, second: Value) -> Value {
    let entries = |value: Value| match value {
        Value::Object(entries) => entries,
        _ => Map::new(),
    };
    let mut all = entries(first);
    all.extend(entries(second));
    Value::Object(all)
}
