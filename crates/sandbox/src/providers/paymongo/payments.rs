//! Payments, and the intents by which they are made in test mode.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    EVENT_TYPES, FAILURES_MAX, Intent, PAYMENTS_MAX, Payment, Refusal, Reply, Webhook, attributes, bad,
    fresh_id, missing,
};
use crate::error::SandboxError;
use crate::providers::deliver;
use crate::providers::payment::{Paid, Payment as Wanted};
use crate::shared::Ctx;

/// Page size when none is asked for, and at most.
const PAGE: usize = 10;
const PAGE_MAX: usize = 100;
/// The least that can be paid, in hundredths.
const AMOUNT_MIN: i64 = 2000;

impl Payment {
    fn show(&self) -> Value {
        json!({ "id": self.id, "type": "payment", "attributes": {
            "amount": self.amount, "currency": self.currency, "description": self.description, "fee": 0,
            "livemode": false, "metadata": self.metadata, "net_amount": self.amount, "payment_intent_id": self.intent,
            "status": "paid", "source": { "id": "card_sandbox", "type": "card", "brand": "visa", "last4": "4345" },
            "created_at": self.at.as_second(), "paid_at": self.at.as_second(), "updated_at": self.at.as_second(),
        } })
    }

    fn show_event(&self) -> Value {
        json!({ "data": { "id": self.event, "type": "event", "attributes": {
            "type": EVENT_TYPES[0], "livemode": false, "data": self.show(), "previous_data": {}, "pending_webhooks": 1,
            "created_at": self.at.as_second(), "updated_at": self.at.as_second(),
        } } })
    }
}

/// A payment happens: it is kept, and its event delivered to whoever wants it.
pub(crate) async fn pay(ctx: &Ctx, wanted: &Wanted) -> Result<Paid, SandboxError> {
    let amount = wanted.cents().ok_or_else(|| SandboxError::Refused {
        message: format!("make a payment of `{}`: write units and hundredths", wanted.value().escape_debug()),
    })?;
    let payment = Payment {
        id: fresh_id("pay"),
        event: fresh_id("evt"),
        intent: None,
        amount,
        currency: wanted.currency("PHP").to_owned(),
        description: wanted.description.clone(),
        metadata: json!({ "handle": wanted.handle() }),
        at: Timestamp::now(),
        delivered: false,
        tries: 0,
    };
    settle(ctx, payment).await
}

async fn settle(ctx: &Ctx, payment: Payment) -> Result<Paid, SandboxError> {
    let hooks: Vec<Webhook> = ctx.change(|world| {
        let state = &mut world.providers.paymongo;
        state.payments.push(payment.clone());
        let surplus = state.payments.len().saturating_sub(PAYMENTS_MAX);
        state.payments.drain(..surplus);
        let wants = |hook: &&Webhook| hook.enabled && hook.events.iter().any(|event| event == EVENT_TYPES[0]);
        state.webhooks.iter().filter(wants).cloned().collect()
    })?;
    let body = payment.show_event().to_string();
    let mut tries = Vec::new();
    for hook in &hooks {
        let header = hook.sign(Timestamp::now(), &body);
        let status = deliver::post(&hook.url, &[("paymongo-signature", header)], &body).await;
        tries.push((hook.id.clone(), status.is_some_and(|status| (200..300).contains(&status))));
    }
    let delivered = tries.iter().any(|(_, taken)| *taken);
    ctx.change(|world| {
        let state = &mut world.providers.paymongo;
        for (id, taken) in &tries {
            let Some(hook) = state.webhooks.iter_mut().find(|hook| hook.id == *id) else { continue };
            hook.failures = if *taken { 0 } else { hook.failures + 1 };
            if hook.failures >= FAILURES_MAX {
                hook.enabled = false;
            }
        }
        if let Some(known) = state.payments.iter_mut().find(|known| known.id == payment.id) {
            known.delivered = delivered;
            known.tries = u32::try_from(tries.len()).unwrap_or(u32::MAX);
        }
    })?;
    Ok(Paid { event: payment.event, payment: payment.id, delivered })
}

pub(super) async fn list(State(ctx): State<Ctx>, Query(query): Query<HashMap<String, String>>) -> Reply {
    let limit = match query.get("limit").map(|text| text.parse::<usize>()) {
        None => PAGE,
        Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
        Some(_) => return Err(bad("limit", "limit should be between 1 and 100.")),
    };
    let found = ctx.look(|world| {
        let mut all: Vec<&Payment> = world.providers.paymongo.payments.iter().rev().collect();
        // `after` goes on to older ones, `before` back to newer ones.
        let at = |id: &String| all.iter().position(|payment| payment.id == *id);
        let from = match query.get("after") {
            Some(id) => at(id).map(|at| at + 1)?,
            None => 0,
        };
        let to = match query.get("before") {
            Some(id) => at(id)?,
            None => all.len(),
        };
        all = all.get(from..to).unwrap_or_default().to_vec();
        let more = all.len() > limit;
        Some((all.into_iter().take(limit).map(Payment::show).collect::<Vec<_>>(), more))
    });
    let (page, more) = found.ok_or_else(|| bad("after", "The cursor is no payment."))?;
    Ok(Json(json!({ "has_more": more, "data": page })).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let shown =
        ctx.look(|world| world.providers.paymongo.payments.iter().find(|p| p.id == id).map(Payment::show));
    Ok(Json(json!({ "data": shown.ok_or_else(|| missing("payment"))? })).into_response())
}

impl Intent {
    fn show(&self, payments: &[Payment]) -> Value {
        let paid: Vec<Value> =
            payments.iter().filter(|p| p.intent.as_ref() == Some(&self.id)).map(Payment::show).collect();
        json!({ "id": self.id, "type": "payment_intent", "attributes": {
            "amount": self.amount, "currency": self.currency, "description": self.description, "livemode": false,
            "metadata": self.metadata, "status": self.status, "payment_method_allowed": ["card"], "payments": paid,
            "capture_type": "automatic", "client_key": format!("{}_client", self.id), "next_action": null,
            "created_at": self.created_at.as_second(), "updated_at": self.created_at.as_second(),
        } })
    }
}

#[derive(Deserialize)]
struct NewIntent {
    amount: i64,
    currency: String,
    payment_method_allowed: Vec<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default)]
    metadata: Value,
}

pub(super) async fn create_intent(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: NewIntent = attributes(&bytes)?;
    if wanted.amount < AMOUNT_MIN {
        return Err(bad("amount", "The value for amount cannot be less than 2000."));
    }
    if !wanted.payment_method_allowed.iter().any(|name| name == "card") {
        return Err(bad("payment_method_allowed", "The sandbox takes cards."));
    }
    let shown = ctx.change(|world| {
        let intent = Intent {
            id: fresh_id("pi"),
            amount: wanted.amount,
            currency: wanted.currency,
            description: wanted.description,
            metadata: wanted.metadata,
            status: "awaiting_payment_method".to_owned(),
            created_at: Timestamp::now(),
        };
        let shown = intent.show(&[]);
        world.providers.paymongo.intents.push(intent);
        shown
    })?;
    Ok(Json(json!({ "data": shown })).into_response())
}

pub(super) async fn show_intent(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let shown = ctx.look(|world| {
        let state = &world.providers.paymongo;
        state.intents.iter().find(|intent| intent.id == id).map(|intent| intent.show(&state.payments))
    });
    Ok(Json(json!({ "data": shown.ok_or_else(|| missing("payment intent"))? })).into_response())
}

#[derive(Deserialize)]
struct NewMethod {
    r#type: String,
    details: Card,
}

#[derive(Deserialize)]
struct Card {
    card_number: String,
    exp_month: u32,
    exp_year: u32,
    cvc: String,
}

pub(super) async fn create_method(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: NewMethod = attributes(&bytes)?;
    let card = &wanted.details;
    if wanted.r#type != "card" || card.card_number.len() < 12 || card.cvc.len() < 3 {
        return Err(bad("details", "details.card_number format is invalid."));
    }
    if !(1..=12).contains(&card.exp_month) || card.exp_year < 2020 {
        return Err(bad("details", "details.exp_month and details.exp_year are in the past."));
    }
    let id = ctx.change(|world| {
        let id = fresh_id("pm");
        world.providers.paymongo.methods.push(id.clone());
        id
    })?;
    Ok(Json(json!({ "data": { "id": id, "type": "payment_method", "attributes": { "type": "card", "livemode": false } } }))
        .into_response())
}

#[derive(Deserialize)]
struct Attach {
    payment_method: String,
}

pub(super) async fn attach(State(ctx): State<Ctx>, Path(id): Path<String>, bytes: Bytes) -> Reply {
    let wanted: Attach = attributes(&bytes)?;
    let intent = ctx.try_change(|world| {
        let state = &mut world.providers.paymongo;
        if !state.methods.contains(&wanted.payment_method) {
            return Err(missing("payment method"));
        }
        let found = state.intents.iter_mut().find(|intent| intent.id == id);
        let intent = found.ok_or_else(|| missing("payment intent"))?;
        if intent.status != "awaiting_payment_method" {
            return Err(bad("status", format!("You cannot attach: the status is {}.", intent.status)));
        }
        intent.status = "succeeded".to_owned();
        Ok::<Intent, Refusal>(intent.clone())
    })?;
    let payment = Payment {
        id: fresh_id("pay"),
        event: fresh_id("evt"),
        intent: Some(intent.id.clone()),
        amount: intent.amount,
        currency: intent.currency.clone(),
        description: intent.description.clone(),
        metadata: intent.metadata.clone(),
        at: Timestamp::now(),
        delivered: false,
        tries: 0,
    };
    settle(&ctx, payment).await?;
    let shown = ctx.look(|world| intent.show(&world.providers.paymongo.payments));
    Ok(Json(json!({ "data": shown })).into_response())
}
