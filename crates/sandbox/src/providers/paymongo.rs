//! Stand-in for the PayMongo API, in test mode: webhooks with a secret each, payments, and the payment
//! intents by which a test payment is made. Events are delivered once, at once, and are listed nowhere:
//! what did not arrive can only be found among the payments. Three events in a row that nobody takes
//! disable a webhook.

mod payments;
mod webhooks;

use axum::extract::{Request, State as Shared};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

pub(crate) use payments::pay;
pub(crate) use webhooks::is_signed_by;

/// So many events in a row that nobody takes disable a webhook.
const FAILURES_MAX: u32 = 3;
/// Older payments are forgotten.
const PAYMENTS_MAX: usize = 500;
/// Events that a webhook can be told of.
const EVENT_TYPES: [&str; 5] =
    ["payment.paid", "payment.failed", "payment.refunded", "payment.refund.updated", "source.chargeable"];

/// What it remembers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    webhooks: Vec<Webhook>,
    /// Oldest first.
    payments: Vec<Payment>,
    intents: Vec<Intent>,
    /// Ids of payment methods that were made.
    methods: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Webhook {
    id: String,
    url: String,
    events: Vec<String>,
    enabled: bool,
    secret: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// Events in a row that it did not take.
    failures: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Payment {
    id: String,
    event: String,
    intent: Option<String>,
    amount: i64,
    currency: String,
    description: Option<String>,
    metadata: Value,
    at: Timestamp,
    delivered: bool,
    tries: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Intent {
    id: String,
    amount: i64,
    currency: String,
    description: Option<String>,
    metadata: Value,
    status: String,
    created_at: Timestamp,
}

/// A payment as its list shows it.
pub(crate) struct Paid {
    pub(crate) event: String,
    pub(crate) payment: String,
    pub(crate) cents: i64,
    pub(crate) currency: String,
    pub(crate) handle: Option<String>,
}

impl State {
    /// With one webhook, as the application was set up; and the secret it signs with.
    pub(super) fn with_webhook(url: String, now: Timestamp) -> (Self, String) {
        let webhook = Webhook::made(url, EVENT_TYPES[..3].iter().map(|e| (*e).to_owned()).collect(), now);
        let secret = webhook.secret.clone();
        (Self { webhooks: vec![webhook], ..Self::default() }, secret)
    }

    /// What the reconciliation of an application learns from the list of payments.
    pub(crate) fn paid(&self) -> Vec<Paid> {
        let paid = |p: &Payment| Paid {
            event: p.event.clone(),
            payment: p.id.clone(),
            cents: p.amount,
            currency: p.currency.clone(),
            handle: p.metadata["handle"].as_str().map(str::to_owned),
        };
        self.payments.iter().map(paid).collect()
    }

    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        let webhooks: Vec<Value> = self
            .webhooks
            .iter()
            .map(|w| {
                json!({
                    "id": w.id, "url": w.url, "events": w.events, "status": w.status(),
                    "sha256": hex::encode(Sha256::digest(&w.secret)), "failures": w.failures,
                })
            })
            .collect();
        let payments: Vec<Value> = self
            .payments
            .iter()
            .map(|p| json!({ "id": p.id, "event": p.event, "delivered": p.delivered, "description": p.description }))
            .collect();
        json!({ "webhooks": webhooks, "payments": payments, "intents": self.intents.len() })
    }
}

fn fresh_id(prefix: &str) -> String {
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz123456789";
    format!("{prefix}_{}", disk::random_text(24, letters))
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/v1/webhooks", get(webhooks::list).post(webhooks::create))
        .route("/v1/webhooks/{id}", get(webhooks::show).put(webhooks::change))
        .route("/v1/webhooks/{id}/enable", post(webhooks::enable))
        .route("/v1/webhooks/{id}/disable", post(webhooks::disable))
        .route("/v1/payments", get(payments::list))
        .route("/v1/payments/{id}", get(payments::show))
        .route("/v1/payment_intents", post(payments::create_intent))
        .route("/v1/payment_intents/{id}", get(payments::show_intent))
        .route("/v1/payment_intents/{id}/attach", post(payments::attach))
        .route("/v1/payment_methods", post(payments::create_method))
        .fallback(async || missing("resource"))
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .with_state(ctx.clone())
}

async fn authorize(Shared(ctx): Shared<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted =
        format!("Basic {}", STANDARD.encode(format!("{}:", ctx.tokens.provider("paymongo_secret_key"))));
    if given == Some(wanted.as_str()) {
        return next.run(request).await;
    }
    let detail = "The API key provided is invalid or missing. Please check and try again.";
    Refusal(StatusCode::UNAUTHORIZED, "authentication_failed", detail.to_owned(), None).into_response()
}

/// A refusal: status, code, detail, and the attribute that it is about.
#[derive(Debug)]
struct Refusal(StatusCode, &'static str, String, Option<&'static str>);

type Reply<T = Response> = Result<T, Refusal>;

fn bad(attribute: &'static str, detail: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "parameter_invalid", detail.into(), Some(attribute))
}

fn missing(what: &str) -> Refusal {
    let detail = format!("No such {what} can be found.");
    Refusal(StatusCode::NOT_FOUND, "resource_not_found", detail, None)
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut error = json!({ "code": self.1, "detail": self.2 });
        if let Some(attribute) = self.3 {
            error["source"] = json!({ "pointer": attribute, "attribute": attribute });
        }
        (self.0, Json(json!({ "errors": [error] }))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", format!("could not {error}"), None)
    }
}

/// The attributes of `{"data":{"attributes":{…}}}`.
fn attributes<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Reply<T> {
    #[derive(Deserialize)]
    struct Body<T> {
        data: Data<T>,
    }
    #[derive(Deserialize)]
    struct Data<T> {
        attributes: T,
    }
    let body: Body<T> = serde_json::from_slice(bytes).map_err(|error| bad("data", error.to_string()))?;
    Ok(body.data.attributes)
}

/// The error that a fault answers with.
pub(super) fn fault(status: StatusCode) -> Value {
    let code = match status.as_u16() {
        401 => "authentication_failed",
        404 => "resource_not_found",
        429 => "rate_limit_exceeded",
        400 => "parameter_invalid",
        _ => "internal_error",
    };
    json!({ "errors": [{ "code": code, "detail": status.canonical_reason().unwrap_or("error") }] })
}
