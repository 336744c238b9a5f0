//! Billing of the sample application: takes the events of the payment providers, checks their signatures
//! with what its deployment was built with, grants what was paid for and keeps a ledger, once for each
//! event and each payment. Also the e-mail that it sends.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Build, Trouble, build, database, unavailable};
use crate::providers::payment::cents;
use crate::providers::paypal::signature::Signed;
use crate::providers::{paymongo, resend};
use crate::shared::Ctx;

/// So many deliveries are kept to be looked at.
const RECEIVED_MAX: usize = 50;
/// A larger body is no event.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Who pays when the event does not say.
const PAYER: &str = "pilot00001";

/// A delivery that came, taken or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Received {
    provider: String,
    event: String,
    payment: String,
    verified: bool,
    /// Those of the signature, by name.
    headers: BTreeMap<String, String>,
    body: String,
    at: Timestamp,
}

/// What was paid.
struct Payment {
    event: String,
    payment: String,
    kind: String,
    cents: i64,
    currency: String,
    handle: String,
}

pub(super) fn routes() -> Router<Ctx> {
    Router::new()
        .route("/api/webhooks/paypal", post(paypal))
        .route("/api/webhooks/paymongo", post(from_paymongo))
        .route("/api/webhooks/paused", post(paused).get(paused))
        .route("/api/billing/{event}", get(arrived))
        .route("/api/billing/deliveries/{event}", get(delivery))
        .route("/api/email/test", post(send_test))
        .route("/api/health/email", get(send_test))
}

/// Where a webhook points while it is paused: the provider is told that nobody is here.
async fn paused() -> Response {
    (StatusCode::GONE, Json(json!({ "ok": false, "error": "webhooks are paused" }))).into_response()
}

fn refused(reason: &str) -> Trouble {
    Trouble(StatusCode::BAD_REQUEST, reason.to_owned())
}

fn variable<'b>(build: &'b Build, name: &str) -> Result<&'b str, Trouble> {
    let value = build.variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
    value.ok_or_else(|| unavailable(format!("{name} is not set")))
}

/// Whether the application bills through a provider at all, and may write. Asked after a delivery was checked and
/// kept: that is how a person sees that signatures fit while nothing is booked yet.
fn open(build: &Build, provider: &str) -> Result<(), Trouble> {
    let providers = variable(build, "BILLING_PROVIDER")?;
    if !providers.split(',').any(|name| name.trim() == provider) {
        return Err(unavailable(format!("BILLING_PROVIDER does not name {provider}")));
    }
    if build.read_only {
        return Err(unavailable("read-only: we are repairing something, please send it again"));
    }
    Ok(())
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn paypal(State(ctx): State<Ctx>, headers: HeaderMap, bytes: Bytes) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let event = parsed(&bytes)?;
    let webhook_id = variable(&build, "PAYPAL_WEBHOOK_ID")?;
    let (id, time) = (text(&headers, "paypal-transmission-id"), text(&headers, "paypal-transmission-time"));
    let signed = Signed { transmission_id: &id, time: &time, webhook_id, body: &bytes };
    // A certificate from anywhere else could be anybody's.
    let trusted = text(&headers, "paypal-cert-url")
        .strip_prefix(&ctx.endpoints.providers_url)
        .is_some_and(|path| path.starts_with("/paypal/"));
    let verified = trusted && signed.is_signed_by(&text(&headers, "paypal-transmission-sig"));
    let resource = &event["resource"];
    let payment = Payment {
        event: event["id"].as_str().unwrap_or_default().to_owned(),
        payment: resource["id"].as_str().unwrap_or_default().to_owned(),
        kind: event["event_type"].as_str().unwrap_or_default().to_owned(),
        cents: resource["amount"]["value"].as_str().and_then(cents).unwrap_or_default(),
        currency: resource["amount"]["currency_code"].as_str().unwrap_or_default().to_owned(),
        handle: resource["custom_id"].as_str().unwrap_or(PAYER).to_owned(),
    };
    let names = [
        "paypal-auth-algo",
        "paypal-cert-url",
        "paypal-transmission-id",
        "paypal-transmission-sig",
        "paypal-transmission-time",
    ];
    keep(&ctx, "paypal", &payment, verified, (&names, &headers), &bytes)?;
    open(&build, "paypal")?;
    settle(&build, "paypal", payment, verified).await
}

async fn from_paymongo(
    State(ctx): State<Ctx>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let event = parsed(&bytes)?;
    let secret = variable(&build, "PAYMONGO_WEBHOOK_SECRET")?;
    let header = text(&headers, "paymongo-signature");
    let verified = paymongo::is_signed_by(&header, secret, &bytes, Timestamp::now());
    let attributes = &event["data"]["attributes"];
    let paid = &attributes["data"]["attributes"];
    let payment = Payment {
        event: event["data"]["id"].as_str().unwrap_or_default().to_owned(),
        payment: attributes["data"]["id"].as_str().unwrap_or_default().to_owned(),
        kind: attributes["type"].as_str().unwrap_or_default().to_owned(),
        cents: paid["amount"].as_i64().unwrap_or_default(),
        currency: paid["currency"].as_str().unwrap_or_default().to_owned(),
        handle: paid["metadata"]["handle"].as_str().unwrap_or(PAYER).to_owned(),
    };
    keep(&ctx, "paymongo", &payment, verified, (&["paymongo-signature"], &headers), &bytes)?;
    open(&build, "paymongo")?;
    settle(&build, "paymongo", payment, verified).await
}

fn parsed(bytes: &Bytes) -> Result<Value, Trouble> {
    if bytes.len() > BODY_BYTES_MAX {
        return Err(refused("the body is too large"));
    }
    serde_json::from_slice(bytes).map_err(|_| refused("the body is no JSON"))
}

fn keep(
    ctx: &Ctx,
    provider: &str,
    payment: &Payment,
    verified: bool,
    (names, headers): (&[&str], &HeaderMap),
    bytes: &Bytes,
) -> Result<(), Trouble> {
    let received = Received {
        provider: provider.to_owned(),
        event: payment.event.clone(),
        payment: payment.payment.clone(),
        verified,
        headers: names.iter().map(|name| ((*name).to_owned(), text(headers, name))).collect(),
        body: String::from_utf8_lossy(bytes).into_owned(),
        at: Timestamp::now(),
    };
    ctx.change(|world| {
        world.received.push(received);
        let surplus = world.received.len().saturating_sub(RECEIVED_MAX);
        world.received.drain(..surplus);
    })
    .map_err(|error| unavailable(format!("could not {error}")))
}

/// One row of the ledger for an event, one entitlement for a payment: both or neither, and never twice.
const SETTLE: &str = "with payer as (select id from public.profiles where handle = $6), \
    entry as (insert into public.ledger (provider, event_id, payment_id, kind, amount_cents, currency, profile_id) \
      values ($1, $2, $3, $4, $5, $7, (select id from payer)) on conflict do nothing returning id), \
    granted as (insert into public.entitlements (profile_id, product, source, external_id, valid_from, valid_to) \
      select payer.id, 'pro', $1, $3, current_date, current_date + 31 from payer, entry \
      on conflict (external_id) do nothing returning id) \
    select (select count(*) from entry), (select count(*) from granted)";

async fn settle(build: &Build, provider: &str, paid: Payment, verified: bool) -> Result<Response, Trouble> {
    if !verified {
        return Err(refused("the signature does not fit"));
    }
    if paid.event.is_empty() || paid.payment.is_empty() {
        return Err(refused("the event has no id or no payment"));
    }
    if !matches!(paid.kind.as_str(), "PAYMENT.CAPTURE.COMPLETED" | "payment.paid") {
        return Ok(Json(json!({ "ok": true, "ignored": paid.kind })).into_response());
    }
    let client = database(build).await?;
    let row = client
        .query_one(
            SETTLE,
            &[&provider, &paid.event, &paid.payment, &paid.kind, &paid.cents, &paid.handle, &paid.currency],
        )
        .await?;
    let (entries, granted) = (row.get::<_, i64>(0), row.get::<_, i64>(1));
    Ok(Json(json!({ "ok": true, "entries": entries, "granted": granted })).into_response())
}

/// Books what PayMongo was paid and never delivered, as the nightly reconciliation does; how many rows that made.
pub(super) async fn book_missed(ctx: &Ctx, build: &Build) -> Result<i64, Trouble> {
    if open(build, "paymongo").is_err() {
        return Ok(0);
    }
    let client = database(build).await?;
    let mut booked = 0;
    for paid in ctx.look(|world| world.providers.paymongo.paid()) {
        let handle = paid.handle.as_deref().unwrap_or(PAYER);
        let row = client
            .query_one(
                SETTLE,
                &[
                    &"paymongo",
                    &paid.event,
                    &paid.payment,
                    &"payment.paid",
                    &paid.cents,
                    &handle,
                    &paid.currency,
                ],
            )
            .await?;
        booked += row.get::<_, i64>(0);
    }
    Ok(booked)
}

/// Whether an event, named by its own id or by that of its payment, stands in the ledger.
async fn arrived(State(ctx): State<Ctx>, Path(event): Path<String>) -> Result<Response, Trouble> {
    let client = database(&build(&ctx)?).await?;
    let row = client
        .query_opt(
            "select l.provider, l.event_id, l.payment_id, l.amount_cents, l.currency, \
               exists (select 1 from public.entitlements e where e.external_id = l.payment_id) \
             from public.ledger l where l.event_id = $1 or l.payment_id = $1 order by l.id limit 1",
            &[&event],
        )
        .await?;
    let Some(row) = row else {
        return Ok((StatusCode::NOT_FOUND, Json(json!({ "arrived": false, "event": event }))).into_response());
    };
    let text = |index: usize| row.get::<_, String>(index);
    Ok(Json(json!({
        "arrived": true, "provider": text(0), "event": text(1), "payment": text(2),
        "amount_cents": row.get::<_, i64>(3), "currency": text(4), "entitlement": row.get::<_, bool>(5),
    }))
    .into_response())
}

/// The last delivery of an event as it came, for whoever knows the secret of the internal endpoints.
async fn delivery(
    State(ctx): State<Ctx>,
    Path(event): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let secret = variable(&build, "CRON_SECRET")?;
    if text(&headers, header::AUTHORIZATION.as_str()) != format!("Bearer {secret}") {
        return Err(Trouble(StatusCode::UNAUTHORIZED, "the secret is wrong".to_owned()));
    }
    let found = ctx.look(|world| {
        let named = |received: &&Received| received.event == event || received.payment == event;
        world.received.iter().rev().find(named).cloned()
    });
    let found =
        found.ok_or_else(|| Trouble(StatusCode::NOT_FOUND, "no such delivery has come".to_owned()))?;
    Ok(Json(found).into_response())
}

/// Sends an e-mail to the provider's own test address with the key that the deployment has.
async fn send_test(State(ctx): State<Ctx>) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let key = variable(&build, "RESEND_API_KEY")?;
    let sent = ctx
        .change(|world| resend::take(world, key))
        .map_err(|error| unavailable(format!("could not {error}")))?;
    if sent {
        return Ok(Json(json!({ "ok": true, "to": "delivered@resend.dev" })).into_response());
    }
    Err(Trouble(StatusCode::BAD_GATEWAY, "the e-mail provider does not take the key".to_owned()))
}
