//! Stand-in for the PayPal REST API: tokens, webhooks and their events, and payments by card. Events are
//! delivered once, at once; what does not arrive stays undelivered until somebody has it sent again.
//! The real service tries again for three days.

mod events;
mod payments;
mod routes;
pub(crate) mod signature;
mod webhooks;

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

pub(crate) use events::pay;

/// What the application is told of.
pub(super) const EVENT_TYPES: [&str; 4] = [
    "PAYMENT.CAPTURE.COMPLETED",
    "PAYMENT.CAPTURE.DENIED",
    "PAYMENT.CAPTURE.REFUNDED",
    "CHECKOUT.ORDER.APPROVED",
];
/// Webhooks of one application.
const WEBHOOKS_MAX: usize = 10;
/// Older events are forgotten, as the real service forgets them after a month.
const EVENTS_MAX: usize = 500;

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    webhooks: Vec<Webhook>,
    /// Oldest first.
    events: Vec<Event>,
    /// Orders by the request id that they were made with.
    orders: BTreeMap<String, Value>,
}

/// Where events go.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Webhook {
    id: String,
    url: String,
    /// `*` stands for all.
    event_types: Vec<String>,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Event {
    id: String,
    at: Timestamp,
    event_type: String,
    summary: String,
    resource: Value,
    deliveries: Vec<Delivery>,
}

/// One try to deliver an event.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Delivery {
    webhook: String,
    url: String,
    status: Option<u16>,
}

impl Event {
    fn show(&self) -> Value {
        let link = |rel: &str, end: &str, method: &str| {
            let href = format!("https://api.paypal.com/v1/notifications/webhooks-events/{}{end}", self.id);
            json!({ "href": href, "rel": rel, "method": method })
        };
        json!({
            "id": self.id, "event_version": "1.0", "create_time": self.at.to_string(),
            "resource_type": "capture", "resource_version": "2.0", "event_type": self.event_type,
            "summary": self.summary, "resource": self.resource,
            "links": [link("self", "", "GET"), link("resend", "/resend", "POST")],
        })
    }

    fn is_delivered(&self) -> bool {
        self.deliveries.iter().any(|d| d.status.is_some_and(|s| (200..300).contains(&s)))
    }
}

impl State {
    /// With one webhook, as the application was set up; and its id.
    pub(super) fn with_webhook(url: String) -> (Self, String) {
        let id = fresh_id();
        let event_types = EVENT_TYPES[..3].iter().map(|name| (*name).to_owned()).collect();
        let webhooks = vec![Webhook { id: id.clone(), url, event_types }];
        (Self { webhooks, ..Self::default() }, id)
    }

    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        let events: Vec<Value> = self
            .events
            .iter()
            .map(|e| {
                json!({ "id": e.id, "type": e.event_type, "payment": e.resource["id"], "delivered": e.is_delivered(), "tries": e.deliveries.len() })
            })
            .collect();
        json!({ "webhooks": self.webhooks, "events": events, "orders": self.orders.len() })
    }
}

/// 17 capitals and digits, as PayPal's ids are.
fn fresh_id() -> String {
    disk::random_text(17, b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789")
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    routes::router(ctx)
}

/// A refusal in PayPal's words.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    name: &'static str,
    message: String,
}

type Reply<T = Response> = Result<T, Refusal>;

fn refusal(status: StatusCode, name: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, name, message: message.into() }
}

fn bad(message: impl Into<String>) -> Refusal {
    refusal(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message)
}

fn missing() -> Refusal {
    refusal(StatusCode::NOT_FOUND, "RESOURCE_NOT_FOUND", "The specified resource does not exist.")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(words(self.name, &self.message))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        refusal(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_SERVER_ERROR", format!("could not {error}"))
    }
}

fn words(name: &str, message: &str) -> Value {
    let debug_id = disk::random_text(13, b"0123456789abcdef");
    json!({ "name": name, "message": message, "debug_id": debug_id, "details": [], "links": [] })
}

/// The error that a fault answers with.
pub(super) fn fault(status: StatusCode) -> Value {
    let name = match status.as_u16() {
        400 => "INVALID_REQUEST",
        401 => "AUTHENTICATION_FAILURE",
        403 => "NOT_AUTHORIZED",
        404 => "RESOURCE_NOT_FOUND",
        409 => "RESOURCE_CONFLICT",
        422 => "UNPROCESSABLE_ENTITY",
        429 => "RATE_LIMIT_REACHED",
        503 => "SERVICE_UNAVAILABLE",
        _ => "INTERNAL_SERVER_ERROR",
    };
    words(name, status.canonical_reason().unwrap_or("error"))
}
