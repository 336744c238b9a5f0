//! Signed URLs: made with a key, fetched without one. The key that signs them is the service's own, so they
//! outlive a rotation of the project's keys and do not survive a move to another project.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::object::{Place, send};
use super::reply::{Refusal, Reply};
use super::rows;
use crate::disk;
use crate::shared::Ctx;
use crate::supabase::keys::sign_hs256;

/// Refuses what is no project: nothing else guards the open paths.
pub(super) fn is_project(ctx: &Ctx, reference: &str) -> Reply<()> {
    if ctx.look(|world| world.projects.contains_key(reference)) { Ok(()) } else { Err(Refusal::no_bucket()) }
}

fn secret(ctx: &Ctx, reference: &str) -> Reply<String> {
    let key = disk::remembered(&ctx.layout.secret("storage_url_key"), disk::random_secret)?;
    Ok(format!("{key}/{reference}"))
}

#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "expiresIn")]
    expires_in: i64,
    #[serde(default)]
    paths: Vec<String>,
}

fn wanted(bytes: &Bytes) -> Reply<Wanted> {
    let wanted: Wanted = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::bad("InvalidRequest", format!("body: {error}")))?;
    if wanted.expires_in < 1 {
        return Err(Refusal::bad("InvalidRequest", "body/expiresIn must be >= 1"));
    }
    Ok(wanted)
}

fn url(secret: &str, bucket: &str, name: &str, seconds: i64) -> String {
    let now = Timestamp::now().as_second();
    let claims = json!({ "url": format!("{bucket}/{name}"), "iat": now, "exp": now.saturating_add(seconds) });
    format!("/object/sign/{bucket}/{name}?token={}", sign_hs256(&claims, secret))
}

pub(super) async fn sign(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    bytes: Bytes,
) -> Reply {
    let wanted = wanted(&bytes)?;
    rows::bucket(&ctx, &reference, &bucket).await?;
    // The row is enough: a URL is signed for bytes that are gone, too.
    rows::find(&ctx, &reference, &bucket, &name).await?.ok_or_else(Refusal::no_object)?;
    let url = url(&secret(&ctx, &reference)?, &bucket, &name, wanted.expires_in);
    Ok(Json(json!({ "signedURL": url })).into_response())
}

pub(super) async fn sign_many(
    State(ctx): State<Ctx>,
    Path((reference, bucket)): Path<(String, String)>,
    bytes: Bytes,
) -> Reply {
    let wanted = wanted(&bytes)?;
    rows::bucket(&ctx, &reference, &bucket).await?;
    let secret = secret(&ctx, &reference)?;
    let mut signed: Vec<Value> = Vec::new();
    for path in &wanted.paths {
        let found = rows::find(&ctx, &reference, &bucket, path).await?.is_some();
        let missing = "Either the object does not exist or you do not have access to it";
        let url = found.then(|| url(&secret, &bucket, path, wanted.expires_in));
        let error = (!found).then_some(missing);
        signed.push(json!({ "error": error, "path": path, "signedURL": url }));
    }
    Ok(Json(signed).into_response())
}

pub(super) async fn fetch(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Reply {
    is_project(&ctx, &reference)?;
    let invalid = |why: &str| Refusal::new(400, "InvalidJWT", "InvalidJWT", why.to_owned());
    let token =
        query.get("token").ok_or_else(|| invalid("querystring must have required property 'token'"))?;
    let claims = token
        .split('.')
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
        .ok_or_else(|| invalid("Invalid Compact JWS"))?;
    // Signing is deterministic: the same claims give the same token.
    if sign_hs256(&claims, &secret(&ctx, &reference)?) != *token {
        return Err(invalid("signature verification failed"));
    }
    if claims["exp"].as_i64().unwrap_or(0) < Timestamp::now().as_second() {
        return Err(invalid("\"exp\" claim timestamp check failed"));
    }
    if claims["url"] != json!(format!("{bucket}/{name}")) {
        return Err(Refusal::new(
            400,
            "InvalidSignature",
            "InvalidSignature",
            "Invalid signature".to_owned(),
        ));
    }
    send(&ctx, &reference, (&bucket, &name), &headers).await
}
