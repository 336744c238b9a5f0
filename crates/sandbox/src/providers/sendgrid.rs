//! Stand-in for the SendGrid API: keys, and e-mail that goes nowhere.

use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

/// Keys of one account.
const KEYS_MAX: usize = 100;

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    keys: Vec<Key>,
    /// E-mails that were taken.
    sent: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Key {
    id: String,
    name: String,
    scopes: Vec<String>,
    key: String,
}

impl Key {
    fn made(name: &str, scopes: Vec<String>) -> Self {
        let id = disk::random_secret()[..22].to_owned();
        let key = format!("SG.{id}.{}", disk::random_secret());
        Self { id, name: name.to_owned(), scopes, key }
    }

    fn show(&self) -> Value {
        json!({ "api_key_id": self.id, "name": self.name })
    }
}

impl State {
    /// With a key that an application sends with.
    pub(super) fn with_key() -> Self {
        Self { keys: vec![Key::made("polaris", vec!["mail.send".to_owned()])], sent: 0 }
    }

    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        let digest = |key: &Key| hex::encode(Sha256::digest(&key.key));
        let keys: Vec<Value> = self
            .keys
            .iter()
            .map(|k| json!({ "id": k.id, "name": k.name, "scopes": k.scopes, "sha256": digest(k) }))
            .collect();
        json!({ "keys": keys, "sent": self.sent })
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/v3/api_keys", get(list).post(create))
        .route("/v3/api_keys/{id}", get(show).delete(remove))
        .route("/v3/mail/send", post(send))
        .fallback(async || Refusal(404, None, "not found".to_owned()))
        .with_state(ctx.clone())
}

/// Status, field and message.
#[derive(Debug)]
struct Refusal(u16, Option<&'static str>, String);

type Reply<T = Response> = Result<T, Refusal>;

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(words(self.1, &self.2))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(500, None, format!("could not {error}"))
    }
}

fn words(field: Option<&str>, message: &str) -> Value {
    json!({ "errors": [{ "field": field, "message": message }] })
}

/// The error that a fault answers with.
pub(super) fn fault(status: StatusCode) -> Value {
    words(None, status.canonical_reason().unwrap_or("error"))
}

/// Who asks: the token that manages, or a key with this scope.
fn permit(ctx: &Ctx, headers: &HeaderMap, scope: &str) -> Reply<()> {
    let given =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let given = given.ok_or_else(|| Refusal(401, None, "authorization required".to_owned()))?;
    if given == ctx.tokens.provider("sendgrid_token") {
        return Ok(());
    }
    let key = ctx.look(|world| world.providers.sendgrid.keys.iter().find(|key| key.key == given).cloned());
    let key = key.ok_or_else(|| {
        Refusal(401, None, "The provided authorization grant is invalid, expired, or revoked".to_owned())
    })?;
    if key.scopes.iter().any(|known| known == scope) {
        return Ok(());
    }
    Err(Refusal(403, None, "access forbidden".to_owned()))
}

async fn list(Shared(ctx): Shared<Ctx>, headers: HeaderMap) -> Reply {
    permit(&ctx, &headers, "api_keys.read")?;
    let all: Vec<Value> = ctx.look(|world| world.providers.sendgrid.keys.iter().map(Key::show).collect());
    Ok(Json(json!({ "result": all })).into_response())
}

#[derive(Deserialize)]
struct Create {
    name: String,
    #[serde(default)]
    scopes: Vec<String>,
}

async fn create(Shared(ctx): Shared<Ctx>, headers: HeaderMap, bytes: Bytes) -> Reply {
    permit(&ctx, &headers, "api_keys.create")?;
    let wanted: Create =
        serde_json::from_slice(&bytes).map_err(|error| Refusal(400, Some("name"), error.to_string()))?;
    if wanted.name.is_empty() || wanted.name.len() > 100 {
        return Err(Refusal(400, Some("name"), "missing required argument".to_owned()));
    }
    let made = ctx.try_change(|world| {
        let keys = &mut world.providers.sendgrid.keys;
        if keys.len() >= KEYS_MAX {
            return Err(Refusal(403, None, "Cannot create more than 100 API Keys".to_owned()));
        }
        let key = Key::made(&wanted.name, wanted.scopes);
        let shown =
            json!({ "api_key": key.key, "api_key_id": key.id, "name": key.name, "scopes": key.scopes });
        keys.push(key);
        Ok::<Value, Refusal>(shown)
    })?;
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

fn gone() -> Refusal {
    Refusal(404, None, "unable to find API Key".to_owned())
}

async fn show(Shared(ctx): Shared<Ctx>, headers: HeaderMap, Path(id): Path<String>) -> Reply {
    permit(&ctx, &headers, "api_keys.read")?;
    let key = ctx.look(|world| world.providers.sendgrid.keys.iter().find(|key| key.id == id).cloned());
    let key = key.ok_or_else(gone)?;
    let mut shown = key.show();
    shown["scopes"] = json!(key.scopes);
    Ok(Json(json!({ "result": [shown] })).into_response())
}

async fn remove(Shared(ctx): Shared<Ctx>, headers: HeaderMap, Path(id): Path<String>) -> Reply {
    permit(&ctx, &headers, "api_keys.delete")?;
    ctx.try_change(|world| {
        let keys = &mut world.providers.sendgrid.keys;
        keys.remove(keys.iter().position(|key| key.id == id).ok_or_else(gone)?);
        Ok::<(), Refusal>(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn send(Shared(ctx): Shared<Ctx>, headers: HeaderMap, bytes: Bytes) -> Reply {
    permit(&ctx, &headers, "mail.send")?;
    let mail: Value =
        serde_json::from_slice(&bytes).map_err(|error| Refusal(400, None, error.to_string()))?;
    if ["personalizations", "from", "subject"].iter().any(|field| mail[*field].is_null()) {
        return Err(Refusal(
            400,
            Some("personalizations"),
            "The personalizations field is required.".to_owned(),
        ));
    }
    ctx.change(|world| world.providers.sendgrid.sent += 1)?;
    Ok(StatusCode::ACCEPTED.into_response())
}
