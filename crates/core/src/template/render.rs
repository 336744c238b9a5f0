//! Text and expressions to values. Text that is one expression whole keeps the type of its value.

use std::io;

use minijinja::value::ValueKind;
use serde_json::Value;

use super::engine::{VALUE_BYTES_MAX, engine, shared};
use super::scan::{has_expression, whole_expression};
use crate::workflow::{Expression, Template};

/// Deepest value a template may give; JSON readers refuse more than 128.
const VALUE_DEPTH_MAX: usize = 100;

/// Why a template gave no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A name or field that does not exist, or a value that a skipped step did not make.
    #[error("evaluate `{text}`: `{name}` is not defined")]
    Undefined {
        /// The template.
        text: String,
        /// What is not there.
        name: String,
    },
    /// An `if` or a `check` gave something else.
    #[error("evaluate `{text}`: it gave {found}, where true or false is wanted")]
    NotBoolean {
        /// The expression.
        text: String,
        /// What it gave, with an article.
        found: &'static str,
    },
    /// The value is too large, too deep, or cannot be written as JSON.
    #[error("evaluate `{text}`: {why}")]
    Unfit {
        /// The template.
        text: String,
        /// What is wrong with the value.
        why: String,
    },
    /// Anything else.
    #[error("evaluate `{text}`: {why}")]
    Failed {
        /// The template.
        text: String,
        /// What went wrong.
        why: String,
    },
}

/// Fills in every `{{ … }}` of a template from a scope, such as [`crate::scope`] builds. Secret markers
/// pass through as the text they are.
pub fn render(template: &Template, scope: &Value) -> Result<Value, TemplateError> {
    if !holds_expression(&template.0) {
        return Ok(template.0.clone());
    }
    let context = from_json(scope);
    walk(&template.0, &context)
}

/// Evaluates a bare expression that must give a boolean.
pub fn evaluate(expr: &Expression, scope: &Value) -> Result<bool, TemplateError> {
    let context = from_json(scope);
    match value_of(&expr.0, &context)? {
        Value::Bool(value) => Ok(value),
        other => Err(TemplateError::NotBoolean { text: shortened(&expr.0), found: kind_of(&other) }),
    }
}

fn holds_expression(value: &Value) -> bool {
    match value {
        Value::String(text) => has_expression(text),
        Value::Array(items) => items.iter().any(holds_expression),
        Value::Object(fields) => fields.values().any(holds_expression),
        _ => false,
    }
}

fn walk(value: &Value, context: &minijinja::Value) -> Result<Value, TemplateError> {
    Ok(match value {
        Value::String(text) if has_expression(text) => match whole_expression(text) {
            Some(range) => value_of(&text[range], context)?,
            None => Value::String(text_of(text, context)?),
        },
        Value::Array(items) => {
            Value::Array(items.iter().map(|item| walk(item, context)).collect::<Result<_, _>>()?)
        }
        Value::Object(fields) => Value::Object(
            fields
                .iter()
                .map(|(key, field)| Ok((key.clone(), walk(field, context)?)))
                .collect::<Result<_, TemplateError>>()?,
        ),
        plain => plain.clone(),
    })
}

fn value_of(expr: &str, context: &minijinja::Value) -> Result<Value, TemplateError> {
    let compiled = shared().compile_expression_owned(expr).map_err(|e| failed(expr, &e))?;
    let value = compiled.eval(context.clone()).map_err(|e| failed(expr, &e))?;
    if value.is_undefined() {
        return Err(TemplateError::Undefined { text: shortened(expr), name: shortened(expr.trim()) });
    }
    let mut budget = VALUE_BYTES_MAX;
    to_json(&value, &mut budget, 0).map_err(|why| TemplateError::Unfit { text: shortened(expr), why })
}

fn text_of(text: &str, context: &minijinja::Value) -> Result<String, TemplateError> {
    let engine = engine();
    let compiled = engine.template_from_str(text).map_err(|e| failed(text, &e))?;
    let mut out = Capped { bytes: Vec::new(), full: false };
    let result = compiled.render_captured_to(context.clone(), &mut out).map(|_| ());
    if out.full {
        let why = format!("the text is larger than {VALUE_BYTES_MAX} bytes");
        return Err(TemplateError::Unfit { text: shortened(text), why });
    }
    result.map_err(|e| failed(text, &e))?;
    String::from_utf8(out.bytes).map_err(|_| TemplateError::Unfit {
        text: shortened(text),
        why: "the result is not UTF-8 text".to_owned(),
    })
}

/// Refuses to hold more than [`VALUE_BYTES_MAX`].
struct Capped {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Capped {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + piece.len() > VALUE_BYTES_MAX {
            self.full = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn from_json(value: &Value) -> minijinja::Value {
    match value {
        Value::Null => minijinja::Value::from(()),
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => whole.into(),
            (_, Some(whole)) => whole.into(),
            _ => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(from_json).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            minijinja::Value::from_pairs(fields.iter().map(|(key, field)| (key.as_str(), from_json(field))))
        }
    }
}

/// Strict where serde is not: undefined inside a list, and numbers that JSON lacks, are errors.
fn to_json(value: &minijinja::Value, budget: &mut usize, depth: usize) -> Result<Value, String> {
    if depth > VALUE_DEPTH_MAX {
        return Err(format!("the value is nested deeper than {VALUE_DEPTH_MAX}"));
    }
    let size = value.as_str().map_or(8, str::len);
    *budget = budget
        .checked_sub(size)
        .ok_or_else(|| format!("the value is larger than {VALUE_BYTES_MAX} bytes"))?;
    match value.kind() {
        ValueKind::Undefined => Err("a part of the value is not defined".to_owned()),
        ValueKind::None => Ok(Value::Null),
        ValueKind::Bool => Ok(Value::Bool(value.is_true())),
        ValueKind::Number => serde_json::to_value(value)
            .ok()
            .filter(|v| v.is_number())
            .ok_or("not a number that JSON has".into()),
        ValueKind::String => Ok(Value::String(value.as_str().unwrap_or_default().to_owned())),
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()
            .map_err(|e| e.to_string())?
            .map(|item| to_json(&item, budget, depth + 1))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array),
        ValueKind::Map => {
            let mut fields = serde_json::Map::new();
            for key in value.try_iter().map_err(|e| e.to_string())? {
                let field = value.get_item(&key).map_err(|e| e.to_string())?;
                let name = key.to_string();
                *budget = budget.saturating_sub(name.len());
                fields.insert(name, to_json(&field, budget, depth + 1)?);
            }
            Ok(Value::Object(fields))
        }
        other => Err(format!("{other} is not a value that can be handed on")),
    }
}

fn failed(text: &str, error: &minijinja::Error) -> TemplateError {
    let snippet = error.range().and_then(|range| text.get(range)).map(str::trim).filter(|s| !s.is_empty());
    if error.kind() == minijinja::ErrorKind::UndefinedError {
        let name = shortened(snippet.unwrap_or(text.trim()));
        return TemplateError::Undefined { text: shortened(text), name };
    }
    let what = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    let why = match snippet {
        Some(snippet) if snippet != text.trim() => format!("{what}, at `{}`", shortened(snippet)),
        _ => what,
    };
    TemplateError::Failed { text: shortened(text), why }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "none",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

/// An error names the template, not a page of it.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rendered(text: &str, scope: &Value) -> Result<Value, TemplateError> {
        render(&Template(json!(text)), scope)
    }

    #[test]
    fn one_expression_whole_keeps_its_type() {
        let scope = json!({ "inputs": { "n": 7, "list": [1, { "a": null }], "on": true } });
        assert_eq!(rendered("{{ inputs.n }}", &scope), Ok(json!(7)));
        assert_eq!(rendered(" {{ inputs.list }}\n", &scope), Ok(json!([1, { "a": null }])));
        assert_eq!(rendered("{{ inputs.on and inputs.n > 6 }}", &scope), Ok(json!(true)));
        assert_eq!(rendered("n is {{ inputs.n }}", &scope), Ok(json!("n is 7")));
        assert_eq!(rendered("{{ inputs.n }}{{ inputs.n }}", &scope), Ok(json!("77")));
        assert_eq!(rendered("{{ {'a': {'b': inputs.n}} }}", &scope), Ok(json!({ "a": { "b": 7 } })));
    }

    #[test]
    fn templates_are_found_at_every_leaf() {
        let template = Template(json!({ "set": { "URL": "{{ url }}" }, "list": ["x{{ url }}", 3, null] }));
        let value = render(&template, &json!({ "url": "u" }));
        assert_eq!(value, Ok(json!({ "set": { "URL": "u" }, "list": ["xu", 3, null] })));
    }

    #[test]
    fn what_is_not_defined_is_an_error_everywhere() {
        let scope = json!({ "steps": { "dl": { "a": null }, "skipped": null } });
        for text in [
            "{{ typo }}",
            "{{ steps.dl.typo }}",
            "x {{ steps.dl.typo }}",
            "{{ [steps.dl.typo] }}",
            "{{ steps.skipped.out }}",
            "x {{ steps.dl.a if false }}",
            "{{ {'a': steps.dl.typo} }}",
        ] {
            assert!(rendered(text, &scope).is_err(), "{text}");
        }
        let expr = Expression("steps.dl.typo".into());
        let error = evaluate(&expr, &scope).unwrap_err();
        assert_eq!(error.to_string(), "evaluate `steps.dl.typo`: `steps.dl.typo` is not defined");
    }

    #[test]
    fn none_and_maps_are_not_printed_into_a_text() {
        let scope = json!({ "a": null, "m": { "x": 1 }, "l": [1, 2] });
        for text in ["x{{ a }}", "x{{ m }}", "x{{ l }}"] {
            assert!(matches!(rendered(text, &scope), Err(TemplateError::Failed { .. })), "{text}");
        }
        assert_eq!(rendered("x{{ l | join('-') }}", &scope), Ok(json!("x1-2")));
        assert_eq!(rendered("x{{ m | tojson }}", &scope), Ok(json!("x{\"x\":1}")));
        assert_eq!(rendered("x{{ a | default('y', true) }}", &scope), Ok(json!("xy")));
    }

    #[test]
    fn a_condition_must_be_a_boolean() {
        let scope = json!({ "n": 1, "s": "true", "b": false });
        assert_eq!(evaluate(&Expression("n == 1 and not b".into()), &scope), Ok(true));
        for text in ["n", "s", "none", "[]", "n +"] {
            assert!(evaluate(&Expression(text.into()), &scope).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_work_are_bounded() {
        let scope = json!({ "big": "x".repeat(600_000) });
        for text in [
            "{{ big ~ big }}",
            "a{{ big }}{{ big }}",
            "{{ 'a' * 10000000 }}",
            "{{ range(100000) | join(big) }}",
            "{{ big | replace('x', big) }}",
            "{% for a in range(10000) %}{% for b in range(10000) %}{% if a == -1 %}x{% endif %}{% endfor %}{% endfor %}",
        ] {
            assert!(rendered(text, &scope).is_err(), "{text}");
        }
    }

    #[test]
    fn markers_pass_through_as_text() {
        let scope = json!({ "secrets": { "k": "⟦secret:k⟧" } });
        assert_eq!(rendered("Bearer {{ secrets.k }}", &scope), Ok(json!("Bearer ⟦secret:k⟧")));
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_an_error(text in ".{0,60}") {
            let _ = rendered(&text, &json!({}));
            let _ = evaluate(&Expression(text), &json!({}));
        }

        #[test]
        fn any_braces_are_a_value_or_an_error(text in "[{}%#'\"a.|\\[\\] -]{0,40}") {
            let _ = rendered(&text, &json!({ "a": 1 }));
        }
    }
}
