//! Stand-in for the GitHub REST API: issues, their comments, labels, and the search, which lags behind as the
//! real one does.

mod issues;
mod shape;

use axum::extract::{Request, State as Extract};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::shared::Ctx;

/// The repository whose issues are on.
const REPOSITORY: &str = "polaris/polaris";
/// One whose issues are off.
const WITHOUT_ISSUES: &str = "polaris/no-issues";

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Oldest first; the number is the place.
    issues: Vec<Issue>,
    labels: Vec<String>,
}

/// An issue.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Issue {
    title: String,
    body: Option<String>,
    labels: Vec<String>,
    assignees: Vec<String>,
    closed_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
    comments: Vec<(Timestamp, String)>,
}

impl State {
    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({ "issues": self.issues, "labels": self.labels })
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    let repository = Router::new()
        .route("/repos/{owner}/{repo}/issues", get(issues::list).post(issues::create))
        .route("/repos/{owner}/{repo}/issues/{number}", get(issues::show).patch(issues::change))
        .route("/repos/{owner}/{repo}/issues/{number}/comments", get(issues::comments).post(issues::comment))
        .route("/repos/{owner}/{repo}/labels", get(issues::labels).post(issues::create_label))
        .layer(middleware::from_fn(of_repository));
    Router::new()
        .route("/search/issues", get(issues::search))
        .merge(repository)
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .with_state(ctx.clone())
}

/// A refusal in GitHub's words.
struct Refusal(StatusCode, &'static str, Value);

type Reply = Result<Response, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({
            "message": self.1, "documentation_url": "https://docs.github.com/rest", "status": self.0.as_str(),
        });
        if !self.2.is_null() {
            body["errors"] = self.2;
        }
        (self.0, Json(body)).into_response()
    }
}

impl From<crate::error::SandboxError> for Refusal {
    fn from(error: crate::error::SandboxError) -> Self {
        tracing::error!(%error, "a change was not written");
        Self(StatusCode::INTERNAL_SERVER_ERROR, "Server Error", Value::Null)
    }
}

fn missing() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, "Not Found", Value::Null)
}

fn invalid(resource: &str, field: &str, code: &str) -> Refusal {
    let errors = json!([{ "resource": resource, "field": field, "code": code }]);
    Refusal(StatusCode::UNPROCESSABLE_ENTITY, "Validation Failed", errors)
}

async fn unknown() -> Refusal {
    missing()
}

/// What is wrong with who asks.
fn stranger(ctx: &Ctx, headers: &axum::http::HeaderMap) -> Option<Response> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::USER_AGENT).is_none_or(str::is_empty) {
        let why = "Request forbidden by administrative rules. Please make sure your request has a User-Agent header";
        return Some((StatusCode::FORBIDDEN, why).into_response());
    }
    let given = text(header::AUTHORIZATION)
        .and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("token ")));
    let known = given == Some(ctx.tokens.provider("github_token"));
    (!known).then(|| Refusal(StatusCode::UNAUTHORIZED, "Bad credentials", Value::Null).into_response())
}

async fn authorize(Extract(ctx): Extract<Ctx>, request: Request, next: Next) -> Response {
    match stranger(&ctx, request.headers()) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

async fn of_repository(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(2);
    let name = format!("{}/{}", parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match name.as_str() {
        REPOSITORY => next.run(request).await,
        // Only writing says that they are off; the list is empty.
        WITHOUT_ISSUES if request.method() == axum::http::Method::GET => Json(json!([])).into_response(),
        WITHOUT_ISSUES => {
            Refusal(StatusCode::GONE, "Issues has been disabled in this repository.", Value::Null)
                .into_response()
        }
        _ => missing().into_response(),
    }
}
