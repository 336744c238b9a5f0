//! Inputs: their declarations, and the typed value of what was given for one.

use jiff::Timestamp;
use serde_json::Value;

use super::fields::{Fields, Mistakes, shown};
use super::scalar::{self, NameKind};
use super::spellings;
use crate::diagnostic::{Diagnostic, Spanned};
use crate::document::{InputDecl, InputType, Tree, TreeKind};
use crate::secret::holds_marker;
use crate::suggest;

/// The word for the newest of what there is.
const LATEST: &str = "latest";

const TYPES: [(&str, InputType); 8] = [
    ("string", InputType::String),
    ("integer", InputType::Integer),
    ("number", InputType::Number),
    ("boolean", InputType::Boolean),
    ("timestamp", InputType::Timestamp),
    ("duration", InputType::Duration),
    ("list", InputType::List),
    ("map", InputType::Map),
];

/// How other systems call the types.
const TYPE_SPELLINGS: [(&str, &str); 16] = [
    ("str", "string"),
    ("text", "string"),
    ("int", "integer"),
    ("float", "number"),
    ("double", "number"),
    ("bool", "boolean"),
    ("flag", "boolean"),
    ("datetime", "timestamp"),
    ("date", "timestamp"),
    ("time", "timestamp"),
    ("interval", "duration"),
    ("array", "list"),
    ("object", "map"),
    ("dict", "map"),
    ("choice", "string"),
    ("enum", "string"),
];

/// One entry of `inputs`. An entry that cannot be read is kept as an optional text, so that what refers
/// to it is not reported as well.
pub(super) fn declaration(name: &Spanned<String>, tree: &Tree, mistakes: &mut Mistakes) -> InputDecl {
    scalar::check_name(name, "an input", NameKind::Variable, mistakes);
    let mut input = InputDecl {
        name: name.clone(),
        ty: Spanned::new(InputType::String, tree.span),
        default: None,
        required: false,
        allowed: None,
        help: None,
        span: tree.span,
    };
    if let TreeKind::String(word) = &tree.kind
        && let Some((word, ty)) = TYPES.iter().find(|(known, _)| known == word)
    {
        let help = format!("write `{}: {{ type: {word} }}`", shown(&name.value));
        scalar::wrong_type(tree, &shown(&name.value), "a map", Some(help), mistakes);
        input.ty.value = *ty;
        return input;
    }
    let Some(fields) = Fields::open(tree, &spellings::INPUT, mistakes) else { return input };
    let written = fields.required("type", "add `type: string`, or another type", mistakes);
    let ty = written.and_then(|tree| input_type(tree, mistakes));
    input.help = fields.get("help").and_then(|tree| scalar::text(tree, "help", mistakes));
    input.default = fields.get("default").filter(|tree| tree.kind != TreeKind::Null).cloned();
    input.required = required(&fields, &input, mistakes);
    input.allowed = fields.get("enum").and_then(|tree| allowed(tree, mistakes));
    if let Some(ty) = ty {
        input.ty = ty;
        check_values(&input, mistakes);
    }
    input
}

fn input_type(tree: &Tree, mistakes: &mut Mistakes) -> Option<Spanned<InputType>> {
    let meant = tree.as_str().and_then(|word| TYPE_SPELLINGS.iter().find(|(other, _)| *other == word));
    let Some((other, word)) = meant else { return scalar::keyword(tree, "type", &TYPES, mistakes) };
    scalar::bad_value(
        tree.span,
        format!("`type` cannot be `{other}`"),
        format!("did you mean `{word}`?"),
        mistakes,
    );
    let (_, ty) = TYPES.iter().find(|(known, _)| known == word)?;
    Some(Spanned::new(*ty, tree.span))
}

fn required(fields: &Fields<'_>, input: &InputDecl, mistakes: &mut Mistakes) -> bool {
    let written = fields.get("required").and_then(|tree| scalar::boolean(tree, "required", mistakes));
    if let (Some(true), Some(default), Some(key)) = (written, &input.default, fields.key_span("required")) {
        mistakes.push(
            Diagnostic::error("bad-value", key, "an input with a default is never required")
                .related(default.span, "the default")
                .help("remove `required`, or the default"),
        );
    }
    input.default.is_none() && written.unwrap_or(true)
}

fn allowed(tree: &Tree, mistakes: &mut Mistakes) -> Option<Vec<Tree>> {
    match &tree.kind {
        TreeKind::List(items) if !items.is_empty() => Some(items.clone()),
        TreeKind::List(_) => {
            scalar::bad_value(tree.span, "`enum` allows nothing".into(), "list the allowed values", mistakes);
            None
        }
        _ => {
            scalar::wrong_type(tree, "enum", "a list of values", None, mistakes);
            None
        }
    }
}

/// The default and the allowed values have the type, and the default is one of the allowed.
fn check_values(input: &InputDecl, mistakes: &mut Mistakes) {
    for value in input.allowed.iter().flatten() {
        if let Err(problem) = typed(input.ty.value, &value.to_value(), false) {
            scalar::bad_value(
                value.span,
                format!("in `enum`: {problem}"),
                type_help(input.ty.value),
                mistakes,
            );
        }
    }
    let Some(default) = &input.default else { return };
    let value = match typed(input.ty.value, &default.to_value(), false) {
        Ok(value) => value,
        Err(problem) => {
            let message = format!("the default: {problem}");
            scalar::bad_value(default.span, message, type_help(input.ty.value), mistakes);
            return;
        }
    };
    if let Err(problem) = check_allowed(input, &value) {
        scalar::bad_value(
            default.span,
            format!("the default: {problem}"),
            "add it, or choose another",
            mistakes,
        );
    }
}

fn type_help(ty: InputType) -> &'static str {
    match ty {
        InputType::String => "write text, in quotes when it looks like a number",
        InputType::Integer => "write a whole number without quotes",
        InputType::Number => "write a number without quotes",
        InputType::Boolean => "write `true` or `false`",
        InputType::Timestamp => "write `2026-01-31T03:00:00Z`, or `latest`",
        InputType::Duration => "write a duration such as `45m`",
        InputType::List => "write a list",
        InputType::Map => "write a map",
    }
}

/// The typed value of what was given for an input: text from a command line becomes a number, a list
/// (JSON, or words with commas between them) or whatever the type asks for; timestamps become UTC. The
/// error is a phrase for people without the input's name.
pub fn coerce_input(input: &InputDecl, given: &Value) -> Result<Value, String> {
    if given.is_null() {
        return if input.required { Err("a value is needed".into()) } else { Ok(Value::Null) };
    }
    let value = typed(input.ty.value, given, true)?;
    if contains_marker(&value) {
        return Err("the text looks like the mark of a secret".into());
    }
    check_allowed(input, &value)?;
    Ok(value)
}

/// `from_text`: whether text may stand for other types.
fn typed(ty: InputType, given: &Value, from_text: bool) -> Result<Value, String> {
    let text = given.as_str().filter(|_| from_text);
    let wrong = || format!("{} is not {}", quoted(given), type_name(ty));
    match (ty, given) {
        (InputType::String, Value::String(_))
        | (InputType::Number, Value::Number(_))
        | (InputType::Boolean, Value::Bool(_))
        | (InputType::List, Value::Array(_))
        | (InputType::Map, Value::Object(_)) => Ok(given.clone()),
        (InputType::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => {
            Ok(given.clone())
        }
        (InputType::Timestamp, Value::String(text)) => timestamp(text).ok_or_else(wrong),
        (InputType::Duration, Value::String(text)) => {
            scalar::parse_duration(text).map(|_| Value::from(text.trim()))
        }
        (InputType::Integer, _) => {
            text.and_then(|t| t.trim().parse::<i64>().ok()).map(Value::from).ok_or_else(wrong)
        }
        (InputType::Number, _) => text.and_then(number).ok_or_else(wrong),
        (InputType::Boolean, _) => {
            text.and_then(|t| t.trim().parse::<bool>().ok()).map(Value::from).ok_or_else(wrong)
        }
        (InputType::List, _) => text.and_then(list).ok_or_else(wrong),
        (InputType::Map, _) => text
            .and_then(|t| serde_json::from_str::<Value>(t).ok())
            .filter(Value::is_object)
            .ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

fn timestamp(text: &str) -> Option<Value> {
    let text = text.trim();
    if text == LATEST {
        return Some(Value::from(LATEST));
    }
    text.parse::<Timestamp>().ok().map(|moment| Value::from(moment.to_string()))
}

fn number(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text.trim()).ok()?;
    value.is_number().then_some(value)
}

fn list(text: &str) -> Option<Value> {
    let text = text.trim();
    if text.starts_with('[') {
        return serde_json::from_str::<Value>(text).ok().filter(Value::is_array);
    }
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    Some(Value::Array(items.map(Value::from).collect()))
}

fn check_allowed(input: &InputDecl, value: &Value) -> Result<(), String> {
    let Some(allowed) = &input.allowed else { return Ok(()) };
    let values: Vec<Value> = allowed
        .iter()
        .map(|tree| typed(input.ty.value, &tree.to_value(), false).unwrap_or(Value::Null))
        .collect();
    if values.contains(value) {
        return Ok(());
    }
    let names: Vec<String> = values.iter().map(plain).collect();
    let list = suggest::list_of(names.iter().map(String::as_str));
    Err(format!("{} is not one of {list}", quoted(value)))
}

fn contains_marker(value: &Value) -> bool {
    match value {
        Value::String(text) => holds_marker(text),
        Value::Array(items) => items.iter().any(contains_marker),
        Value::Object(entries) => {
            entries.iter().any(|(key, value)| holds_marker(key) || contains_marker(value))
        }
        _ => false,
    }
}

fn type_name(ty: InputType) -> &'static str {
    match ty {
        InputType::String => "text",
        InputType::Integer => "a whole number",
        InputType::Number => "a number",
        InputType::Boolean => "`true` or `false`",
        InputType::Timestamp => "a moment such as `2026-01-31T03:00:00Z`, nor `latest`",
        InputType::Duration => "a duration such as `45m`",
        InputType::List => "a list",
        InputType::Map => "a map",
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn quoted(value: &Value) -> String {
    format!("`{}`", shown(&plain(value)))
}
