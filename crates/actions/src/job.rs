//! `job.run`: one run of a scheduled job of the application, over HTTP, as its scheduler would call it.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::{Answered, Asking, Check, Held, Look, Verb, Wait, ask, holds, settle_by, until};
use crate::intent::{save_sending, settle_sending, was_sending};
use crate::period::Period;
use crate::typed::{About, Done, Found, Typed};

/// Parameters of `job.run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Absolute URL of the job, http or https.
    pub url: String,
    /// What the job knows its scheduler by; sent as `Authorization: Bearer`, as Vercel does with `CRON_SECRET`.
    pub secret: SecretText,
    /// How the job is called: `POST`, or `GET` as Vercel does. Whatever it is, the job acts.
    #[serde(default = "post")]
    #[schemars(default = "post_name")]
    pub method: Verb,
    /// JSON body.
    #[serde(default)]
    pub json: Option<Value>,
    /// How long the job may take: to its answer, and to `until`.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
    /// For a job that only answers that it began: asked until it holds.
    #[serde(default)]
    pub until: Option<Check>,
    /// The job heeds the header `Idempotency-Key`: with the same key it runs once. Then a lost answer is asked for
    /// again by itself.
    #[serde(default)]
    pub keyed: bool,
    /// Asked when the answer was lost: when it holds, the job ran.
    #[serde(default)]
    pub probe: Option<Check>,
}

fn post() -> Verb {
    Verb::Post
}

fn post_name() -> &'static str {
    "POST"
}

fn wait() -> Period {
    Period::seconds(10 * 60)
}

/// Outputs of `job.run`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// HTTP status of the answer; null when only the probe knows that it ran.
    pub status: Option<u16>,
    /// The answer as JSON; null when it is none.
    pub result: Value,
}

/// The action `job.run`.
pub struct Run;

impl Typed for Run {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["the application's CRON_SECRET"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "job.run",
            "Runs a scheduled job of the application once, and waits for its result.",
            Effect::Once,
            r#"id: reconcile
uses: job.run
with:
  url: "{{ vars.app_url }}/api/cron/reconcile"
  secret: "{{ secrets.cron_secret }}"
  keyed: true
  wait: 5m
"#,
        )
    };

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let doubt = match (&params.probe, params.keyed) {
            (_, true) => "a lost answer is asked for again under the same key",
            (Some(_), false) => "a lost answer is settled by its probe",
            (None, false) => "a lost answer is for a person",
        };
        let bare = params.url.split(['?', '#']).next().unwrap_or_default();
        Ok(Preview::Changes { lines: vec![format!("runs the job at {bare} ({doubt})")], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let outputs = match answered(ctx) {
            // An earlier attempt has its answer and still waits for the end.
            Some(outputs) => outputs,
            None => call(ctx, &params).await?,
        };
        if let Some(check) = &params.until {
            let wait = Wait { what: "the job to end", longest: params.wait.0 };
            until(ctx, wait, || async {
                Ok(match holds(ctx, check).await? {
                    Held::Yes => Look::There(()),
                    Held::No(how) | Held::Unheard(how) => Look::NotYet(how),
                })
            })
            .await?;
        }
        let summary = format!("the job ran: {}", shortened(&outputs.result));
        Ok(Done::new(outputs, summary))
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        // With its answer known, or under the same key, going on is safe.
        if params.keyed || answered(ctx).is_some() || !was_sending(ctx) {
            return Ok(Found::Absent);
        }
        settle_by(ctx, params.probe.as_ref(), Outputs::default()).await
    }
}

fn answered(ctx: &Context) -> Option<Outputs> {
    serde_json::from_value(ctx.checkpoints.get("answered")?).ok()
}

async fn call(ctx: &Context, params: &Params) -> Result<Outputs, ActionError> {
    let url = SecretText::from_marked(params.url.clone());
    if runbook_core::secret::holds_marker(url.marked()) {
        return Err(ActionError::refused("run the job: a secret belongs into `secret`, not into its URL"));
    }
    let body = params.json.as_ref().map(|json| SecretText::from_marked(json.to_string()));
    let asking = Asking {
        what: "run the job".to_owned(),
        method: params.method.method(),
        url: &url,
        headers: &BTreeMap::new(),
        bearer: Some(&params.secret),
        key: params.keyed.then_some(ctx.key.as_str()),
        body: body.as_ref(),
        is_json: body.is_some(),
        expect: &[],
        deadline: params.wait.0,
        // Whatever its method, a job acts; only its key makes twice once.
        repeatable: params.keyed,
    };
    save_sending(ctx).await?;
    // The client follows redirects of reads only, and a job that is called by GET has none to follow.
    match ask(ctx, &asking).await {
        Ok(Answered { status, json, .. }) => {
            let outputs = Outputs { status: Some(status), result: json };
            ctx.checkpoints.save("answered", json!(outputs)).await?;
            Ok(outputs)
        }
        Err(error) => {
            settle_sending(ctx, &error).await?;
            Err(error)
        }
    }
}

/// A result as part of one line.
fn shortened(result: &Value) -> String {
    let text = if result.is_null() { "done".to_owned() } else { result.to_string() };
    if text.chars().count() <= 160 {
        return text;
    }
    text.chars().take(159).chain(['…']).collect()
}

#[cfg(test)]
mod tests;
