//! `paypal.secrets`: rotates what PayPal lets a program rotate: the webhook, and with it the id by which
//! deliveries are verified. The secret of the REST application is changed by hand in the dashboard.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{WEBHOOKS, Webhook, api, list, pick, point};
use super::point::key;
use crate::http::Api;
use crate::intent::{find_again, intent, save_intent};
use crate::typed::{About, Done, Typed};

/// Parameters of `paypal.secrets`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The webhook to replace, by its id or URL; may be left out when there is only one.
    #[serde(default)]
    pub webhook: Option<String>,
    /// Where the new one points; where the old one did, when left out.
    #[serde(default)]
    pub url: Option<String>,
}

/// Outputs of `paypal.secrets`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the new webhook, by which the application verifies deliveries; distribute it.
    pub webhook_id: String,
    /// Id of the webhook that it replaces, which is deleted.
    pub replaced: String,
    /// Where the new one points.
    pub url: String,
    /// What only a person can rotate, and where.
    pub by_hand: Vec<String>,
}

/// The webhook as it was before the first attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    id: String,
    url: String,
    event_types: Vec<String>,
    /// Webhooks that were there: a new one is none of them.
    all: Vec<String>,
}

/// The action `paypal.secrets`.
pub struct Secrets;

impl Typed for Secrets {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "PayPal: a REST application with the scope https://uri.paypal.com/services/applications/webhooks",
        ],
        has_plan: true,
        ..About::new(
            "paypal.secrets",
            "Replaces a webhook by a new one with a new id, and says which secrets only a person can rotate.",
            Effect::Idempotent,
            r#"- id: paypal
  uses: paypal.secrets
  tags: ["rotate:paypal_webhook"]
- id: paypal-places
  uses: secret.distribute
  with:
    secret: paypal_webhook
    value: "{{ steps.paypal.webhook_id }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let all = list(&api(ctx).await?).await?;
        let old = pick(&all, params.webhook.as_deref())?;
        let url = params.url.as_ref().unwrap_or(&old.url);
        let lines = vec![
            format!("creates a webhook at PayPal for {url}, with a new id"),
            format!("deletes webhook {}; what it has not delivered can be sent again to the new one", old.id),
        ];
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx).await?;
        let before = before(ctx, &api, params.webhook.as_deref()).await?;
        let url = params.url.unwrap_or_else(|| before.url.clone());
        let made = match made(ctx, &api, &before, &url).await? {
            Some(made) => made,
            None => make(ctx, &api, &before, &url).await?,
        };
        let [a, b, c] = WEBHOOKS;
        api.put(Method::DELETE, format!("delete webhook `{}`", before.id), &[a, b, c, &before.id])
            .accept(&[404])
            .send()
            .await?;
        let by_hand = vec![
            "the client secret: PayPal's developer dashboard, Apps & Credentials, add a second secret, then delete the first"
                .to_owned(),
        ];
        let summary = format!("webhook {} replaces {}", made.id, before.id);
        // A webhook that is gone is paused no longer.
        let released = key(&before.id);
        let outputs = Outputs { webhook_id: made.id, replaced: before.id, url, by_hand };
        Ok(Done::new(outputs, summary).released(released))
    }
}

async fn before(ctx: &Context, api: &Api, named: Option<&str>) -> Result<Before, ActionError> {
    if let Some(saved) = ctx.checkpoints.get("before") {
        return serde_json::from_value(saved)
            .map_err(|error| ActionError::refused("read the checkpoint of the webhooks").because(error));
    }
    let all = list(api).await?;
    let old = pick(&all, named)?;
    let before = Before {
        id: old.id.clone(),
        url: old.url.clone(),
        event_types: old.event_types.iter().map(|kind| kind.name.clone()).collect(),
        all: all.iter().map(|webhook| webhook.id.clone()).collect(),
    };
    ctx.checkpoints.save("before", json!(before)).await?;
    Ok(before)
}

/// The webhook that an earlier attempt created: it points at the URL and was not there before.
async fn made(ctx: &Context, api: &Api, before: &Before, url: &str) -> Result<Option<Webhook>, ActionError> {
    let Some(since) = intent(ctx) else { return Ok(None) };
    find_again(ctx, since, || async move {
        let all = list(api).await?;
        Ok(all.into_iter().find(|webhook| webhook.url == url && !before.all.contains(&webhook.id)))
    })
    .await
}

async fn make(ctx: &Context, api: &Api, before: &Before, url: &str) -> Result<Webhook, ActionError> {
    if before.url == url {
        // PayPal takes a URL once: the old one steps aside first. Events meanwhile are tried again for days.
        let mark = if url.contains('?') { '&' } else { '?' };
        point(api, &before.id, &format!("{url}{mark}retired={}", ctx.run_short)).await?;
    }
    save_intent(ctx).await?;
    let types: Vec<_> = before.event_types.iter().map(|name| json!({ "name": name })).collect();
    api.post_once(format!("create a webhook for `{url}`"), &WEBHOOKS)
        .json(&json!({ "url": url, "event_types": types }))
        .send()
        .await?
        .read()
}
