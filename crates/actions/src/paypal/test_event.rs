//! `paypal.test_event`: makes an event happen, to see that it arrives. Never with real money.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::api::{LIVE_URL, api, base, list, pick, settings};
use super::missed::{Event, events};
use crate::http::{Api, Look, Wait, until};
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// A card that PayPal's sandbox takes, published in its guides; it means nothing elsewhere.
const CARD: (&str, &str, &str) = ("4032039317984658", "2030-12", "123");

/// What kind of event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A payment by test card in PayPal's sandbox: a real event, whose signature can be verified.
    #[default]
    Payment,
    /// A mock event: proves that the endpoint can be reached, and nothing more. Its signature verifies nowhere, so
    /// an application that checks signatures must refuse it. Its URL must be on port 443.
    Simulated,
}

/// Parameters of `paypal.test_event`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What kind of event.
    #[serde(default)]
    pub kind: Kind,
    /// The webhook, by its id or URL; may be left out when there is only one.
    #[serde(default)]
    pub webhook: Option<String>,
    /// How much, in units and hundredths.
    #[serde(default = "amount")]
    #[schemars(default = "amount")]
    pub amount: String,
    /// ISO code of the currency.
    #[serde(default = "currency")]
    #[schemars(default = "currency")]
    pub currency: String,
    /// `custom_id` of the payment: by what the application knows the payer.
    #[serde(default)]
    pub custom_id: Option<String>,
    /// How long one attempt waits for the event to be listed.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

fn amount() -> String {
    "1.00".into()
}

fn currency() -> String {
    "USD".into()
}

fn wait() -> Period {
    Period::seconds(120)
}

/// Outputs of `paypal.test_event`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the event.
    pub event: String,
    /// Id of the payment; none for a mock event.
    #[serde(default)]
    pub payment: Option<String>,
    /// Id of the webhook that it goes to; its deliveries are verified by it.
    pub webhook: String,
    /// Whether its signature can be verified.
    pub verifiable: bool,
}

/// The action `paypal.test_event`.
pub struct TestEvent;

impl Typed for TestEvent {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "PayPal: a REST application of PayPal's sandbox with webhooks and card payments enabled",
        ],
        has_plan: true,
        ..About::new(
            "paypal.test_event",
            "Makes a test payment in PayPal's sandbox, or sends a mock event, to see that events arrive.",
            Effect::Keyed,
            r"id: paypal-test
uses: paypal.test_event
with:
  kind: payment
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        check(ctx, &params)?;
        let all = list(&api(ctx).await?).await?;
        let webhook = pick(&all, params.webhook.as_deref())?;
        let line = match params.kind {
            Kind::Payment => format!(
                "pays {} {} by test card; PayPal tells {}",
                params.amount, params.currency, webhook.url
            ),
            Kind::Simulated => format!("sends a mock event to {}", webhook.url),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check(ctx, &params)?;
        let api = api(ctx).await?;
        let all = list(&api).await?;
        let webhook = pick(&all, params.webhook.as_deref())?.id.clone();
        if params.kind == Kind::Simulated {
            let event: Event = api
                .put(Method::POST, "send a mock event", &["v1", "notifications", "simulate-event"])
                .json(&json!({ "webhook_id": webhook, "event_type": "PAYMENT.CAPTURE.COMPLETED" }))
                .send()
                .await?
                .read()?;
            let summary = format!("mock event {} was sent to webhook {webhook}", event.id);
            return Ok(Done::new(
                Outputs { event: event.id, payment: None, webhook, verifiable: false },
                summary,
            ));
        }
        let payment = pay(ctx, &api, &params).await?;
        let what = format!("the event of payment `{payment}`");
        let event = until(ctx, Wait { what: &what, longest: params.wait.0 }, || async {
            let found = events(&api, &[("transaction_id", &payment), ("page_size", "10")]).await?;
            Ok(found.into_iter().next().map_or_else(|| Look::NotYet("not listed".into()), Look::There))
        })
        .await?;
        let summary = format!("payment {payment} made event {}", event.id);
        Ok(Done::new(Outputs { event: event.id, payment: Some(payment), webhook, verifiable: true }, summary))
    }
}

fn check(ctx: &Context, params: &Params) -> Result<(), ActionError> {
    let is_live = base(settings(ctx)?).trim_end_matches('/').eq_ignore_ascii_case(LIVE_URL);
    if params.kind == Kind::Payment && is_live {
        return Err(ActionError::refused("make a test payment at PayPal: this environment is live, and it would be real money")
            .hint("Use `kind: simulated`, or PayPal's sandbox: `paypal: { api_url: https://api-m.sandbox.paypal.com }`."));
    }
    Ok(())
}

/// Pays by card. The request id makes it one payment however often it is sent.
async fn pay(ctx: &Context, api: &Api, params: &Params) -> Result<String, ActionError> {
    let (number, expiry, code) = CARD;
    let mut unit = json!({ "amount": { "currency_code": params.currency, "value": params.amount } });
    if let Some(custom_id) = &params.custom_id {
        unit["custom_id"] = json!(custom_id);
    }
    let request = hex::encode(&Sha256::digest(ctx.key.as_bytes())[..16]);
    let order: Value = api
        .put(Method::POST, "pay by test card", &["v2", "checkout", "orders"])
        .header("paypal-request-id", request)
        .header("prefer", "return=representation")
        .json(&json!({
            "intent": "CAPTURE", "purchase_units": [unit],
            "payment_source": { "card": { "number": number, "expiry": expiry, "security_code": code } },
        }))
        .send()
        .await?
        .read()?;
    let capture = order.pointer("/purchase_units/0/payments/captures/0/id").and_then(Value::as_str);
    let status = order["status"].as_str().unwrap_or("unknown");
    match capture {
        Some(id) if status == "COMPLETED" => Ok(id.to_owned()),
        _ => Err(ActionError::refused(format!(
            "pay by test card at PayPal: the order is {}",
            status.escape_debug()
        ))
        .hint(
            "The sandbox account must take card payments: look at its settings in the developer dashboard.",
        )),
    }
}
