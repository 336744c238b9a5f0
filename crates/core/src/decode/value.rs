//! Trees and JSON values, into each other.

use serde_json::{Map, Value};

use crate::diagnostic::{Span, Spanned};
use crate::document::{Tree, TreeKind};

impl Tree {
    /// The value without its places.
    pub fn to_value(&self) -> Value {
        match &self.kind {
            TreeKind::Null => Value::Null,
            TreeKind::Bool(value) => Value::Bool(*value),
            TreeKind::Number(value) => Value::Number(value.clone()),
            TreeKind::String(value) => Value::String(value.clone()),
            TreeKind::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            TreeKind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.value.clone(), value.to_value()))
                    .collect::<Map<_, _>>(),
            ),
        }
    }

    /// A tree of a value that was not written in a file; every part has the same place.
    pub fn from_value(value: &Value, span: Span) -> Self {
        let kind = match value {
            Value::Null => TreeKind::Null,
            Value::Bool(value) => TreeKind::Bool(*value),
            Value::Number(value) => TreeKind::Number(value.clone()),
            Value::String(value) => TreeKind::String(value.clone()),
            Value::Array(items) => {
                TreeKind::List(items.iter().map(|item| Self::from_value(item, span)).collect())
            }
            Value::Object(entries) => TreeKind::Map(
                entries
                    .iter()
                    .map(|(key, value)| (Spanned::new(key.clone(), span), Self::from_value(value, span)))
                    .collect(),
            ),
        };
        Self { kind, span }
    }

    /// The value of a key, when this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            TreeKind::Map(entries) => entries.iter().find(|(k, _)| k.value == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text, when this is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            TreeKind::String(text) => Some(text),
            _ => None,
        }
    }
}
