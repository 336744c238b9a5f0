//! `http.request`: one call of any HTTP API. Knows no service; where there is an action of its own for one,
//! that is the better choice.

mod ask;

use std::collections::BTreeMap;

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::{MaybeSecret, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::check::{Check, Held, holds};
use crate::intent::{save_sending, settle_sending, was_sending};
use crate::period::Period;
use crate::typed::{About, Done, Found, Typed};
pub(crate) use ask::{Answered, Asking, ask};

/// Parameters of `http.request`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Absolute URL, http or https; may hold a secret.
    #[schemars(with = "MaybeSecret")]
    pub url: SecretText,
    /// The method. By HTTP's own rules GET, HEAD, PUT and DELETE may be sent twice and are repeated when their
    /// answer was lost; POST and PATCH are not.
    #[serde(default)]
    pub method: Verb,
    /// Request headers; a value may be or hold a secret.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, MaybeSecret>")]
    pub headers: BTreeMap<String, SecretText>,
    /// JSON body. This or `body`.
    #[serde(default)]
    pub json: Option<Value>,
    /// Body as it is, may hold secrets; set `content-type` in `headers`. This or `json`.
    #[serde(default)]
    #[schemars(with = "Option<MaybeSecret>")]
    pub body: Option<SecretText>,
    /// Statuses that count as success; any from 200 to 299 when left out.
    #[serde(default)]
    pub expect: Vec<u16>,
    /// How long the whole answer may take.
    #[serde(default = "deadline")]
    #[schemars(default = "deadline")]
    pub deadline: Period,
    /// Asked when the answer of a POST or PATCH was lost: when it holds, the request was carried out.
    #[serde(default)]
    pub probe: Option<Check>,
}

fn deadline() -> Period {
    Period::seconds(30)
}

/// Methods.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Reads.
    #[default]
    Get,
    /// Reads status and headers.
    Head,
    /// Acts.
    Post,
    /// Puts a thing as it is to be.
    Put,
    /// Changes a part.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    pub(crate) fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Head => Method::HEAD,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }

    /// Twice is once, by RFC 9110 section 9.2.2.
    fn is_repeatable(self) -> bool {
        self.method().is_idempotent()
    }
}

/// Outputs of `http.request`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// HTTP status; null when only the probe knows that it was carried out.
    pub status: Option<u16>,
    /// The body as text, cut after 64 KiB.
    pub body: String,
    /// The body as JSON, when it is JSON and was not cut.
    pub json: Value,
}

impl From<Answered> for Outputs {
    fn from(answered: Answered) -> Self {
        Self { status: Some(answered.status), body: answered.body, json: answered.json }
    }
}

/// The action `http.request`.
pub struct HttpRequest;

impl Typed for HttpRequest {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["whatever the called service asks for"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "http.request",
            "Sends one HTTP request and gives its answer.",
            Effect::Once,
            r#"id: mark
uses: http.request
with:
  method: POST
  url: "{{ vars.hooks_url }}/audit"
  json: { event: restored, run: "{{ run.id }}" }
  expect: [200]
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let doubt = match (&params.probe, params.method.is_repeatable()) {
            (_, true) => "may be sent twice",
            (Some(_), false) => "a lost answer is settled by its probe",
            (None, false) => "a lost answer is for a person",
        };
        // The whole path may be a credential, so only what is no secret is shown, which is how it prints.
        let line = format!("sends {} {} ({doubt})", params.method.method(), params.url);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let repeatable = params.method.is_repeatable();
        let (body, is_json) = match (&params.json, &params.body) {
            (Some(_), Some(_)) => {
                return Err(ActionError::refused("send the request: give `json` or `body`, and not both"));
            }
            (Some(json), None) => (Some(SecretText::from_marked(json.to_string())), true),
            (None, body) => (body.clone(), false),
        };
        let asking = Asking {
            what: format!("send {}", params.method.method()),
            method: params.method.method(),
            url: &params.url,
            headers: &params.headers,
            bearer: None,
            key: None,
            body: body.as_ref(),
            is_json,
            expect: &params.expect,
            deadline: params.deadline.0,
            repeatable,
        };
        if !repeatable {
            save_sending(ctx).await?;
        }
        match ask(ctx, &asking).await {
            Ok(answered) => {
                let outputs = Outputs::from(answered);
                let status = outputs.status.unwrap_or_default();
                if !repeatable {
                    ctx.checkpoints.save("answered", json!(outputs)).await?;
                }
                Ok(Done::new(outputs, format!("answered {status}")))
            }
            Err(error) => {
                if !repeatable {
                    settle_sending(ctx, &error).await?;
                }
                Err(error)
            }
        }
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        if params.method.is_repeatable() || !was_sending(ctx) {
            return Ok(Found::Absent);
        }
        if let Some(outputs) = ctx.checkpoints.get("answered").and_then(|v| serde_json::from_value(v).ok()) {
            return Ok(Found::Happened(Done::new(outputs, "answered")));
        }
        settle_by(ctx, params.probe.as_ref(), Outputs::default()).await
    }
}

/// What an author's question says about a request whose answer was lost.
pub(crate) async fn settle_by<O>(
    ctx: &Context,
    probe: Option<&Check>,
    outputs: O,
) -> Result<Found<O>, ActionError> {
    let Some(probe) = probe else {
        let why = "the request was sent and its answer was lost; look whether it was carried out";
        return Ok(Found::Unclear(why.to_owned()));
    };
    Ok(match holds(ctx, probe).await? {
        Held::Yes => Found::Happened(Done::new(outputs, "found done by its probe")),
        Held::No(_) => Found::Absent,
        Held::Unheard(why) => Found::Unclear(format!("its probe was not answered well: {why}")),
    })
}

#[cfg(test)]
mod tests;
