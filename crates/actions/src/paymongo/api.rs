//! The API of this environment, and the webhooks that every action looks at.

use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Paymongo;
use runbook_core::secret::Revealed;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::{Api, Call};

const API_URL: &str = "https://api.paymongo.com/v1";

/// The environment's PayMongo settings.
pub(super) fn settings(ctx: &Context) -> Result<&Paymongo, ActionError> {
    ctx.environment.paymongo.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `paymongo` in environment `{}`", ctx.environment.name))
            .hint("Add `paymongo: { secret_key }` to the environment file.")
    })
}

/// The API with this environment's key, as the user of basic authentication.
pub(super) fn api(ctx: &Context) -> Result<Api, ActionError> {
    let settings = settings(ctx)?;
    let key = ctx.secrets.reveal(&settings.secret_key)?;
    let pair = Revealed::new(format!("{}:", key.expose()));
    Ok(Api::new("PayMongo", settings.api_url.as_deref().unwrap_or(API_URL), None)?.with_basic(pair.expose()))
}

/// `{"data": …}` of every answer.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// A resource: an id and what it is.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Resource<T> {
    pub(super) id: String,
    pub(super) attributes: T,
}

/// A webhook.
#[derive(Clone, Deserialize)]
pub(super) struct Webhook {
    pub(super) url: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) events: Vec<String>,
    secret_key: Option<String>,
    #[serde(default)]
    created_at: i64,
}

impl Resource<Webhook> {
    /// Whether it takes events.
    pub(super) fn is_enabled(&self) -> bool {
        self.attributes.status == "enabled"
    }

    /// What it signs with.
    pub(super) fn secret(&self) -> Option<Revealed> {
        self.attributes.secret_key.as_deref().map(Revealed::new)
    }
}

/// All webhooks.
pub(super) async fn list(api: &Api) -> Result<Vec<Resource<Webhook>>, ActionError> {
    let listed: Data<Vec<Resource<Webhook>>> =
        api.get("list the webhooks", &["webhooks"]).send().await?.read()?;
    Ok(listed.data)
}

/// The webhook that is named by its id, or the newest with a URL; without a name the newest, when all have the
/// same URL. PayMongo deletes none, so that those which were replaced stay in the list for ever.
pub(super) fn pick<'w>(
    all: &'w [Resource<Webhook>],
    named: Option<&str>,
) -> Result<&'w Resource<Webhook>, ActionError> {
    let known = || {
        let one = |w: &Resource<Webhook>| format!("{} ({}, {})", w.id, w.attributes.url, w.attributes.status);
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    if let Some(webhook) = named.and_then(|name| all.iter().find(|webhook| webhook.id == name)) {
        return Ok(webhook);
    }
    let url = match (named, all.first()) {
        (Some(name), _) => name,
        (None, None) => return Err(ActionError::refused("find a webhook at PayMongo: the account has none")),
        (None, Some(first)) if all.iter().all(|w| w.attributes.url == first.attributes.url) => {
            &first.attributes.url
        }
        (None, Some(_)) => {
            return Err(ActionError::refused(format!("choose one of PayMongo's {} webhooks", all.len()))
                .hint(format!("Name it in `webhook` by id or URL: {}.", known())));
        }
    };
    // The list has them in the order of their making; the last of equals is the newest.
    let newest =
        all.iter().filter(|w| w.attributes.url == url).max_by_key(|webhook| webhook.attributes.created_at);
    newest.ok_or_else(|| {
        ActionError::refused(format!("find PayMongo's webhook `{}`", url.escape_debug()))
            .hint(format!("There is: {}.", if all.is_empty() { "none".to_owned() } else { known() }))
    })
}

/// Turns a webhook on or off, unless it is so already, and sees that it holds.
pub(super) async fn switch(api: &Api, id: &str, enabled: bool) -> Result<Resource<Webhook>, ActionError> {
    let found = pick_id(&list(api).await?, id)?;
    if found.is_enabled() == enabled {
        return Ok(found);
    }
    let word = if enabled { "enable" } else { "disable" };
    let changed: Data<Resource<Webhook>> = api
        .put(Method::POST, format!("{word} webhook `{id}`"), &["webhooks", id, word])
        .send()
        .await?
        .read()?;
    if changed.data.is_enabled() == enabled {
        return Ok(changed.data);
    }
    let text = format!("{word} webhook `{id}` at PayMongo: it is still {}", changed.data.attributes.status);
    Err(ActionError::unchanged(text))
}

fn pick_id(all: &[Resource<Webhook>], id: &str) -> Result<Resource<Webhook>, ActionError> {
    pick(all, Some(id)).cloned()
}

/// Adds the attributes to a call as PayMongo wants them.
pub(super) fn with_attributes<'a>(call: Call<'a>, attributes: &Value) -> Call<'a> {
    call.json(&json!({ "data": { "attributes": attributes } }))
}
