//! Secrets as references. A secret's value never enters a template, a record or an output: what
//! travels is a text with markers in it, and only [`Secrets::reveal`] turns markers into values,
//! at the place where a request is built.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Opens a marker. Text from outside (inputs, YAML literals, outputs of actions that are not
/// secret) must not contain it; the compiler and the driver refuse it.
pub const MARK_OPEN: &str = "⟦secret:";
/// Closes a marker.
pub const MARK_CLOSE: &str = "⟧";

/// Text that may hold secrets, as references: `postgres://u:⟦secret:db_password⟧@h/d`.
///
/// Serialises as that text, prints with each marker as `•••`, and has the JSON Schema format
/// `secret`, by which the checker knows where a secret may go.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// A reference to one secret by name.
    pub fn reference(name: &str) -> Self {
        Self(format!("{MARK_OPEN}{name}{MARK_CLOSE}"))
    }

    /// Text as it travels, markers and all.
    pub fn from_marked(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text as it travels. Safe to write anywhere.
    pub fn marked(&self) -> &str {
        &self.0
    }

    /// The pieces: plain text and names, in order. An unclosed marker is plain text.
    pub fn pieces(&self) -> Vec<Piece<'_>> {
        let mut pieces = Vec::new();
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find(MARK_OPEN) {
            let after = &rest[at + MARK_OPEN.len()..];
            let Some(end) = after.find(MARK_CLOSE) else { break };
            if at > 0 {
                pieces.push(Piece::Text(&rest[..at]));
            }
            pieces.push(Piece::Secret(&after[..end]));
            rest = &after[end + MARK_CLOSE.len()..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest));
        }
        pieces
    }
}

/// One piece of a [`SecretText`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Plain text.
    Text(&'a str),
    /// The name of a secret.
    Secret(&'a str),
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => f.write_str(text)?,
                Piece::Secret(_) => f.write_str("•••")?,
            }
        }
        Ok(())
    }
}

impl JsonSchema for SecretText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "secret" })
    }
}

/// The schema of a text that may hold secrets and need not: a header, a URL, a variable. Where it is written out in
/// the clear that is no mistake. Stands for a [`SecretText`]: `#[schemars(with = "MaybeSecret")]`.
#[derive(Debug, Clone, Copy)]
pub struct MaybeSecret;

impl JsonSchema for MaybeSecret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MaybeSecret".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "secret", "x-runbook-plain": true })
    }
}

/// Whether a text holds a marker, so that it may not be shown as if it were plain.
pub fn holds_marker(text: &str) -> bool {
    text.contains(MARK_OPEN)
}

/// Why a secret could not be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No environment secret and no made secret has that name.
    #[error("look up secret `{0}`: the environment does not define it and no step made it")]
    Unknown(String),
    /// It has a name but no value could be read.
    #[error("read secret `{name}`: {why}")]
    Unreadable {
        /// Which secret.
        name: String,
        /// What went wrong; holds no part of any value.
        why: String,
    },
}

/// Where values come from. Implemented by the executor (environment secrets and the run's vault).
pub trait Secrets: Send + Sync {
    /// The text with every marker replaced by its value. The caller uses it at once and drops it.
    fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError>;

    /// Stores a value that this step made or fetched, durably, encrypted, before it returns; gives the
    /// reference to put into outputs. `field` is unique in the step. The same field again replaces it.
    fn keep(&self, field: &str, value: &str) -> Result<SecretText, SecretError>;

    /// A value kept earlier by this step in this run, also by an attempt that died.
    fn kept(&self, field: &str) -> Result<Option<Revealed>, SecretError>;
}

/// A value in the clear, wiped when dropped; has no `Debug`, `Display` or `Serialize` of its content.
pub struct Revealed(Box<str>);

impl Revealed {
    /// Takes ownership of a clear value.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Self(value.into())
    }

    /// The clear value, for the request being built.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Revealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("•••")
    }
}

impl Drop for Revealed {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_string().into_bytes();
        bytes.iter_mut().for_each(|b| *b = 0);
        std::hint::black_box(&bytes);
    }
}
