//! Events: made by a payment, delivered to the webhooks, listed, sent again, simulated, verified.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use uuid::Uuid;

use super::signature::{ALGORITHM, CERTIFICATE_NAME, MOCK_WEBHOOK, Signed};
use super::webhooks::read;
use super::{Delivery, EVENT_TYPES, EVENTS_MAX, Event, Reply, Webhook, bad, fresh_id, missing};
use crate::disk;
use crate::error::SandboxError;
use crate::providers::deliver;
use crate::providers::payment::{Paid, Payment};
use crate::shared::Ctx;

/// Page size of the events when none is asked for, and at most.
const PAGE: usize = 10;
const PAGE_MAX: usize = 300;

/// A payment happens: the event is kept and delivered to whoever wants it.
pub(crate) async fn pay(ctx: &Ctx, payment: &Payment) -> Result<Paid, SandboxError> {
    let now = Timestamp::now();
    let event = Event {
        id: fresh_event_id(),
        at: now,
        event_type: EVENT_TYPES[0].to_owned(),
        summary: format!("Payment completed for {} {}", payment.value(), payment.currency("USD")),
        resource: json!({
            "id": fresh_id(), "status": "COMPLETED", "final_capture": true, "custom_id": payment.handle(),
            "amount": { "currency_code": payment.currency("USD"), "value": payment.value() },
            "create_time": now.to_string(), "update_time": now.to_string(),
        }),
        deliveries: Vec::new(),
    };
    let wants =
        |webhook: &&Webhook| webhook.event_types.iter().any(|name| name == "*" || *name == event.event_type);
    let webhooks = ctx.change(|world| {
        let state = &mut world.providers.paypal;
        state.events.push(event.clone());
        let surplus = state.events.len().saturating_sub(EVENTS_MAX);
        state.events.drain(..surplus);
        state.webhooks.iter().filter(wants).cloned().collect::<Vec<_>>()
    })?;
    let delivered = send(ctx, &event, &webhooks).await?;
    let payment = event.resource["id"].as_str().unwrap_or_default().to_owned();
    Ok(Paid { event: event.id, payment, delivered })
}

fn fresh_event_id() -> String {
    format!("WH{}", disk::random_text(30, b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"))
}

/// Delivers an event to webhooks; whether one of them took it.
async fn send(ctx: &Ctx, event: &Event, webhooks: &[Webhook]) -> Result<bool, SandboxError> {
    let mut tries = Vec::new();
    for webhook in webhooks {
        let status = transmit(ctx, &event.show(), &webhook.id, &webhook.url).await?;
        tries.push(Delivery { webhook: webhook.id.clone(), url: webhook.url.clone(), status });
    }
    ctx.change(|world| {
        let known = world.providers.paypal.events.iter_mut().find(|known| known.id == event.id);
        let Some(known) = known else { return false };
        known.deliveries.extend(tries);
        known.is_delivered()
    })
}

/// One delivery, signed for a webhook.
async fn transmit(
    ctx: &Ctx,
    event: &Value,
    webhook_id: &str,
    url: &str,
) -> Result<Option<u16>, SandboxError> {
    let (transmission_id, time) = (Uuid::now_v7().to_string(), Timestamp::now().to_string());
    let body = event.to_string();
    let signed = Signed { transmission_id: &transmission_id, time: &time, webhook_id, body: body.as_bytes() };
    let signature = signed.sign()?;
    let certificate =
        format!("{}/paypal/v1/notifications/certs/{CERTIFICATE_NAME}", ctx.endpoints.providers_url);
    let headers = [
        ("paypal-auth-algo", ALGORITHM.to_owned()),
        ("paypal-cert-url", certificate),
        ("paypal-transmission-id", transmission_id.clone()),
        ("paypal-transmission-sig", signature),
        ("paypal-transmission-time", time.clone()),
        ("paypal-auth-version", "v2".to_owned()),
    ];
    Ok(deliver::post(url, &headers, &body).await)
}

pub(super) async fn list(State(ctx): State<Ctx>, Query(query): Query<HashMap<String, String>>) -> Reply {
    let moment = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text.parse::<Timestamp>().map(Some).map_err(|_| bad(format!("{name} is no date-time"))),
    };
    let number = |name: &str| query.get(name).map(|text| text.parse::<usize>()).transpose();
    let size =
        number("page_size").map_err(|_| bad("page_size is no number"))?.unwrap_or(PAGE).clamp(1, PAGE_MAX);
    let skip = number("page_token").map_err(|_| bad("page_token is not valid"))?.unwrap_or(0);
    let (start, end) = (moment("start_time")?, moment("end_time")?);
    let fits = |event: &&Event| {
        start.is_none_or(|start| event.at >= start)
            && end.is_none_or(|end| event.at <= end)
            && query.get("event_type").is_none_or(|wanted| *wanted == event.event_type)
            && query.get("transaction_id").is_none_or(|wanted| event.resource["id"] == wanted.as_str())
    };
    let mut found: Vec<Value> = ctx.look(|world| {
        let events = world.providers.paypal.events.iter().rev().filter(fits);
        events.skip(skip).take(size + 1).map(Event::show).collect()
    });
    let more = found.len() > size;
    found.truncate(size);
    let here = "https://api.paypal.com/v1/notifications/webhooks-events";
    let mut links = vec![json!({ "href": here, "rel": "self", "method": "GET" })];
    if more {
        let mut next = format!("{here}?page_size={size}&page_token={}", skip + size);
        for name in ["start_time", "end_time", "event_type", "transaction_id"] {
            if let Some(value) = query.get(name) {
                next.push_str(&format!("&{name}={}", value.replace('+', "%2B").replace(':', "%3A")));
            }
        }
        links.push(json!({ "href": next, "rel": "next", "method": "GET" }));
    }
    Ok(Json(json!({ "events": found, "count": found.len(), "links": links })).into_response())
}

fn event(ctx: &Ctx, id: &str) -> Reply<Event> {
    ctx.look(|world| world.providers.paypal.events.iter().find(|event| event.id == id).cloned())
        .ok_or_else(missing)
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    Ok(Json(event(&ctx, &id)?.show()).into_response())
}

#[derive(Deserialize)]
struct Resend {
    #[serde(default)]
    webhook_ids: Vec<String>,
}

pub(super) async fn resend(State(ctx): State<Ctx>, Path(id): Path<String>, bytes: Bytes) -> Reply {
    let wanted: Resend = read(&bytes)?;
    let event = event(&ctx, &id)?;
    let webhooks: Vec<Webhook> = ctx.look(|world| {
        let all = world.providers.paypal.webhooks.iter();
        all.filter(|w| wanted.webhook_ids.is_empty() || wanted.webhook_ids.contains(&w.id)).cloned().collect()
    });
    if webhooks.is_empty() {
        return Err(missing());
    }
    send(&ctx, &event, &webhooks).await?;
    Ok((StatusCode::ACCEPTED, Json(event.show())).into_response())
}

#[derive(Deserialize)]
struct Simulate {
    #[serde(default)]
    webhook_id: Option<String>,
    #[serde(default)]
    url: Option<String>,
    event_type: String,
}

/// A mock event: it belongs to no application, is kept nowhere, and passes no check of its signature.
pub(super) async fn simulate(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Simulate = read(&bytes)?;
    if !EVENT_TYPES.contains(&wanted.event_type.as_str()) {
        return Err(bad("Not a valid webhook event type"));
    }
    let url = match (&wanted.webhook_id, wanted.url) {
        (Some(id), _) => {
            let found = ctx.look(|world| {
                world.providers.paypal.webhooks.iter().find(|w| w.id == *id).map(|w| w.url.clone())
            });
            found.ok_or_else(missing)?
        }
        (None, Some(url)) if deliver::is_webhook_url(&url) => url,
        (None, _) => return Err(bad("webhook_id or url is required")),
    };
    let mock = Event {
        id: fresh_event_id(),
        at: Timestamp::now(),
        event_type: wanted.event_type,
        summary: "Payment completed for $ 7.47 USD".to_owned(),
        resource: json!({ "id": fresh_id(), "status": "COMPLETED", "amount": { "currency_code": "USD", "value": "7.47" } }),
        deliveries: Vec::new(),
    };
    transmit(&ctx, &mock.show(), MOCK_WEBHOOK, &url).await?;
    Ok((StatusCode::ACCEPTED, Json(mock.show())).into_response())
}

#[derive(Deserialize)]
struct Verify<'a> {
    auth_algo: String,
    cert_url: String,
    transmission_id: String,
    transmission_sig: String,
    transmission_time: String,
    webhook_id: String,
    /// The signature is over the bytes as they came, so they are kept as they stand.
    #[serde(borrow)]
    webhook_event: &'a RawValue,
}

pub(super) async fn verify(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let given: Verify<'_> = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let signed = Signed {
        transmission_id: &given.transmission_id,
        time: &given.transmission_time,
        webhook_id: &given.webhook_id,
        body: given.webhook_event.get().as_bytes(),
    };
    let own = ctx.look(|world| world.providers.paypal.webhooks.iter().any(|w| w.id == given.webhook_id));
    let good = own
        && given.auth_algo == ALGORITHM
        && given.cert_url.ends_with(CERTIFICATE_NAME)
        && signed.is_signed_by(&given.transmission_sig);
    let status = if good { "SUCCESS" } else { "FAILURE" };
    Ok(Json(json!({ "verification_status": status })).into_response())
}
