//! A large object on its way into Storage by the resumable protocol (TUS 1.0.0), in chunks of exactly 6 MiB. The
//! service knows how far it came, so a killed attempt goes on there; nothing is visible before the last chunk,
//! which is sent only when the hash of all bytes was seen to be right.

use reqwest::header::HeaderName;
use reqwest::{Method, StatusCode};
use runbook_core::action::{ActionError, Progress};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::crew::stopped;
use super::manifest::Entry;
use super::service::{Ask, CHUNK, Said, Service, header};
use super::vault::Vault;

const PROTOCOL: &str = "1.0.0";
/// Disagreements about the offset before an upload is given up: another client writes to it.
const CONFLICTS_MAX: u32 = 5;

/// What a later attempt must know.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    /// The last segment of the upload's address.
    upload: String,
    /// The copy that it is made of: of other bytes it must be begun anew.
    etag: String,
}

/// Uploads, or goes on with what an earlier attempt began.
pub(super) async fn upload(
    service: &Service<'_>,
    vault: &Vault,
    bucket: &str,
    entry: &Entry,
) -> Result<(), ActionError> {
    let ctx = service.ctx;
    let mut copy = vault.copy(&entry.sha256, entry.size).await?;
    let mark = format!("upload-{}", &hex::encode(Sha256::digest(format!("{bucket}/{}", entry.name)))[..16]);
    let begun: Option<Begun> =
        ctx.checkpoints.get(&mark).and_then(|saved| serde_json::from_value(saved).ok());
    let mut offset = 0;
    let mut upload = None;
    if let Some(begun) = begun.filter(|begun| begun.etag == copy.etag)
        && let Some(there) = offset_of(service, &begun.upload).await?
        && (there % CHUNK == 0 || there == entry.size)
        && there <= entry.size
    {
        (offset, upload) = (there, Some(begun.upload));
    }
    let upload = match upload {
        Some(upload) => upload,
        None => {
            let upload = create(service, bucket, entry).await?;
            ctx.checkpoints
                .save(&mark, json!(Begun { upload: upload.clone(), etag: copy.etag.clone() }))
                .await?;
            upload
        }
    };
    let (mut at, mut conflicts) = (0, 0);
    while let Some(chunk) = copy.next(CHUNK).await? {
        let end = at + chunk.len() as u64;
        if end == entry.size
            && let Err(error) = copy.check()
        {
            discard(service, &upload).await?;
            return Err(error);
        }
        while offset < end {
            if offset != at {
                return Err(ActionError::unchanged(format!(
                    "upload `{bucket}/{}`: the service has {offset} bytes, this attempt is at {at}",
                    entry.name
                )));
            }
            if ctx.stop.requested() {
                return Err(stopped());
            }
            match append(service, &upload, at, &chunk).await? {
                Some(there) => offset = there,
                // The answer to this very chunk may have been lost: the service knows.
                None => {
                    conflicts += 1;
                    offset = offset_of(service, &upload).await?.unwrap_or(0);
                    if conflicts > CONFLICTS_MAX {
                        let text = format!("upload `{bucket}/{}`: somebody else writes to it", entry.name);
                        return Err(ActionError::unchanged(text));
                    }
                }
            }
        }
        at = end;
        let message = format!("{bucket}/{}", entry.name);
        ctx.progress.report(Progress { done: at, total: Some(entry.size), unit: "bytes", message });
    }
    Ok(())
}

fn ask<'a>(method: Method, path: &'a [&'a str]) -> Result<Ask<'a>, ActionError> {
    let mut ask = Ask::new(method, path);
    ask.headers.push(header("tus-resumable", PROTOCOL)?);
    ask.headers.push(header("x-upsert", "true")?);
    Ok(ask)
}

async fn create(service: &Service<'_>, bucket: &str, entry: &Entry) -> Result<String, ActionError> {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    let mut fields = vec![
        format!("bucketName {}", encode(bucket)),
        format!("objectName {}", encode(&entry.name)),
        format!("contentType {}", encode(entry.content_type())),
    ];
    // The service takes seconds and nothing else here; anything else becomes `no-cache`.
    if let Some(seconds) = entry.cache_control.as_deref().and_then(|text| text.strip_prefix("max-age=")) {
        fields.push(format!("cacheControl {}", encode(seconds)));
    }
    if let Some(metadata) = entry.metadata_text() {
        fields.push(format!("metadata {}", encode(&metadata)));
    }
    let mut ask = ask(Method::POST, &["upload", "resumable"])?;
    ask.headers.push(header("upload-length", &entry.size.to_string())?);
    ask.headers.push(header("upload-metadata", &fields.join(","))?);
    let said = service.call(&format!("begin to upload `{bucket}/{}`", entry.name), &ask).await?;
    let place = said.header(&reqwest::header::LOCATION).unwrap_or_default();
    // The key goes to the address that the environment names, whatever host this one has.
    let upload = place.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_=".contains(c);
    if upload.is_empty() || upload.len() > 4096 || !upload.chars().all(fits) {
        return Err(ActionError::refused(format!(
            "begin to upload `{bucket}/{}`: the answer names no upload",
            entry.name
        )));
    }
    Ok(upload.to_owned())
}

fn offset(said: &Said) -> Option<u64> {
    said.header(&HeaderName::from_static("upload-offset"))?.parse().ok()
}

/// How far an upload came; none when the service has forgotten it.
async fn offset_of(service: &Service<'_>, upload: &str) -> Result<Option<u64>, ActionError> {
    let path = ["upload", "resumable", upload];
    let ask = Ask { accept: &[403, 404, 410], ..ask(Method::HEAD, &path)? };
    let said = service.call("ask how far an upload came", &ask).await?;
    Ok(if said.status == StatusCode::OK.as_u16() { offset(&said) } else { None })
}

/// Sends a chunk; the new offset, or none when the service is at another one.
async fn append(
    service: &Service<'_>,
    upload: &str,
    at: u64,
    chunk: &[u8],
) -> Result<Option<u64>, ActionError> {
    let path = ["upload", "resumable", upload];
    let mut ask = Ask { body: Some(chunk), accept: &[409], ..ask(Method::PATCH, &path)? };
    ask.headers.push(header("content-type", "application/offset+octet-stream")?);
    ask.headers.push(header("upload-offset", &at.to_string())?);
    let said = service.call("send a chunk", &ask).await?;
    Ok(if said.status == 409 { None } else { offset(&said) })
}

/// Throws an unfinished upload away.
async fn discard(service: &Service<'_>, upload: &str) -> Result<(), ActionError> {
    let path = ["upload", "resumable", upload];
    let ask = Ask { accept: &[404, 410], ..ask(Method::DELETE, &path)? };
    service.call("throw an upload away", &ask).await.map(drop)
}
