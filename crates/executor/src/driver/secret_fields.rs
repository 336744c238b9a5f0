//! Where in an action's outputs a secret may stand: in fields whose schema says `format: secret`. A marker
//! anywhere else would travel into places that are shown.

use runbook_core::secret::holds_marker;
use serde_json::Value;

/// Schemas are as deep as the types of actions; below this nothing may be a secret.
const DEPTH_MAX: usize = 24;

/// The first place with a secret where the schema allows none: `connection.password`.
pub(super) fn misplaced_secret(schema: &Value, value: &Value) -> Option<String> {
    find(schema, Some(schema), value, "", DEPTH_MAX)
}

fn find(root: &Value, schema: Option<&Value>, value: &Value, at: &str, depth: usize) -> Option<String> {
    if depth == 0 {
        return holds_marker(&value.to_string()).then(|| at.to_owned());
    }
    let choices = schema.map(|s| choices(root, s, depth)).unwrap_or_default();
    match value {
        Value::String(text) if holds_marker(text) => {
            let allowed = choices.iter().any(|s| s.get("format").and_then(Value::as_str) == Some("secret"));
            (!allowed).then(|| if at.is_empty() { "the value".to_owned() } else { at.to_owned() })
        }
        Value::Array(items) => {
            let of = choices.iter().find_map(|s| s.get("items"));
            items
                .iter()
                .enumerate()
                .find_map(|(n, item)| find(root, of, item, &format!("{at}[{n}]"), depth - 1))
        }
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            if holds_marker(name) {
                return Some(format!("the name of a field in {at}"));
            }
            let of = choices.iter().find_map(|s| {
                let named = s.get("properties").and_then(|p| p.get(name));
                named.or_else(|| s.get("additionalProperties"))
            });
            find(root, of, field, &path, depth - 1)
        }),
        _ => None,
    }
}

/// The schema itself with `$ref` followed and the branches of `anyOf`, `oneOf` and `allOf`.
fn choices<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> Vec<&'a Value> {
    let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
    let mut all = vec![schema];
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str)
        && let Some(target) = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer))
    {
        all.extend(choices(root, target, depth));
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        for branch in schema.get(word).and_then(Value::as_array).into_iter().flatten() {
            all.extend(choices(root, branch, depth));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use runbook_core::secret::SecretText;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_secret_may_stand_in_secret_fields_only() {
        let schema = json!({
            "type": "object",
            "properties": {
                "database": { "anyOf": [{ "$ref": "#/$defs/Connection" }, { "type": "null" }] },
                "note": { "type": "string" },
                "all": { "type": "array", "items": { "type": "string", "format": "secret" } },
            },
            "$defs": { "Connection": { "properties": { "password": { "type": "string", "format": "secret" } } } },
        });
        let marked = SecretText::reference("db").marked().to_owned();
        let fine = json!({ "database": { "password": marked }, "note": "fine", "all": [marked] });
        assert_eq!(misplaced_secret(&schema, &fine), None);
        let spilled = json!({ "database": { "host": format!("x{marked}") }, "note": "fine" });
        assert_eq!(misplaced_secret(&schema, &spilled).as_deref(), Some("database.host"));
        assert_eq!(misplaced_secret(&schema, &json!({ "note": marked })).as_deref(), Some("note"));
        assert_eq!(misplaced_secret(&json!(true), &json!({ "x": [marked] })).as_deref(), Some("x[0]"));
    }
}
