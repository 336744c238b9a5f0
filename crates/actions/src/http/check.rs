//! `http.check`: smoke tests over HTTP. Reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use runbook_core::secret::{MaybeSecret, Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::answer::escape;
use super::client::{Answer, Request, SendError, send};
use super::poll::pause;
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Checks in one step: more belong into two steps.
const CHECKS_MAX: usize = 200;
/// Checks in flight at once.
const PARALLEL: usize = 8;
/// Largest body that is looked into.
const BODY_BYTES_MAX: usize = 4 << 20;
/// One request's deadline.
const DEADLINE: Duration = Duration::from_secs(15);
/// First and longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Parameters of `http.check`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What to ask and what to expect, at least one.
    #[schemars(length(min = 1, max = 200))]
    pub checks: Vec<Check>,
    /// How long a check may go on failing before it counts as failed; it is tried again with growing pauses.
    #[serde(default = "within")]
    #[schemars(default = "within")]
    pub within: Period,
    /// Whether the step fails when a check fails. `false` leaves the judgement to a condition on `failed`.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub fail: bool,
}

fn within() -> Period {
    Period::seconds(30)
}

fn yes() -> bool {
    true
}

/// One question.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// How the report names it; the URL without its query when left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Absolute URL, http or https.
    pub url: String,
    /// GET or HEAD; `http.journey` sends others.
    #[serde(default)]
    pub method: Verb,
    /// Request headers; a value may be or hold a secret.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, MaybeSecret>")]
    pub headers: BTreeMap<String, SecretText>,
    /// What the answer must look like.
    #[serde(default)]
    pub expect: Expect,
}

/// Methods that change nothing.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Asks for the answer with its body.
    #[default]
    Get,
    /// Asks for status and headers.
    Head,
}

/// What an answer must look like; all of it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// HTTP status. Redirects on the same host are followed first.
    pub status: u16,
    /// Values in a JSON body by place: `status`, `items.0.name`, or a JSON pointer `/a/b`.
    pub json: BTreeMap<String, Value>,
    /// Text that the body must contain.
    pub contains: Option<String>,
    /// Longest time to the whole answer, in milliseconds.
    pub max_ms: Option<u64>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { status: 200, json: BTreeMap::new(), contains: None, max_ms: None }
    }
}

/// Outputs of `http.check`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Checks that hold.
    pub passed: u32,
    /// Checks that do not.
    pub failed: u32,
    /// Each check, in the order of the parameters.
    pub results: Vec<CheckResult>,
}

/// How one check ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub passed: bool,
    /// HTTP status of the last try; none when nobody answered.
    pub status: Option<u16>,
    /// How long the last try took, in milliseconds.
    pub took_ms: u64,
    /// How many tries it took.
    pub tries: u32,
    /// What was wrong with the last try.
    pub problem: Option<String>,
}

/// The action `http.check`.
pub struct HttpCheck;

impl Typed for HttpCheck {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        ..About::new(
            "http.check",
            "Asks URLs and compares the answers with what is expected.",
            Effect::Read,
            r#"id: smoke
uses: http.check
tags: [validate]
with:
  checks:
    - name: health
      url: "{{ vars.app_url }}/api/health"
      expect: { status: 200, json: { ok: true }, max_ms: 2000 }
    - name: drills
      url: "{{ vars.app_url }}/api/drills"
      expect: { contains: slug }
  within: 1m
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let lines = params.checks.iter().map(|c| format!("asks {}", label(c))).collect();
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let total = params.checks.len();
        if total == 0 || total > CHECKS_MAX {
            return Err(ActionError::refused(format!(
                "check {total} URLs: 1 to {CHECKS_MAX} can be checked"
            )));
        }
        let mut prepared = Vec::with_capacity(total);
        for check in &params.checks {
            prepared.push(Prepared::new(ctx, check)?);
        }
        let end = Instant::now() + params.within.0;
        let mut all = Vec::with_capacity(total);
        for one in &prepared {
            all.push(one.settle(ctx, end));
        }
        let mut running = futures_util::stream::iter(all).buffered(PARALLEL);
        let mut results = Vec::with_capacity(total);
        while let Some(result) = running.next().await {
            results.push(result?);
            let message = results.last().map(|r: &CheckResult| r.name.clone()).unwrap_or_default();
            ctx.progress.report(Progress {
                done: count(results.len()),
                total: Some(count(total)),
                unit: "checks",
                message,
            });
        }
        judge(params.fail, results)
    }
}

/// How one question was answered.
pub(crate) enum Held {
    /// As expected.
    Yes,
    /// Otherwise; says how.
    No(String),
    /// Not at all; says why.
    Unheard(String),
}

/// Asks one question once.
pub(crate) async fn holds(ctx: &Context, check: &Check) -> Result<Held, ActionError> {
    let prepared = Prepared::new(ctx, check)?;
    let begun = Instant::now();
    let answer = send(&prepared.request).await;
    let problem = prepared.problem(&answer, begun.elapsed());
    Ok(match (problem, answer) {
        (None, _) => Held::Yes,
        (Some(problem), Ok(answer)) if answer.status == 429 || answer.status >= 500 => Held::Unheard(problem),
        (Some(problem), Ok(_)) => Held::No(problem),
        (Some(problem), Err(_)) => Held::Unheard(problem),
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn judge(fail: bool, results: Vec<CheckResult>) -> Result<Done<Outputs>, ActionError> {
    let failed: Vec<&CheckResult> = results.iter().filter(|r| !r.passed).collect();
    let (all, bad) = (results.len(), failed.len());
    if fail && bad > 0 {
        let list: Vec<String> = failed
            .iter()
            .take(5)
            .map(|r| format!("{}: {}", r.name, r.problem.as_deref().unwrap_or("failed")))
            .collect();
        let more = if bad > 5 { format!("; and {} more", bad - 5) } else { String::new() };
        let text = format!("pass {bad} of {all} checks: {}{more}", list.join("; "));
        return Err(ActionError::unchanged(text).code("check-failed"));
    }
    let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let summary = format!("{} of {all} checks passed", all - bad);
    Ok(Done::new(Outputs { passed: small(all - bad), failed: small(bad), results }, summary))
}

fn label(check: &Check) -> String {
    if let Some(name) = &check.name {
        return escape(name, 100);
    }
    let bare = check.url.split(['?', '#']).next().unwrap_or_default();
    escape(bare, 200)
}

/// A check whose request is built.
struct Prepared<'a> {
    name: String,
    expect: &'a Expect,
    request: Request<'static>,
    hidden: Vec<Revealed>,
}

impl<'a> Prepared<'a> {
    fn new(ctx: &Context, check: &'a Check) -> Result<Self, ActionError> {
        let name = label(check);
        let refuse = |why: &str| ActionError::refused(format!("prepare check `{name}`: {why}"));
        let url = Url::parse(&check.url).map_err(|_| refuse("its URL cannot be read"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse("its URL is neither http nor https"));
        }
        let mut headers = HeaderMap::new();
        let mut hidden = Vec::new();
        for (key, text) in &check.headers {
            let clear = ctx.secrets.reveal(text)?;
            let key =
                HeaderName::try_from(key.as_str()).map_err(|_| refuse("a header name is not allowed"))?;
            let mut value =
                HeaderValue::try_from(clear.expose()).map_err(|_| refuse("a header value is not allowed"))?;
            value.set_sensitive(true);
            headers.insert(key, value);
            hidden.push(clear);
        }
        let method = match check.method {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
        };
        let request =
            Request { method, url, headers, body: None, deadline: DEADLINE, bytes_max: BODY_BYTES_MAX };
        Ok(Self { name, expect: &check.expect, request, hidden })
    }

    /// Tries until it passes or the time is up; at least once.
    async fn settle(&self, ctx: &Context, end: Instant) -> Result<CheckResult, ActionError> {
        let mut length = PAUSE.0;
        let mut tries = 0;
        loop {
            tries += 1;
            let begun = Instant::now();
            let answer = send(&self.request).await;
            let took = begun.elapsed();
            let problem = self.problem(&answer, took);
            if problem.is_none() || Instant::now() + length > end {
                return Ok(CheckResult {
                    name: self.name.clone(),
                    passed: problem.is_none(),
                    status: answer.as_ref().ok().map(|a| a.status),
                    took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    tries,
                    problem,
                });
            }
            pause(ctx, &format!("check `{}`", self.name), length).await?;
            length = (length * 2).min(PAUSE.1);
        }
    }

    fn problem(&self, answer: &Result<Answer, SendError>, took: Duration) -> Option<String> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Some(self.clean(&format!("could not {}", chain(error)))),
        };
        self.expect.problem(answer, took).map(|problem| self.clean(&problem))
    }

    fn clean(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in self.hidden.iter().map(Revealed::expose).filter(|s| s.len() > 3) {
            text = text.replace(secret, "•••");
        }
        escape(&text, 300)
    }
}

impl Expect {
    /// What is wrong with an answer; may hold text of the remote.
    pub(super) fn problem(&self, answer: &Answer, took: Duration) -> Option<String> {
        if answer.status != self.status {
            return Some(format!("status {} instead of {}", answer.status, self.status));
        }
        if let Some(text) = self.contains.as_ref().filter(|text| !contains(&answer.body, text)) {
            return Some(format!("the body does not contain `{text}`"));
        }
        if let Some(problem) = self.json_problem(&answer.body) {
            return Some(problem);
        }
        let took_ms = took.as_millis();
        let slow = self.max_ms.filter(|max| took_ms > u128::from(*max))?;
        Some(format!("it took {took_ms} ms instead of at most {slow} ms"))
    }

    fn json_problem(&self, body: &[u8]) -> Option<String> {
        if self.json.is_empty() {
            return None;
        }
        let Ok(body) = serde_json::from_slice::<Value>(body) else {
            return Some("the body is not JSON".to_owned());
        };
        self.json.iter().find_map(|(place, wanted)| match at(&body, place) {
            None => Some(format!("`{place}` is missing")),
            Some(found) if found != wanted => Some(format!("`{place}` is {found} instead of {wanted}")),
            Some(_) => None,
        })
    }
}

fn contains(body: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(body).contains(text)
}

/// The value at a place: `items.0.name`, or a JSON pointer.
pub(super) fn at<'v>(value: &'v Value, place: &str) -> Option<&'v Value> {
    if place.starts_with('/') || place.is_empty() {
        return value.pointer(place);
    }
    place.split('.').try_fold(value, |value, key| match value {
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

/// An error with its causes, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
