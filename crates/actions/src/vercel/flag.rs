//! `vercel.flag`: one item of a Global Config (once called Edge Config). Deployments read it within
//! seconds, without a redeploy.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, settings};
use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Where the items are. Vercel renamed the product; both addresses are in use.
const HOMES: [&str; 2] = ["global-config", "edge-config"];

/// Parameters of `vercel.flag`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The item's key: letters, digits, `_` and `-`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,256}$"))]
    pub key: String,
    /// The item's value: any JSON.
    pub value: Value,
    /// What is in force from now on because of this value, a sentence without a full stop:
    /// `the app refuses writes`. It is told until a later step sets the same item without `in_force`.
    #[serde(default)]
    pub in_force: Option<String>,
    /// Whether this ends what an earlier step put in force by the same item. True when `in_force` is left out.
    #[serde(default)]
    pub releases: Option<bool>,
    /// Id of the Global Config; the environment's when left out.
    #[serde(default)]
    pub config: Option<String>,
}

/// Outputs of `vercel.flag`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Id of the Global Config.
    pub config: String,
    /// The item's key.
    pub key: String,
    /// Its value now.
    pub value: Value,
    /// Whether the item was there before.
    pub existed: bool,
    /// Its value before; the undo restores it.
    #[serde(default)]
    pub previous: Value,
}

/// What the item was before the first attempt.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    existed: bool,
    #[serde(default)]
    value: Value,
}

/// The action `vercel.flag`.
pub struct Flag;

impl Typed for Flag {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Vercel: a token of a team member who may read and edit the Global Config"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.flag",
            "Sets a flag that running deployments read within seconds.",
            Effect::Idempotent,
            r#"id: read-only
uses: vercel.flag
tags: [freeze]
with:
  key: read_only
  value: true
  in_force: the app refuses writes
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let config = config(ctx, params.config)?;
        let line = match read(&api(ctx)?, &config, &params.key).await? {
            Some(now) if now == params.value => format!("{} is {now} already", params.key),
            Some(now) => format!("{} changes from {now} to {}", params.key, params.value),
            None => format!("{} is created as {}", params.key, params.value),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check_key(&params.key)?;
        let releases = releases(&params)?;
        let config = config(ctx, params.config)?;
        let api = api(ctx)?;
        let now = read(&api, &config, &params.key).await?;
        let before = remember(ctx, now.as_ref()).await?;
        if now.as_ref() != Some(&params.value) {
            let upsert = json!({ "operation": "upsert", "key": params.key, "value": params.value });
            change(&api, &config, &params.key, upsert).await?;
            if read(&api, &config, &params.key).await?.as_ref() != Some(&params.value) {
                return Err(ActionError::unchanged(format!(
                    "see flag `{}` changed: Vercel still shows the old value",
                    params.key
                )));
            }
        }
        let in_force_key = in_force_key(&config, &params.key);
        let summary = format!("{} is {}", params.key, params.value);
        let outputs = Outputs {
            config,
            key: params.key,
            value: params.value,
            existed: before.existed,
            previous: before.value,
        };
        let done = Done::new(outputs, summary);
        Ok(match params.in_force {
            Some(text) => done.in_force(in_force_key, text),
            None if releases => done.released(in_force_key),
            None => done,
        })
    }

    async fn undo(&self, ctx: &Context, params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let (api, config, key) = (api(ctx)?, outputs.config, outputs.key);
        let now = read(&api, &config, &key).await?;
        let wanted = outputs.existed.then_some(outputs.previous);
        if now != wanted {
            let operation = match &wanted {
                Some(value) => json!({ "operation": "upsert", "key": key, "value": value }),
                None => json!({ "operation": "delete", "key": key }),
            };
            change(&api, &config, &key, operation).await?;
        }
        let in_force_key = in_force_key(&config, &key);
        let summary = match &wanted {
            Some(value) => format!("{key} is {value} again"),
            None => format!("{key} is gone again"),
        };
        let mut outcome = Outcome { outputs: Value::Null, summary, ..Outcome::default() };
        match (&params.in_force, &wanted) {
            (Some(_), _) => outcome.released.push(in_force_key),
            // What this step had ended may be in force again; its words are those of an earlier step.
            (None, Some(before)) if releases(&params)? && *before != params.value => {
                let text = format!("flag {key} is {before} again");
                outcome.in_force.push(InForce { key: in_force_key, text });
            }
            _ => {}
        }
        Ok(outcome)
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        if ctx.checkpoints.get("previous").is_none() {
            return Ok(nothing_to_undo());
        }
        let before = remember(ctx, None).await?;
        let config = config(ctx, params.config.clone())?;
        let (key, value) = (params.key.clone(), params.value.clone());
        let (existed, previous) = (before.existed, before.value);
        self.undo(ctx, params, Outputs { config, key, value, existed, previous }).await
    }
}

fn releases(params: &Params) -> Result<bool, ActionError> {
    if params.in_force.is_some() && params.releases == Some(true) {
        return Err(ActionError::refused(format!(
            "set flag `{}`: it cannot both put something in force and end it",
            params.key.escape_debug()
        )));
    }
    Ok(params.releases.unwrap_or(params.in_force.is_none()))
}

fn in_force_key(config: &str, key: &str) -> String {
    format!("vercel.flag/{config}/{key}")
}

fn config(ctx: &Context, named: Option<String>) -> Result<String, ActionError> {
    match named.or_else(|| settings(ctx).ok()?.global_config.clone()) {
        Some(config) => Ok(config),
        None => Err(ActionError::refused(
            "find the Global Config: neither `config` nor the environment names one",
        )
        .hint("Add `global_config: ecfg_…` under `vercel` in the environment file.")),
    }
}

fn check_key(key: &str) -> Result<(), ActionError> {
    let fits = (1..=256).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if fits {
        return Ok(());
    }
    Err(ActionError::refused(format!(
        "set flag `{}`: a key is 1 to 256 letters, digits, `_` and `-`",
        key.escape_debug()
    )))
}

async fn remember(ctx: &Context, now: Option<&Value>) -> Result<Before, ActionError> {
    if let Some(saved) = ctx.checkpoints.get("previous") {
        return serde_json::from_value(saved).map_err(|error| {
            ActionError::refused("read the checkpoint of the previous value").because(error)
        });
    }
    let before = Before { existed: now.is_some(), value: now.cloned().unwrap_or(Value::Null) };
    ctx.checkpoints.save("previous", json!(before)).await?;
    Ok(before)
}

/// The item's value. 204 and 404 both mean absent; 404 may also mean that this address is not there yet.
async fn read(api: &Api, config: &str, key: &str) -> Result<Option<Value>, ActionError> {
    for home in HOMES {
        let reply = api
            .get(format!("read flag `{key}`"), &["v1", home, config, "item", key])
            .accept(&[404])
            .send()
            .await?;
        match reply.status {
            404 => {}
            204 => return Ok(None),
            _ => {
                #[derive(Deserialize)]
                struct Item {
                    #[serde(default)]
                    value: Value,
                }
                return Ok(Some(reply.read::<Item>()?.value));
            }
        }
    }
    Ok(None)
}

async fn change(api: &Api, config: &str, key: &str, operation: Value) -> Result<(), ActionError> {
    let body = json!({ "items": [operation] });
    let call = |home| {
        api.put(Method::PATCH, format!("set flag `{key}`"), &["v1", home, config, "items"]).json(&body)
    };
    let [new, old] = HOMES;
    if call(new).accept(&[404]).send().await?.status == 404 {
        call(old).send().await?;
    }
    Ok(())
}
