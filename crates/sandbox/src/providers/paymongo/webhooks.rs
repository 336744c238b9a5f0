//! Webhooks, each with a secret of its own, and how deliveries are signed with it.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use jiff::Timestamp;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{EVENT_TYPES, Refusal, Reply, Webhook, attributes, bad, fresh_id, missing};
use crate::disk;
use crate::providers::deliver::is_webhook_url;
use crate::shared::Ctx;

/// A signature older than this is a replay.
const AGE_MAX_S: i64 = 300;

impl Webhook {
    pub(super) fn made(url: String, events: Vec<String>, now: Timestamp) -> Self {
        let secret = format!("whsk_{}", disk::random_secret());
        let id = fresh_id("hook");
        Self { id, url, events, enabled: true, secret, created_at: now, updated_at: now, failures: 0 }
    }

    pub(super) fn status(&self) -> &'static str {
        if self.enabled { "enabled" } else { "disabled" }
    }

    fn show(&self) -> Value {
        json!({ "id": self.id, "type": "webhook", "attributes": {
            "type": "webhook", "livemode": false, "secret_key": self.secret, "status": self.status(), "url": self.url,
            "events": self.events, "created_at": self.created_at.as_second(), "updated_at": self.updated_at.as_second(),
        } })
    }

    /// The header of a delivery in test mode.
    pub(super) fn sign(&self, at: Timestamp, body: &str) -> String {
        let t = at.as_second();
        format!(
            "t={t},te={},li=",
            hex::encode(hmac::sign(&key(&self.secret), message(t, body.as_bytes()).as_slice()))
        )
    }
}

fn key(secret: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())
}

fn message(t: i64, body: &[u8]) -> Vec<u8> {
    [t.to_string().as_bytes(), b".", body].concat()
}

/// Whether a `Paymongo-Signature` is over this body with this secret, and fresh.
pub(crate) fn is_signed_by(header: &str, secret: &str, body: &[u8], now: Timestamp) -> bool {
    let part =
        |name: &str| header.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (Some(t), Some(te)) = (part("t").and_then(|t| t.parse::<i64>().ok()), part("te")) else {
        return false;
    };
    let Ok(signature) = hex::decode(te) else { return false };
    (now.as_second() - t).abs() <= AGE_MAX_S
        && hmac::verify(&key(secret), &message(t, body), &signature).is_ok()
}

pub(super) async fn list(State(ctx): State<Ctx>) -> Reply {
    let all: Vec<Value> =
        ctx.look(|world| world.providers.paymongo.webhooks.iter().map(Webhook::show).collect());
    Ok(Json(json!({ "data": all })).into_response())
}

fn check(url: Option<&str>, events: Option<&[String]>) -> Reply<()> {
    if url.is_some_and(|url| !is_webhook_url(url)) {
        return Err(bad("url", "url should be a valid https URL."));
    }
    let unknown = |events: &[String]| {
        events.is_empty() || events.iter().any(|event| !EVENT_TYPES.contains(&event.as_str()))
    };
    if events.is_some_and(unknown) {
        return Err(bad("events", "events contains an invalid value."));
    }
    Ok(())
}

#[derive(Deserialize)]
struct Create {
    url: String,
    events: Vec<String>,
}

pub(super) async fn create(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Create = attributes(&bytes)?;
    check(Some(&wanted.url), Some(&wanted.events))?;
    let shown = ctx.change(|world| {
        let webhook = Webhook::made(wanted.url, wanted.events, Timestamp::now());
        let shown = webhook.show();
        world.providers.paymongo.webhooks.push(webhook);
        shown
    })?;
    Ok(Json(json!({ "data": shown })).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let shown = ctx
        .look(|world| world.providers.paymongo.webhooks.iter().find(|hook| hook.id == id).map(Webhook::show));
    Ok(Json(json!({ "data": shown.ok_or_else(|| missing("webhook"))? })).into_response())
}

#[derive(Deserialize)]
struct Change {
    url: Option<String>,
    events: Option<Vec<String>>,
}

pub(super) async fn change(State(ctx): State<Ctx>, Path(id): Path<String>, bytes: Bytes) -> Reply {
    let wanted: Change = attributes(&bytes)?;
    check(wanted.url.as_deref(), wanted.events.as_deref())?;
    alter(&ctx, &id, |webhook| {
        webhook.url = wanted.url.unwrap_or_else(|| webhook.url.clone());
        webhook.events = wanted.events.unwrap_or_else(|| webhook.events.clone());
    })
}

pub(super) async fn enable(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    alter(&ctx, &id, |webhook| (webhook.enabled, webhook.failures) = (true, 0))
}

pub(super) async fn disable(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    alter(&ctx, &id, |webhook| webhook.enabled = false)
}

fn alter(ctx: &Ctx, id: &str, change: impl FnOnce(&mut Webhook)) -> Reply {
    let shown = ctx.try_change(|world| {
        let found = world.providers.paymongo.webhooks.iter_mut().find(|hook| hook.id == id);
        let webhook = found.ok_or_else(|| missing("webhook"))?;
        change(webhook);
        webhook.updated_at = Timestamp::now();
        Ok::<Value, Refusal>(webhook.show())
    })?;
    Ok(Json(json!({ "data": shown })).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_secret_body_and_moment() {
        let now = Timestamp::now();
        let hook = Webhook::made("https://x.example/".into(), vec![], now);
        let header = hook.sign(now, "{}");
        assert!(is_signed_by(&header, &hook.secret, b"{}", now));
        assert!(!is_signed_by(&header, "whsk_other", b"{}", now));
        assert!(!is_signed_by(&header, &hook.secret, b"{ }", now));
        let later = now + jiff::SignedDuration::from_secs(AGE_MAX_S + 1);
        assert!(!is_signed_by(&header, &hook.secret, b"{}", later));
        for bad in ["", "t=,te=,li=", "t=1,te=zz,li=", "te=00"] {
            assert!(!is_signed_by(bad, &hook.secret, b"{}", now), "{bad}");
        }
    }
}
