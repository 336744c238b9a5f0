//! `paypal.missed_events`: what happened while nobody took events, and sending it again.

use jiff::Timestamp;
use reqwest::{Method, Url};
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, list, pick};
use crate::arrivals::Arrivals;
use crate::http::Api;
use crate::typed::{About, Done, Typed};

const EVENTS: [&str; 3] = ["v1", "notifications", "webhooks-events"];
/// Events on one page.
const PAGE: &str = "100";
/// A window with more pages than this is compared by the application's own reconciliation.
const PAGES_MAX: usize = 200;

/// Parameters of `paypal.missed_events`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// From when on; the beginning of the outage. PayPal keeps events for about 30 days.
    pub since: Timestamp,
    /// Up to when; now, when left out.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Only these types; all, when empty.
    #[serde(default)]
    pub event_types: Vec<String>,
    /// Where the application says whether it has an event: a URL with `{id}`, which answers 404 for one it has not.
    #[serde(default)]
    pub ask: Option<String>,
    /// Ids of events or payments that the application has, as a query of its database found them.
    #[serde(default)]
    pub known: Vec<String>,
    /// Whether PayPal shall send the missed ones again. The application must take each event once.
    #[serde(default)]
    pub resend: bool,
    /// The webhook that they are sent to, by its id or URL; may be left out when there is only one.
    #[serde(default)]
    pub webhook: Option<String>,
}

/// Outputs of `paypal.missed_events`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Events in the window.
    pub listed: u64,
    /// Those that the application had not.
    pub missed: Vec<Missed>,
    /// How many of them were sent again.
    pub resent: u64,
}

/// An event that the application had not.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    /// Its id.
    pub event: String,
    /// Its type.
    pub event_type: String,
    /// When it happened.
    pub at: Timestamp,
    /// Id of the payment that it is about, if it has one.
    #[serde(default)]
    pub payment: Option<String>,
}

/// An event as PayPal lists it.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    pub(super) id: String,
    #[serde(default)]
    event_type: String,
    #[serde(default)]
    create_time: Option<Timestamp>,
    #[serde(default)]
    resource: Value,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    events: Vec<Event>,
    #[serde(default)]
    links: Vec<Link>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
    rel: String,
}

/// All events that a query finds, page by page.
pub(super) async fn events(api: &Api, query: &[(&str, &str)]) -> Result<Vec<Event>, ActionError> {
    let mut found = Vec::new();
    let mut query: Vec<(String, String)> =
        query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for _ in 0..PAGES_MAX {
        let call = query
            .iter()
            .fold(api.get("list the events", &EVENTS), |call, (name, value)| call.query(name, value));
        let page: Page = call.send().await?.read()?;
        found.extend(page.events);
        let Some(next) = page.links.iter().find(|link| link.rel == "next") else { return Ok(found) };
        // Only what it asks for is taken from the link, never where it leads.
        let next = Url::parse(&next.href)
            .map_err(|error| ActionError::refused("go to the next page of PayPal's events").because(error))?;
        query = next.query_pairs().into_owned().collect();
    }
    Err(ActionError::refused(format!("list the events at PayPal: there are more than {PAGES_MAX} pages"))
        .hint("Choose a shorter window with `since` and `until`, or only some `event_types`."))
}

/// The action `paypal.missed_events`.
pub struct MissedEvents;

impl Typed for MissedEvents {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "PayPal: a REST application with the scope https://uri.paypal.com/services/applications/webhooks",
        ],
        has_plan: true,
        ..About::new(
            "paypal.missed_events",
            "Lists the events of an outage that the application has not, and has them sent again if wanted.",
            Effect::Idempotent,
            r#"id: paypal-missed
uses: paypal.missed_events
with:
  since: "{{ run.started_at }}"
  ask: "{{ vars.app_url }}/api/billing/{id}"
  resend: true
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let (listed, missed) = look(ctx, &api(ctx).await?, &params).await?;
        // No moment: a preview of a run that has not begun would show another one each time.
        let mut lines = vec![format!("{} of {listed} events of that time are missed so far", missed.len())];
        if params.resend {
            lines.push(format!("PayPal sends {} events again", missed.len()));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx).await?;
        let (listed, missed) = look(ctx, &api, &params).await?;
        let resent = if params.resend && !missed.is_empty() {
            let all = list(&api).await?;
            let webhook = &pick(&all, params.webhook.as_deref())?.id;
            resend(ctx, &api, &missed, webhook).await?
        } else {
            0
        };
        let summary = format!("{} of {listed} events were missed, {resent} sent again", missed.len());
        Ok(Done::new(Outputs { listed, missed, resent }, summary))
    }
}

async fn look(ctx: &Context, api: &Api, params: &Params) -> Result<(u64, Vec<Missed>), ActionError> {
    let arrivals = Arrivals::of(params.known.clone(), params.ask.clone())?;
    let (since, until) = (params.since, params.until.unwrap_or_else(Timestamp::now));
    let (start, end) = (since.to_string(), until.to_string());
    let found = events(api, &[("start_time", &start), ("end_time", &end), ("page_size", PAGE)]).await?;
    let wanted =
        |event: &Event| params.event_types.is_empty() || params.event_types.contains(&event.event_type);
    let found: Vec<Event> = found.into_iter().filter(wanted).collect();
    let total = u64::try_from(found.len()).unwrap_or(u64::MAX);
    let mut missed = Vec::new();
    for (done, event) in (1..).zip(found) {
        let payment = event.resource["id"].as_str().map(str::to_owned);
        if !arrivals.has(&[&event.id]).await? && !payment_is_known(&arrivals, payment.as_deref()).await? {
            let at = event.create_time.unwrap_or(since);
            missed.push(Missed { event: event.id, event_type: event.event_type, at, payment });
        }
        let message = format!("{} missed", missed.len());
        ctx.progress.report(Progress { done, total: Some(total), unit: "events", message });
    }
    Ok((total, missed))
}

async fn payment_is_known(arrivals: &Arrivals, payment: Option<&str>) -> Result<bool, ActionError> {
    match payment {
        Some(payment) => arrivals.has(&[payment]).await,
        None => Ok(false),
    }
}

/// What was sent is checkpointed: an event that PayPal sends late is not asked for again by a repeat.
async fn resend(ctx: &Context, api: &Api, missed: &[Missed], webhook: &str) -> Result<u64, ActionError> {
    let saved = ctx.checkpoints.get("resent");
    let mut sent: Vec<String> = saved.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
    for event in missed.iter().map(|missed| &missed.event) {
        if sent.contains(event) {
            continue;
        }
        let [a, b, c] = EVENTS;
        api.put(Method::POST, format!("send event `{event}` again"), &[a, b, c, event, "resend"])
            .json(&json!({ "webhook_ids": [webhook] }))
            .send()
            .await?;
        sent.push(event.clone());
        ctx.checkpoints.save("resent", json!(sent)).await?;
    }
    Ok(u64::try_from(sent.len()).unwrap_or(u64::MAX))
}
