//! `paypal.verify_signature`: has PayPal say whether a delivery that the application got is one of its own.

use std::collections::BTreeMap;

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::api;
use crate::http::{Api, Look, Wait, until};
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Parameters of `paypal.verify_signature`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Id of the webhook that the delivery was for.
    pub webhook: String,
    /// The delivery, written out.
    #[serde(default)]
    pub delivery: Option<Delivery>,
    /// Where the application shows the delivery: a URL that answers `{ headers, body }`, and 404 until it came.
    #[serde(default)]
    pub from: Option<String>,
    /// Bearer token for `from`.
    #[serde(default)]
    pub token: Option<SecretText>,
    /// How long one attempt waits for the delivery to come.
    #[serde(default = "within")]
    #[schemars(default = "within")]
    pub within: Period,
}

fn within() -> Period {
    Period::seconds(60)
}

/// A delivery as the application got it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Delivery {
    /// Its headers by name; letter case does not matter. Those that begin with `PAYPAL-` are read.
    pub headers: BTreeMap<String, String>,
    /// Its body, byte by byte.
    pub body: String,
}

/// Outputs of `paypal.verify_signature`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Always true: a signature that does not fit fails the step.
    pub verified: bool,
    /// Id of the event.
    pub event: String,
    /// Id of the transmission.
    pub transmission: String,
}

/// The action `paypal.verify_signature`.
pub struct VerifySignature;

impl Typed for VerifySignature {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "PayPal: a REST application with the scope https://uri.paypal.com/services/applications/webhooks",
        ],
        has_plan: true,
        ..About::new(
            "paypal.verify_signature",
            "Has PayPal verify the signature of a delivery that the application got.",
            Effect::Read,
            r#"- id: paypal-test
  uses: paypal.test_event
- id: paypal-signature
  uses: paypal.verify_signature
  with:
    webhook: "{{ steps['paypal-test'].webhook }}"
    from: "{{ vars.app_url }}/api/billing/deliveries/{{ steps['paypal-test'].event }}"
    token: "{{ secrets.cron_secret }}"
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let source = params.from.as_deref().unwrap_or("this file");
        let line = format!(
            "asks PayPal whether the delivery from {source} is signed for webhook {}",
            params.webhook
        );
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let delivery = delivery(ctx, &params).await?;
        let header = |name: &str| -> Result<&str, ActionError> {
            let found = delivery.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            let value = found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                ActionError::refused(format!("verify the delivery: it has no header `{name}`"))
            })
        };
        let event: Value = serde_json::from_str(&delivery.body).map_err(|error| {
            ActionError::refused("verify the delivery: its body is no JSON").because(error)
        })?;
        let transmission = header("PAYPAL-TRANSMISSION-ID")?.to_owned();
        let head = json!({
            "auth_algo": header("PAYPAL-AUTH-ALGO")?, "cert_url": header("PAYPAL-CERT-URL")?,
            "transmission_id": transmission, "transmission_sig": header("PAYPAL-TRANSMISSION-SIG")?,
            "transmission_time": header("PAYPAL-TRANSMISSION-TIME")?, "webhook_id": params.webhook,
        })
        .to_string();
        // The signature is over the bytes as they came: the event is put in as it stands, not written anew.
        let body = format!("{},\"webhook_event\":{}}}", head.trim_end_matches('}'), delivery.body.trim());
        #[derive(Deserialize)]
        struct Verdict {
            verification_status: String,
        }
        let verdict: Verdict = api(ctx)
            .await?
            .put(
                Method::POST,
                format!("verify transmission `{transmission}`"),
                &["v1", "notifications", "verify-webhook-signature"],
            )
            .json_text(body)
            .send()
            .await?
            .read()?;
        let id = event["id"].as_str().unwrap_or_default().to_owned();
        if verdict.verification_status != "SUCCESS" {
            return Err(ActionError::refused(format!(
                "verify the signature of event `{}`: PayPal says {}",
                id.escape_debug(),
                verdict.verification_status.escape_debug()
            ))
            .code("signature-invalid")
            .hint(
                "The delivery is not PayPal's, or is for another webhook than the application was told of.",
            ));
        }
        let summary = format!("PayPal signed event {id}");
        Ok(Done::new(Outputs { verified: true, event: id, transmission }, summary))
    }
}

async fn delivery(ctx: &Context, params: &Params) -> Result<Delivery, ActionError> {
    let url = match (&params.delivery, &params.from) {
        (Some(delivery), None) => return Ok(delivery.clone()),
        (None, Some(url)) => url,
        _ => return Err(ActionError::refused("find the delivery: give either `delivery` or `from`")),
    };
    let token = params.token.as_ref().map(|token| ctx.secrets.reveal(token)).transpose()?;
    let api = &Api::new("the application", url, token)?;
    until(ctx, Wait { what: "the delivery", longest: params.within.0 }, || async move {
        let reply = api.get("read the delivery", &[]).accept(&[404]).send().await?;
        if reply.status == 404 {
            Ok(Look::NotYet("not there".into()))
        } else {
            Ok(Look::There(reply.read()?))
        }
    })
    .await
}
