//! Instant queries. Facts: the Prometheus HTTP API, version 1.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Context};
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::http::Api;

/// Series of one answer; a query that finds more is not the question that was meant.
const SERIES_MAX: usize = 1_000;

/// One series and its value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value; null when it is no finite number.
    pub value: Option<f64>,
    /// The value as Prometheus writes it: `0.25`, `NaN`, `+Inf`.
    pub text: String,
}

/// The API of this environment.
pub(super) fn api(ctx: &Context) -> Result<Api, ActionError> {
    let settings = ctx.environment.prometheus.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `prometheus` in environment `{}`", ctx.environment.name))
            .hint("Add `prometheus: { url }` to the environment file.")
    })?;
    let token = settings.token.as_ref().map(|token| ctx.secrets.reveal(token)).transpose()?;
    Api::new("Prometheus", &settings.url, token)
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Element>),
    Scalar((f64, String)),
    Matrix(IgnoredAny),
    String(IgnoredAny),
}

#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    /// A histogram has none.
    #[serde(default)]
    value: Option<(f64, String)>,
}

fn sample(labels: BTreeMap<String, String>, text: String) -> Sample {
    let value = number(&text).filter(|value| value.is_finite());
    Sample { labels, value, text }
}

/// A value in Prometheus' notation.
pub(super) fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        other => other.parse().ok(),
    }
}

/// What a query finds now; nothing is nothing, not zero.
pub(super) async fn ask(api: &Api, query: &str) -> Result<Vec<Sample>, ActionError> {
    let what = format!("ask for `{}`", shortened(query));
    let reply = api.get(what.as_str(), &["api", "v1", "query"]).query("query", query).send().await;
    let answer: Answer = reply.map_err(|error| explained(error, query))?.read()?;
    let found = match answer.data {
        Data::Scalar((_, text)) => vec![sample(BTreeMap::new(), text)],
        Data::Vector(elements) => {
            let known = elements.into_iter().map(|e| {
                e.value.map(|(_, text)| sample(e.metric, text)).ok_or("a histogram has no single value")
            });
            known.collect::<Result<_, _>>().map_err(|why| ActionError::refused(format!("{what}: {why}")))?
        }
        Data::Matrix(_) | Data::String(_) => {
            return Err(ActionError::refused(format!("{what}: it gives no single value for now"))
                .hint("Ask for a number of now: put a function such as `avg_over_time` around a range."));
        }
    };
    if found.len() > SERIES_MAX {
        let text = format!("{what}: {} series answer, {SERIES_MAX} are allowed", found.len());
        return Err(ActionError::refused(text).hint("Aggregate: `sum(…)`, `max(…)`."));
    }
    Ok(found)
}

/// Nobody mends a bad expression by trying again.
fn explained(error: ActionError, query: &str) -> ActionError {
    if error.attempted.contains("answered 400") || error.attempted.contains("answered 422") {
        return error.code("bad-query").hint(format!("Try it in Prometheus' own page: {query}"));
    }
    error
}

/// A query as one line of a report.
pub(super) fn shortened(query: &str) -> String {
    let line = query.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= 120 {
        return line;
    }
    line.chars().take(119).chain(['…']).collect()
}
