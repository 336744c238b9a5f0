//! Webhooks: where events go.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{EVENT_TYPES, Refusal, Reply, WEBHOOKS_MAX, Webhook, bad, fresh_id, missing, refusal};
use crate::providers::deliver::is_webhook_url;
use crate::shared::Ctx;

impl Webhook {
    fn show(&self) -> Value {
        let types: Vec<Value> = self.event_types.iter().map(|name| event_type(name)).collect();
        let href = format!("https://api.paypal.com/v1/notifications/webhooks/{}", self.id);
        let link = |rel: &str, method: &str| json!({ "href": href, "rel": rel, "method": method });
        json!({
            "id": self.id, "url": self.url, "event_types": types,
            "links": [link("self", "GET"), link("update", "PATCH"), link("delete", "DELETE")],
        })
    }
}

fn event_type(name: &str) -> Value {
    json!({ "name": name, "description": name, "status": "ENABLED", "resource_versions": ["2.0"] })
}

#[derive(Deserialize)]
struct EventType {
    name: String,
}

fn names(types: Vec<EventType>) -> Reply<Vec<String>> {
    let names: Vec<String> = types.into_iter().map(|one| one.name).collect();
    let known = |name: &String| name == "*" || EVENT_TYPES.contains(&name.as_str());
    match names.iter().find(|name| !known(name)) {
        _ if names.is_empty() => Err(bad("event_types must not be empty")),
        Some(name) => Err(bad(format!("Not a valid webhook event type: {}", name.escape_debug()))),
        None => Ok(names),
    }
}

fn check_url(webhooks: &[Webhook], url: &str, own: Option<&str>) -> Reply<()> {
    if !is_webhook_url(url) {
        return Err(bad("Not a valid webhook URL"));
    }
    if webhooks.iter().any(|known| known.url == url && own != Some(&known.id)) {
        let message = "Webhook URL already exists";
        return Err(refusal(StatusCode::BAD_REQUEST, "WEBHOOK_URL_ALREADY_EXISTS", message));
    }
    Ok(())
}

pub(super) async fn list(State(ctx): State<Ctx>) -> Reply {
    let all: Vec<Value> =
        ctx.look(|world| world.providers.paypal.webhooks.iter().map(Webhook::show).collect());
    Ok(Json(json!({ "webhooks": all })).into_response())
}

#[derive(Deserialize)]
struct Create {
    url: String,
    event_types: Vec<EventType>,
}

pub(super) async fn create(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Create = read(&bytes)?;
    let event_types = names(wanted.event_types)?;
    let shown = ctx.try_change(|world| {
        let webhooks = &mut world.providers.paypal.webhooks;
        check_url(webhooks, &wanted.url, None)?;
        if webhooks.len() >= WEBHOOKS_MAX {
            let message = "Webhook number limit exceeded";
            return Err(refusal(StatusCode::BAD_REQUEST, "WEBHOOK_NUMBER_LIMIT_EXCEEDED", message));
        }
        let webhook = Webhook { id: fresh_id(), url: wanted.url, event_types };
        let shown = webhook.show();
        webhooks.push(webhook);
        Ok::<Value, Refusal>(shown)
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let shown = ctx.look(|world| {
        world.providers.paypal.webhooks.iter().find(|webhook| webhook.id == id).map(Webhook::show)
    });
    Ok(Json(shown.ok_or_else(missing)?).into_response())
}

#[derive(Deserialize)]
struct Patch {
    op: String,
    path: String,
    #[serde(default)]
    value: Value,
}

pub(super) async fn change(State(ctx): State<Ctx>, Path(id): Path<String>, bytes: Bytes) -> Reply {
    let patches: Vec<Patch> = read(&bytes)?;
    let shown = ctx.try_change(|world| {
        let webhooks = &mut world.providers.paypal.webhooks;
        let index = webhooks.iter().position(|webhook| webhook.id == id).ok_or_else(missing)?;
        let mut changed = webhooks[index].clone();
        for patch in patches {
            match (patch.op.as_str(), patch.path.as_str()) {
                ("replace", "/url") => {
                    changed.url = patch.value.as_str().ok_or_else(|| bad("url is required"))?.to_owned();
                    check_url(webhooks, &changed.url, Some(&id))?;
                }
                ("replace", "/event_types") => {
                    let types = serde_json::from_value(patch.value).map_err(|e| bad(e.to_string()))?;
                    changed.event_types = names(types)?;
                }
                _ => {
                    return Err(bad(
                        "Patch operation is not supported: only replace of /url or /event_types",
                    ));
                }
            }
        }
        webhooks[index] = changed;
        Ok::<Value, Refusal>(webhooks[index].show())
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn delete(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    ctx.try_change(|world| {
        let webhooks = &mut world.providers.paypal.webhooks;
        let index = webhooks.iter().position(|webhook| webhook.id == id).ok_or_else(missing)?;
        webhooks.remove(index);
        Ok::<(), Refusal>(())
    })?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

pub(super) async fn event_types() -> Reply {
    let all: Vec<Value> = EVENT_TYPES.into_iter().map(event_type).collect();
    Ok(Json(json!({ "event_types": all })).into_response())
}

pub(super) async fn event_types_of(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let shown = ctx.look(|world| {
        let webhook = world.providers.paypal.webhooks.iter().find(|webhook| webhook.id == id)?;
        Some(webhook.show()["event_types"].clone())
    });
    Ok(Json(json!({ "event_types": shown.ok_or_else(missing)? })).into_response())
}

/// A JSON body; a wrong one is refused with what is wrong.
pub(super) fn read<T: serde::de::DeserializeOwned>(bytes: &Bytes) -> Reply<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        bad(format!("Request is not well-formed, syntactically incorrect, or violates schema. {error}"))
    })
}
