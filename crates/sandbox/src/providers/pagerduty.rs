//! Stand-in for the PagerDuty Events API v2: incidents by `dedup_key`. There is no authorisation but the
//! routing key in the body.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::disk;
use crate::shared::Ctx;

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    /// By `dedup_key`.
    incidents: BTreeMap<String, Incident>,
}

/// Somebody's night.
#[derive(Debug, Serialize, Deserialize)]
struct Incident {
    status: String,
    summary: String,
    severity: String,
    source: String,
    /// How often it was triggered; all but the first were the same.
    triggers: u64,
    at: Timestamp,
}

impl State {
    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({ "incidents": self.incidents })
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new().route("/v2/enqueue", post(enqueue)).with_state(ctx.clone())
}

#[derive(Deserialize)]
struct Event {
    routing_key: String,
    event_action: String,
    dedup_key: Option<String>,
    payload: Option<Payload>,
}

#[derive(Deserialize)]
struct Payload {
    summary: String,
    source: String,
    severity: String,
}

fn invalid(errors: &[&str]) -> Response {
    let body = json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

async fn enqueue(Extract(ctx): Extract<Ctx>, bytes: Bytes) -> Response {
    let Ok(event) = serde_json::from_slice::<Event>(&bytes) else {
        return invalid(&["JSON is invalid, or a field is missing"]);
    };
    if event.routing_key != ctx.tokens.provider("pagerduty_routing_key") {
        return invalid(&["Invalid routing key"]);
    }
    if event.dedup_key.as_ref().is_some_and(|key| key.chars().count() > 255) {
        return invalid(&["Length of 'dedup_key' is incorrect (should be less than or equal to 255)"]);
    }
    let key = event.dedup_key.unwrap_or_else(disk::random_secret);
    let kept = match (event.event_action.as_str(), event.payload) {
        ("trigger", None) => return invalid(&["'payload' is missing or blank"]),
        ("trigger", Some(payload)) => {
            let known = matches!(payload.severity.as_str(), "critical" | "error" | "warning" | "info");
            if payload.summary.is_empty() || payload.summary.chars().count() > 1024 || !known {
                return invalid(&["'payload.summary' or 'payload.severity' is invalid"]);
            }
            ctx.change(|world| trigger(&mut world.providers.pagerduty, &key, payload))
        }
        (action @ ("acknowledge" | "resolve"), _) => ctx.change(|world| {
            // An event for an incident that is not open is taken and does nothing.
            let incident = world.providers.pagerduty.incidents.get_mut(&key);
            if let Some(incident) = incident.filter(|incident| incident.status != "resolved") {
                incident.status = format!("{action}d");
            }
        }),
        _ => return invalid(&["'event_action' is missing or invalid"]),
    };
    match kept {
        Ok(()) => {
            let body = json!({ "status": "success", "message": "Event processed", "dedup_key": key });
            (StatusCode::ACCEPTED, Json(body)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("could not {error}")).into_response(),
    }
}

/// Opens an incident; one that is open under the same key only counts.
fn trigger(state: &mut State, key: &str, payload: Payload) {
    let open = state.incidents.get_mut(key).filter(|incident| incident.status != "resolved");
    if let Some(incident) = open {
        incident.triggers += 1;
        return;
    }
    let Payload { summary, source, severity } = payload;
    let status = "triggered".to_owned();
    let incident = Incident { status, summary, severity, source, triggers: 1, at: Timestamp::now() };
    state.incidents.insert(key.to_owned(), incident);
}
