//! The backup bucket: s3s over s3s-fs on a directory, with what s3s-fs lacks put around it.
//!
//! - s3s-fs ignores `If-Match` when it reads, so an object that changes in the middle of a download
//!   would go unnoticed: a read whose ETag differs is answered with 412 here. The body is a stream that
//!   nobody has begun to read, so nothing is lost by asking afterwards.
//! - It cannot list uploads in parts that were begun and not ended: that is done here, from its files.
//! - It fails at a key that is a folder of its directory, which a client would try again and again: AWS knows no
//!   folders, and says that there is no such key.
//! - It denies access to an upload that it does not know; AWS says that there is none.
//! - Checksums are returned only to those who ask with `x-amz-checksum-mode: ENABLED`, as AWS does.

use std::path::Path;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use jiff::Timestamp;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::error::SandboxError;
use crate::shared::Ctx;
use crate::sigv4;

mod uploads;

/// The bucket's name.
pub(crate) const BUCKET: &str = "polaris-backups";

/// The object store and the key to it.
#[derive(Clone)]
pub(crate) struct Store {
    service: S3Service,
    key_id: String,
    secret: String,
}

/// An object to be stored by the sandbox itself.
pub(crate) struct Put<'a> {
    /// Key in [`BUCKET`]; letters, digits and `/ . - _` only.
    pub(crate) key: &'a str,
    pub(crate) content_type: &'static str,
    pub(crate) length: u64,
    /// Let the store keep (and check) this sha256.
    pub(crate) sha256: Option<[u8; 32]>,
    /// User metadata.
    pub(crate) metadata: &'a [(&'static str, String)],
    pub(crate) body: Body,
}

impl Store {
    /// Opens the store on a directory and makes the bucket.
    pub(crate) fn open(root: &Path, key_id: String, secret: String) -> Result<Self, SandboxError> {
        crate::disk::private_dir(&root.join(BUCKET))?;
        let files = s3s_fs::FileSystem::new(root).map_err(|error| SandboxError::Disk {
            what: "open the object store in",
            path: root.to_owned(),
            source: std::io::Error::other(format!("{error:?}")),
        })?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(key_id.as_str(), secret.as_str()));
        Ok(Self { service: builder.build(), key_id, secret })
    }

    /// Stores an object with a signed request, like any client.
    pub(crate) async fn put(&self, put: Put<'_>) -> Result<(), SandboxError> {
        let refused = |reason: String| SandboxError::Store { key: put.key.to_owned(), reason };
        let path = format!("/{BUCKET}/{}", put.key);
        let mut headers = HeaderMap::new();
        let mut insert = |name: &'static str, value: &str| {
            HeaderValue::from_str(value).map(|value| drop(headers.insert(name, value)))
        };
        insert("host", "127.0.0.1").map_err(|e| refused(e.to_string()))?;
        insert("content-type", put.content_type).map_err(|e| refused(e.to_string()))?;
        insert("content-length", &put.length.to_string()).map_err(|e| refused(e.to_string()))?;
        if let Some(digest) = put.sha256 {
            let text = base64::engine::general_purpose::STANDARD.encode(digest);
            insert("x-amz-checksum-sha256", &text).map_err(|e| refused(e.to_string()))?;
        }
        for (name, value) in put.metadata {
            insert(name, value).map_err(|e| refused(e.to_string()))?;
        }
        sigv4::sign(&mut headers, (&self.key_id, &self.secret), ("PUT", &path), Timestamp::now())
            .map_err(|e| refused(e.to_string()))?;
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(&path)
            .body(s3s::Body::http_body_unsync(put.body))
            .map_err(|e| refused(e.to_string()))?;
        *request.headers_mut() = headers;
        let answer = self.service.call(request).await.map_err(|e| refused(format!("{e:?}")))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let status = answer.status();
        let said = axum::body::to_bytes(Body::new(answer.into_body()), 64 * 1024)
            .await
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_else(|e| e.to_string());
        Err(refused(format!("{status}: {said}")))
    }
}

/// Every request to the bucket.
pub(crate) async fn handle(State(ctx): State<Ctx>, request: Request) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let condition = request.headers().get(header::IF_MATCH).filter(|_| reads).cloned();
    let wants_checksum = request
        .headers()
        .get("x-amz-checksum-mode")
        .is_some_and(|mode| mode.as_bytes().eq_ignore_ascii_case(b"enabled"));
    let asked = request.uri().query().unwrap_or_default().to_owned();
    let path = uploads::decoded(request.uri().path());
    let answered = ctx.store.service.call(request.map(s3s::Body::http_body_unsync)).await;
    let mut response = match answered {
        Ok(response) => response.map(Body::new).into_response(),
        Err(error) => {
            tracing::error!(?error, "the object store failed");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    // Whoever asked was known to the store: it looks at the signature first.
    if response.status() == StatusCode::NOT_IMPLEMENTED && uploads::is_list(&asked) {
        return uploads::list(&ctx.layout.s3(), &asked);
    }
    if response.status() == StatusCode::FORBIDDEN && uploads::is_unknown(&ctx.layout.s3(), &asked) {
        let message = "The specified multipart upload does not exist.";
        return refusal(StatusCode::NOT_FOUND, "NoSuchUpload", message);
    }
    let path = path.trim_matches('/');
    let of_a_key = reads && path.contains('/');
    if of_a_key && response.status().is_server_error() && ctx.layout.s3().join(path).is_dir() {
        return refusal(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
    }
    if let Some(wanted) = condition
        && response.status().is_success()
        && !matches(&wanted, response.headers().get(header::ETAG))
    {
        let message = "At least one of the pre-conditions you specified did not hold";
        return refusal(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message);
    }
    if reads && !wants_checksum {
        for name in ["crc32", "crc32c", "crc64nvme", "sha1", "sha256"] {
            response.headers_mut().remove(format!("x-amz-checksum-{name}"));
        }
    }
    response
}

/// `If-Match` against an ETag: `*`, or any of a list, quoted or not.
fn matches(wanted: &HeaderValue, etag: Option<&HeaderValue>) -> bool {
    let (Ok(wanted), Some(Ok(etag))) = (wanted.to_str(), etag.map(HeaderValue::to_str)) else { return false };
    let bare = |text: &str| text.trim().trim_matches('"').to_owned();
    wanted.split(',').any(|one| one.trim() == "*" || bare(one) == bare(etag))
}

/// An error as S3 tells it.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    (status, [(header::CONTENT_TYPE, "application/xml")], text).into_response()
}
