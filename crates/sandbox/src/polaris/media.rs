//! The sample application's recordings: uploaded with the application's own service key, played through a signed
//! URL. Knows the project only by the variables of its deployment, like every other page.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Build, Trouble, build, unavailable};
use crate::client::{Fetched, fetch};
use crate::shared::Ctx;

/// An upload through the application; longer ones go to Storage directly.
const AUDIO_BYTES_MAX: usize = 256 * 1024;
/// How long a signed URL works, in seconds.
const URL_LIFE_S: u32 = 60;
const BUCKET: &str = "recordings";

pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/api/recordings", post(upload))
        .route("/api/recordings/{name}/play", get(play))
        .route("/api/recordings/{name}", delete(remove))
        .route("/api/recordings/{name}/url", get(address))
}

/// Where the files are, and who asks.
struct Storage {
    url: String,
    key: String,
}

impl Storage {
    fn of(build: &Build) -> Result<Self, Trouble> {
        let variable =
            |name: &str| build.variables.get(name).ok_or_else(|| unavailable(format!("{name} is not set")));
        let project = variable("NEXT_PUBLIC_SUPABASE_URL")?.trim_end_matches('/').to_owned();
        let key = variable("SUPABASE_SERVICE_ROLE_KEY")?.clone();
        Ok(Self { url: format!("{project}/storage/v1"), key })
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        extra: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Fetched, Trouble> {
        let bearer = format!("Bearer {}", self.key);
        let mut headers = vec![("authorization", bearer.as_str()), ("apikey", self.key.as_str())];
        headers.extend_from_slice(extra);
        let url = format!("{}{path}", self.url);
        let answer = fetch(method, &url, &headers, body).await;
        accepted(answer.map_err(|error| unavailable(format!("storage: {error}")))?)
    }
}

/// Storage's own words when it refuses; what it misses is not found here either.
fn accepted(answer: Fetched) -> Result<Fetched, Trouble> {
    if (200..300).contains(&answer.status) {
        return Ok(answer);
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or("no reason given");
    let text = format!("storage: {} ({message})", said["code"].as_str().unwrap_or("error"));
    let status = if said["statusCode"] == "404" { StatusCode::NOT_FOUND } else { StatusCode::BAD_GATEWAY };
    Err(Trouble(status, text))
}

fn check_name(name: &str) -> Result<(), Trouble> {
    let fits = !name.is_empty()
        && name.len() <= 100
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if fits {
        return Ok(());
    }
    Err(Trouble(StatusCode::BAD_REQUEST, "a recording's name has letters, digits and `-_.`".to_owned()))
}

#[derive(Deserialize)]
struct NewRecording {
    name: String,
    /// Base64.
    audio: String,
}

async fn upload(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    if build.read_only {
        return Err(unavailable("read-only: we are repairing something, please come back soon"));
    }
    let bad = |why: String| Trouble(StatusCode::BAD_REQUEST, why);
    let wanted: NewRecording = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    check_name(&wanted.name)?;
    let audio = STANDARD.decode(&wanted.audio).map_err(|error| bad(format!("audio: {error}")))?;
    if audio.is_empty() || audio.len() > AUDIO_BYTES_MAX {
        return Err(bad(format!("a recording has 1 to {AUDIO_BYTES_MAX} bytes")));
    }
    let path = format!("/object/{BUCKET}/{}", wanted.name);
    let headers = [("content-type", "audio/ogg"), ("cache-control", "max-age=3600"), ("x-upsert", "true")];
    Storage::of(&build)?.call("POST", &path, &headers, &audio).await?;
    let shown = json!({ "ok": true, "name": wanted.name, "bytes": audio.len(), "sha256": sum(&audio) });
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// An address that works for a minute without a key.
async fn signed_url(storage: &Storage, name: &str) -> Result<String, Trouble> {
    check_name(name)?;
    let path = format!("/object/sign/{BUCKET}/{name}");
    let asked = json!({ "expiresIn": URL_LIFE_S }).to_string();
    let signed =
        storage.call("POST", &path, &[("content-type", "application/json")], asked.as_bytes()).await?;
    let signed: Value = serde_json::from_slice(&signed.body).unwrap_or_default();
    let path = signed["signedURL"].as_str().ok_or_else(|| unavailable("storage: no signed URL"))?;
    Ok(format!("{}{path}", storage.url))
}

/// What a page gives a player.
async fn address(State(ctx): State<Ctx>, Path(name): Path<String>) -> Result<Response, Trouble> {
    let storage = Storage::of(&build(&ctx)?)?;
    let url = signed_url(&storage, &name).await?;
    Ok(Json(json!({ "ok": true, "url": url })).into_response())
}

/// Takes a recording away again.
async fn remove(State(ctx): State<Ctx>, Path(name): Path<String>) -> Result<Response, Trouble> {
    check_name(&name)?;
    let build = build(&ctx)?;
    if build.read_only {
        return Err(unavailable("read-only: we are repairing something, please come back soon"));
    }
    let path = format!("/object/{BUCKET}/{name}");
    match Storage::of(&build)?.call("DELETE", &path, &[], &[]).await {
        // Asked again after it went: it is gone, which is what was wanted.
        Ok(_) | Err(Trouble(StatusCode::NOT_FOUND, _)) => {
            Ok(Json(json!({ "ok": true, "name": name })).into_response())
        }
        Err(trouble) => Err(trouble),
    }
}

/// What a player does: asks for a signed URL and fetches the audio by it, without a key.
async fn play(State(ctx): State<Ctx>, Path(name): Path<String>) -> Result<Response, Trouble> {
    let url = signed_url(&Storage::of(&build(&ctx)?)?, &name).await?;
    let audio = fetch("GET", &url, &[], &[]).await;
    let audio = accepted(audio.map_err(|error| unavailable(format!("storage: {error}")))?)?;
    // Deployments read it within seconds: it is what pages put behind an address to get past caches.
    let version = ctx.look(|world| world.vercel.flags.get("media_version").map(|flag| flag.value.clone()));
    Ok(Json(json!({
        "ok": true, "name": name, "bytes": audio.body.len(), "sha256": sum(&audio.body),
        "content_type": audio.content_type, "media_version": version,
    }))
    .into_response())
}

fn sum(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
