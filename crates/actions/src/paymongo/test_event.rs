//! `paymongo.test_event`: PayMongo has no call that sends a test event, so a payment is made in test mode.

use std::collections::BTreeMap;

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{Data, Resource, api, settings, with_attributes};
use crate::http::{Api, Look, Wait, until};
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// A card that test mode takes, published in PayMongo's guides; it means nothing elsewhere.
const CARD: (&str, u32, u32, &str) = ("4343434343434345", 12, 2030, "123");

/// Parameters of `paymongo.test_event`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// How much, in hundredths; PayMongo takes nothing below 2000.
    #[serde(default = "amount")]
    #[schemars(default = "amount", range(min = 2000, max = 999_999_999))]
    pub amount: u64,
    /// Free values of the payment: by what the application knows the payer.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// How long one attempt waits for the payment.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

fn amount() -> u64 {
    2000
}

fn wait() -> Period {
    Period::seconds(60)
}

/// Outputs of `paymongo.test_event`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the payment; PayMongo does not tell the id of its event.
    pub payment: String,
    /// Id of the payment intent.
    pub intent: String,
}

#[derive(Deserialize)]
struct Intent {
    status: String,
    #[serde(default)]
    payments: Vec<Paid>,
}

#[derive(Deserialize)]
struct Paid {
    id: String,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

/// The action `paymongo.test_event`.
pub struct TestEvent;

impl Typed for TestEvent {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["PayMongo: a secret key of test mode (sk_test_…)"],
        has_plan: true,
        ..About::new(
            "paymongo.test_event",
            "Makes a payment in test mode, as PayMongo has no call for a test event.",
            Effect::Idempotent,
            r"id: paymongo-test
uses: paymongo.test_event
with:
  amount: 2000
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        check(ctx)?;
        let line = format!("pays {} PHP by test card in test mode", amount_text(params.amount));
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check(ctx)?;
        let api = api(ctx)?;
        let intent = intent(ctx, &api, &params).await?;
        let path = ["payment_intents", &intent];
        let (api, intent, path) = (&api, &intent, &path);
        let what = format!("payment intent `{intent}`");
        let payment = until(ctx, Wait { what: &what, longest: params.wait.0 }, || async move {
            let now: Data<Resource<Intent>> =
                api.get("read the payment intent", path).send().await?.read()?;
            let now = now.data.attributes;
            match (now.status.as_str(), now.payments.into_iter().next()) {
                ("succeeded", Some(paid)) => Ok(Look::There(paid.id)),
                // An intent is paid once: attaching again to one that is paid is refused.
                ("awaiting_payment_method", _) => {
                    attach(api, intent).await?;
                    Ok(Look::NotYet("being paid".into()))
                }
                ("awaiting_next_action", _) => Err(ActionError::refused(format!(
                    "pay intent `{intent}` at PayMongo: it asks for a person's confirmation"
                ))),
                (status, _) => Ok(Look::NotYet(status.to_owned())),
            }
        })
        .await?;
        let summary = format!("payment {payment} was made in test mode");
        Ok(Done::new(Outputs { payment, intent: intent.clone() }, summary))
    }
}

fn amount_text(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn check(ctx: &Context) -> Result<(), ActionError> {
    let key = ctx.secrets.reveal(&settings(ctx)?.secret_key)?;
    if key.expose().starts_with("sk_test_") {
        return Ok(());
    }
    Err(ActionError::refused("make a test payment at PayMongo: the key is not one of test mode, and it would be real money")
        .hint("Webhooks of test and live mode are separate. Test the live one with a small real payment, as a `manual` step."))
}

/// The intent of this step. One that is never paid is nothing, so a lost answer leaves nothing behind.
async fn intent(ctx: &Context, api: &Api, params: &Params) -> Result<String, ActionError> {
    if let Some(known) = ctx.checkpoints.get("intent").and_then(|v| v.as_str().map(str::to_owned)) {
        return Ok(known);
    }
    let call = api.put(Method::POST, "create a payment intent", &["payment_intents"]);
    let attributes = json!({
        "amount": params.amount, "currency": "PHP", "payment_method_allowed": ["card"],
        "description": format!("runbook test {}", ctx.run_short), "metadata": params.metadata,
    });
    let made: Data<Named> = with_attributes(call, &attributes).send().await?.read()?;
    ctx.checkpoints.save("intent", json!(made.data.id)).await?;
    Ok(made.data.id)
}

async fn attach(api: &Api, intent: &str) -> Result<(), ActionError> {
    let (number, month, year, code) = CARD;
    let details = json!({ "card_number": number, "exp_month": month, "exp_year": year, "cvc": code });
    let call = api.put(Method::POST, "create a payment method", &["payment_methods"]);
    let method: Data<Named> =
        with_attributes(call, &json!({ "type": "card", "details": details })).send().await?.read()?;
    let call = api.put(Method::POST, "pay by test card", &["payment_intents", intent, "attach"]);
    with_attributes(call, &json!({ "payment_method": method.data.id })).send().await?;
    Ok(())
}
