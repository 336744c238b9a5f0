//! The REST API of this environment: its token, and the webhooks that every action looks at.

use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Paypal;
use runbook_core::secret::Revealed;
use serde::Deserialize;
use serde_json::json;

use crate::http::Api;

/// Where real money moves.
pub(super) const LIVE_URL: &str = "https://api-m.paypal.com";
const TOKEN: [&str; 3] = ["v1", "oauth2", "token"];
pub(super) const WEBHOOKS: [&str; 3] = ["v1", "notifications", "webhooks"];

/// The environment's PayPal settings.
pub(super) fn settings(ctx: &Context) -> Result<&Paypal, ActionError> {
    ctx.environment.paypal.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `paypal` in environment `{}`", ctx.environment.name))
            .hint("Add `paypal: { client_id, client_secret }` to the environment file.")
    })
}

/// The base URL.
pub(super) fn base(settings: &Paypal) -> &str {
    settings.api_url.as_deref().unwrap_or(LIVE_URL)
}

/// The API with a fresh token. A token lives for hours, an attempt for minutes.
pub(super) async fn api(ctx: &Context) -> Result<Api, ActionError> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
    }
    let settings = settings(ctx)?;
    let id = ctx.secrets.reveal(&settings.client_id)?;
    let secret = ctx.secrets.reveal(&settings.client_secret)?;
    let pair = Revealed::new(format!("{}:{}", id.expose(), secret.expose()));
    let token: Token = Api::new("PayPal", base(settings), None)?
        .with_basic(pair.expose())
        .put(Method::POST, "get a token", &TOKEN)
        .form("grant_type=client_credentials")
        .hide(secret.expose())
        .send()
        .await?
        .read()?;
    Api::new("PayPal", base(settings), Some(Revealed::new(token.access_token)))
}

/// Where events go.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Webhook {
    pub(super) id: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) event_types: Vec<EventType>,
}

/// A kind of event.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct EventType {
    pub(super) name: String,
}

/// All webhooks of the application.
pub(super) async fn list(api: &Api) -> Result<Vec<Webhook>, ActionError> {
    #[derive(Deserialize)]
    struct Listed {
        webhooks: Vec<Webhook>,
    }
    let listed: Listed = api.get("list the webhooks", &WEBHOOKS).send().await?.read()?;
    Ok(listed.webhooks)
}

/// The webhook that is named by its id or its URL; the only one when none is named.
pub(super) fn pick<'w>(all: &'w [Webhook], named: Option<&str>) -> Result<&'w Webhook, ActionError> {
    let known = || all.iter().map(|w| format!("{} ({})", w.id, w.url)).collect::<Vec<_>>().join(", ");
    match (named, all) {
        (Some(name), _) => all.iter().find(|w| w.id == name || w.url == name).ok_or_else(|| {
            ActionError::refused(format!("find PayPal's webhook `{}`", name.escape_debug()))
                .hint(format!("There is: {}.", if all.is_empty() { "none".to_owned() } else { known() }))
        }),
        (None, [only]) => Ok(only),
        (None, []) => Err(ActionError::refused("find a webhook at PayPal: the application has none")),
        (None, _) => Err(ActionError::refused(format!("choose one of PayPal's {} webhooks", all.len()))
            .hint(format!("Name it in `webhook` by id or URL: {}.", known()))),
    }
}

/// Moves a webhook to a URL. It keeps its id, so the application's check of signatures stays right.
pub(super) async fn point(api: &Api, id: &str, url: &str) -> Result<(), ActionError> {
    let [a, b, c] = WEBHOOKS;
    api.put(Method::PATCH, format!("point webhook `{id}` at `{url}`"), &[a, b, c, id])
        .json(&json!([{ "op": "replace", "path": "/url", "value": url }]))
        .send()
        .await?;
    Ok(())
}
