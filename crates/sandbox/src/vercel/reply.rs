//! Answers in the API's shape: `{"error": {"code", "message"}}` for everything that is refused.

use axum::body::Bytes;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::error::SandboxError;

/// A refusal: status, code, message.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) &'static str, pub(super) String);

pub(super) type Reply<T = Response> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, axum::Json(json!({ "error": { "code": self.1, "message": self.2 } }))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", format!("could not {error}"))
    }
}

pub(super) fn bad(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_request", message.into())
}

pub(super) fn missing(message: impl Into<String>) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "not_found", message.into())
}

/// A JSON body; a wrong one is refused with what is wrong.
pub(super) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Reply<T> {
    serde_json::from_slice(bytes).map_err(|error| bad(format!("Invalid request: {error}")))
}
