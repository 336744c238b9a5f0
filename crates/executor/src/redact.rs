//! Takes secret values out of whatever is written. It is the net under the rope: values travel as references,
//! and this catches one that a server, a child process or a mistake put into a text.
//!
//! Knows each value plain and as it looks after common encodings (`spellings`), also when line breaks were put
//! into it, and over any number of writes. It cannot know a value that was cut, reversed, hashed or encrypted.

mod matcher;
mod spellings;
mod writer;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use runbook_core::secret::SecretText;
use serde_json::Value;

use matcher::Matcher;
pub use writer::RedactingWriter;

/// What stands where a value stood.
pub const REDACTED: &str = "•••";

/// Values shorter than this are not known to a redactor: `no` or `42` would take half of every text with it. A
/// secret of three characters is none.
pub const VALUE_CHARS_MIN: usize = 4;

/// Every value that was resolved in this process. Cheap to clone; all clones know the same values.
#[derive(Clone, Default)]
pub struct Redactor {
    matcher: Arc<RwLock<Arc<Matcher>>>,
}

impl Redactor {
    /// One that knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on, `value` is taken out of everything, in every spelling.
    pub fn register(&self, value: &str) {
        let spellings = spellings::of(value);
        let mut matcher = self.matcher.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = matcher.with(spellings) {
            *matcher = Arc::new(more);
        }
    }

    /// The marker of the secret `name` stays readable, even where the name holds a value (`postgres_password`, and
    /// the password is `postgres`): a resume must find the reference again.
    pub fn keep_reference(&self, name: &str) {
        let mut matcher = self.matcher.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = matcher.keeping(SecretText::reference(name).marked()) {
            *matcher = Arc::new(more);
        }
    }

    /// The text with every value replaced by [`REDACTED`].
    pub fn redact(&self, text: &str) -> String {
        self.changed(text).unwrap_or_else(|| text.to_owned())
    }

    /// Redacts every text in a value that came from outside (outputs, details of an error), also the names of fields, and numbers that are a secret.
    pub fn redact_value(&self, value: &mut Value) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::Number(number) => {
                if let Some(text) = self.changed(&number.to_string()) {
                    *value = Value::String(text);
                }
            }
            Value::String(text) => {
                if let Some(changed) = self.changed(text) {
                    *text = changed;
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_value(item)),
            Value::Object(fields) => {
                fields.values_mut().for_each(|field| self.redact_value(field));
                if fields.keys().any(|name| self.changed(name).is_some()) {
                    *fields = std::mem::take(fields)
                        .into_iter()
                        .map(|(name, field)| (self.redact(&name), field))
                        .collect();
                }
            }
        }
    }

    /// The text without values, if it had any.
    fn changed(&self, text: &str) -> Option<String> {
        let mut out = Vec::new();
        let matcher = self.matcher();
        let scanned = matcher.scan(text.as_bytes(), 0, true, &mut out);
        // Spellings are whole UTF-8 texts, so a match begins and ends between characters.
        scanned.found.then(|| String::from_utf8_lossy(&out).into_owned())
    }

    fn matcher(&self) -> Arc<Matcher> {
        Arc::clone(&self.matcher.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

#[cfg(test)]
mod tests;
