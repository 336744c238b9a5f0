//! Resumable uploads (TUS 1.0.0): the offset is the length of what is on disk, so it outlives the daemon.
//! Every chunk but the last is exactly 6 MiB.

use std::collections::HashMap;
use std::path::PathBuf;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::files;
use super::object::{About, check_allowed, store};
use super::reply::{Refusal, Reply};
use super::rows;
use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

/// The service takes no other size but for the last chunk.
const CHUNK: u64 = 6 * 1024 * 1024;
const VERSION: &str = "1.0.0";

/// What is known of an upload beside its bytes.
#[derive(Serialize, Deserialize)]
struct Known {
    bucket: String,
    name: String,
    content_type: String,
    cache_control: String,
    user_metadata: Option<Value>,
    upsert: bool,
    length: u64,
    done: bool,
}

/// The real service locks each upload; here all share one lock.
static LOCK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn folder(ctx: &Ctx, reference: &str) -> PathBuf {
    // No bucket can have this name: the files of objects stay apart.
    ctx.layout.storage(reference).join("#uploads")
}

/// The files of an upload by its id, which is checked before it becomes a path.
fn paths(ctx: &Ctx, reference: &str, id: &str) -> Option<(PathBuf, PathBuf)> {
    let decoded = URL_SAFE_NO_PAD.decode(id).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
    let version: Uuid = decoded.rsplit('/').next()?.parse().ok()?;
    let folder = folder(ctx, reference);
    Some((folder.join(format!("{version}.json")), folder.join(format!("{version}.part"))))
}

fn known(ctx: &Ctx, reference: &str, id: &str) -> Reply<(Known, u64)> {
    let gone = || Refusal::new(404, "NoSuchUpload", "not_found", "The upload was not found".to_owned());
    let (about, part) = paths(ctx, reference, id).ok_or_else(gone)?;
    let bytes = files::read(&about)?.ok_or_else(gone)?;
    let known: Known =
        serde_json::from_slice(&bytes).map_err(|source| SandboxError::Damaged { path: about, source })?;
    let there = std::fs::metadata(&part).map_or(0, |found| found.len());
    let offset = if known.done { known.length } else { there };
    Ok((known, offset))
}

fn answer(status: StatusCode, offset: Option<u64>) -> Response {
    let mut response = status.into_response();
    let headers = response.headers_mut();
    headers.insert("tus-resumable", HeaderValue::from_static(VERSION));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(offset) = offset {
        headers.insert("upload-offset", HeaderValue::from(offset));
    }
    response
}

fn plain(outcome: Reply) -> Response {
    outcome.unwrap_or_else(Refusal::plain)
}

fn number(headers: &HeaderMap, name: &str) -> Reply<u64> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    value.ok_or_else(|| Refusal::bad("InvalidParameter", format!("{name} header required")))
}

fn speaks(headers: &HeaderMap) -> Reply<()> {
    match headers.get("tus-resumable").and_then(|value| value.to_str().ok()) {
        Some(VERSION) => Ok(()),
        _ => Err(Refusal::new(412, "TusError", "tus", "Tus-Resumable Required".to_owned())),
    }
}

/// `Upload-Metadata: key base64,key base64`.
fn fields(headers: &HeaderMap) -> Reply<HashMap<String, String>> {
    let invalid = || Refusal::bad("TusError", "Upload-Metadata is invalid");
    let text = headers.get("upload-metadata").and_then(|value| value.to_str().ok()).ok_or_else(invalid)?;
    text.split(',')
        .map(|pair| {
            let (key, value) = pair.trim().split_once(' ').unwrap_or((pair.trim(), ""));
            let value = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            value.map(|value| (key.to_owned(), value)).ok_or_else(invalid)
        })
        .collect()
}

pub(super) async fn create(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    plain(created(&ctx, &reference, &uri, &headers).await)
}

async fn created(ctx: &Ctx, reference: &str, uri: &Uri, headers: &HeaderMap) -> Reply {
    speaks(headers)?;
    let length = number(headers, "upload-length")?;
    let mut fields = fields(headers)?;
    let mut take = |name: &str| fields.remove(name);
    let bucket = take("bucketName").unwrap_or_default();
    let name = take("objectName").unwrap_or_default();
    let content_type = take("contentType").unwrap_or_else(|| "application/octet-stream".to_owned());
    // Only a bare number of seconds is taken, as in the real service.
    let cache_control = match take("cacheControl") {
        Some(seconds) if seconds.parse::<i64>().is_ok() => format!("max-age={seconds}"),
        _ => "no-cache".to_owned(),
    };
    let user_metadata = take("metadata").and_then(|text| serde_json::from_str(&text).ok());
    let upsert = headers.get("x-upsert").is_some_and(|value| value == "true");
    check_allowed(ctx, reference, (&bucket, &name), &content_type, length).await?;
    if !upsert && rows::find(ctx, reference, &bucket, &name).await?.is_some() {
        return Err(Refusal::duplicate("KeyAlreadyExists"));
    }
    let id = URL_SAFE_NO_PAD.encode(format!("{bucket}/{name}/{}", Uuid::now_v7()));
    let known =
        Known { bucket, name, content_type, cache_control, user_metadata, upsert, length, done: false };
    let (about, part) =
        paths(ctx, reference, &id).ok_or_else(|| Refusal::bad("InvalidKey", "Invalid key"))?;
    disk::private_dir(&folder(ctx, reference))?;
    disk::write_private(&part, b"")?;
    save(&about, &known)?;
    let place = format!("http://{}{}/{id}", host(headers), uri_of(reference, uri));
    let mut response = answer(StatusCode::CREATED, None);
    let place = HeaderValue::from_str(&place).map_err(|_| Refusal::bad("InvalidKey", "Invalid key"))?;
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or("127.0.0.1")
}

/// The address of this collection; the router has taken the nest's prefix off.
fn uri_of(reference: &str, uri: &Uri) -> String {
    format!("/projects/{reference}/storage/v1{}", uri.path().trim_end_matches('/'))
}

fn save(about: &std::path::Path, known: &Known) -> Result<(), SandboxError> {
    let bytes = serde_json::to_vec(known)
        .map_err(|source| SandboxError::Damaged { path: about.to_owned(), source })?;
    disk::write_private(about, &bytes)
}

pub(super) async fn offset(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
) -> Response {
    plain(known(&ctx, &reference, &id).map(|(known, offset)| {
        let mut response = answer(StatusCode::OK, Some(offset));
        response.headers_mut().insert("upload-length", HeaderValue::from(known.length));
        response
    }))
}

pub(super) async fn append(
    State(ctx): State<Ctx>,
    Path((reference, id)): Path<(String, String)>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Response {
    plain(appended(&ctx, &reference, &id, &headers, &bytes).await)
}

async fn appended(ctx: &Ctx, reference: &str, id: &str, headers: &HeaderMap, bytes: &[u8]) -> Reply {
    speaks(headers)?;
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/offset+octet-stream") {
        return Err(Refusal::new(415, "TusError", "tus", "Content-Type header required".to_owned()));
    }
    let _one_at_a_time = LOCK.lock().await;
    let (mut known, offset) = known(ctx, reference, id)?;
    if known.done || number(headers, "upload-offset")? != offset {
        return Err(Refusal::new(409, "TusError", "tus", "Upload-Offset conflict".to_owned()));
    }
    let (length, end) = (bytes.len() as u64, offset + bytes.len() as u64);
    if end > known.length || (length != CHUNK && end != known.length) {
        return Err(Refusal::bad("TusError", "every chunk but the last must be exactly 6 MiB"));
    }
    let (about, part) = paths(ctx, reference, id).ok_or_else(|| Refusal::bad("InvalidKey", "Invalid key"))?;
    let mut whole = files::read(&part)?.unwrap_or_default();
    whole.extend_from_slice(bytes);
    disk::write_private(&part, &whole)?;
    if end == known.length {
        let said = About {
            content_type: known.content_type.clone(),
            cache_control: known.cache_control.clone(),
            user_metadata: known.user_metadata.clone(),
            upsert: known.upsert,
        };
        store(ctx, reference, (&known.bucket, &known.name), said, &whole).await?;
        known.done = true;
        save(&about, &known)?;
        files::remove(&part)?;
    }
    Ok(answer(StatusCode::NO_CONTENT, Some(end)))
}

pub(super) async fn end(State(ctx): State<Ctx>, Path((reference, id)): Path<(String, String)>) -> Response {
    plain(ended(&ctx, &reference, &id))
}

fn ended(ctx: &Ctx, reference: &str, id: &str) -> Reply {
    known(ctx, reference, id)?;
    if let Some((about, part)) = paths(ctx, reference, id) {
        files::remove(&about)?;
        files::remove(&part)?;
    }
    Ok(answer(StatusCode::NO_CONTENT, None))
}
