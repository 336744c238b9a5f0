//! A call to a JSON API: built from segments, authorised, classified. Knows no service.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Aftermath};
use runbook_core::secret::Revealed;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer;
use super::client::{Answer, Request, SendError, send};

/// One call's deadline, the whole of it. The slowest calls (create a project, start a deployment) only
/// start something and are answered within seconds.
const DEADLINE: Duration = Duration::from_secs(30);
/// Largest JSON answer: a list of thousands of projects or variables fits many times.
const JSON_BYTES_MAX: usize = 16 << 20;

/// One system's API: where it is and who calls.
pub(crate) struct Api {
    system: &'static str,
    base: Url,
    token: Option<Revealed>,
    /// `Bearer` or `Basic`.
    scheme: &'static str,
    query: Vec<(String, String)>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Api {
    /// An API at a base URL. `system` is how errors name it: `Supabase`.
    pub(crate) fn new(
        system: &'static str,
        base: &str,
        token: Option<Revealed>,
    ) -> Result<Self, ActionError> {
        let refuse = |why: String| ActionError::refused(format!("use the address of {system}: {why}"));
        let base = Url::parse(base).map_err(|error| refuse(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(refuse(format!("`{}` is neither http nor https", base.scheme())));
        }
        Ok(Self { system, base, token, scheme: "Bearer", query: Vec::new(), headers: Vec::new() })
    }

    /// Sends user and password, joined by a colon, instead of a bearer token.
    pub(crate) fn with_basic(mut self, pair: &str) -> Self {
        use base64::Engine as _;
        self.token = Some(Revealed::new(base64::engine::general_purpose::STANDARD.encode(pair)));
        self.scheme = "Basic";
        self
    }

    /// Adds a query pair to every call.
    pub(crate) fn with_query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a header to every call; `accept` replaces the usual one. Names in lower case.
    pub(crate) fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    /// A read. It may be repeated.
    pub(crate) fn get(&self, what: impl Into<String>, path: &[&str]) -> Call<'_> {
        self.call(Method::GET, what.into(), path, true)
    }

    /// A write that moves the target to a named state: twice is once.
    pub(crate) fn put(&self, method: Method, what: impl Into<String>, path: &[&str]) -> Call<'_> {
        self.call(method, what.into(), path, true)
    }

    /// A write that must not be sent twice.
    pub(crate) fn post_once(&self, what: impl Into<String>, path: &[&str]) -> Call<'_> {
        self.call(Method::POST, what.into(), path, false)
    }

    fn call(&self, method: Method, what: String, path: &[&str], repeatable: bool) -> Call<'_> {
        let mut url = self.base.clone();
        // A URL with the scheme http or https always has segments.
        if !path.is_empty()
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(path);
        }
        let mut call = Call {
            api: self,
            method,
            url,
            what,
            body: None,
            repeatable,
            accepted: &[],
            hidden: Vec::new(),
            extra: Vec::new(),
            content_type: "application/json",
            reads: Reads::Json,
        };
        for (name, value) in &self.query {
            call = call.query(name, value);
        }
        call
    }
}

/// What an answer's body is taken for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reads {
    Json,
    Text,
}

/// One call, being built.
#[must_use]
pub(crate) struct Call<'a> {
    api: &'a Api,
    method: Method,
    url: Url,
    /// Follows "could not": `list the projects`.
    what: String,
    body: Option<Vec<u8>>,
    repeatable: bool,
    accepted: &'static [u16],
    hidden: Vec<Revealed>,
    extra: Vec<(&'static str, String)>,
    content_type: &'static str,
    reads: Reads,
}

impl Call<'_> {
    /// Adds a query pair.
    pub(crate) fn query(mut self, name: &str, value: &str) -> Self {
        self.url.query_pairs_mut().append_pair(name, value);
        self
    }

    /// Sets the JSON body.
    pub(crate) fn json(mut self, body: &Value) -> Self {
        self.body = Some(body.to_string().into_bytes());
        self
    }

    /// Sets a JSON body byte by byte, for what was signed as it stands.
    pub(crate) fn json_text(mut self, body: String) -> Self {
        self.body = Some(body.into_bytes());
        self
    }

    /// Sets a form as the body, written as it is sent.
    pub(crate) fn form(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self.content_type = "application/x-www-form-urlencoded";
        self
    }

    /// Adds a header; its value is no secret.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.extra.push((name, value.into()));
        self
    }

    /// Statuses beside 2xx that are answers, not errors.
    pub(crate) fn accept(mut self, statuses: &'static [u16]) -> Self {
        self.accepted = statuses;
        self
    }

    /// A value in the body that no error may repeat.
    pub(crate) fn hide(mut self, value: &str) -> Self {
        self.hidden.push(Revealed::new(value));
        self
    }

    /// Takes any body for an answer, JSON or not, as text.
    pub(crate) fn text(mut self) -> Self {
        self.reads = Reads::Text;
        self
    }

    /// Sends it. A read is tried three times over about a second before its failure is told; a write once.
    pub(crate) async fn send(self) -> Result<Reply, ActionError> {
        if self.method != Method::GET {
            return self.once().await;
        }
        let pace = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(2)
            .with_jitter();
        (|| self.once())
            .retry(pace)
            .when(|error| error.aftermath == Aftermath::Unchanged { retry_after: None })
            .await
    }

    fn headers(&self) -> Result<HeaderMap, ActionError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        for (name, value) in &self.extra {
            let value = HeaderValue::from_str(value).map_err(|_| {
                self.error(format!("`{name}` holds characters that no header can carry"), Aftermath::Refused)
            })?;
            headers.insert(*name, value);
        }
        for (name, value) in &self.api.headers {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        if let Some(token) = &self.api.token {
            let mut value = HeaderValue::try_from(format!("{} {}", self.api.scheme, token.expose()))
                .map_err(|_| {
                    self.error("its token holds characters that no header can carry", Aftermath::Refused)
                })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    fn error(&self, why: impl std::fmt::Display, aftermath: Aftermath) -> ActionError {
        ActionError::new(format!("{} at {}: {why}", self.what, self.api.system), aftermath)
    }

    async fn once(&self) -> Result<Reply, ActionError> {
        let request = Request {
            method: self.method.clone(),
            url: self.url.clone(),
            headers: self.headers()?,
            body: self.body.as_deref(),
            deadline: DEADLINE,
            bytes_max: JSON_BYTES_MAX,
        };
        let answer = send(&request).await.map_err(|error| self.not_answered(error))?;
        if !(200..300).contains(&answer.status) && !self.accepted.contains(&answer.status) {
            return Err(self.turned_away(&answer));
        }
        let body = if answer.body.is_empty() {
            Value::Null
        } else if self.reads == Reads::Text {
            Value::String(String::from_utf8_lossy(&answer.body).into_owned())
        } else {
            match serde_json::from_slice(&answer.body) {
                Ok(body) => body,
                // An accepted error page need not be JSON; its status is all that is asked.
                Err(_) if answer.status >= 400 => Value::Null,
                Err(error) => return Err(self.misread(error)),
            }
        };
        Ok(Reply {
            status: answer.status,
            body,
            what: format!("{} at {}", self.what, self.api.system),
            repeatable: self.repeatable,
        })
    }

    fn not_answered(&self, error: SendError) -> ActionError {
        let aftermath = match &error {
            SendError::NotSent { .. } => Aftermath::Unchanged { retry_after: None },
            SendError::Lost { .. } if self.repeatable => Aftermath::Unchanged { retry_after: None },
            SendError::TooLarge { .. } if self.repeatable => Aftermath::Refused,
            SendError::Setup(_) => Aftermath::Refused,
            SendError::Lost { .. } | SendError::TooLarge { .. } => Aftermath::Unknown,
        };
        let why = match aftermath {
            Aftermath::Unknown => "the request was sent and its answer was lost",
            _ => "no answer",
        };
        self.error(why, aftermath).because(error)
    }

    fn turned_away(&self, answer: &Answer) -> ActionError {
        let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
        let wait = answer::retry_after(&answer.headers, &body, Timestamp::now());
        let hidden: Vec<Revealed> =
            self.hidden.iter().chain(&self.api.token).map(|r| Revealed::new(r.expose())).collect();
        let said = answer::message(&answer.body, &hidden);
        let why = if said.is_empty() {
            format!("it answered {}", answer.status)
        } else {
            format!("it answered {}: {said}", answer.status)
        };
        let error = self.error(why, answer::aftermath(answer.status, wait, self.repeatable));
        match answer.status {
            401 | 403 => error.code("not-permitted").hint(format!(
                "Look at the {} token of this environment: it is wrong, has ended, or lacks a permission.",
                self.api.system
            )),
            429 => error.code("rate-limited"),
            _ => error,
        }
    }

    fn misread(&self, source: serde_json::Error) -> ActionError {
        let aftermath = if self.repeatable { Aftermath::Refused } else { Aftermath::Unknown };
        self.error("the answer is not JSON", aftermath).because(source)
    }
}

/// An answer that was accepted.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status.
    pub(crate) status: u16,
    /// The JSON body; null when there was none.
    pub(crate) body: Value,
    what: String,
    repeatable: bool,
}

impl Reply {
    /// The body as a type. Another shape than documented is refused after a read, and leaves a write in
    /// doubt.
    pub(crate) fn read<T: DeserializeOwned>(self) -> Result<T, ActionError> {
        serde_json::from_value(self.body).map_err(|error| {
            let aftermath = if self.repeatable { Aftermath::Refused } else { Aftermath::Unknown };
            // serde quotes values of the wrong type, and the value may be a key: only a missing field's
            // name is repeated.
            let said = error.to_string();
            let why =
                if said.starts_with("missing field") { said } else { "a value has another type".into() };
            ActionError::new(
                format!("{}: the answer has another shape than documented: {why}", self.what),
                aftermath,
            )
        })
    }
}
