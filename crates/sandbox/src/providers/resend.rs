//! Stand-in for the Resend API: keys, and e-mail that goes nowhere. Only a live key is taken, and one that
//! may only send manages no keys.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;
use crate::world::World;

/// Page size when none is asked for, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// Oldest first.
    keys: Vec<Key>,
    /// E-mails that were taken.
    sent: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Key {
    id: String,
    name: String,
    permission: String,
    token: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
}

impl Key {
    fn made(name: &str, permission: &str, now: Timestamp) -> Self {
        Self {
            id: Uuid::now_v7().to_string(),
            name: name.to_owned(),
            permission: permission.to_owned(),
            token: format!("re_{}", disk::random_secret()),
            created_at: now,
            last_used_at: None,
        }
    }
}

impl State {
    /// With the key that the application sends with; and that key.
    pub(super) fn with_key(now: Timestamp) -> (Self, String) {
        let key = Key::made("polaris", "sending_access", now);
        let token = key.token.clone();
        (Self { keys: vec![key], sent: 0 }, token)
    }

    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|k| {
                json!({ "id": k.id, "name": k.name, "permission": k.permission, "sha256": hex::encode(Sha256::digest(&k.token)) })
            })
            .collect();
        json!({ "keys": keys, "sent": self.sent })
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/api-keys", get(list).post(create))
        .route("/api-keys/{id}", delete(remove))
        .route("/emails", post(send))
        .fallback(async || refusal(404, "not_found", "The requested endpoint does not exist"))
        .with_state(ctx.clone())
}

#[derive(Debug)]
struct Refusal(u16, &'static str, String);

type Reply<T = Response> = Result<T, Refusal>;

fn refusal(status: u16, name: &'static str, message: &str) -> Refusal {
    Refusal(status, name, message.to_owned())
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = json!({ "statusCode": self.0, "name": self.1, "message": self.2 });
        (status, Json(body)).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(500, "application_error", format!("could not {error}"))
    }
}

/// The error that a fault answers with.
pub(super) fn fault(status: StatusCode) -> Value {
    let name = match status.as_u16() {
        429 => "rate_limit_exceeded",
        403 => "invalid_api_key",
        404 => "not_found",
        _ => "application_error",
    };
    json!({ "statusCode": status.as_u16(), "name": name, "message": status.canonical_reason().unwrap_or("error") })
}

fn bearer(headers: &HeaderMap) -> Reply<&str> {
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    given.ok_or_else(|| refusal(401, "missing_api_key", "Missing API key in the authorization header"))
}

fn manager(ctx: &Ctx, headers: &HeaderMap) -> Reply<()> {
    let given = bearer(headers)?;
    if given == ctx.tokens.provider("resend_token") {
        return Ok(());
    }
    match ctx.look(|world| world.providers.resend.keys.iter().find(|k| k.token == given).cloned()) {
        Some(key) if key.permission == "full_access" => Ok(()),
        Some(_) => Err(refusal(401, "restricted_api_key", "This API key is restricted to only send emails")),
        None => Err(refusal(403, "invalid_api_key", "API key is invalid")),
    }
}

async fn list(
    Shared(ctx): Shared<Ctx>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    manager(&ctx, &headers)?;
    let limit = match query.get("limit").map(|text| text.parse::<usize>()) {
        None => PAGE,
        Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
        Some(_) => return Err(refusal(422, "validation_error", "`limit` must be between 1 and 100")),
    };
    let page = ctx.look(|world| {
        let all: Vec<&Key> = world.providers.resend.keys.iter().rev().collect();
        let from = match query.get("after") {
            Some(id) => all.iter().position(|key| key.id == *id).map(|at| at + 1)?,
            None => 0,
        };
        let rest = all.get(from..).unwrap_or_default();
        let shown: Vec<Value> = rest
            .iter()
            .take(limit)
            .map(|k| {
                json!({ "id": k.id, "name": k.name, "created_at": k.created_at.to_string(),
                        "last_used_at": k.last_used_at.map(|at| at.to_string()) })
            })
            .collect();
        Some(json!({ "object": "list", "has_more": rest.len() > limit, "data": shown }))
    });
    let page = page.ok_or_else(|| refusal(422, "validation_error", "`after` is no key"))?;
    Ok(Json(page).into_response())
}

#[derive(Deserialize)]
struct Create {
    name: String,
    #[serde(default)]
    permission: Option<String>,
    #[serde(default)]
    domain_id: Option<String>,
}

async fn create(Shared(ctx): Shared<Ctx>, headers: HeaderMap, bytes: Bytes) -> Reply {
    manager(&ctx, &headers)?;
    let wanted: Create =
        serde_json::from_slice(&bytes).map_err(|e| refusal(422, "validation_error", &e.to_string()))?;
    let permission = wanted.permission.as_deref().unwrap_or("full_access");
    let fits = !wanted.name.is_empty()
        && wanted.name.chars().count() <= 50
        && matches!(permission, "full_access" | "sending_access")
        && (wanted.domain_id.is_none() || permission == "sending_access");
    if !fits {
        return Err(refusal(422, "validation_error", "`name`, `permission` or `domain_id` is not valid"));
    }
    let made = ctx.change(|world| {
        let key = Key::made(&wanted.name, permission, Timestamp::now());
        let shown = json!({ "id": key.id, "token": key.token });
        world.providers.resend.keys.push(key);
        shown
    })?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

async fn remove(Shared(ctx): Shared<Ctx>, headers: HeaderMap, Path(id): Path<String>) -> Reply {
    manager(&ctx, &headers)?;
    ctx.try_change(|world| {
        let keys = &mut world.providers.resend.keys;
        let index = keys.iter().position(|key| key.id == id);
        keys.remove(index.ok_or_else(|| refusal(404, "not_found", "API key not found"))?);
        Ok::<(), Refusal>(())
    })?;
    Ok(Json(json!({ "object": "api_key", "id": id, "deleted": true })).into_response())
}

/// Takes an e-mail when the key is live.
pub(crate) fn take(world: &mut World, token: &str) -> bool {
    let state = &mut world.providers.resend;
    let Some(key) = state.keys.iter_mut().find(|key| key.token == token) else { return false };
    key.last_used_at = Some(Timestamp::now());
    state.sent += 1;
    true
}

async fn send(Shared(ctx): Shared<Ctx>, headers: HeaderMap, bytes: Bytes) -> Reply {
    let given = bearer(&headers)?;
    let mail: Value =
        serde_json::from_slice(&bytes).map_err(|e| refusal(422, "validation_error", &e.to_string()))?;
    if ["from", "to", "subject"].iter().any(|field| mail[*field].is_null()) {
        return Err(refusal(422, "missing_required_field", "Missing `from`, `to` or `subject` field."));
    }
    if given != ctx.tokens.provider("resend_token") && !ctx.change(|world| take(world, given))? {
        return Err(refusal(403, "invalid_api_key", "API key is invalid"));
    }
    Ok(Json(json!({ "id": Uuid::now_v7().to_string() })).into_response())
}
