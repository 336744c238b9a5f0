//! `notify`: posts a message to a chat webhook. A webhook cannot be asked what it received, so a message
//! whose answer was lost stays in doubt.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview};
use runbook_core::environment::Webhook;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::text;
use crate::http::Api;
use crate::typed::{About, Done, Found, Typed};

/// `to` of a message that is only shown.
const SHOW: &str = "show";

/// Parameters of `notify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Template file, relative to the runbook. It sees `values`, `run` and `env`. This or `text`.
    #[serde(default)]
    pub template: Option<String>,
    /// The message itself. This or `template`.
    #[serde(default)]
    pub text: Option<String>,
    /// What the template fills in, by name. No secrets.
    #[serde(default)]
    pub values: BTreeMap<String, Value>,
    /// Name of a webhook under `notify` of the environment, or `show`: send nothing, only give the text.
    pub to: String,
}

/// Outputs of `notify`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The message.
    pub text: String,
    /// Where it went.
    pub to: String,
    /// Whether it was sent; false for `show`.
    pub sent: bool,
}

/// The action `notify`.
pub struct Notify;

impl Typed for Notify {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["the URL of an incoming webhook"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "notify",
            "Posts a message to a chat webhook, or shows it.",
            Effect::Once,
            r#"id: tell
uses: notify
with:
  to: chat
  text: "Restored to {{ steps.backup.taken_at }}. Run {{ run.short_id }}."
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        if params.to != SHOW {
            webhook(ctx, &params.to)?;
        }
        let text = message(ctx, &params).await?;
        let mut lines =
            vec![if params.to == SHOW { "shows:".into() } else { format!("posts to `{}`:", params.to) }];
        lines.extend(text.lines().map(|line| format!("  {line}")));
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let text = message(ctx, &params).await?;
        if params.to == SHOW {
            return Ok(done(text, params.to, false));
        }
        let url = ctx.secrets.reveal(&webhook(ctx, &params.to)?.url)?;
        let api = Api::new("the webhook", url.expose(), None)?;
        ctx.checkpoints.save("sending", json!(true)).await?;
        let sent = api
            .post_once(format!("post to `{}`", params.to), &[])
            .json(&json!({ "text": text }))
            .hide(url.expose())
            // Slack answers `ok`, which is not JSON.
            .any_body()
            .send()
            .await;
        match sent {
            Ok(_) => {
                ctx.checkpoints.save("sent", json!(true)).await?;
                Ok(done(text, params.to, true))
            }
            Err(error) => {
                if error.aftermath != Aftermath::Unknown {
                    ctx.checkpoints.save("sending", json!(false)).await?;
                }
                Err(error)
            }
        }
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let is = |name: &str| ctx.checkpoints.get(name).is_some_and(|v| v == true);
        if is("sent") {
            return Ok(Found::Happened(done(message(ctx, &params).await?, params.to, true)));
        }
        if !is("sending") {
            return Ok(Found::Absent);
        }
        Ok(Found::Unclear(format!(
            "`{}` cannot be asked what it received; look whether the message is there",
            params.to
        )))
    }
}

fn done(text: String, to: String, sent: bool) -> Done<Outputs> {
    let summary = if sent { format!("posted to {to}") } else { text.clone() };
    Done::new(Outputs { text, to, sent }, summary)
}

fn webhook<'c>(ctx: &'c Context, name: &str) -> Result<&'c Webhook, ActionError> {
    ctx.environment.notify.get(name).ok_or_else(|| {
        let known: Vec<&str> = ctx.environment.notify.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text =
            format!("find webhook `{}` in environment `{}`", name.escape_debug(), ctx.environment.name);
        ActionError::refused(text)
            .hint(format!("`notify` of the environment names: {known}. `show` sends nothing."))
    })
}

async fn message(ctx: &Context, params: &Params) -> Result<String, ActionError> {
    match (&params.template, &params.text) {
        (Some(file), None) => {
            let source = text::read(ctx, file).await?;
            text::fill(ctx, file, &source, &params.values)
        }
        // The runbook's own templates were filled before this step began.
        (None, Some(text)) => {
            text::check(&params.to, text)?;
            Ok(text.clone())
        }
        _ => Err(ActionError::refused("find the message: give `template` or `text`, and not both")),
    }
}
