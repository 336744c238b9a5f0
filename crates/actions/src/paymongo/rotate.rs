//! `paymongo.rotate_secret`: PayMongo cannot change the secret of a webhook, so a new webhook takes its place.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{Data, Resource, Webhook, api, list, pick, switch, with_attributes};
use crate::http::Api;
use crate::intent::{find_again, intent, save_intent};
use crate::typed::{About, Done, Found, Typed};

/// Parameters of `paymongo.rotate_secret`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The webhook to replace, by its id or URL; may be left out when all have the same URL: the newest.
    #[serde(default)]
    pub webhook: Option<String>,
    /// Where the new one points; where the old one does, when left out.
    #[serde(default)]
    pub url: Option<String>,
    /// Whether the old one is disabled at once. With `false` both deliver each event until `paymongo.pause` with
    /// `retire: true` ends the old one, so that none is lost while the new secret is on its way.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub disable_old: bool,
}

fn yes() -> bool {
    true
}

/// Outputs of `paymongo.rotate_secret`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the new webhook.
    pub webhook: String,
    /// What it signs with; distribute it.
    pub secret: SecretText,
    /// Id of the webhook that it replaces.
    pub replaced: String,
    /// Where the new one points.
    pub url: String,
}

/// How things stood before the first attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    id: String,
    url: String,
    events: Vec<String>,
    /// Webhooks that were there: a new one is none of them.
    all: Vec<String>,
}

/// The action `paymongo.rotate_secret`.
pub struct RotateSecret;

impl Typed for RotateSecret {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["PayMongo: the secret key of the account"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "paymongo.rotate_secret",
            "Replaces a webhook by a new one with a new secret, which goes into the vault.",
            Effect::Once,
            r#"- id: paymongo
  uses: paymongo.rotate_secret
  tags: ["rotate:paymongo_webhook"]
- id: paymongo-places
  uses: secret.distribute
  with:
    secret: paymongo_webhook
    value: "{{ steps.paymongo.secret }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let all = list(&api(ctx)?).await?;
        let old = pick(&all, params.webhook.as_deref())?;
        let url = params.url.as_ref().unwrap_or(&old.attributes.url);
        let mut lines = vec![format!("creates a webhook at PayMongo for {url}, with a secret of its own")];
        let then = if params.disable_old { "is disabled" } else { "stays enabled for now" };
        lines.push(format!("webhook {} {then}", old.id));
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx)?;
        let before = before(ctx, &api, params.webhook.as_deref()).await?;
        let url = params.url.clone().unwrap_or_else(|| before.url.clone());
        let made = match made(ctx, &api, &before, &url).await? {
            Some(made) => made,
            None => {
                save_intent(ctx).await?;
                let call = api.post_once(format!("create a webhook for `{url}`"), &["webhooks"]);
                let attributes = json!({ "url": url, "events": before.events });
                let made: Data<Resource<Webhook>> =
                    with_attributes(call, &attributes).send().await?.read()?;
                made.data
            }
        };
        finish(ctx, &api, &params, &before, made).await
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        if intent(ctx).is_none() {
            return Ok(Found::Absent);
        }
        let api = api(ctx)?;
        let before = before(ctx, &api, params.webhook.as_deref()).await?;
        let url = params.url.clone().unwrap_or_else(|| before.url.clone());
        let Some(made) = made(ctx, &api, &before, &url).await? else { return Ok(Found::Absent) };
        let old = pick(&list(&api).await?, Some(&before.id))?.is_enabled();
        if params.disable_old && old {
            // Safe to start again: the next attempt goes on with the webhook that is there.
            return Ok(Found::Absent);
        }
        Ok(Found::Happened(told(ctx, &before, &made)?))
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
        url: old.attributes.url.clone(),
        events: old.attributes.events.clone(),
        all: all.iter().map(|webhook| webhook.id.clone()).collect(),
    };
    ctx.checkpoints.save("before", json!(before)).await?;
    Ok(before)
}

/// The webhook that an earlier attempt created: it points at the URL and was not there before.
async fn made(
    ctx: &Context,
    api: &Api,
    before: &Before,
    url: &str,
) -> Result<Option<Resource<Webhook>>, ActionError> {
    let Some(since) = intent(ctx) else { return Ok(None) };
    find_again(ctx, since, || async move {
        let all = list(api).await?;
        Ok(all.into_iter().find(|webhook| webhook.attributes.url == url && !before.all.contains(&webhook.id)))
    })
    .await
}

async fn finish(
    ctx: &Context,
    api: &Api,
    params: &Params,
    before: &Before,
    made: Resource<Webhook>,
) -> Result<Done<Outputs>, ActionError> {
    let done = told(ctx, before, &made)?;
    if params.disable_old {
        switch(api, &before.id, false).await?;
    }
    Ok(done)
}

fn told(ctx: &Context, before: &Before, made: &Resource<Webhook>) -> Result<Done<Outputs>, ActionError> {
    let secret = made.secret().ok_or_else(|| {
        ActionError::refused(format!("read the secret of webhook `{}`: PayMongo does not show it", made.id))
    })?;
    let secret = ctx.secrets.keep("secret", secret.expose())?;
    let (webhook, replaced, url) = (made.id.clone(), before.id.clone(), made.attributes.url.clone());
    let summary = format!("webhook {webhook} replaces {replaced}");
    Ok(Done::new(Outputs { webhook, secret, replaced, url }, summary))
}
