//! `paymongo.pause` and `paymongo.resume`: turns a webhook off and on. PayMongo turns one off by itself after
//! three events in a row that nobody took, and never sends again what was missed.

use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, list, pick, switch};
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `paymongo.pause`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseParams {
    /// The webhook, by its id or URL; may be left out when all have the same URL: the newest.
    #[serde(default)]
    pub webhook: Option<String>,
    /// It is replaced and stays off for good: nothing is said to be in force. PayMongo cannot delete one.
    #[serde(default)]
    pub retire: bool,
}

/// Parameters of `paymongo.resume`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeParams {
    /// The webhook, by its id or URL; may be left out when all have the same URL: the newest.
    #[serde(default)]
    pub webhook: Option<String>,
}

/// Outputs of `paymongo.pause` and `paymongo.resume`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the webhook.
    pub webhook: String,
    /// Where it points.
    pub url: String,
    /// Whether it is enabled now.
    pub enabled: bool,
    /// Whether it was enabled before this step.
    pub was_enabled: bool,
}

/// The action `paymongo.pause`.
pub struct Pause;
/// The action `paymongo.resume`.
pub struct Resume;

const PERMISSION: &[&str] = &["PayMongo: the secret key of the account"];

fn key(webhook: &str) -> String {
    format!("paymongo.webhook/{webhook}")
}

async fn preview(ctx: &Context, webhook: Option<&str>, enabled: bool) -> Result<Preview, ActionError> {
    let all = list(&api(ctx)?).await?;
    let found = pick(&all, webhook)?;
    let word = if enabled { "enabled" } else { "disabled" };
    let again = if found.is_enabled() == enabled { " already" } else { "" };
    let line = format!("PayMongo's webhook {} ({}) is {word}{again}", found.id, found.attributes.url);
    Ok(Preview::Changes { lines: vec![line], destroys: None })
}

fn remembered(ctx: &Context) -> Option<(String, bool)> {
    serde_json::from_value(ctx.checkpoints.get("before")?).ok()
}

async fn carry_out(ctx: &Context, named: Option<&str>, enabled: bool) -> Result<Outputs, ActionError> {
    let api = api(ctx)?;
    let (webhook, was_enabled) = match remembered(ctx) {
        Some(known) => known,
        None => {
            let all = list(&api).await?;
            let found = pick(&all, named)?;
            ctx.checkpoints.save("before", json!((&found.id, found.is_enabled()))).await?;
            (found.id.clone(), found.is_enabled())
        }
    };
    let now = switch(&api, &webhook, enabled).await?;
    Ok(Outputs { webhook, url: now.attributes.url, enabled, was_enabled })
}

impl Typed for Pause {
    type Params = PauseParams;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: PERMISSION,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "paymongo.pause",
            "Disables a webhook; events meanwhile must be looked for afterwards.",
            Effect::Idempotent,
            r#"id: pause-paymongo
uses: paymongo.pause
tags: ["freeze:paymongo"]
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: PauseParams) -> Result<Preview, ActionError> {
        preview(ctx, params.webhook.as_deref(), false).await
    }

    async fn run(&self, ctx: &Context, params: PauseParams) -> Result<Done<Outputs>, ActionError> {
        let outputs = carry_out(ctx, params.webhook.as_deref(), false).await?;
        let (webhook, url) = (outputs.webhook.clone(), outputs.url.clone());
        let done = Done::new(outputs, format!("webhook {webhook} is disabled"));
        if params.retire {
            return Ok(done.released(key(&webhook)));
        }
        let text = format!("PayMongo's webhook {webhook} ({url}) is disabled");
        Ok(done.in_force(key(&webhook), text))
    }

    async fn undo(&self, ctx: &Context, _: PauseParams, outputs: Outputs) -> Result<Outcome, ActionError> {
        take_back(ctx, &outputs.webhook, outputs.was_enabled).await
    }

    async fn undo_unfinished(&self, ctx: &Context, _: PauseParams) -> Result<Outcome, ActionError> {
        match remembered(ctx) {
            Some((webhook, was_enabled)) => take_back(ctx, &webhook, was_enabled).await,
            None => Ok(nothing_to_undo()),
        }
    }
}

async fn take_back(ctx: &Context, webhook: &str, was_enabled: bool) -> Result<Outcome, ActionError> {
    let now = switch(&api(ctx)?, webhook, was_enabled).await?;
    let summary = format!("PayMongo's webhook {webhook} is {} again", now.attributes.status);
    let released = if was_enabled { vec![key(webhook)] } else { Vec::new() };
    Ok(Outcome { outputs: Value::Null, summary, in_force: Vec::new(), released })
}

impl Typed for Resume {
    type Params = ResumeParams;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: PERMISSION,
        has_plan: true,
        ..About::new(
            "paymongo.resume",
            "Enables a webhook, also one that PayMongo disabled by itself.",
            Effect::Idempotent,
            r#"id: resume-paymongo
uses: paymongo.resume
tags: ["unfreeze:paymongo"]
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: ResumeParams) -> Result<Preview, ActionError> {
        preview(ctx, params.webhook.as_deref(), true).await
    }

    async fn run(&self, ctx: &Context, params: ResumeParams) -> Result<Done<Outputs>, ActionError> {
        let outputs = carry_out(ctx, params.webhook.as_deref(), true).await?;
        let webhook = outputs.webhook.clone();
        Ok(Done::new(outputs, format!("webhook {webhook} is enabled")).released(key(&webhook)))
    }
}
