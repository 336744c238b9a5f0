//! `ticket.create`: an issue on GitHub. GitHub has no idempotency key, so each ticket carries a marker with the
//! step's key, and whoever creates looks for it first: in the list of new issues, and in the search, which lags.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Api;
use crate::intent::{find_again, intent, save_intent};
use crate::notify::text;
use crate::typed::{About, Done, Found, Typed};

const API_URL: &str = "https://api.github.com";
/// The version of the API that this is written against.
const API_VERSION: &str = "2022-11-28";
/// Pages of new issues that are searched; each holds 100.
const PAGES_MAX: usize = 10;
/// Limits of the API, in characters.
const TITLE_MAX: usize = 256;
const BODY_MAX: usize = 65_536;

/// Parameters of `ticket.create`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What it is about, in one line.
    pub title: String,
    /// The text, in Markdown. This or `template`.
    #[serde(default)]
    pub body: Option<String>,
    /// Template file, relative to the runbook. It sees `values`, `run` and `env`. This or `body`.
    #[serde(default)]
    pub template: Option<String>,
    /// What the template fills in, by name. No secrets.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
    /// Labels.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Logins of those who shall see to it.
    #[serde(default)]
    pub assignees: Vec<String>,
    /// `owner/name`; the environment's when left out.
    #[serde(default)]
    pub repository: Option<String>,
}

/// Outputs of `ticket.create`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Its number.
    pub number: u64,
    /// Where people read it.
    pub url: String,
    /// Whether this step created it now; false: it was there already under this step's key.
    pub created: bool,
}

/// What of an issue is used here.
#[derive(Debug, Deserialize)]
struct Issue {
    number: u64,
    html_url: String,
    #[serde(default)]
    body: Option<String>,
    created_at: Timestamp,
}

/// The action `ticket.create`.
pub struct Create;

impl Typed for Create {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["GitHub: a token that may read and write issues of the repository"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "ticket.create",
            "Creates an issue on GitHub, once.",
            Effect::Once,
            r#"id: follow-up
uses: ticket.create
with:
  title: "Follow up on run {{ run.short_id }}"
  body: Why did the backup take so long?
  labels: [incident]
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let tracker = Tracker::new(ctx, params.repository.as_deref())?;
        let body = body(ctx, &params).await?;
        let line = match tracker.find(ctx, ctx.started_at).await? {
            Some(found) => format!("finds its ticket #{} already there", found.number),
            None => format!("creates a ticket in {}: {}", tracker.repository, params.title),
        };
        let mut lines = vec![line];
        lines.extend(body.lines().take(20).map(|line| format!("  {line}")));
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let tracker = Tracker::new(ctx, params.repository.as_deref())?;
        let body = body(ctx, &params).await?;
        let count = params.title.chars().count();
        if params.title.trim().is_empty() || count > TITLE_MAX {
            return Err(ActionError::refused(format!(
                "create a ticket: a title of {count} characters, 1 to {TITLE_MAX} are allowed"
            )));
        }
        text::check("the ticket's title", &params.title)?;
        if let Some(found) = tracker.own(ctx).await? {
            return Ok(done(found, false));
        }
        save_intent(ctx).await?;
        let mut request = json!({ "title": params.title, "body": body });
        if !params.labels.is_empty() {
            request["labels"] = json!(params.labels);
        }
        if !params.assignees.is_empty() {
            request["assignees"] = json!(params.assignees);
        }
        let what = format!("create a ticket in {}", tracker.repository);
        let path = tracker.path("issues");
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let created: Issue = tracker.api.post_once(what, &path).json(&request).send().await?.read()?;
        Ok(done(created, true))
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let tracker = Tracker::new(ctx, params.repository.as_deref())?;
        Ok(match tracker.own(ctx).await? {
            Some(found) => Found::Happened(done(found, true)),
            None => Found::Absent,
        })
    }
}

fn done(issue: Issue, created: bool) -> Done<Outputs> {
    let word = if created { "created" } else { "found" };
    let summary = format!("{word} #{}: {}", issue.number, issue.html_url);
    Done::new(Outputs { number: issue.number, url: issue.html_url, created }, summary)
}

/// What marks a ticket as this step's.
fn marker(ctx: &Context) -> String {
    format!("runbook:{}", ctx.key)
}

/// The text with the marker below it, where people see what it is.
async fn body(ctx: &Context, params: &Params) -> Result<String, ActionError> {
    let written = match (&params.template, &params.body) {
        (Some(file), None) => {
            let source = text::read(ctx, file).await?;
            text::fill(ctx, file, &source, &params.values)?
        }
        (None, Some(body)) => {
            text::check("the ticket", body)?;
            body.clone()
        }
        _ => return Err(ActionError::refused("write the ticket: give `body` or `template`, and not both")),
    };
    let tail = format!("\n\n---\nWritten by run `{}`. `{}`\n", ctx.run_short, marker(ctx));
    let room = BODY_MAX - tail.chars().count();
    let text = written.trim_end();
    let mut whole: String = text.chars().take(room).collect();
    whole.push_str(&tail);
    Ok(whole)
}

/// The repository's issues, and how to talk to them.
struct Tracker {
    api: Api,
    repository: String,
}

impl Tracker {
    fn new(ctx: &Context, named: Option<&str>) -> Result<Self, ActionError> {
        let settings = ctx.environment.github.as_ref().ok_or_else(|| {
            ActionError::refused(format!("find `github` in environment `{}`", ctx.environment.name))
                .hint("Add `github: { repository, token }` to the environment file.")
        })?;
        let repository = named.unwrap_or(&settings.repository).to_owned();
        let fits = repository.split('/').filter(|part| !part.is_empty()).count() == 2
            && repository.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if !fits {
            let text = format!("use `{}` as a repository", repository.escape_debug());
            return Err(ActionError::refused(text).hint("Write `owner/name`."));
        }
        let token = ctx.secrets.reveal(&settings.token)?;
        let api = Api::new("GitHub", settings.api_url.as_deref().unwrap_or(API_URL), Some(token))?
            .with_header("accept", "application/vnd.github+json")
            .with_header("x-github-api-version", API_VERSION);
        Ok(Self { api, repository })
    }

    fn path(&self, rest: &str) -> Vec<String> {
        let parts = ["repos"].into_iter().chain(self.repository.split('/')).chain([rest]);
        parts.map(str::to_owned).collect()
    }

    /// This step's ticket. After an attempt that may have created one, an empty answer is asked again until that
    /// attempt's request must have ended.
    async fn own(&self, ctx: &Context) -> Result<Option<Issue>, ActionError> {
        match intent(ctx) {
            Some(since) => find_again(ctx, since, || self.find(ctx, since)).await,
            None => self.find(ctx, ctx.started_at).await,
        }
    }

    async fn find(&self, ctx: &Context, since: Timestamp) -> Result<Option<Issue>, ActionError> {
        match self.listed(ctx, since).await? {
            Some(found) => Ok(Some(found)),
            None => self.searched(ctx).await,
        }
    }

    /// Looks through what was created since, newest first: the list knows at once.
    async fn listed(&self, ctx: &Context, since: Timestamp) -> Result<Option<Issue>, ActionError> {
        // A clock that differs from GitHub's by less than an hour hides nothing.
        let since = since.checked_sub(jiff::SignedDuration::from_hours(1)).unwrap_or(Timestamp::UNIX_EPOCH);
        let since_text = since.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let marker = marker(ctx);
        let path = self.path("issues");
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        for page in 1..=PAGES_MAX {
            let found: Vec<Issue> = self
                .api
                .get(format!("list the issues of {}", self.repository), &path)
                .query("state", "all")
                .query("sort", "created")
                .query("direction", "desc")
                .query("since", &since_text)
                .query("per_page", "100")
                .query("page", &page.to_string())
                .send()
                .await?
                .read()?;
            let is_last = found.len() < 100 || found.iter().any(|issue| issue.created_at < since);
            if let Some(own) = found.into_iter().find(|issue| holds(issue, &marker)) {
                return Ok(Some(own));
            }
            if is_last {
                return Ok(None);
            }
        }
        let text = format!("look for the ticket in {}: it has too many new issues", self.repository);
        Err(ActionError::refused(text).hint("Look for the marker by hand, then `runbook resolve`."))
    }

    /// Asks the search, which also knows what an earlier run created under the author's own key.
    async fn searched(&self, ctx: &Context) -> Result<Option<Issue>, ActionError> {
        #[derive(Deserialize)]
        struct Answer {
            items: Vec<Issue>,
        }
        let marker = marker(ctx);
        let quoted = marker.replace('"', " ");
        let q = format!("repo:{} is:issue in:body \"{quoted}\"", self.repository);
        let answer: Answer = self
            .api
            .get(format!("search the issues of {}", self.repository), &["search", "issues"])
            .query("q", &q)
            .query("per_page", "100")
            .send()
            .await?
            .read()?;
        Ok(answer.items.into_iter().find(|issue| holds(issue, &marker)))
    }
}

/// The marker stands in backquotes, so that no key is found inside a longer one.
fn holds(issue: &Issue, marker: &str) -> bool {
    issue.body.as_deref().is_some_and(|body| body.contains(&format!("`{marker}`")))
}

#[cfg(test)]
mod tests;
