//! An action's parameters as an editor wants them: where the action wants a number, a runbook may also
//! write a template.

use serde_json::{Map, Value, json};

/// Where the schema of any template stands.
const TEMPLATE: &str = "#/$defs/template";
/// Keywords that hold one schema.
const ONE: &[&str] = &["items", "additionalProperties", "contains"];
/// Keywords that hold a list of schemas.
const MANY: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords that hold schemas by name.
const NAMED: &[&str] = &["properties", "patternProperties"];

/// The schema of a template: text with `{{ … }}` in it.
pub(super) fn template() -> Value {
    json!({ "type": "string", "pattern": "\\{\\{" })
}

/// `with` for one action: its parameters with templates allowed at every place below the map itself.
/// `name` makes the names of its own definitions unique; they are moved to `defs`.
pub(super) fn with(name: &str, params: &Value, defs: &mut Map<String, Value>) -> Value {
    let mut schema = params.clone();
    if let Some(entries) = schema.as_object_mut() {
        for noise in ["$schema", "title"] {
            entries.remove(noise);
        }
        if let Some(Value::Object(own)) = entries.remove("$defs") {
            for (key, mut value) in own {
                rename_references(&mut value, name);
                defs.insert(format!("{name}.{key}"), inside(value));
            }
        }
    }
    rename_references(&mut schema, name);
    inside(schema)
}

fn rename_references(schema: &mut Value, name: &str) {
    match schema {
        Value::Object(entries) => {
            for (key, value) in entries {
                match value.as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
                    Some(target) if key == "$ref" => *value = json!(format!("#/$defs/{name}.{target}")),
                    _ => rename_references(value, name),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename_references(item, name)),
        _ => {}
    }
}

/// The schema with templates allowed below it, not in its own place.
fn inside(schema: Value) -> Value {
    let Value::Object(entries) = schema else { return schema };
    let entries = entries.into_iter().map(|(key, value)| {
        let value = match (key.as_str(), value) {
            (key, Value::Object(named)) if NAMED.contains(&key) => {
                Value::Object(named.into_iter().map(|(name, value)| (name, anywhere(value))).collect())
            }
            (key, value @ Value::Object(_)) if ONE.contains(&key) => anywhere(value),
            // The place is the same as that of the whole, which takes a template already.
            (key, Value::Array(items)) if MANY.contains(&key) => {
                let below = key == "prefixItems";
                Value::Array(
                    items.into_iter().map(|item| if below { anywhere(item) } else { inside(item) }).collect(),
                )
            }
            (_, value) => value,
        };
        (key, value)
    });
    Value::Object(entries.collect())
}

/// The schema, or a template in its place.
fn anywhere(schema: Value) -> Value {
    let schema = inside(schema);
    if takes_any_text(&schema) {
        return schema;
    }
    let mut whole = Map::new();
    for kept in ["description", "default"] {
        if let Some(value) = schema.get(kept) {
            whole.insert(kept.to_owned(), value.clone());
        }
    }
    whole.insert("anyOf".to_owned(), json!([schema, { "$ref": TEMPLATE }]));
    Value::Object(whole)
}

fn takes_any_text(schema: &Value) -> bool {
    let Value::Object(entries) = schema else { return true };
    let takes_text = match entries.get("type") {
        Some(Value::String(one)) => one == "string",
        Some(Value::Array(many)) => many.iter().any(|one| one == "string"),
        _ => !["enum", "const", "anyOf", "oneOf", "allOf", "$ref", "not"]
            .iter()
            .any(|key| entries.contains_key(*key)),
    };
    let narrow = ["enum", "const", "pattern", "minLength", "maxLength", "anyOf", "oneOf", "allOf"];
    let is_narrow = narrow.iter().any(|key| entries.contains_key(*key))
        || entries.get("format").is_some_and(|format| format != "secret");
    takes_text && !is_narrow
}
