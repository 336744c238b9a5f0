//! Stand-in for the GitHub REST API.

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::shared::Ctx;

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {}

impl State {
    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({})
    }
}

/// Everything below its prefix.
pub(crate) fn router(_ctx: &Ctx) -> Router {
    Router::new()
}
