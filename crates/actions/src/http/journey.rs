//! `http.journey`: goes through an application as a person would, one request after the other; each may use what
//! earlier answers gave, such as a token. What was taken from an answer stays in memory: it is in no output and in no
//! error.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview, Progress};
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::answer::{escape, retry_after};
use super::check::{CheckResult, Expect, at, chain};
use super::client::{Answer, Request, SendError, send};
use crate::typed::{About, Done, Typed};

/// Requests in one step: a longer way belongs into two.
const REQUESTS_MAX: usize = 50;
/// Largest body that is looked into.
const BODY_BYTES_MAX: usize = 4 << 20;
/// One request's deadline.
const DEADLINE: Duration = Duration::from_secs(30);
/// A value taken from an answer is hidden in errors when it is at least so long; a shorter one is no secret.
const HIDDEN_CHARS_MIN: usize = 8;

/// Parameters of `http.journey`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The way, at least one request. The first that does not get what it expects ends it.
    #[schemars(length(min = 1, max = 50))]
    pub requests: Vec<Leg>,
    /// Whether the step fails when a request does not get what it expects. `false` leaves the judgement to a condition
    /// on `failed`.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub fail: bool,
}

fn yes() -> bool {
    true
}

/// One request of the way. `${name}` in its URL, header values and texts of its body stands for what was captured
/// before under that name. A URL that is `${name}` as a whole is one that an answer gave, such as a signed URL; it is
/// asked without headers and secrets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Leg {
    /// How the report names it; method and URL without its query when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// GET, HEAD, POST, PUT, PATCH or DELETE. What changes something carries an `Idempotency-Key` header, the same at
    /// each repeat, by which the application does it once.
    #[serde(default)]
    pub method: Verb,
    /// Absolute URL, http or https.
    pub url: String,
    /// Request headers; a value may be or hold a secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// Name of a captured value that is sent as `Authorization: Bearer VALUE`.
    #[serde(default)]
    pub bearer: Option<String>,
    /// JSON body.
    #[serde(default)]
    pub json: Option<Value>,
    /// Fields of the JSON body whose values are secrets, added to `json`: `{ password: "{{ secrets.smoke_password }}" }`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretText>,
    /// What the answer must look like.
    #[serde(default)]
    pub expect: Expect,
    /// What later requests use of the answer: a name, and the place in the JSON body (`access_token`, `pack.0.slug`). A
    /// place that is missing fails the request.
    #[serde(default)]
    pub capture: BTreeMap<String, String>,
}

/// HTTP methods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Reads.
    #[default]
    Get,
    /// Reads status and headers.
    Head,
    /// Creates or does.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }

    fn reads(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// Outputs of `http.journey`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Requests that got what they expected.
    pub passed: u32,
    /// Requests that did not, and those after them, which were not sent.
    pub failed: u32,
    /// Each request, in order.
    pub results: Vec<CheckResult>,
}

/// The action `http.journey`.
pub struct Journey;

impl Typed for Journey {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        permissions: &["an account of the application that nobody else uses"],
        ..About::new(
            "http.journey",
            "Goes through an application as a person would, and compares each answer.",
            Effect::Keyed,
            r#"id: member
uses: http.journey
tags: [validate]
with:
  requests:
    - name: sign in
      method: POST
      url: "{{ vars.app_url }}/api/auth/sign-in"
      json: { email: "{{ vars.smoke_email }}" }
      secrets: { password: "{{ secrets.smoke_password }}" }
      capture: { token: access_token }
    - name: load the profile
      url: "{{ vars.app_url }}/api/me"
      bearer: token
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let lines = params.requests.iter().map(|leg| format!("asks: {}", label(leg))).collect();
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let total = params.requests.len();
        if total == 0 || total > REQUESTS_MAX {
            let text = format!("go a way of {total} requests: 1 to {REQUESTS_MAX} are possible");
            return Err(ActionError::refused(text));
        }
        let mut way = Way { ctx, captured: BTreeMap::new(), hidden: Vec::new() };
        let mut results: Vec<CheckResult> = Vec::with_capacity(total);
        let mut broken = false;
        for (number, leg) in params.requests.iter().enumerate() {
            if ctx.stop.requested() {
                return Err(ActionError::unchanged("go on: the run was asked to stop").code("stopped"));
            }
            let result = if broken { left_out(leg) } else { way.go(number, leg).await? };
            broken = broken || !result.passed;
            let done = u64::try_from(number + 1).unwrap_or(u64::MAX);
            let message = result.name.clone();
            results.push(result);
            ctx.progress.report(Progress {
                done,
                total: u64::try_from(total).ok(),
                unit: "requests",
                message,
            });
        }
        judge(params.fail, results)
    }
}

fn judge(fail: bool, results: Vec<CheckResult>) -> Result<Done<Outputs>, ActionError> {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let passed = results.iter().filter(|result| result.passed).count();
    let (all, first) = (results.len(), results.iter().find(|result| !result.passed));
    if let Some(first) = first.filter(|_| fail) {
        let problem = first.problem.as_deref().unwrap_or("failed");
        let text =
            format!("go the whole way, {passed} of {all} requests went well; {}: {problem}", first.name);
        return Err(ActionError::unchanged(text).code("check-failed"));
    }
    let summary = format!("{passed} of {all} requests went well");
    Ok(Done::new(Outputs { passed: count(passed), failed: count(all - passed), results }, summary))
}

fn label(leg: &Leg) -> String {
    match &leg.name {
        Some(name) => escape(name, 100),
        None => {
            let bare = leg.url.split(['?', '#']).next().unwrap_or_default();
            escape(&format!("{} {bare}", leg.method.method()), 200)
        }
    }
}

fn left_out(leg: &Leg) -> CheckResult {
    let problem = Some("not sent: one before it went wrong".to_owned());
    CheckResult { name: label(leg), passed: false, status: None, took_ms: 0, tries: 0, problem }
}

/// The way so far.
struct Way<'a> {
    ctx: &'a Context,
    captured: BTreeMap<String, String>,
    hidden: Vec<Revealed>,
}

impl Way<'_> {
    async fn go(&mut self, number: usize, leg: &Leg) -> Result<CheckResult, ActionError> {
        let name = label(leg);
        let body = self.body(&name, leg)?;
        let request = Request {
            method: leg.method.method(),
            url: self.url(&name, leg)?,
            headers: self.headers(&name, number, leg, body.is_some())?,
            body: body.as_deref(),
            deadline: DEADLINE,
            bytes_max: BODY_BYTES_MAX,
        };
        let begun = Instant::now();
        let answer = send(&request).await;
        let took = begun.elapsed();
        let (status, problem) = match answer {
            Ok(answer) => {
                self.in_a_hurry(&name, leg, &answer)?;
                let problem = leg.expect.problem(&answer, took).or_else(|| self.take(leg, &answer.body));
                (Some(answer.status), problem)
            }
            Err(error) => {
                let told = self.clean(&format!("could not {}", chain(&error)));
                if matches!(error, SendError::Lost { .. }) && !leg.method.reads() {
                    let text = format!("ask {name}: the request was sent and its answer was lost");
                    return Err(ActionError::unknown(text).because(told));
                }
                (None, Some(told))
            }
        };
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let problem = problem.map(|problem| self.clean(&problem));
        Ok(CheckResult { name, passed: problem.is_none(), status, took_ms, tries: 1, problem })
    }

    /// A remote that asks for time gets it; that is no verdict about the application.
    fn in_a_hurry(&self, name: &str, leg: &Leg, answer: &Answer) -> Result<(), ActionError> {
        let wait = retry_after(&answer.headers, &Value::Null, Timestamp::now());
        let asks =
            answer.status == 429 || (answer.status == 503 && answer.headers.contains_key("retry-after"));
        if !asks || leg.expect.status == answer.status {
            return Ok(());
        }
        let text = format!("ask {name}: it answered {}", answer.status);
        Err(ActionError::new(text, Aftermath::Unchanged { retry_after: wait }).code("rate-limited"))
    }

    fn url(&self, name: &str, leg: &Leg) -> Result<Url, ActionError> {
        let refuse = |why: &str| ActionError::refused(format!("ask {name}: {why}"));
        let is_given = leg.url.strip_prefix("${").and_then(|rest| rest.find('}'))
            == Some(leg.url.len().saturating_sub(3));
        if is_given && !(leg.headers.is_empty() && leg.bearer.is_none() && leg.secrets.is_empty()) {
            return Err(refuse("what an answer gave as a URL is asked without headers and secrets only"));
        }
        let text = self.fill(name, &leg.url, if is_given { str::to_owned } else { percent_encoded })?;
        let url = Url::parse(&text).map_err(|_| refuse("its URL cannot be read"))?;
        match url.scheme() {
            "http" | "https" => Ok(url),
            _ => Err(refuse("its URL is neither http nor https")),
        }
    }

    fn headers(
        &mut self,
        name: &str,
        number: usize,
        leg: &Leg,
        has_body: bool,
    ) -> Result<HeaderMap, ActionError> {
        let refuse = |why: &str| ActionError::refused(format!("ask {name}: {why}"));
        let mut headers = HeaderMap::new();
        if has_body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if !leg.method.reads() {
            let digest = Sha256::digest(format!("{}/{number}", self.ctx.key));
            let key = HeaderValue::try_from(hex::encode(&digest[..16]));
            headers.insert("idempotency-key", key.map_err(|_| refuse("its key cannot be sent"))?);
        }
        if let Some(token) = &leg.bearer {
            let value = self.fill(name, &format!("Bearer ${{{token}}}"), str::to_owned)?;
            let mut value = HeaderValue::try_from(value).map_err(|_| refuse("its token cannot be sent"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        for (key, text) in &leg.headers {
            let value = self.reveal(name, text)?;
            let key =
                HeaderName::try_from(key.as_str()).map_err(|_| refuse("a header name is not allowed"))?;
            let mut value =
                HeaderValue::try_from(value).map_err(|_| refuse("a header value is not allowed"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        Ok(headers)
    }

    fn body(&mut self, name: &str, leg: &Leg) -> Result<Option<Vec<u8>>, ActionError> {
        if leg.json.is_none() && leg.secrets.is_empty() {
            return Ok(None);
        }
        let mut body = leg.json.clone().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        self.fill_json(name, &mut body)?;
        for (key, text) in &leg.secrets {
            let value = self.reveal(name, text)?;
            let Some(fields) = body.as_object_mut() else {
                let text = format!("ask {name}: `secrets` adds fields, and `json` is not a map");
                return Err(ActionError::refused(text));
            };
            fields.insert(key.clone(), Value::String(value));
        }
        Ok(Some(body.to_string().into_bytes()))
    }

    /// The value of a text with secrets and captured values in it; hidden from now on.
    fn reveal(&mut self, name: &str, text: &SecretText) -> Result<String, ActionError> {
        let clear = self.ctx.secrets.reveal(text)?;
        let filled = self.fill(name, clear.expose(), str::to_owned)?;
        if clear.expose().chars().count() >= HIDDEN_CHARS_MIN {
            self.hidden.push(clear);
        }
        Ok(filled)
    }

    fn fill_json(&self, name: &str, value: &mut Value) -> Result<(), ActionError> {
        match value {
            Value::String(text) => *text = self.fill(name, text, str::to_owned)?,
            Value::Array(items) => {
                for item in items {
                    self.fill_json(name, item)?;
                }
            }
            Value::Object(fields) => {
                for field in fields.values_mut() {
                    self.fill_json(name, field)?;
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(())
    }

    /// Puts captured values in the places of `${name}`. What they hold is not looked into again.
    fn fill(&self, name: &str, text: &str, written: impl Fn(&str) -> String) -> Result<String, ActionError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let after = &rest[start + 2..];
            let Some(end) = after.find('}') else { break };
            let wanted = &after[..end];
            let Some(value) = self.captured.get(wanted) else {
                let text = format!("ask {name}: nothing was captured as `{}`", escape(wanted, 60));
                return Err(
                    ActionError::refused(text).hint("`capture` of an earlier request gives names to values.")
                );
            };
            filled.push_str(&rest[..start]);
            filled.push_str(&written(value));
            rest = &after[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Takes from the answer what later requests use; says what is missing.
    fn take(&mut self, leg: &Leg, body: &[u8]) -> Option<String> {
        if leg.capture.is_empty() {
            return None;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Some("the body is not JSON".to_owned());
        };
        for (name, place) in &leg.capture {
            let value = match at(&body, place) {
                None | Some(Value::Null) => return Some(format!("`{place}` is missing")),
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
            };
            if value.chars().count() >= HIDDEN_CHARS_MIN {
                self.hidden.push(Revealed::new(value.as_str()));
            }
            self.captured.insert(name.clone(), value);
        }
        None
    }

    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.hidden.iter().map(Revealed::expose) {
            text = text.replace(secret, "•••");
        }
        escape(&text, 300)
    }
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
