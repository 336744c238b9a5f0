//! Requests about API keys, signing keys, auth settings and function secrets.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::keys::{ApiKey, SigningKey};
use super::project::{Project, change, find};
use super::reply::{Refusal, Reply, bad, body, missing};
use crate::shared::{Ctx, Timing};

fn flag(query: &HashMap<String, String>, name: &str) -> bool {
    query.get(name).is_some_and(|value| value == "true")
}

pub(super) async fn list_api_keys(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    let reveal = flag(&query, "reveal");
    let shown: Vec<Value> =
        find(&ctx, &reference, |p| p.api_keys.iter().map(|key| key.show(reveal)).collect())?;
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct CreateApiKey {
    r#type: String,
    name: String,
    description: Option<String>,
}

pub(super) async fn create_api_key(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    bytes: Bytes,
) -> Reply {
    let wanted: CreateApiKey = body(&bytes)?;
    let named = (4..=64).contains(&wanted.name.len())
        && wanted.name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && wanted.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !named {
        return Err(bad("name must match ^[a-z_][a-z0-9_]+$ and have 4 to 64 characters"));
    }
    if !matches!(wanted.r#type.as_str(), "publishable" | "secret") {
        return Err(bad("type must be publishable or secret"));
    }
    let shown = change(&ctx, &reference, |project| {
        let key = ApiKey::made(&wanted.name, &wanted.r#type, wanted.description, Timestamp::now());
        let shown = key.show(flag(&query, "reveal"));
        project.api_keys.push(key);
        Ok(shown)
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn delete_api_key(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    let shown = change(&ctx, &reference, |project| {
        let found = project.api_keys.iter().position(|key| key.id == id && key.kind != "legacy");
        let index = found.ok_or_else(|| missing("API key not found"))?;
        Ok(project.api_keys.remove(index).show(flag(&query, "reveal")))
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn show_legacy(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let enabled = find(&ctx, &reference, |p| p.legacy_enabled)?;
    Ok(Json(json!({ "enabled": enabled })).into_response())
}

pub(super) async fn set_legacy(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    if !query.contains_key("enabled") {
        return Err(bad("enabled should not be empty"));
    }
    let enabled = flag(&query, "enabled");
    change(&ctx, &reference, |project| {
        project.legacy_enabled = enabled;
        Ok(())
    })?;
    Ok(Json(json!({ "enabled": enabled })).into_response())
}

pub(super) async fn list_signing_keys(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let keys: Vec<Value> = find(&ctx, &reference, |p| p.signing_keys.iter().map(SigningKey::show).collect())?;
    Ok(Json(json!({ "keys": keys })).into_response())
}

pub(super) async fn show_signing_key(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
) -> Reply {
    let shown =
        find(&ctx, &reference, |p| p.signing_keys.iter().find(|key| key.id == id).map(SigningKey::show))?;
    Ok(Json(shown.ok_or_else(|| missing("Signing key not found"))?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateSigningKey {
    algorithm: String,
    status: Option<String>,
    private_jwk: Option<Value>,
}

pub(super) async fn create_signing_key(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    bytes: Bytes,
) -> Reply {
    let wanted: CreateSigningKey = body(&bytes)?;
    let status = wanted.status.as_deref().unwrap_or("standby");
    if !matches!(status, "in_use" | "standby") {
        return Err(bad("status must be in_use or standby"));
    }
    if !matches!(wanted.algorithm.as_str(), "EdDSA" | "ES256" | "RS256" | "HS256") {
        return Err(bad("algorithm must be one of EdDSA, ES256, RS256, HS256"));
    }
    let now = Timestamp::now();
    let key = match &wanted.private_jwk {
        Some(jwk) => SigningKey::imported(&wanted.algorithm, status, jwk, now).map_err(bad)?,
        None => SigningKey::made(&wanted.algorithm, status, now).map_err(|error| bad(error.to_string()))?,
    };
    let timing = ctx.look(|world| world.timing);
    let shown = change(&ctx, &reference, |project| {
        if project.signing_keys.iter().any(|known| known.id == key.id) {
            return Err(bad("A signing key with this kid exists already"));
        }
        throttle(project, timing, now)?;
        if status == "in_use" {
            retire_current(project, now);
        }
        let shown = key.show();
        project.signing_keys.push(key);
        Ok(shown)
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeSigningKey {
    status: String,
}

pub(super) async fn change_signing_key(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Reply {
    let wanted: ChangeSigningKey = body(&bytes)?;
    let now = Timestamp::now();
    let timing = ctx.look(|world| world.timing);
    let shown = change(&ctx, &reference, |project| {
        let index = project.signing_keys.iter().position(|key| key.id == id);
        let index = index.ok_or_else(|| missing("Signing key not found"))?;
        let key = &project.signing_keys[index];
        if key.status == wanted.status {
            return Ok(key.show());
        }
        match (key.status.as_str(), wanted.status.as_str()) {
            ("standby" | "previously_used", "in_use") => {
                throttle(project, timing, now)?;
                retire_current(project, now);
            }
            ("previously_used" | "standby", "revoked") => {
                if key.legacy && project.legacy_enabled {
                    return Err(bad("Disable the legacy API keys before the legacy JWT secret is revoked"));
                }
                throttle(project, timing, now)?;
            }
            ("previously_used" | "revoked", "standby") => throttle(project, timing, now)?,
            ("in_use", _) => {
                return Err(bad("A key in use changes only when another key is put in its place"));
            }
            (_, "in_use" | "previously_used" | "revoked" | "standby") => {
                return Err(bad(format!("A key cannot go from {} to {}", key.status, wanted.status)));
            }
            _ => return Err(bad("status must be one of in_use, previously_used, revoked, standby")),
        }
        let key = &mut project.signing_keys[index];
        key.status = wanted.status;
        key.updated_at = now;
        Ok(key.show())
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn delete_signing_key(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
) -> Reply {
    let shown = change(&ctx, &reference, |project| {
        let index = project.signing_keys.iter().position(|key| key.id == id);
        let index = index.ok_or_else(|| missing("Signing key not found"))?;
        let key = &project.signing_keys[index];
        if key.legacy {
            return Err(bad("The legacy JWT secret cannot be deleted"));
        }
        if key.status != "revoked" {
            return Err(bad("Only a revoked key can be deleted"));
        }
        Ok(project.signing_keys.remove(index).show())
    })?;
    Ok(Json(shown).into_response())
}

fn retire_current(project: &mut Project, now: Timestamp) {
    for key in project.signing_keys.iter_mut().filter(|key| key.status == "in_use") {
        key.status = "previously_used".to_owned();
        key.updated_at = now;
    }
}

/// The real service takes about one change of state in five minutes.
fn throttle(project: &mut Project, timing: Timing, now: Timestamp) -> Reply<()> {
    let gap = i128::from(timing.signing_key_throttle_ms);
    if project.signing_keys_changed.is_some_and(|last| now.duration_since(last).as_millis() < gap) {
        return Err(Refusal(
            StatusCode::TOO_MANY_REQUESTS,
            "Signing keys were changed a moment ago".to_owned(),
        ));
    }
    project.signing_keys_changed = Some(now);
    Ok(())
}

/// Public keys that tokens are verified with: all but revoked ones.
pub(super) async fn jwks(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let keys: Vec<Value> = find(&ctx, &reference, |p| {
        p.signing_keys.iter().filter(|k| k.status != "revoked").filter_map(|k| k.public_jwk.clone()).collect()
    })?;
    Ok(Json(json!({ "keys": keys })).into_response())
}

pub(super) async fn show_auth(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    Ok(Json(find(&ctx, &reference, |p| p.auth.clone())?).into_response())
}

pub(super) async fn change_auth(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    bytes: Bytes,
) -> Reply {
    let wanted: serde_json::Map<String, Value> = body(&bytes)?;
    let shown = change(&ctx, &reference, |project| {
        project.auth.extend(wanted);
        Ok(project.auth.clone())
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn list_secrets(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let shown: Vec<Value> = find(&ctx, &reference, |p| {
        p.secrets
            .iter()
            .map(
                |(name, (digest, at))| json!({ "name": name, "value": digest, "updated_at": at.to_string() }),
            )
            .collect()
    })?;
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct SetSecret {
    name: String,
    value: String,
}

pub(super) async fn set_secrets(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    bytes: Bytes,
) -> Reply {
    let wanted: Vec<SetSecret> = body(&bytes)?;
    for secret in &wanted {
        if secret.name.starts_with("SUPABASE_") || secret.name.is_empty() || secret.name.len() > 256 {
            return Err(bad("name must be 1 to 256 characters and must not start with SUPABASE_"));
        }
        if secret.value.len() > 24_576 {
            return Err(bad("value must be shorter than or equal to 24576 characters"));
        }
    }
    change(&ctx, &reference, |project| {
        let now = Timestamp::now();
        project
            .secrets
            .extend(wanted.into_iter().map(|s| (s.name, (hex::encode(Sha256::digest(s.value)), now))));
        Ok(())
    })?;
    Ok(StatusCode::CREATED.into_response())
}

pub(super) async fn delete_secrets(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    bytes: Bytes,
) -> Reply {
    let wanted: Vec<String> = body(&bytes)?;
    change(&ctx, &reference, |project| {
        project.secrets.retain(|name, _| !wanted.contains(name));
        Ok(())
    })?;
    Ok(StatusCode::OK.into_response())
}
