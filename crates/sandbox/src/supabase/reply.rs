//! Answers in the API's shape: `{"message": …}` for everything that is refused.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::SandboxError;

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

/// What a handler returns.
pub(super) type Reply<T = Response> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({ "message": self.1 }))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("could not {error}"))
    }
}

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, message.into())
}

pub(super) fn missing(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, message.into())
}

/// A JSON body; a wrong one is refused with what is wrong.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Reply<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))
}
