//! A project's Storage over HTTP. Every call here may be repeated, and is, within reason. The service says most
//! errors with status 400 and the real one in the body; what its HEAD says is never asked for.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, RANGE};
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Aftermath, Context};
use runbook_core::secret::Revealed;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::manifest::{Entry, Head, check_name};
use super::pace::Pace;
use crate::http::{Answer, Request, SendError, aftermath, message, pause, retry_after, send};
use crate::supabase::{project_ref, project_url, service_key};

/// Uploads above this are resumable, in chunks of exactly this size: the service takes no other.
pub(super) const CHUNK: u64 = 6 * 1024 * 1024;
/// A chunk on a slow line.
const DEADLINE: Duration = Duration::from_secs(180);
/// Tries of one request.
const TRIES: u32 = 7;
/// First pause after a failure, doubled each time.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Rows in one page of a list.
const PAGE: usize = 1000;
/// More rows than this in one bucket do not fit into memory together with a manifest.
const ROWS_MAX: usize = 500_000;
/// A page of rows with their metadata.
const JSON_BYTES_MAX: usize = 16 << 20;

/// One project's Storage, and the key to it.
pub(super) struct Service<'a> {
    pub(super) ctx: &'a Context,
    pub(super) project: String,
    pub(super) pace: Pace,
    base: Url,
    key: Revealed,
}

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    /// Segments before the object's name.
    pub(super) path: &'a [&'a str],
    /// An object's name: each part becomes a segment.
    pub(super) name: Option<&'a str>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<&'a [u8]>,
    pub(super) bytes_max: usize,
    /// Real statuses that are answers, not errors.
    pub(super) accept: &'static [u16],
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, path: &'a [&'a str]) -> Self {
        let bytes_max = JSON_BYTES_MAX;
        Self { method, path, name: None, headers: Vec::new(), body: None, bytes_max, accept: &[] }
    }
}

/// An answer with its real status.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Said {
    pub(super) fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, ActionError> {
        // serde's words may quote what came; where it went wrong is enough.
        serde_json::from_slice(&self.body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            ActionError::refused(format!(
                "{what} of Supabase Storage: the answer has another shape than documented (at {line}:{column})"
            ))
        })
    }
}

/// A row of a listing. It says nothing about bytes.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Row {
    pub(super) name: String,
    #[serde(default)]
    pub(super) updated_at: Option<Timestamp>,
    #[serde(default)]
    pub(super) metadata: Option<RowMetadata>,
}

/// What the row says of its bytes.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RowMetadata {
    #[serde(default)]
    pub(super) size: Option<u64>,
    #[serde(default, rename = "eTag")]
    pub(super) etag: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default, rename = "hasNext")]
    has_next: bool,
    #[serde(default, rename = "nextCursor")]
    next_cursor: Option<String>,
    objects: Vec<Row>,
}

/// A bucket's settings.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Bucket {
    pub(super) name: String,
    #[serde(default)]
    pub(super) public: bool,
    #[serde(default)]
    pub(super) file_size_limit: Option<u64>,
    #[serde(default)]
    pub(super) allowed_mime_types: Option<Vec<String>>,
}

/// What `GET /object/info/…` says of a row.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Info {
    #[serde(default)]
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) content_type: Option<String>,
    #[serde(default)]
    pub(super) cache_control: Option<String>,
    #[serde(default)]
    pub(super) metadata: Option<serde_json::Map<String, Value>>,
    #[serde(default)]
    pub(super) created_at: Option<Timestamp>,
}

/// What a ranged GET found of the bytes.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) size: u64,
    pub(super) etag: Option<String>,
}

pub(super) fn header(name: &'static str, value: &str) -> Result<(HeaderName, HeaderValue), ActionError> {
    let value = HeaderValue::from_str(value).map_err(|_| {
        ActionError::refused(format!("send `{name}`: it holds characters that no header can"))
    })?;
    Ok((HeaderName::from_static(name), value))
}

impl<'a> Service<'a> {
    /// The Storage of the project that was named, or of the environment's live one.
    pub(super) async fn open(ctx: &'a Context, project: Option<String>) -> Result<Self, ActionError> {
        let project = project_ref(ctx, project)?;
        let base = format!("{}/storage/v1", project_url(ctx, &project)?);
        let base = Url::parse(&base)
            .map_err(|error| ActionError::refused("use the address of Supabase Storage").because(error))?;
        let key = service_key(ctx, &project).await?;
        Ok(Self { ctx, project, pace: Pace::new(), base, key })
    }

    fn url(&self, ask: &Ask<'_>) -> Url {
        let mut url = self.base.clone();
        // A URL with the scheme http or https always has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(ask.path);
            segments.extend(ask.name.into_iter().flat_map(|name| name.split('/')));
        }
        url
    }

    fn headers(&self, ask: &Ask<'_>) -> Result<HeaderMap, ActionError> {
        let mut headers = HeaderMap::new();
        let secret = |text: String| {
            let mut value = HeaderValue::try_from(text).map_err(|_| {
                ActionError::refused("use the service key: it holds characters that no header can carry")
            })?;
            value.set_sensitive(true);
            Ok::<_, ActionError>(value)
        };
        headers.insert("apikey", secret(self.key.expose().to_owned())?);
        headers.insert("authorization", secret(format!("Bearer {}", self.key.expose()))?);
        headers.extend(ask.headers.iter().cloned());
        Ok(headers)
    }

    /// Sends it until it is answered, with pauses. `what` follows "could not".
    pub(super) async fn call(&self, what: &str, ask: &Ask<'_>) -> Result<Said, ActionError> {
        if let Some(name) = ask.name {
            check_name(name)?;
        }
        let (url, headers) = (self.url(ask), self.headers(ask)?);
        let mut next = PAUSE;
        let mut tries = 0;
        loop {
            while let Some(wait) = self.pace.wait() {
                pause(self.ctx, "Supabase Storage", wait).await?;
            }
            tries += 1;
            let error = match self.once(what, &url, &headers, ask).await {
                Ok(said) => return Ok(said),
                Err(error) => error,
            };
            let Aftermath::Unchanged { retry_after } = &error.aftermath else { return Err(error) };
            self.pace.refused(retry_after.unwrap_or(next).max(next));
            if tries == TRIES {
                return Err(error);
            }
            next = (next * 2).min(PAUSE_MAX);
        }
    }

    async fn once(
        &self,
        what: &str,
        url: &Url,
        headers: &HeaderMap,
        ask: &Ask<'_>,
    ) -> Result<Said, ActionError> {
        let request = Request {
            method: ask.method.clone(),
            url: url.clone(),
            headers: headers.clone(),
            body: ask.body,
            deadline: DEADLINE,
            bytes_max: ask.bytes_max,
        };
        let begun = Instant::now();
        let answer = send(&request).await.map_err(|error| {
            let aftermath = match &error {
                SendError::Setup(_) | SendError::TooLarge { .. } => Aftermath::Refused,
                SendError::NotSent { .. } | SendError::Lost { .. } => {
                    Aftermath::Unchanged { retry_after: None }
                }
            };
            ActionError::new(format!("{what} of Supabase Storage: no answer"), aftermath).because(error)
        })?;
        if ask.body.is_none_or(|body| body.len() < 64 << 10) && answer.body.len() < 64 << 10 {
            self.pace.answered(begun.elapsed());
        }
        self.judge(what, answer, ask.accept)
    }

    fn judge(&self, what: &str, answer: Answer, accept: &[u16]) -> Result<Said, ActionError> {
        let body: Value = if (200..300).contains(&answer.status) {
            Value::Null
        } else {
            serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
        };
        let in_body = body["statusCode"].as_str().and_then(|text| text.parse::<u16>().ok());
        let status = if answer.status == 400 { in_body.unwrap_or(400) } else { answer.status };
        if (200..300).contains(&status) || accept.contains(&status) {
            return Ok(Said { status, headers: answer.headers, body: answer.body });
        }
        let wait = retry_after(&answer.headers, &body, Timestamp::now());
        let said = message(&answer.body, &[Revealed::new(self.key.expose())]);
        let code = body["code"].as_str().unwrap_or_default();
        let code = if code.chars().all(|c| c.is_ascii_alphanumeric()) { code } else { "" };
        let text = format!("{what} of Supabase Storage: it answered {status} {code} ({said})");
        // A locked upload and a locked row are free a moment later.
        let aftermath = match (status, code) {
            (423, _) | (_, "ResourceLocked" | "SlowDown") => Aftermath::Unchanged { retry_after: wait },
            _ => aftermath(status, wait, true),
        };
        let error = ActionError::new(text, aftermath);
        Err(match (status, code) {
            (401 | 403, _) => error
                .code("not-permitted")
                .hint("The service key was refused: look whether the project's API keys are enabled."),
            (429, _) => error.code("rate-limited"),
            (_, "DatabaseReadOnly") => error.code("read-only").hint(
                "The project's database refuses writes (read-only). Storage needs them for its rows: lift that freeze.",
            ),
            (_, "NoSuchBucket") => error.code("no-bucket"),
            _ => error,
        })
    }

    /// All buckets.
    pub(super) async fn buckets(&self) -> Result<Vec<Bucket>, ActionError> {
        self.call("list the buckets", &Ask::new(Method::GET, &["bucket"])).await?.json("list the buckets")
    }

    /// Makes a bucket with the settings of a manifest; one that is there already is as good.
    pub(super) async fn create_bucket(&self, head: &Head) -> Result<(), ActionError> {
        let body = json!({
            "id": head.bucket, "name": head.bucket, "public": head.public, "file_size_limit": head.file_size_limit,
            "allowed_mime_types": head.allowed_mime_types,
        })
        .to_string();
        let ask = Ask {
            headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            body: Some(body.as_bytes()),
            accept: &[409],
            ..Ask::new(Method::POST, &["bucket"])
        };
        self.call(&format!("create bucket `{}`", head.bucket), &ask).await.map(drop)
    }

    /// All rows of a bucket; none when there is no such bucket.
    pub(super) async fn rows(&self, bucket: &str) -> Result<Option<Vec<Row>>, ActionError> {
        let what = format!("list bucket `{bucket}`");
        let mut rows: Vec<Row> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut body = json!({ "prefix": "", "limit": PAGE, "with_delimiter": false });
            if let Some(cursor) = &cursor {
                body["cursor"] = json!(cursor);
            }
            let body = body.to_string();
            let path = ["object", "list-v2", bucket];
            let ask = Ask {
                headers: vec![(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
                body: Some(body.as_bytes()),
                ..Ask::new(Method::POST, &path)
            };
            let page: Page = match self.call(&what, &ask).await {
                Ok(said) => said.json(&what)?,
                Err(error) if error.code == Some("no-bucket") => return Ok(None),
                Err(error) => return Err(error),
            };
            rows.extend(page.objects);
            if rows.len() > ROWS_MAX {
                return Err(ActionError::refused(format!("{what}: it holds more than {ROWS_MAX} objects")));
            }
            match page.next_cursor {
                Some(next) if page.has_next && cursor.as_ref() != Some(&next) => cursor = Some(next),
                None if !page.has_next => return Ok(Some(rows)),
                Some(_) if !page.has_next => return Ok(Some(rows)),
                _ => return Err(ActionError::refused(format!("{what}: its pages have no end"))),
            }
        }
    }

    /// What the row says; none when it is gone.
    pub(super) async fn info(&self, bucket: &str, name: &str) -> Result<Option<Info>, ActionError> {
        let what = format!("read what is known of `{bucket}/{name}`");
        let path = ["object", "info", "authenticated", bucket];
        let ask = Ask { name: Some(name), accept: &[404], ..Ask::new(Method::GET, &path) };
        let said = self.call(&what, &ask).await?;
        if said.status == 404 { Ok(None) } else { said.json(&what).map(Some) }
    }

    /// Asks for the first byte, which proves that the bytes are there; none when they are not.
    pub(super) async fn probe(&self, bucket: &str, name: &str) -> Result<Option<Found>, ActionError> {
        let path = ["object", "authenticated", bucket];
        let ask = Ask {
            name: Some(name),
            headers: vec![(RANGE, HeaderValue::from_static("bytes=0-0"))],
            bytes_max: usize::try_from(CHUNK).unwrap_or(usize::MAX),
            accept: &[404, 416],
            ..Ask::new(Method::GET, &path)
        };
        let said = self.call(&format!("read the first byte of `{bucket}/{name}`"), &ask).await?;
        let etag = said.header(&ETAG).map(str::to_owned);
        match said.status {
            404 => Ok(None),
            // An empty object has no first byte.
            416 => Ok(Some(Found { size: 0, etag: None })),
            206 => {
                let size =
                    said.header(&CONTENT_RANGE).and_then(|range| range.rsplit('/').next()?.parse().ok());
                let size = size.ok_or_else(|| {
                    ActionError::refused(format!("read the size of `{bucket}/{name}`: the answer has none"))
                })?;
                Ok(Some(Found { size, etag }))
            }
            _ => Ok(Some(Found { size: said.body.len() as u64, etag })),
        }
    }

    /// The bytes from the first to before the second position; none when they are not there.
    pub(super) async fn part(
        &self,
        (bucket, name): (&str, &str),
        (from, to): (u64, u64),
    ) -> Result<Option<Bytes>, ActionError> {
        let what = format!("read `{bucket}/{name}`");
        let path = ["object", "authenticated", bucket];
        let wanted = usize::try_from(to - from).unwrap_or(usize::MAX);
        let mut ask = Ask {
            name: Some(name),
            bytes_max: wanted.saturating_add(1),
            accept: &[404],
            ..Ask::new(Method::GET, &path)
        };
        if wanted > 0 {
            ask.headers.push(header("range", &format!("bytes={from}-{}", to - 1))?);
        }
        let said = self.call(&what, &ask).await?;
        if said.status == 404 {
            return Ok(None);
        }
        if said.body.len() == wanted && (said.status == 206 || from == 0) {
            return Ok(Some(said.body.into()));
        }
        let text = format!("{what}: asked for {wanted} bytes at {from}, got {}", said.body.len());
        Err(ActionError::unchanged(text).code("object-changed"))
    }

    /// Puts a small object there, whatever was there before. Id and date of creation of its row stay.
    pub(super) async fn upload(&self, bucket: &str, entry: &Entry, bytes: &[u8]) -> Result<(), ActionError> {
        let path = ["object", bucket];
        let mut ask = Ask { name: Some(&entry.name), body: Some(bytes), ..Ask::new(Method::POST, &path) };
        ask.headers.push(header("x-upsert", "true")?);
        ask.headers.push(header("content-type", entry.content_type())?);
        if let Some(cache_control) = &entry.cache_control {
            ask.headers.push(header("cache-control", cache_control)?);
        }
        if let Some(metadata) = entry.metadata_text() {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(metadata);
            ask.headers.push(header("x-metadata", &encoded)?);
        }
        self.call(&format!("upload `{bucket}/{}`", entry.name), &ask).await.map(drop)
    }
}
