//! `page`: PagerDuty events, deduplicated by their key. Facts: Events API version 2.

use std::collections::BTreeMap;

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

const API_URL: &str = "https://events.pagerduty.com";
/// Limits of the API, in characters.
const SUMMARY_MAX: usize = 1024;
const KEY_MAX: usize = 255;

/// Parameters of `page`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What happens to the incident.
    #[serde(default)]
    pub event: Event,
    /// What is wrong, in one line. Only for `trigger`, and needed there.
    #[serde(default)]
    pub summary: Option<String>,
    /// How bad.
    #[serde(default)]
    pub severity: Severity,
    /// What is wrong with: a system or host. The runbook's environment when left out.
    #[serde(default)]
    pub source: Option<String>,
    /// Names the incident: events with the same key belong to one. The step's idempotency key when left out;
    /// `acknowledge` and `resolve` need the one that was triggered: `steps.page.dedup_key`.
    #[serde(default)]
    pub dedup_key: Option<String>,
    /// More facts, by name. No secrets.
    #[serde(default)]
    pub details: BTreeMap<String, Value>,
}

/// What happens to an incident.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// Somebody is woken up.
    #[default]
    Trigger,
    /// Somebody has it.
    Acknowledge,
    /// It is over.
    Resolve,
}

impl Event {
    fn name(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Acknowledge => "acknowledge",
            Self::Resolve => "resolve",
        }
    }
}

/// How bad it is, in PagerDuty's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Wake somebody.
    #[default]
    Critical,
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// For the record.
    Info,
}

/// Outputs of `page`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Names the incident.
    pub dedup_key: String,
    /// What was sent.
    pub event: Event,
}

/// The action `page`.
pub struct Page;

impl Typed for Page {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["PagerDuty: the integration key of a service (Events API v2)"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "page",
            "Pages through PagerDuty: triggers, acknowledges or resolves an incident.",
            Effect::Keyed,
            r#"id: page
uses: page
with:
  summary: "The restore drill of {{ env.name }} failed"
  severity: error
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        settings(ctx)?;
        let key = key(ctx, &params)?;
        let line = match params.event {
            Event::Trigger => {
                let summary = params.summary.as_deref().unwrap_or_default();
                format!("pages: {summary} ({}, key {key})", severity(params.severity))
            }
            event => format!("sends `{}` for incident {key}", event.name()),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let key = key(ctx, &params)?;
        let mut body = json!({ "event_action": params.event.name(), "dedup_key": key });
        if params.event == Event::Trigger {
            let summary = params.summary.as_deref().map(str::trim).filter(|summary| !summary.is_empty());
            let summary =
                summary.ok_or_else(|| ActionError::refused("page: `summary` is needed to trigger"))?;
            if runbook_core::secret::holds_marker(summary) {
                return Err(ActionError::refused("page: there is a secret in it").code("secret-in-message"));
            }
            ctx.checkpoints.save("dedup_key", json!(key)).await?;
            body["payload"] = json!({
                "summary": summary.chars().take(SUMMARY_MAX).collect::<String>(),
                "source": params.source.as_deref().unwrap_or(&ctx.environment.name),
                "severity": params.severity, "timestamp": ctx.started_at, "custom_details": params.details,
            });
        }
        send(ctx, params.event, body).await?;
        let summary = match params.event {
            Event::Trigger => format!("paged, incident {key}"),
            Event::Acknowledge => format!("incident {key} is acknowledged"),
            Event::Resolve => format!("incident {key} is resolved"),
        };
        Ok(Done::new(Outputs { dedup_key: key, event: params.event }, summary))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        if outputs.event != Event::Trigger {
            return Ok(nothing_to_undo());
        }
        let body = json!({ "event_action": "resolve", "dedup_key": outputs.dedup_key });
        send(ctx, Event::Resolve, body).await?;
        let summary = format!("incident {} is resolved", outputs.dedup_key);
        Ok(Outcome { summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let key = ctx.checkpoints.get("dedup_key").and_then(|v| v.as_str().map(str::to_owned));
        let Some(dedup_key) = key else { return Ok(nothing_to_undo()) };
        self.undo(ctx, params, Outputs { dedup_key, event: Event::Trigger }).await
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "critical",
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "info",
    }
}

fn settings(ctx: &Context) -> Result<&runbook_core::environment::Pagerduty, ActionError> {
    ctx.environment.pagerduty.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `pagerduty` in environment `{}`", ctx.environment.name))
            .hint("Add `pagerduty: { routing_key }` to the environment file.")
    })
}

fn key(ctx: &Context, params: &Params) -> Result<String, ActionError> {
    let key = match (&params.dedup_key, params.event) {
        (Some(key), _) => key.clone(),
        (None, Event::Trigger) => ctx.key.clone(),
        (None, event) => {
            return Err(ActionError::refused(format!(
                "{} an incident: `dedup_key` says which",
                event.name()
            )));
        }
    };
    let count = key.chars().count();
    if key.trim().is_empty() || count > KEY_MAX {
        return Err(ActionError::refused(format!(
            "page: `dedup_key` has {count} characters, 1 to {KEY_MAX} are allowed"
        )));
    }
    Ok(key)
}

/// Sends an event; the key makes twice once.
async fn send(ctx: &Context, event: Event, mut body: Value) -> Result<(), ActionError> {
    let settings = settings(ctx)?;
    let routing_key = ctx.secrets.reveal(&settings.routing_key)?;
    let api = Api::new("PagerDuty", settings.api_url.as_deref().unwrap_or(API_URL), None)?;
    body["routing_key"] = json!(routing_key.expose());
    api.put(Method::POST, format!("{} an incident", event.name()), &["v2", "enqueue"])
        .json(&body)
        .hide(routing_key.expose())
        .send()
        .await
        .map(drop)
}

#[cfg(test)]
mod tests;
