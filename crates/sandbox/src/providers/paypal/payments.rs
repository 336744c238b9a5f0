//! Orders that are paid by card in the request that makes them: how a test payment comes about without a
//! buyer. Every card is a test card here.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::webhooks::read;
use super::{Reply, bad, events, fresh_id, refusal};
use crate::providers::payment::Payment;
use crate::shared::Ctx;

#[derive(Deserialize)]
struct Order {
    intent: String,
    purchase_units: Vec<Unit>,
    payment_source: Source,
}

#[derive(Deserialize)]
struct Unit {
    amount: Amount,
    #[serde(default)]
    custom_id: Option<String>,
}

#[derive(Deserialize)]
struct Amount {
    currency_code: String,
    value: String,
}

#[derive(Deserialize)]
struct Source {
    card: Card,
}

#[derive(Deserialize)]
struct Card {
    number: String,
    expiry: String,
}

pub(super) async fn order(State(ctx): State<Ctx>, headers: HeaderMap, bytes: Bytes) -> Reply {
    let Some(request) = headers.get("paypal-request-id").and_then(|value| value.to_str().ok()) else {
        return Err(bad("PAYPAL_REQUEST_ID_REQUIRED"));
    };
    let wanted: Order = read(&bytes)?;
    let [unit] = wanted.purchase_units.as_slice() else {
        return Err(bad("exactly one purchase unit is taken here"));
    };
    let card = &wanted.payment_source.card;
    if wanted.intent != "CAPTURE" || card.number.len() < 12 || card.expiry.len() != 7 {
        let message = "The requested action could not be performed, semantically incorrect, or failed business validation.";
        return Err(refusal(StatusCode::UNPROCESSABLE_ENTITY, "UNPROCESSABLE_ENTITY", message));
    }
    // The same request id is the same order, whatever became of its answer.
    if let Some(known) = ctx.look(|world| world.providers.paypal.orders.get(request).cloned()) {
        return Ok(Json(known).into_response());
    }
    let payment = Payment {
        handle: unit.custom_id.clone(),
        amount: Some(unit.amount.value.clone()),
        currency: Some(unit.amount.currency_code.clone()),
        description: None,
    };
    let paid = events::pay(&ctx, &payment).await?;
    let amount = json!({ "currency_code": unit.amount.currency_code, "value": unit.amount.value });
    let captures: Vec<Value> =
        vec![json!({ "id": paid.payment, "status": "COMPLETED", "amount": amount, "final_capture": true })];
    let shown = json!({
        "id": fresh_id(), "intent": "CAPTURE", "status": "COMPLETED",
        "purchase_units": [{ "reference_id": "default", "payments": { "captures": captures } }],
    });
    ctx.change(|world| {
        world.providers.paypal.orders.insert(request.to_owned(), shown.clone());
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}
