//! `paymongo.repoint`: moves a webhook to another URL. Id and secret stay.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Data, Resource, Webhook, api, list, pick, with_attributes};
use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `paymongo.repoint`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Where it shall point.
    pub to: String,
    /// The webhook, by its id or the URL that it points at now; may be left out when all have the same URL: the newest.
    #[serde(default)]
    pub webhook: Option<String>,
    /// What is in force from now on because of this, a sentence without a full stop: `PayMongo's events go to an
    /// endpoint that answers 410`. It is told until a later step moves the same webhook with `releases`.
    #[serde(default)]
    pub in_force: Option<String>,
    /// Whether this ends what an earlier step put in force for the webhook.
    #[serde(default)]
    pub releases: bool,
}

fn key(webhook: &str) -> String {
    format!("paymongo.endpoint/{webhook}")
}

/// Outputs of `paymongo.repoint`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the webhook; it does not change, nor does its secret.
    pub webhook: String,
    /// Where it points now.
    pub url: String,
    /// Where it pointed before this step; the undo restores that.
    pub before: String,
}

/// The action `paymongo.repoint`.
pub struct Repoint;

impl Typed for Repoint {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["PayMongo: the secret key of the account"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "paymongo.repoint",
            "Moves a webhook to another URL; its id and its secret stay.",
            Effect::Idempotent,
            r#"id: paymongo-endpoint
uses: paymongo.repoint
with:
  to: "{{ vars.app_url }}/api/webhooks/paymongo"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let all = list(&api(ctx)?).await?;
        let found = pick(&all, params.webhook.as_deref())?;
        let line =
            format!("PayMongo's webhook {} moves from {} to {}", found.id, found.attributes.url, params.to);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx)?;
        let (webhook, before) = match remembered(ctx) {
            Some(known) => known,
            None => {
                let all = list(&api).await?;
                let found = pick(&all, params.webhook.as_deref())?;
                ctx.checkpoints.save("before", json!((&found.id, &found.attributes.url))).await?;
                (found.id.clone(), found.attributes.url.clone())
            }
        };
        point(&api, &webhook, &params.to).await?;
        let summary = format!("webhook {webhook} points at {}", params.to);
        let key = key(&webhook);
        let done = Done::new(Outputs { webhook, url: params.to, before }, summary);
        Ok(match params.in_force {
            Some(text) => done.in_force(key, text),
            None if params.releases => done.released(key),
            None => done,
        })
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        take_back(ctx, &outputs.webhook, &outputs.before).await
    }

    async fn undo_unfinished(&self, ctx: &Context, _params: Params) -> Result<Outcome, ActionError> {
        match remembered(ctx) {
            Some((webhook, before)) => take_back(ctx, &webhook, &before).await,
            None => Ok(nothing_to_undo()),
        }
    }
}

fn remembered(ctx: &Context) -> Option<(String, String)> {
    serde_json::from_value(ctx.checkpoints.get("before")?).ok()
}

async fn take_back(ctx: &Context, webhook: &str, before: &str) -> Result<Outcome, ActionError> {
    point(&api(ctx)?, webhook, before).await?;
    let summary = format!("PayMongo's webhook {webhook} points at {before} again");
    Ok(Outcome { outputs: Value::Null, summary, in_force: Vec::new(), released: vec![key(webhook)] })
}

async fn point(api: &Api, id: &str, url: &str) -> Result<(), ActionError> {
    if pick(&list(api).await?, Some(id))?.attributes.url == url {
        return Ok(());
    }
    let call = api.put(Method::PUT, format!("point webhook `{id}` at `{url}`"), &["webhooks", id]);
    let changed: Data<Resource<Webhook>> =
        with_attributes(call, &json!({ "url": url })).send().await?.read()?;
    if changed.data.attributes.url == url {
        return Ok(());
    }
    Err(ActionError::unchanged(format!(
        "see webhook `{id}` at its new URL: PayMongo still shows the old one"
    )))
}
