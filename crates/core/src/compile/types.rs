//! JSON Schemas as types: which fields a value has, what fits where, what holds a secret. Lenient where a
//! schema says nothing: only what is certainly wrong is refused.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::document::InputType;
use crate::secret::holds_marker;
use crate::types::Connection;

/// Schemas are as deep as the types of actions; deeper ones are not looked into.
const DEPTH_MAX: usize = 12;

/// What nothing is known about.
pub(super) fn any() -> Value {
    Value::Bool(true)
}

/// The type `connection`.
pub(super) fn connection() -> Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
        schemars::generate::SchemaSettings::draft2020_12()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Connection>()
            .to_value()
    });
    SCHEMA.clone()
}

/// A text that is a secret.
pub(super) fn secret() -> Value {
    json!({ "type": "string", "format": "secret" })
}

/// The type of a declared input.
pub(super) fn input(ty: InputType) -> Value {
    match ty {
        InputType::String => json!({ "type": "string" }),
        InputType::Integer => json!({ "type": "integer" }),
        InputType::Number => json!({ "type": "number" }),
        InputType::Boolean => json!({ "type": "boolean" }),
        InputType::Timestamp => json!({ "type": "string", "format": "date-time" }),
        InputType::Duration => json!({ "type": "string", "format": "duration" }),
        InputType::List => json!({ "type": "array" }),
        InputType::Map => json!({ "type": "object" }),
    }
}

/// A map with exactly these fields.
pub(super) fn map_of(fields: impl IntoIterator<Item = (String, Value)>) -> Value {
    let properties: Map<String, Value> = fields.into_iter().collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// A map from any key to one type.
pub(super) fn map_to(value: &Value) -> Value {
    json!({ "type": "object", "additionalProperties": value })
}

/// The type of a value that is known, such as a variable of the environment.
pub(super) fn of_value(value: &Value) -> Value {
    match value {
        Value::Null => any(),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(number) if number.is_f64() => json!({ "type": "number" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::String(text) if holds_marker(text) => secret(),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => {
            let item = items.iter().map(of_value).find(holds_secret);
            json!({ "type": "array", "items": item.or_else(|| items.first().map(of_value)).unwrap_or_else(any) })
        }
        Value::Object(fields) => map_of(fields.iter().map(|(name, field)| (name.clone(), of_value(field)))),
    }
}

/// A field that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// Index into the path.
    pub(super) at: usize,
    /// What is there instead.
    pub(super) fields: Vec<String>,
    /// What the value is, with an article.
    pub(super) of: String,
}

/// The type of a field of a field.
pub(super) fn field(schema: &Value, path: &[String]) -> Result<Value, Missing> {
    let mut now = schema.clone();
    for (at, name) in path.iter().enumerate() {
        now = step_into(&now, name, DEPTH_MAX).map_err(|fields| Missing { at, fields, of: name_of(&now) })?;
    }
    Ok(now)
}

fn step_into(schema: &Value, name: &str, depth: usize) -> Result<Value, Vec<String>> {
    if is_any(schema) || depth == 0 {
        return Ok(any());
    }
    let variants = variants(schema);
    if variants.len() > 1 || variants.first().is_some_and(|only| *only != schema) {
        let mut fields = Vec::new();
        for variant in variants {
            match step_into(variant, name, depth - 1) {
                Ok(found) => return Ok(found),
                Err(more) => fields.extend(more),
            }
        }
        return Err(fields);
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    if let Some(found) = properties.and_then(|properties| properties.get(name)) {
        return Ok(found.clone());
    }
    match schema.get("additionalProperties") {
        Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => return Ok(any()),
        Some(values) => return Ok(values.clone()),
        None if properties.is_none() && has_type(schema, "object") => return Ok(any()),
        None => {}
    }
    if has_type(schema, "array") && name.parse::<usize>().is_ok() {
        return Ok(schema.get("items").cloned().unwrap_or_else(any));
    }
    Err(properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default())
}

/// The type of an item of a list.
pub(super) fn item(schema: &Value) -> Value {
    variants(schema)
        .into_iter()
        .find(|variant| has_type(variant, "array"))
        .and_then(|list| list.get("items").cloned())
        .unwrap_or_else(any)
}

/// Why a value does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Another type.
    Type,
    /// A secret, where it would be written in the clear.
    Secret,
}

/// Whether a value of one type can be given where another is wanted.
pub(super) fn fits(wanted: &Value, given: &Value) -> Result<(), Misfit> {
    if holds_secret(given) && !holds_secret(wanted) {
        return Err(Misfit::Secret);
    }
    let wanted = variants(wanted);
    let given = variants(given);
    let fits = |w: &Value, g: &Value| is_any(w) || is_any(g) || pair_fits(w, g);
    let any_fits = wanted.iter().any(|w| given.iter().any(|g| fits(w, g)));
    if any_fits || wanted.is_empty() || given.is_empty() { Ok(()) } else { Err(Misfit::Type) }
}

fn pair_fits(wanted: &Value, given: &Value) -> bool {
    let named = |schema: &Value| schema.get("x-runbook-type").and_then(Value::as_str).map(str::to_owned);
    match (named(wanted), named(given)) {
        (Some(wanted), Some(given)) => return wanted == given,
        (Some(_), None) if given.get("properties").is_some() => return false,
        _ => {}
    }
    let (Some(wanted_types), Some(given_types)) = (types(wanted), types(given)) else { return true };
    given_types.iter().any(|given| {
        wanted_types.iter().any(|wanted| {
            wanted == given
                || matches!((wanted.as_str(), given.as_str()), ("number", "integer") | ("integer", "number"))
        })
    })
}

/// Whether a value of this type is or holds a secret.
pub(super) fn holds_secret(schema: &Value) -> bool {
    holds_secret_within(schema, DEPTH_MAX)
}

/// Whether a text of this type is a secret itself.
pub(super) fn is_secret(schema: &Value) -> bool {
    variants(schema).iter().any(|variant| variant.get("format").and_then(Value::as_str) == Some("secret"))
}

/// Whether a text of this type may be written out in the clear.
pub(super) fn may_be_plain(schema: &Value) -> bool {
    variants(schema)
        .iter()
        .any(|variant| variant.get("x-runbook-plain").and_then(Value::as_bool) == Some(true))
}

fn holds_secret_within(schema: &Value, depth: usize) -> bool {
    let Some(fields) = schema.as_object().filter(|_| depth > 0) else { return false };
    if fields.get("format").and_then(Value::as_str) == Some("secret") {
        return true;
    }
    let deeper = |schema: &Value| holds_secret_within(schema, depth - 1);
    let in_list =
        |key: &str| fields.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(deeper));
    let in_properties =
        fields.get("properties").and_then(Value::as_object).is_some_and(|list| list.values().any(deeper));
    in_properties
        || in_list("anyOf")
        || in_list("oneOf")
        || fields.get("items").is_some_and(deeper)
        || fields.get("additionalProperties").is_some_and(deeper)
}

/// The alternatives of a type without `null`; a type without alternatives is its only one.
pub(super) fn variants(schema: &Value) -> Vec<&Value> {
    let list = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key).and_then(Value::as_array));
    match list {
        Some(list) => list.iter().flat_map(variants).collect(),
        None if schema.get("type").and_then(Value::as_str) == Some("null") => Vec::new(),
        None => vec![schema],
    }
}

/// Whether none is a value of the type.
pub(super) fn is_nullable(schema: &Value) -> bool {
    let in_list = |key: &str| {
        schema.get(key).and_then(Value::as_array).is_some_and(|list| list.iter().any(is_nullable))
    };
    is_any(schema) || has_type(schema, "null") || in_list("anyOf") || in_list("oneOf")
}

/// Whether the schema says nothing. References into other schemas are not followed.
pub(super) fn is_any(schema: &Value) -> bool {
    match schema {
        Value::Bool(allowed) => *allowed,
        Value::Object(fields) => {
            fields.contains_key("$ref")
                || !["type", "properties", "enum", "const", "anyOf", "oneOf", "items", "x-runbook-type"]
                    .iter()
                    .any(|key| fields.contains_key(*key))
        }
        _ => true,
    }
}

/// The basic types a schema allows; `None` when it does not say.
pub(super) fn types(schema: &Value) -> Option<Vec<String>> {
    match schema.get("type") {
        Some(Value::String(name)) => Some(vec![name.clone()]),
        Some(Value::Array(names)) => {
            Some(names.iter().filter_map(Value::as_str).filter(|n| *n != "null").map(str::to_owned).collect())
        }
        _ => {
            let of = |value: &Value| type_of(value).to_owned();
            let listed =
                schema.get("enum").and_then(Value::as_array).map(|list| list.iter().map(of).collect());
            listed.or_else(|| schema.get("const").map(|value| vec![of(value)]))
        }
    }
}

pub(super) fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|n| n == name),
        _ => false,
    }
}

/// The basic type of a value.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What a person calls the type, with an article.
pub(super) fn name_of(schema: &Value) -> String {
    let mut names: Vec<String> = Vec::new();
    for variant in variants(schema) {
        for name in variant_names(variant) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    match names.split_last() {
        None => "a value".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

fn variant_names(schema: &Value) -> Vec<String> {
    if let Some(named) = schema.get("x-runbook-type").and_then(Value::as_str) {
        return vec![format!("a {named}")];
    }
    if let Some(choices) = choices(schema) {
        return choices.iter().map(|choice| format!("`{choice}`")).collect();
    }
    if is_secret(schema) {
        return vec!["a secret".to_owned()];
    }
    let word = |name: &String| match name.as_str() {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "a value",
    };
    types(schema).unwrap_or_default().iter().map(|name| word(name).to_owned()).collect()
}

/// The values of an `enum` or `const`, as text.
pub(super) fn choices(schema: &Value) -> Option<Vec<String>> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let listed = schema.get("enum").and_then(Value::as_array);
    match (listed, schema.get("const")) {
        (Some(list), _) => Some(list.iter().filter(|v| !v.is_null()).map(text).collect()),
        (None, Some(value)) => Some(vec![text(value)]),
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_not_a_text_nor_a_backup() {
        let backup = json!({ "type": "object", "x-runbook-type": "backup", "properties": {} });
        assert_eq!(fits(&connection(), &connection()), Ok(()));
        assert_eq!(fits(&connection(), &backup), Err(Misfit::Type));
        assert_eq!(fits(&connection(), &json!({ "type": "string" })), Err(Misfit::Type));
        assert_eq!(fits(&connection(), &any()), Ok(()));
        assert_eq!(fits(&connection(), &json!({ "type": "object" })), Ok(()));
        assert_eq!(fits(&backup, &map_of([("host".into(), any())])), Err(Misfit::Type));
    }

    #[test]
    fn a_secret_goes_only_where_secrets_go() {
        let text = json!({ "type": "string" });
        assert_eq!(fits(&text, &secret()), Err(Misfit::Secret));
        assert_eq!(fits(&secret(), &text), Ok(()));
        assert_eq!(fits(&secret(), &secret()), Ok(()));
        assert_eq!(fits(&json!({ "type": "object" }), &connection()), Err(Misfit::Secret));
        assert_eq!(fits(&map_to(&secret()), &map_of([("a".into(), secret())])), Ok(()));
    }

    #[test]
    fn optional_fields_are_looked_into() {
        let schema = json!({ "anyOf": [{ "type": "object", "properties": { "a": { "type": "integer" } } }, { "type": "null" }] });
        assert_eq!(field(&schema, &["a".into()]), Ok(json!({ "type": "integer" })));
        let missing = field(&schema, &["b".into()]).unwrap_err();
        assert_eq!(missing.fields, ["a"]);
        assert!(is_nullable(&schema));
        assert_eq!(fits(&json!({ "type": ["string", "null"] }), &json!({ "type": "string" })), Ok(()));
        assert_eq!(
            fits(&json!({ "type": ["string", "null"] }), &json!({ "type": "integer" })),
            Err(Misfit::Type)
        );
    }

    #[test]
    fn types_are_named_for_people() {
        assert_eq!(name_of(&connection()), "a connection");
        assert_eq!(name_of(&json!({ "enum": ["a", "b"] })), "`a` or `b`");
        assert_eq!(name_of(&json!({ "type": ["integer", "null"] })), "a whole number");
    }
}
