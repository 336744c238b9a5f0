//! Sending one request whose service nobody here knows. Says what the world looks like afterwards; decides
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Aftermath, Context};
use runbook_core::secret::{Revealed, SecretText};
use serde_json::Value;

use super::super::answer;
use super::super::client::{Request, SendError, send};

/// Largest answer that is read at all.
const BYTES_MAX: usize = 4 << 20;
/// As much of it as becomes an output.
const OUTPUT_BYTES_MAX: usize = 64 << 10;

/// What to send, and how to judge the answer.
pub(crate) struct Asking<'a> {
    /// Follows "could not": `send POST`, `run the job`.
    pub(crate) what: String,
    pub(crate) method: Method,
    pub(crate) url: &'a SecretText,
    pub(crate) headers: &'a BTreeMap<String, SecretText>,
    /// Goes into `Authorization: Bearer`.
    pub(crate) bearer: Option<&'a SecretText>,
    /// Goes into `Idempotency-Key`.
    pub(crate) key: Option<&'a str>,
    pub(crate) body: Option<&'a SecretText>,
    pub(crate) is_json: bool,
    /// Statuses that are success; empty: 200 to 299.
    pub(crate) expect: &'a [u16],
    pub(crate) deadline: Duration,
    /// Twice is once.
    pub(crate) repeatable: bool,
}

/// An answer that was expected.
pub(crate) struct Answered {
    pub(crate) status: u16,
    /// Cut.
    pub(crate) body: String,
    /// Null where it is none.
    pub(crate) json: Value,
}

/// Sends it once.
pub(crate) async fn ask(ctx: &Context, asking: &Asking<'_>) -> Result<Answered, ActionError> {
    let prepared = Prepared::new(ctx, asking)?;
    let request = Request {
        method: asking.method.clone(),
        url: prepared.url.clone(),
        headers: prepared.headers.clone(),
        body: prepared.body.as_ref().map(|body| body.expose().as_bytes()),
        deadline: asking.deadline,
        bytes_max: BYTES_MAX,
    };
    let reply = send(&request).await.map_err(|error| prepared.unanswered(asking, error))?;
    let expected = if asking.expect.is_empty() {
        (200..300).contains(&reply.status)
    } else {
        asking.expect.contains(&reply.status)
    };
    if !expected {
        let json = serde_json::from_slice(&reply.body).unwrap_or(Value::Null);
        let wait = answer::retry_after(&reply.headers, &json, Timestamp::now());
        let said = answer::message(&reply.body, &prepared.hidden);
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        // A success that was not expected has acted.
        let aftermath = if reply.status < 400 && !asking.repeatable {
            Aftermath::Unknown
        } else {
            answer::aftermath(reply.status, wait, asking.repeatable)
        };
        let text = format!("{} at {}: it answered {}{said}", asking.what, prepared.host, reply.status);
        return Err(ActionError::new(text, aftermath).code("not-expected"));
    }
    Ok(prepared.answered(reply.status, &reply.body))
}

struct Prepared {
    url: Url,
    host: String,
    headers: HeaderMap,
    body: Option<Revealed>,
    /// What no error and no output may repeat.
    hidden: Vec<Revealed>,
}

impl Prepared {
    fn new(ctx: &Context, asking: &Asking<'_>) -> Result<Self, ActionError> {
        let refuse = |why: &str| ActionError::refused(format!("{}: {why}", asking.what));
        let clear = ctx.secrets.reveal(asking.url)?;
        let url = Url::parse(clear.expose()).map_err(|_| refuse("its URL cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its URL is neither http nor https"));
        }
        let host = url.host_str().unwrap_or("(no host)").to_owned();
        let mut hidden = Vec::new();
        if runbook_core::secret::holds_marker(asking.url.marked()) {
            hidden.push(clear);
        }
        let mut headers = HeaderMap::new();
        if asking.is_json {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if let Some(key) = asking.key {
            let value = HeaderValue::try_from(key).map_err(|_| refuse("its key fits no header"))?;
            headers.insert("idempotency-key", value);
        }
        if let Some(bearer) = asking.bearer {
            let clear = ctx.secrets.reveal(bearer)?;
            let mut value = HeaderValue::try_from(format!("Bearer {}", clear.expose()))
                .map_err(|_| refuse("its secret holds characters that no header can carry"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
            hidden.push(clear);
        }
        for (name, text) in asking.headers {
            let clear = ctx.secrets.reveal(text)?;
            let name =
                HeaderName::try_from(name.as_str()).map_err(|_| refuse("a header name is not allowed"))?;
            let mut value =
                HeaderValue::try_from(clear.expose()).map_err(|_| refuse("a header value is not allowed"))?;
            if runbook_core::secret::holds_marker(text.marked()) {
                value.set_sensitive(true);
                hidden.push(clear);
            }
            headers.insert(name, value);
        }
        let body = asking.body.map(|body| ctx.secrets.reveal(body)).transpose()?;
        Ok(Self { url, host, headers, body, hidden })
    }

    fn unanswered(&self, asking: &Asking<'_>, error: SendError) -> ActionError {
        let (why, aftermath) = match &error {
            SendError::NotSent { .. } => ("no answer", Aftermath::Unchanged { retry_after: None }),
            SendError::Setup(_) => ("it was not sent", Aftermath::Refused),
            SendError::TooLarge { .. } if asking.repeatable => ("too much of an answer", Aftermath::Refused),
            _ if asking.repeatable => ("no answer", Aftermath::Unchanged { retry_after: None }),
            _ => ("the request was sent and its answer was lost", Aftermath::Unknown),
        };
        ActionError::new(format!("{} at {}: {why}", asking.what, self.host), aftermath).because(error)
    }

    fn answered(&self, status: u16, bytes: &[u8]) -> Answered {
        let mut body = String::from_utf8_lossy(bytes).into_owned();
        for secret in self.hidden.iter().map(Revealed::expose).filter(|secret| secret.len() > 3) {
            body = body.replace(secret, "•••");
        }
        let whole = body.len() <= OUTPUT_BYTES_MAX;
        if !whole {
            let cut = (0..=OUTPUT_BYTES_MAX).rev().find(|&at| body.is_char_boundary(at)).unwrap_or(0);
            body.truncate(cut);
        }
        let json = if whole { serde_json::from_str(&body).unwrap_or(Value::Null) } else { Value::Null };
        Answered { status, body, json }
    }
}
