//! `paymongo.missed_events`: payments of an outage that the application has not. PayMongo lists no events and
//! sends none again, so the payments themselves are compared; reconciling them is the application's job.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Resource, api};
use crate::arrivals::Arrivals;
use crate::http::Api;
use crate::typed::{About, Done, Typed};

/// Payments on one page.
const PAGE: &str = "100";
/// A window with more pages than this is compared by the application's own reconciliation.
const PAGES_MAX: usize = 200;

/// Parameters of `paymongo.missed_events`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// From when on; the beginning of the outage.
    pub since: Timestamp,
    /// Up to when; now, when left out.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Where the application says whether it has a payment: a URL with `{id}`, which answers 404 for one it has not.
    #[serde(default)]
    pub ask: Option<String>,
    /// Ids of payments that the application has, as a query of its database found them.
    #[serde(default)]
    pub known: Vec<String>,
}

/// Outputs of `paymongo.missed_events`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Paid payments in the window.
    pub listed: u64,
    /// Those that the application has not.
    pub missed: Vec<Missed>,
}

/// A payment that the application has not.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Missed {
    /// Its id.
    pub payment: String,
    /// When it was made.
    pub at: Timestamp,
    /// How much, in hundredths.
    pub amount: i64,
    /// ISO code of the currency.
    pub currency: String,
}

#[derive(Deserialize)]
struct Payment {
    #[serde(default)]
    status: String,
    amount: i64,
    currency: String,
    created_at: i64,
}

#[derive(Deserialize)]
struct Page {
    data: Vec<Resource<Payment>>,
    #[serde(default)]
    has_more: bool,
}

/// The action `paymongo.missed_events`.
pub struct MissedEvents;

impl Typed for MissedEvents {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["PayMongo: the secret key of the account"],
        has_plan: true,
        ..About::new(
            "paymongo.missed_events",
            "Lists the payments of an outage that the application has not heard of.",
            Effect::Read,
            r#"id: paymongo-missed
uses: paymongo.missed_events
with:
  since: "{{ run.started_at }}"
  ask: "{{ vars.app_url }}/api/billing/{id}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let found = look(ctx, &params).await?;
        // No moment: a preview of a run that has not begun would show another one each time.
        let line =
            format!("{} of {} payments of that time are missed so far", found.missed.len(), found.listed);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let found = look(ctx, &params).await?;
        let summary = format!("{} of {} payments were missed", found.missed.len(), found.listed);
        Ok(Done::new(found, summary))
    }
}

async fn look(ctx: &Context, params: &Params) -> Result<Outputs, ActionError> {
    let arrivals = Arrivals::of(params.known.clone(), params.ask.clone())?;
    let until = params.until.unwrap_or(Timestamp::MAX);
    let (mut listed, mut missed) = (0, Vec::new());
    for payment in payments(&api(ctx)?, params.since).await? {
        let Payment { status, amount, currency, created_at } = payment.attributes;
        let at = Timestamp::from_second(created_at)
            .map_err(|error| ActionError::refused("read the time of a payment").because(error))?;
        // PayMongo tells seconds, so the first one counts whole.
        if status != "paid" || at.as_second() < params.since.as_second() || at > until {
            continue;
        }
        listed += 1;
        if !arrivals.has(&[&payment.id]).await? {
            missed.push(Missed { payment: payment.id, at, amount, currency });
        }
        let message = format!("{} missed", missed.len());
        ctx.progress.report(Progress { done: listed, total: None, unit: "payments", message });
    }
    Ok(Outputs { listed, missed })
}

/// Payments, newest first, until a page ends before the window.
async fn payments(api: &Api, since: Timestamp) -> Result<Vec<Resource<Payment>>, ActionError> {
    let mut found: Vec<Resource<Payment>> = Vec::new();
    for _ in 0..PAGES_MAX {
        let mut call = api.get("list the payments", &["payments"]).query("limit", PAGE);
        if let Some(last) = found.last() {
            call = call.query("after", &last.id);
        }
        let page: Page = call.send().await?.read()?;
        let is_over =
            page.data.last().is_none_or(|payment| payment.attributes.created_at < since.as_second());
        found.extend(page.data);
        if is_over || !page.has_more {
            return Ok(found);
        }
    }
    Err(ActionError::refused(format!("list the payments at PayMongo: there are more than {PAGES_MAX} pages"))
        .hint("Choose a later `since`."))
}
