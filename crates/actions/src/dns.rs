//! `dns.set`: what a name points at, in a Cloudflare zone. Never creates or deletes a record.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

const API_URL: &str = "https://api.cloudflare.com/client/v4";
/// The checkpoint with the record as it was.
const BEFORE: &str = "before";

/// Parameters of `dns.set`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Full name of the record: `app.example.com`.
    pub name: String,
    /// Type of the record.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// What it points at.
    pub content: String,
    /// Seconds to live; 1 is automatic. As it is when left out.
    #[serde(default)]
    pub ttl: Option<u32>,
    /// Whether traffic goes through Cloudflare. As it is when left out.
    #[serde(default)]
    pub proxied: Option<bool>,
    /// Zone id; the environment's when left out.
    #[serde(default)]
    pub zone: Option<String>,
}

/// Types of records that traffic follows, and TXT.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Kind {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Another name.
    Cname,
    /// Text.
    Txt,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Txt => "TXT",
        }
    }
}

/// Outputs of `dns.set`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Zone id.
    pub zone: String,
    /// The record as it is now.
    pub record: Record,
    /// The record as it was; the undo makes it so again.
    pub previous: Record,
}

/// A DNS record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it points at.
    pub content: String,
    /// Seconds to live; 1 is automatic.
    pub ttl: u32,
    /// Whether traffic goes through Cloudflare.
    #[serde(default)]
    pub proxied: bool,
}

impl Record {
    fn words(&self) -> String {
        let ttl = if self.ttl == 1 { "automatic".to_owned() } else { format!("{} s", self.ttl) };
        format!("{} (ttl {ttl}{})", self.content, if self.proxied { ", proxied" } else { "" })
    }
}

/// The action `dns.set`.
pub struct Set;

impl Typed for Set {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        exposes: true,
        permissions: &["Cloudflare: a token with Zone DNS Edit on the zone"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "dns.set",
            "Points a DNS record of a Cloudflare zone at something else.",
            Effect::Idempotent,
            r"id: dns
uses: dns.set
tags: [expose]
with:
  name: app.polaris.example
  type: CNAME
  content: standby.polaris.example
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let zone = Zone::new(ctx, params.zone.as_deref())?;
        let now = zone.find(&params).await?;
        let wanted = wanted(&now, &params);
        let named = format!("{} {}", params.kind.name(), params.name);
        let line = if now == wanted {
            format!("{named} points at {} already", now.words())
        } else {
            format!("points {named} at {} instead of {}", wanted.words(), now.words())
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let zone = Zone::new(ctx, params.zone.as_deref())?;
        let now = zone.find(&params).await?;
        let previous = match before(ctx) {
            Some((_, record)) => record,
            None => {
                ctx.checkpoints.save(BEFORE, json!({ "zone": zone.id, "record": now })).await?;
                now.clone()
            }
        };
        let wanted = wanted(&now, &params);
        if now != wanted {
            zone.change(&wanted).await?;
        }
        let summary = format!("{} points at {}", wanted.name, wanted.words());
        Ok(Done::new(Outputs { zone: zone.id, record: wanted, previous }, summary))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let zone = Zone::new(ctx, Some(&outputs.zone))?;
        if zone.read(&outputs.previous.id).await? != outputs.previous {
            zone.change(&outputs.previous).await?;
        }
        let summary = format!("{} points at {} again", outputs.previous.name, outputs.previous.words());
        Ok(Outcome { summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let Some((zone, previous)) = before(ctx) else { return Ok(nothing_to_undo()) };
        self.undo(ctx, params, Outputs { zone, record: previous.clone(), previous }).await
    }
}

/// The record as the first attempt found it.
fn before(ctx: &Context) -> Option<(String, Record)> {
    let saved = ctx.checkpoints.get(BEFORE)?;
    let zone = saved.get("zone")?.as_str()?.to_owned();
    Some((zone, serde_json::from_value(saved.get("record")?.clone()).ok()?))
}

fn wanted(now: &Record, params: &Params) -> Record {
    Record {
        content: params.content.clone(),
        ttl: params.ttl.unwrap_or(now.ttl),
        proxied: params.proxied.unwrap_or(now.proxied),
        ..now.clone()
    }
}

/// A zone, and how to talk to it.
struct Zone {
    api: Api,
    id: String,
}

impl Zone {
    fn new(ctx: &Context, named: Option<&str>) -> Result<Self, ActionError> {
        let settings = ctx.environment.cloudflare.as_ref().ok_or_else(|| {
            ActionError::refused(format!("find `cloudflare` in environment `{}`", ctx.environment.name))
                .hint("Add `cloudflare: { zone, token }` to the environment file.")
        })?;
        let token = ctx.secrets.reveal(&settings.token)?;
        let api = Api::new("Cloudflare", settings.api_url.as_deref().unwrap_or(API_URL), Some(token))?;
        Ok(Self { api, id: named.unwrap_or(&settings.zone).to_owned() })
    }

    /// The one record of that name and type.
    async fn find(&self, params: &Params) -> Result<Record, ActionError> {
        let named = format!("{} {}", params.kind.name(), params.name);
        let found: Vec<Record> = result(
            self.api
                .get(format!("look up {named}"), &["zones", &self.id, "dns_records"])
                .query("name", &params.name)
                .query("type", params.kind.name())
                .send()
                .await?
                .body,
        )
        .map_err(|why| ActionError::refused(format!("look up {named} at Cloudflare: {why}")))?;
        let count = found.len();
        match found.into_iter().next() {
            Some(record) if count == 1 => Ok(record),
            Some(_) => Err(ActionError::refused(format!("change {named}: there are {count} such records"))
                .hint("Only a name with one record of the type can be repointed.")),
            None => Err(ActionError::refused(format!("change {named}: there is no such record"))
                .hint("Create it once by hand; this action only repoints.")),
        }
    }

    async fn read(&self, id: &str) -> Result<Record, ActionError> {
        let what = format!("read DNS record `{id}`");
        let reply = self.api.get(what.as_str(), &["zones", &self.id, "dns_records", id]).send().await?;
        result(reply.body).map_err(|why| ActionError::refused(format!("{what} at Cloudflare: {why}")))
    }

    /// Changes it and sees that it holds.
    async fn change(&self, wanted: &Record) -> Result<(), ActionError> {
        let what = format!("point {} at {}", wanted.name, wanted.content);
        let path = ["zones", self.id.as_str(), "dns_records", wanted.id.as_str()];
        let body = json!({ "content": wanted.content, "ttl": wanted.ttl, "proxied": wanted.proxied });
        let reply = self.api.put(Method::PATCH, what.as_str(), &path).json(&body).send().await?;
        let said: Result<Record, String> = result(reply.body);
        said.map_err(|why| ActionError::refused(format!("{what} at Cloudflare: {why}")))?;
        if self.read(&wanted.id).await? == *wanted {
            return Ok(());
        }
        Err(ActionError::unchanged(format!("{what}: Cloudflare still shows another record")))
    }
}

/// What is inside Cloudflare's envelope. `success: false` is a refusal, whatever the status.
fn result<T: DeserializeOwned>(mut body: Value) -> Result<T, String> {
    if body["success"] != true {
        let said = body.pointer("/errors/0/message").and_then(Value::as_str);
        return Err(said.unwrap_or("it did not succeed").escape_debug().to_string());
    }
    serde_json::from_value(body["result"].take())
        .map_err(|_| "the answer has another shape than documented".to_owned())
}

#[cfg(test)]
mod tests;
