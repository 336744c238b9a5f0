//! `metrics.query`: one value of now, judged where bounds are given.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Sample, api, ask, shortened};
use super::judge::{Bounds, Judged, judge};
use crate::typed::{About, Done, Typed};

/// Parameters of `metrics.query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// PromQL that gives numbers of now.
    pub query: String,
    /// Lowest value that is good; every series must be good.
    #[serde(default)]
    pub min: Option<f64>,
    /// Highest value that is good.
    #[serde(default)]
    pub max: Option<f64>,
    /// Whether the step fails when a bound is given and no value is there to judge. Nothing is not zero: a
    /// system that measures nothing is not known to be well.
    #[serde(default)]
    pub allow_unknown: bool,
}

/// Outputs of `metrics.query`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Whether there is a value: something answered, and with numbers.
    pub known: bool,
    /// The value when exactly one series answered with a finite number; null otherwise.
    pub value: Option<f64>,
    /// Lowest finite value of all series.
    pub lowest: Option<f64>,
    /// Highest finite value of all series.
    pub highest: Option<f64>,
    /// Each series.
    pub samples: Vec<Sample>,
}

/// The action `metrics.query`.
pub struct Query;

impl Typed for Query {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Prometheus: whoever may query"],
        has_plan: true,
        ..About::new(
            "metrics.query",
            "Asks Prometheus for a value of now; an empty result is unknown, never zero.",
            Effect::Read,
            r"id: errors
uses: metrics.query
with:
  query: polaris_error_ratio
  max: 0.05
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let found = ask(&api(ctx)?, &params.query).await?;
        let now = match judge(&found, Bounds::default()) {
            Judged::Unknown(why) => why,
            _ => found.iter().take(5).map(|s| s.text.clone()).collect::<Vec<_>>().join(", "),
        };
        Ok(Preview::Changes {
            lines: vec![format!("asks for {} (now: {now})", shortened(&params.query))],
            destroys: None,
        })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let bounds = Bounds { min: params.min, max: params.max };
        let samples = ask(&api(ctx)?, &params.query).await?;
        let named = shortened(&params.query);
        let judged = judge(&samples, bounds);
        let known = match &judged {
            Judged::Bad { why, .. } => {
                return Err(
                    ActionError::unchanged(format!("see `{named}` in bounds: {why}")).code("out-of-bounds")
                );
            }
            Judged::Unknown(why) if bounds != Bounds::default() && !params.allow_unknown => {
                return Err(ActionError::unchanged(format!("see `{named}` in bounds: {why}"))
                    .code("unknown-metric")
                    .hint("Nothing is not zero. Look whether the metric is scraped, or set `allow_unknown: true`."));
            }
            Judged::Unknown(_) => false,
            Judged::Good(_) => true,
        };
        let finite = || samples.iter().filter_map(|sample| sample.value);
        let outputs = Outputs {
            known,
            value: if samples.len() == 1 { samples[0].value } else { None },
            lowest: finite().reduce(f64::min),
            highest: finite().reduce(f64::max),
            samples: samples.clone(),
        };
        let summary = match (known, outputs.value) {
            (false, _) => format!("{named} is unknown"),
            (true, Some(value)) => format!("{named} is {value}"),
            (true, None) => format!("{} series of {named}", samples.len()),
        };
        Ok(Done::new(outputs, summary))
    }
}
