//! Applies a rule to one value in the text form that PostgreSQL gives it; inside JSON and arrays too. A value that
//! is not what its type says is no value: the caller refuses the row.

use ring::hmac::Key;
use serde_json::{Map, Value};

use super::columns::Kind;
use super::pseudonym::{Format, bytes, pseudonym};
use super::rules::Rule;

/// What stands where text was taken out.
pub(super) const REDACTED: &str = "[redacted]";

/// A value is not what its type says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Misshapen;

/// What a value becomes; none for NULL.
pub(super) fn apply(key: &Key, rule: &Rule, kind: &Kind, value: &str) -> Result<Option<String>, Misshapen> {
    Ok(Some(match (rule, kind) {
        (Rule::Keep | Rule::Sql(_), _) => value.to_owned(),
        (Rule::Drop, _) => return Ok(None),
        (Rule::Constant(text), _) => text.clone(),
        (Rule::Redact, _) => redacted(kind),
        (_, Kind::Json) => {
            let parsed: Value = serde_json::from_str(value).map_err(|_| Misshapen)?;
            json(key, rule, parsed).unwrap_or(Value::Null).to_string()
        }
        (_, Kind::Array(of)) => map_array(value, |element| apply(key, rule, of, element))?,
        (Rule::Pseudonym { domain, .. }, Kind::Bytea) => {
            format!("\\x{}", hex::encode(bytes(key, domain, value)))
        }
        (Rule::Pseudonym { domain, .. }, Kind::Inet) => {
            let made = bytes(key, domain, value.split('/').next().unwrap_or(value));
            let groups: Vec<String> = made[..14].chunks(2).map(hex::encode).collect();
            // A unique local address: routed nowhere.
            format!("fd00:{}", groups.join(":"))
        }
        (Rule::Pseudonym { domain, .. }, Kind::Mac) => {
            let made = bytes(key, domain, value);
            format!("02:{}", made[..5].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
        }
        (Rule::Pseudonym { format, domain }, _) => cut(pseudonym(key, domain, *format, value), kind),
        (Rule::Json { .. }, _) => return Err(Misshapen),
    }))
}

fn redacted(kind: &Kind) -> String {
    match kind {
        Kind::Json | Kind::Array(_) => "{}".into(),
        Kind::Bytea => "\\x".into(),
        Kind::Inet => "0.0.0.0".into(),
        Kind::Mac => "00:00:00:00:00:00".into(),
        Kind::Uuid => uuid::Uuid::nil().to_string(),
        Kind::Text(_) | Kind::Other { .. } => cut(REDACTED.into(), kind),
    }
}

fn cut(text: String, kind: &Kind) -> String {
    match kind {
        Kind::Text(Some(most)) => text.chars().take(*most).collect(),
        _ => text,
    }
}

/// A JSON value under a rule; none when its member is to go.
fn json(key: &Key, rule: &Rule, value: Value) -> Option<Value> {
    match rule {
        Rule::Keep | Rule::Sql(_) => return Some(value),
        Rule::Drop => return None,
        Rule::Constant(text) => return Some(Value::String(text.clone())),
        Rule::Json { members, rest } => {
            return match value {
                Value::Object(fields) => {
                    let kept = fields.into_iter().filter_map(|(name, field)| {
                        let rule = members.get(&name).unwrap_or(rest);
                        Some((name, json(key, rule, field)?))
                    });
                    Some(Value::Object(kept.collect::<Map<_, _>>()))
                }
                Value::Array(items) => {
                    Some(Value::Array(items.into_iter().filter_map(|item| json(key, rule, item)).collect()))
                }
                other => json(key, rest, other),
            };
        }
        Rule::Redact | Rule::Pseudonym { .. } => {}
    }
    let leaf = |text: &str| match rule {
        Rule::Pseudonym { format, domain } => pseudonym(key, domain, *format, text),
        _ => REDACTED.to_owned(),
    };
    Some(match value {
        Value::String(text) => Value::String(leaf(&text)),
        Value::Number(number) => Value::String(leaf(&number.to_string())),
        Value::Array(items) => {
            Value::Array(items.into_iter().filter_map(|item| json(key, rule, item)).collect())
        }
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter_map(|(name, field)| Some((name, json(key, rule, field)?))).collect(),
        ),
        other => other,
    })
}

/// The source values that a rule replaces.
pub(super) fn sources(
    rule: &Rule,
    kind: &Kind,
    value: &str,
    tell: &mut dyn FnMut(&str),
) -> Result<(), Misshapen> {
    match (rule, kind) {
        (Rule::Keep, _) => {}
        (_, Kind::Json) => {
            let parsed: Value = serde_json::from_str(value).map_err(|_| Misshapen)?;
            json_sources(rule, &parsed, tell);
        }
        (_, Kind::Array(_)) => elements(value, &mut |element| tell_replaced(rule, element, tell))?,
        _ => tell_replaced(rule, value, tell),
    }
    Ok(())
}

/// A path that is one UUID stays as it is, so it is no secret.
fn tell_replaced(rule: &Rule, value: &str, tell: &mut dyn FnMut(&str)) {
    let stays =
        matches!(rule, Rule::Pseudonym { format: Format::Path, .. }) && uuid::Uuid::try_parse(value).is_ok();
    if !stays {
        tell(value);
    }
}

fn json_sources(rule: &Rule, value: &Value, tell: &mut dyn FnMut(&str)) {
    match (rule, value) {
        (Rule::Keep, _) | (_, Value::Null | Value::Bool(_)) => {}
        (Rule::Json { members, rest }, Value::Object(fields)) => {
            for (name, field) in fields {
                json_sources(members.get(name).unwrap_or(rest), field, tell);
            }
        }
        (Rule::Json { rest, .. }, Value::String(_) | Value::Number(_)) => json_sources(rest, value, tell),
        (_, Value::String(text)) => tell_replaced(rule, text, tell),
        (_, Value::Number(number)) => tell(&number.to_string()),
        (_, Value::Array(items)) => items.iter().for_each(|item| json_sources(rule, item, tell)),
        (_, Value::Object(fields)) => fields.values().for_each(|field| json_sources(rule, field, tell)),
    }
}

/// Every text in a value: names and leaves of JSON, elements of an array, else the value itself. What cannot be
/// taken apart is told whole.
pub(super) fn texts(kind: &Kind, value: &str, tell: &mut dyn FnMut(&str)) {
    match kind {
        Kind::Json => match serde_json::from_str(value) {
            Ok(parsed) => json_texts(&parsed, tell),
            Err(_) => tell(value),
        },
        Kind::Array(_) => {
            let mut found = Vec::new();
            match elements(value, &mut |element| found.push(element.to_owned())) {
                Ok(()) => found.iter().for_each(|element| tell(element)),
                Err(Misshapen) => tell(value),
            }
        }
        _ => tell(value),
    }
}

fn json_texts(value: &Value, tell: &mut dyn FnMut(&str)) {
    match value {
        Value::Null | Value::Bool(_) => {}
        Value::String(text) => tell(text),
        Value::Number(number) => tell(&number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| json_texts(item, tell)),
        Value::Object(fields) => {
            for (name, field) in fields {
                tell(name);
                json_texts(field, tell);
            }
        }
    }
}

/// Tells each element of an array that is not NULL.
pub(super) fn elements(value: &str, tell: &mut dyn FnMut(&str)) -> Result<(), Misshapen> {
    map_array(value, |element| {
        tell(element);
        Ok(None)
    })
    .map(drop)
}

/// Replaces the elements of an array, as PostgreSQL writes them: `{a,"b \"c\"",NULL,{…}}`, perhaps with bounds
/// before. NULL stays.
fn map_array(
    value: &str,
    mut each: impl FnMut(&str) -> Result<Option<String>, Misshapen>,
) -> Result<String, Misshapen> {
    let start = value.find('{').ok_or(Misshapen)?;
    let mut out = value[..start].to_owned();
    let mut chars = value[start..].chars().peekable();
    let mut depth = 0usize;
    let mut put = |element: &str, out: &mut String| -> Result<(), Misshapen> {
        match each(element)? {
            None => out.push_str("NULL"),
            Some(made) => {
                out.push('"');
                for c in made.chars() {
                    if matches!(c, '"' | '\\') {
                        out.push('\\');
                    }
                    out.push(c);
                }
                out.push('"');
            }
        }
        Ok(())
    };
    while let Some(c) = chars.next() {
        match c {
            '{' => {
                depth += 1;
                out.push(c);
            }
            '}' => {
                depth = depth.checked_sub(1).ok_or(Misshapen)?;
                out.push(c);
            }
            ',' => out.push(c),
            '"' => {
                let mut element = String::new();
                loop {
                    match chars.next().ok_or(Misshapen)? {
                        '"' => break,
                        '\\' => element.push(chars.next().ok_or(Misshapen)?),
                        other => element.push(other),
                    }
                }
                put(&element, &mut out)?;
            }
            first => {
                let mut element = String::from(first);
                while let Some(c) = chars.next_if(|c| !matches!(c, ',' | '}' | '{' | '"')) {
                    element.push(if c == '\\' { chars.next().ok_or(Misshapen)? } else { c });
                }
                if element == "NULL" { out.push_str("NULL") } else { put(&element, &mut out)? }
            }
        }
    }
    if depth == 0 { Ok(out) } else { Err(Misshapen) }
}
