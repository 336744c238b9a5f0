//! Errors in the words of the Storage API: nearly every one is HTTP 400 with the real status in the body.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::error::SandboxError;

/// What a handler returns.
pub(super) type Reply<T = Response> = Result<T, Refusal>;

/// A refusal.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the body says.
    status: u16,
    code: &'static str,
    error: &'static str,
    message: String,
    /// The gateway before the API answers with the status itself.
    gateway: bool,
}

impl Refusal {
    pub(super) fn new(status: u16, code: &'static str, error: &'static str, message: String) -> Self {
        Self { status, code, error, message, gateway: false }
    }

    /// The key was turned away before the API saw the request.
    pub(super) fn gateway(message: &str) -> Self {
        let (code, error) = ("Unauthorized", "Unauthorized");
        Self { status: 401, code, error, message: message.to_owned(), gateway: true }
    }

    /// There is no row.
    pub(super) fn no_object() -> Self {
        Self::new(404, "NoSuchKey", "not_found", "Object not found".to_owned())
    }

    /// There is a row, and its bytes are gone: other words than for a missing row.
    pub(super) fn no_file() -> Self {
        Self::new(404, "NoSuchKey", "Not found", "The resource was not found".to_owned())
    }

    pub(super) fn no_bucket() -> Self {
        Self::new(404, "NoSuchBucket", "Bucket not found", "Bucket not found".to_owned())
    }

    pub(super) fn duplicate(code: &'static str) -> Self {
        Self::new(409, code, "Duplicate", "The resource already exists".to_owned())
    }

    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, code, "invalid_request", message.into())
    }

    /// The HTTP status, and the words, for the resumable protocol: it answers with plain text.
    pub(super) fn plain(self) -> Response {
        (StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST), self.message).into_response()
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let real = self.gateway || matches!(self.status, 429 | 500..);
        let status = if real { self.status } else { 400 };
        let body = json!({
            "statusCode": self.status.to_string(), "code": self.code, "error": self.error, "message": self.message,
        });
        (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), Json(body)).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        let code = match &error {
            SandboxError::Database { .. } => "DatabaseError",
            _ => "InternalError",
        };
        Self::new(500, code, "internal", format!("could not {error}"))
    }
}
