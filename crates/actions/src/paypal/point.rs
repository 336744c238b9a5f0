//! `paypal.pause`, `paypal.resume` and `paypal.repoint`: where a webhook points. PayPal has no switch for a
//! webhook, so a paused one points at an endpoint that answers 410. Its id stays the same throughout.

use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, list, pick, point};
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `paypal.pause`, `paypal.resume` and `paypal.repoint`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where it shall point: for a pause an endpoint that answers 410, else the one that takes the events.
    pub to: String,
    /// The webhook, by its id or the URL that it points at now; may be left out when there is only one.
    #[serde(default)]
    pub webhook: Option<String>,
}

/// Outputs of `paypal.pause`, `paypal.resume` and `paypal.repoint`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the webhook; it does not change.
    pub webhook: String,
    /// Where it points now.
    pub url: String,
    /// Where it pointed before this step; the undo restores that.
    pub before: String,
}

/// The action `paypal.pause`.
pub struct Pause;
/// The action `paypal.resume`.
pub struct Resume;
/// The action `paypal.repoint`.
pub struct Repoint;

const PERMISSION: &[&str] =
    &["PayPal: a REST application with the scope https://uri.paypal.com/services/applications/webhooks"];

/// Key of what is in force while a webhook is paused.
pub(super) fn key(webhook: &str) -> String {
    format!("paypal.webhook/{webhook}")
}

fn paused(outputs: &Outputs) -> InForce {
    let text = format!("PayPal's webhook {} is paused: it points at {}", outputs.webhook, outputs.url);
    InForce { key: key(&outputs.webhook), text }
}

async fn preview(ctx: &Context, params: Params) -> Result<Preview, ActionError> {
    let all = list(&api(ctx).await?).await?;
    let webhook = pick(&all, params.webhook.as_deref())?;
    let line = if webhook.url == params.to {
        format!("PayPal's webhook {} points at {} already", webhook.id, params.to)
    } else {
        format!("PayPal's webhook {} moves from {} to {}", webhook.id, webhook.url, params.to)
    };
    Ok(Preview::Changes { lines: vec![line], destroys: None })
}

/// Which webhook it was and where it pointed, from the first attempt.
fn remembered(ctx: &Context) -> Option<(String, String)> {
    serde_json::from_value(ctx.checkpoints.get("before")?).ok()
}

async fn carry_out(ctx: &Context, params: Params) -> Result<Outputs, ActionError> {
    let api = api(ctx).await?;
    let all = list(&api).await?;
    let (webhook, before) = match remembered(ctx) {
        Some(known) => known,
        None => {
            let found = pick(&all, params.webhook.as_deref())?;
            ctx.checkpoints.save("before", json!((&found.id, &found.url))).await?;
            (found.id.clone(), found.url.clone())
        }
    };
    if pick(&all, Some(&webhook))?.url != params.to {
        point(&api, &webhook, &params.to).await?;
    }
    let now = list(&api).await?;
    let now = pick(&now, Some(&webhook))?;
    if now.url != params.to {
        let text = format!("see webhook `{webhook}` at its new URL: PayPal still shows `{}`", now.url);
        return Err(ActionError::unchanged(text));
    }
    Ok(Outputs { webhook, url: params.to, before })
}

async fn take_back(ctx: &Context, webhook: &str, before: &str) -> Result<Outcome, ActionError> {
    let api = api(ctx).await?;
    if pick(&list(&api).await?, Some(webhook))?.url != before {
        point(&api, webhook, before).await?;
    }
    Ok(Outcome {
        outputs: Value::Null,
        summary: format!("PayPal's webhook {webhook} points at {before} again"),
        in_force: Vec::new(),
        released: vec![key(webhook)],
    })
}

async fn take_back_unfinished(ctx: &Context) -> Result<Outcome, ActionError> {
    match remembered(ctx) {
        Some((webhook, before)) => take_back(ctx, &webhook, &before).await,
        None => Ok(nothing_to_undo()),
    }
}

impl Typed for Pause {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: PERMISSION,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "paypal.pause",
            "Points a webhook at an endpoint that answers 410, so that PayPal keeps its events and tries again.",
            Effect::Idempotent,
            r#"id: pause-paypal
uses: paypal.pause
tags: ["freeze:paypal"]
with:
  to: "{{ vars.app_url }}/api/webhooks/paused"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        preview(ctx, params).await
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let outputs = carry_out(ctx, params).await?;
        let entry = paused(&outputs);
        let summary = format!("webhook {} is paused", outputs.webhook);
        Ok(Done::new(outputs, summary).in_force(entry.key, entry.text))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        take_back(ctx, &outputs.webhook, &outputs.before).await
    }

    async fn undo_unfinished(&self, ctx: &Context, _params: Params) -> Result<Outcome, ActionError> {
        take_back_unfinished(ctx).await
    }
}

impl Typed for Resume {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: PERMISSION,
        has_plan: true,
        ..About::new(
            "paypal.resume",
            "Points a paused webhook at the application again.",
            Effect::Idempotent,
            r#"id: resume-paypal
uses: paypal.resume
tags: ["unfreeze:paypal"]
with:
  to: "{{ vars.app_url }}/api/webhooks/paypal"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        preview(ctx, params).await
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let outputs = carry_out(ctx, params).await?;
        let (summary, key) =
            (format!("webhook {} takes events at {}", outputs.webhook, outputs.url), key(&outputs.webhook));
        Ok(Done::new(outputs, summary).released(key))
    }
}

impl Typed for Repoint {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: PERMISSION,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "paypal.repoint",
            "Moves a webhook to another URL; it keeps its id, so signatures stay verifiable.",
            Effect::Idempotent,
            r#"id: paypal-endpoint
uses: paypal.repoint
with:
  to: "{{ vars.app_url }}/api/webhooks/paypal"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        preview(ctx, params).await
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let outputs = carry_out(ctx, params).await?;
        let summary = format!("webhook {} points at {}", outputs.webhook, outputs.url);
        Ok(Done::new(outputs, summary))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        take_back(ctx, &outputs.webhook, &outputs.before).await
    }

    async fn undo_unfinished(&self, ctx: &Context, _params: Params) -> Result<Outcome, ActionError> {
        take_back_unfinished(ctx).await
    }
}
