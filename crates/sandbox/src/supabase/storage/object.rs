//! Requests about one object: upload, download, what its row says, deletion. HEAD and info read the row and
//! nothing else; only GET shows whether the bytes are there.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::files::{self, check_name};
use super::reply::{Refusal, Reply};
use super::rows::{self, Object, Upload};
use crate::shared::Ctx;

/// Project, bucket, name.
pub(super) type Place = Path<(String, String, String)>;

/// What an upload says beside its bytes.
pub(super) struct About {
    pub(super) content_type: String,
    pub(super) cache_control: String,
    pub(super) user_metadata: Option<Value>,
    pub(super) upsert: bool,
}

fn about(headers: &HeaderMap) -> Reply<About> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let user_metadata = match text("x-metadata") {
        None => None,
        Some(encoded) => Some(
            STANDARD
                .decode(&encoded)
                .ok()
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .ok_or_else(|| Refusal::bad("InvalidParameter", "x-metadata is not base64 of JSON"))?,
        ),
    };
    Ok(About {
        content_type: text("content-type").unwrap_or_else(|| "application/octet-stream".to_owned()),
        cache_control: text("cache-control").unwrap_or_else(|| "no-cache".to_owned()),
        user_metadata,
        upsert: text("x-upsert").as_deref() == Some("true"),
    })
}

pub(super) async fn upload(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    headers: HeaderMap,
    bytes: Bytes,
) -> Reply {
    let about = about(&headers)?;
    let id = store(&ctx, &reference, (&bucket, &name), about, &bytes).await?;
    Ok(Json(json!({ "Id": id, "Key": format!("{bucket}/{name}") })).into_response())
}

/// PUT overwrites, whatever `x-upsert` says.
pub(super) async fn replace(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    headers: HeaderMap,
    bytes: Bytes,
) -> Reply {
    let about = About { upsert: true, ..about(&headers)? };
    let id = store(&ctx, &reference, (&bucket, &name), about, &bytes).await?;
    Ok(Json(json!({ "Id": id, "Key": format!("{bucket}/{name}") })).into_response())
}

/// What a bucket allows.
pub(super) async fn check_allowed(
    ctx: &Ctx,
    reference: &str,
    (bucket, name): (&str, &str),
    content_type: &str,
    length: u64,
) -> Reply<()> {
    check_name(name)?;
    let settings = rows::bucket(ctx, reference, bucket).await?;
    if settings["file_size_limit"].as_u64().is_some_and(|limit| length > limit) {
        let message = "The object exceeded the maximum allowed size".to_owned();
        return Err(Refusal::new(413, "EntityTooLarge", "Payload too large", message));
    }
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    let fits = |allowed: &Value| {
        let allowed = allowed.as_str().unwrap_or_default();
        allowed == kind || allowed.strip_suffix('*').is_some_and(|start| kind.starts_with(start))
    };
    match settings["allowed_mime_types"].as_array() {
        Some(allowed) if !allowed.iter().any(fits) => Err(Refusal::new(
            415,
            "InvalidMimeType",
            "invalid_mime_type",
            format!("mime type {kind} is not supported"),
        )),
        _ => Ok(()),
    }
}

/// Bytes first, then the row that names them, then the old bytes go: a crash between leaves the old object whole.
pub(super) async fn store(
    ctx: &Ctx,
    reference: &str,
    (bucket, name): (&str, &str),
    about: About,
    bytes: &[u8],
) -> Reply<Uuid> {
    let length = bytes.len() as u64;
    check_allowed(ctx, reference, (bucket, name), &about.content_type, length).await?;
    if !about.upsert && rows::find(ctx, reference, bucket, name).await?.is_some() {
        return Err(Refusal::duplicate("KeyAlreadyExists"));
    }
    let version = Uuid::now_v7().to_string();
    let path = files::path(ctx, reference, bucket, name, &version);
    files::write(&path, bytes)?;
    let metadata = metadata(bytes, &about.content_type, &about.cache_control, Timestamp::now());
    let row = Upload {
        bucket,
        name,
        version: &version,
        metadata,
        user_metadata: about.user_metadata,
        upsert: about.upsert,
    };
    let (id, replaced) = match rows::put(ctx, reference, row).await {
        Ok(done) => done,
        Err(refusal) => {
            files::remove(&path)?;
            return Err(refusal);
        }
    };
    if let Some(old) = replaced.filter(|old| !old.is_empty()) {
        files::remove(&files::path(ctx, reference, bucket, name, &old))?;
    }
    Ok(id)
}

/// The column `metadata` as the service fills it.
pub(super) fn metadata(bytes: &[u8], content_type: &str, cache_control: &str, at: Timestamp) -> Value {
    json!({
        "eTag": files::etag(bytes), "size": bytes.len(), "mimetype": content_type, "cacheControl": cache_control,
        "lastModified": at.to_string(), "contentLength": bytes.len(), "httpStatusCode": 200,
    })
}

async fn row(ctx: &Ctx, reference: &str, bucket: &str, name: &str) -> Reply<Object> {
    rows::bucket(ctx, reference, bucket).await?;
    rows::find(ctx, reference, bucket, name).await?.ok_or_else(Refusal::no_object)
}

/// What the row says, as headers.
fn headers_of(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    let text = |key: &str| object.metadata[key].as_str().unwrap_or_default();
    set(header::CONTENT_TYPE, text("mimetype"));
    set(header::CACHE_CONTROL, text("cacheControl"));
    set(header::ETAG, text("eTag"));
    set(header::ACCEPT_RANGES, "bytes");
    if let Some(at) = object.updated_at {
        set(header::LAST_MODIFIED, &at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
    }
    headers
}

pub(super) async fn head(State(ctx): State<Ctx>, Path((reference, bucket, name)): Place) -> Reply {
    head_of(&ctx, &reference, &bucket, &name).await
}

async fn head_of(ctx: &Ctx, reference: &str, bucket: &str, name: &str) -> Reply {
    let object = row(ctx, reference, bucket, name).await?;
    let mut headers = headers_of(&object);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(object.metadata["size"].as_u64().unwrap_or(0)));
    Ok((headers, Body::empty()).into_response())
}

pub(super) async fn info(State(ctx): State<Ctx>, Path((reference, rest)): Path<(String, String)>) -> Reply {
    let rest = rest.strip_prefix("authenticated/").or_else(|| rest.strip_prefix("public/")).unwrap_or(&rest);
    let (bucket, name) = rest.split_once('/').ok_or_else(Refusal::no_object)?;
    let object = row(&ctx, &reference, bucket, name).await?;
    let of = |key: &str| object.metadata[key].clone();
    Ok(Json(json!({
        "id": object.id, "name": object.name, "version": object.version, "bucket_id": object.bucket,
        "size": of("size"), "content_type": of("mimetype"), "cache_control": of("cacheControl"),
        "etag": of("eTag"), "metadata": object.user_metadata, "last_modified": rows::moment(object.updated_at),
        "created_at": rows::moment(object.created_at),
    }))
    .into_response())
}

pub(super) async fn download(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    headers: HeaderMap,
) -> Reply {
    send(&ctx, &reference, (&bucket, &name), &headers).await
}

/// The bytes of an object, or of a range of it.
pub(super) async fn send(
    ctx: &Ctx,
    reference: &str,
    (bucket, name): (&str, &str),
    asked: &HeaderMap,
) -> Reply {
    let object = row(ctx, reference, bucket, name).await?;
    check_name(name)?;
    let path = files::path(ctx, reference, bucket, name, &object.version);
    let bytes = if object.version.is_empty() { None } else { files::read(&path)? };
    let bytes = bytes.ok_or_else(Refusal::no_file)?;
    let mut headers = headers_of(&object);
    // The store behind the service tells of its bytes, whatever the row says.
    let etag = HeaderValue::from_str(&files::etag(&bytes)).map_err(|_| Refusal::no_file())?;
    let known = asked.get(header::IF_NONE_MATCH) == Some(&etag);
    headers.insert(header::ETAG, etag);
    if known {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    let length = bytes.len();
    match asked.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        None => Ok((headers, bytes).into_response()),
        Some(range) => {
            let Some((from, to)) = bounds(range, length) else {
                let message = "The requested range is not satisfiable".to_owned();
                return Err(Refusal::new(416, "InvalidRange", "InvalidRange", message));
            };
            let shown = HeaderValue::from_str(&format!("bytes {from}-{}/{length}", to - 1));
            headers.extend(shown.ok().map(|shown| (header::CONTENT_RANGE, shown)));
            Ok((StatusCode::PARTIAL_CONTENT, headers, bytes[from..to].to_vec()).into_response())
        }
    }
}

/// First byte and the one after the last of `bytes=A-B`, `bytes=A-` or `bytes=-N`.
fn bounds(range: &str, length: usize) -> Option<(usize, usize)> {
    let (from, to) = range.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (from, to) {
        ("", last) => (length.saturating_sub(last.parse().ok()?), length),
        (first, "") => (first.parse().ok()?, length),
        (first, last) => (first.parse().ok()?, last.parse::<usize>().ok()?.saturating_add(1).min(length)),
    };
    (from < to).then_some((from, to))
}

async fn is_public(ctx: &Ctx, reference: &str, bucket: &str) -> Reply<()> {
    if rows::bucket(ctx, reference, bucket).await?["public"] == true {
        Ok(())
    } else {
        Err(Refusal::no_bucket())
    }
}

pub(super) async fn public(
    State(ctx): State<Ctx>,
    Path((reference, bucket, name)): Place,
    headers: HeaderMap,
) -> Reply {
    super::sign::is_project(&ctx, &reference)?;
    is_public(&ctx, &reference, &bucket).await?;
    send(&ctx, &reference, (&bucket, &name), &headers).await
}

pub(super) async fn public_head(State(ctx): State<Ctx>, Path((reference, bucket, name)): Place) -> Reply {
    super::sign::is_project(&ctx, &reference)?;
    is_public(&ctx, &reference, &bucket).await?;
    head_of(&ctx, &reference, &bucket, &name).await
}

pub(super) async fn delete(State(ctx): State<Ctx>, Path((reference, bucket, name)): Place) -> Reply {
    row(&ctx, &reference, &bucket, &name).await?;
    remove(&ctx, &reference, &bucket, &[name]).await?;
    Ok(Json(json!({ "message": "Successfully deleted" })).into_response())
}

#[derive(Deserialize)]
struct Prefixes {
    prefixes: Vec<String>,
}

pub(super) async fn delete_many(
    State(ctx): State<Ctx>,
    Path((reference, bucket)): Path<(String, String)>,
    bytes: Bytes,
) -> Result<Response, Refusal> {
    let wanted: Prefixes = serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::bad("InvalidRequest", format!("body: {error}")))?;
    if wanted.prefixes.is_empty() || wanted.prefixes.len() > 1000 {
        return Err(Refusal::bad("InvalidRequest", "body/prefixes must have 1 to 1000 items"));
    }
    rows::bucket(&ctx, &reference, &bucket).await?;
    let gone = remove(&ctx, &reference, &bucket, &wanted.prefixes).await?;
    Ok(Json(gone.iter().map(Object::show_all).collect::<Vec<_>>()).into_response())
}

/// Rows first: a crash between leaves bytes that nobody names, which do no harm.
pub(super) async fn remove(ctx: &Ctx, reference: &str, bucket: &str, names: &[String]) -> Reply<Vec<Object>> {
    let gone = rows::delete(ctx, reference, bucket, names).await?;
    for object in gone.iter().filter(|object| !object.version.is_empty()) {
        check_name(&object.name)?;
        files::remove(&files::path(ctx, reference, bucket, &object.name, &object.version))?;
    }
    Ok(gone)
}
