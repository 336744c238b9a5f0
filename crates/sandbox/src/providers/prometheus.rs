//! Stand-in for the Prometheus HTTP API: instant and range queries over series that somebody set over the
//! control API, and a few that are made of how the application answers. It knows selectors, numbers and
//! comparisons with a number; what else PromQL has is refused as not executable, never guessed.

mod expression;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Query, Request, State as Extract};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::polaris;
use crate::shared::Ctx;
use expression::{Expression, Problem, Selector};

/// Over how long the error ratio looks back.
const WINDOW_SECONDS: i64 = 10;
/// Answers that are remembered for it.
const ANSWERS_MAX: usize = 10_000;
/// Values of one series that are remembered.
const HISTORY_MAX: usize = 1_000;
/// Points of one series in an answer, as the real service has it.
const POINTS_MAX: f64 = 11_000.0;

/// What it remembers: by the series, when it got which value; none when it was taken away.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    series: BTreeMap<String, Vec<(Timestamp, Option<f64>)>>,
}

/// A series to set.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metric {
    /// `name` or `name{label="value"}`.
    pub(crate) name: String,
    /// None takes it away.
    pub(crate) value: Option<f64>,
}

impl State {
    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({ "series": self.series.iter().map(|(name, all)| (name, all.last().and_then(|v| v.1))).collect::<BTreeMap<_, _>>() })
    }

    /// Sets a series or takes it away.
    pub(crate) fn set(&mut self, name: &str, value: Option<f64>) -> Result<(), String> {
        let series = Selector::series(name)?;
        let history = self.series.entry(series).or_default();
        history.push((Timestamp::now(), value));
        let surplus = history.len().saturating_sub(HISTORY_MAX);
        history.drain(..surplus);
        Ok(())
    }

    /// What a selector finds at a moment: labels and value.
    fn at(&self, selector: &Selector, at: Timestamp) -> Vec<(BTreeMap<String, String>, f64)> {
        let known = self.series.iter().filter_map(|(name, history)| {
            let labels = Selector::labels(name)?;
            let value = history.iter().rev().find(|(since, _)| *since <= at)?.1?;
            selector.fits(&labels).then_some((labels, value))
        });
        known.collect()
    }
}

/// How the application answered lately. Not kept: a daemon that begins has seen nothing.
#[derive(Debug, Default)]
pub(crate) struct Traffic(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// The latest: when, and whether it was an error.
    recent: VecDeque<(Timestamp, bool)>,
    all: u64,
    errors: u64,
}

impl Traffic {
    /// One answer; whether it was an error.
    pub(crate) fn note(&self, error: bool) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answers.recent.push_back((Timestamp::now(), error));
        if answers.recent.len() > ANSWERS_MAX {
            answers.recent.pop_front();
        }
        answers.all += 1;
        answers.errors += u64::from(error);
    }

    /// Share of errors in the window, all answers, all errors.
    #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
    fn measured(&self) -> (f64, f64, f64) {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = Timestamp::now().as_second() - WINDOW_SECONDS;
        let recent = answers.recent.iter().filter(|(at, _)| at.as_second() >= since);
        let (count, bad) =
            recent.fold((0_u64, 0_u64), |(n, bad), (_, error)| (n + 1, bad + u64::from(*error)));
        (bad as f64 / count.max(1) as f64, answers.all as f64, answers.errors as f64)
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/api/v1/query", get(instant).post(instant))
        .route("/api/v1/query_range", get(range).post(range))
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .with_state(ctx.clone())
}

async fn authorize(Extract(ctx): Extract<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|value| value.strip_prefix("Bearer ")) == Some(ctx.tokens.provider("prometheus_token"))
    {
        return next.run(request).await;
    }
    (StatusCode::UNAUTHORIZED, "Unauthorized").into_response()
}

struct Refusal(StatusCode, &'static str, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "status": "error", "errorType": self.1, "error": self.2 }))).into_response()
    }
}

fn bad(why: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, "bad_data", why.into())
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::Syntax(why) => bad(format!("invalid parameter \"query\": {why}")),
            Problem::Unknown(why) => Self(StatusCode::UNPROCESSABLE_ENTITY, "execution", why),
        }
    }
}

/// Parameters from the query, or from a form in the body.
fn pairs(uri: &Uri, bytes: &Bytes) -> Result<HashMap<String, String>, Refusal> {
    let form = Uri::builder().path_and_query(format!("/?{}", String::from_utf8_lossy(bytes))).build();
    let form = form.map_err(|error| bad(error.to_string()))?;
    let read = |uri: &Uri| {
        Query::<HashMap<String, String>>::try_from_uri(uri).map(|q| q.0).map_err(|e| bad(e.to_string()))
    };
    let mut all = read(&form)?;
    all.extend(read(uri)?);
    Ok(all)
}

fn moment(text: &str, name: &str) -> Result<Timestamp, Refusal> {
    let unix = || {
        let seconds: f64 = text.parse().ok()?;
        Timestamp::from_duration(jiff::SignedDuration::try_from_secs_f64(seconds).ok()?).ok()
    };
    unix().or_else(|| text.parse().ok()).ok_or_else(|| {
        bad(format!("invalid parameter \"{name}\": cannot parse \"{text}\" to a valid timestamp"))
    })
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
fn unix(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn written(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

async fn instant(Extract(ctx): Extract<Ctx>, uri: Uri, bytes: Bytes) -> Result<Response, Refusal> {
    let given = pairs(&uri, &bytes)?;
    let expression: Expression = given.get("query").map_or("", String::as_str).parse()?;
    let now = Timestamp::now();
    let at = given.get("time").map_or(Ok(now), |text| moment(text, "time"))?;
    let data = match &expression {
        Expression::Number(number) => {
            json!({ "resultType": "scalar", "result": [unix(at), written(*number)] })
        }
        Expression::Series { selector, keeps } => {
            let found = evaluate(&ctx, selector, at, true).await;
            let shown: Vec<Value> = found
                .into_iter()
                .filter(|(_, value)| keeps.is_none_or(|keeps| keeps.holds(*value)))
                .map(|(labels, value)| json!({ "metric": labels, "value": [unix(at), written(value)] }))
                .collect();
            json!({ "resultType": "vector", "result": shown })
        }
    };
    Ok(Json(json!({ "status": "success", "data": data })).into_response())
}

async fn range(Extract(ctx): Extract<Ctx>, uri: Uri, bytes: Bytes) -> Result<Response, Refusal> {
    let given = pairs(&uri, &bytes)?;
    let need =
        |name: &str| given.get(name).ok_or_else(|| bad(format!("invalid parameter \"{name}\": empty")));
    let expression: Expression = need("query")?.parse()?;
    let (start, end) = (moment(need("start")?, "start")?, moment(need("end")?, "end")?);
    let step = need("step")?.trim_end_matches('s').parse::<f64>().ok().filter(|step| *step > 0.0);
    let step = step.ok_or_else(|| bad("invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer"))?;
    if end < start {
        return Err(bad("invalid parameter \"end\": end timestamp must not be before start time"));
    }
    if (unix(end) - unix(start)) / step > POINTS_MAX {
        return Err(bad("exceeded maximum resolution of 11,000 points per timeseries"));
    }
    let mut all: BTreeMap<BTreeMap<String, String>, Vec<Value>> = BTreeMap::new();
    let mut at = start;
    while at <= end {
        let found = match &expression {
            Expression::Number(number) => vec![(BTreeMap::new(), *number)],
            Expression::Series { selector, keeps } => {
                let mut found = evaluate(&ctx, selector, at, false).await;
                found.retain(|(_, value)| keeps.is_none_or(|keeps| keeps.holds(*value)));
                found
            }
        };
        for (labels, value) in found {
            all.entry(labels).or_default().push(json!([unix(at), written(value)]));
        }
        let Some(next) =
            jiff::SignedDuration::try_from_secs_f64(step).ok().and_then(|s| at.checked_add(s).ok())
        else {
            break;
        };
        at = next;
    }
    let result: Vec<Value> =
        all.into_iter().map(|(labels, values)| json!({ "metric": labels, "values": values })).collect();
    Ok(Json(json!({ "status": "success", "data": { "resultType": "matrix", "result": result } }))
        .into_response())
}

/// What was set, and of what was not set what can be derived. The application is only asked for a value of now.
async fn evaluate(
    ctx: &Ctx,
    selector: &Selector,
    at: Timestamp,
    of_now: bool,
) -> Vec<(BTreeMap<String, String>, f64)> {
    let set = ctx.look(|world| world.providers.prometheus.at(selector, at));
    if !set.is_empty() || !of_now {
        return set;
    }
    let labels = |name: &str| {
        BTreeMap::from([("__name__".to_owned(), name.to_owned()), ("job".to_owned(), "polaris".to_owned())])
    };
    let name = selector.name.as_str();
    if !matches!(
        name,
        "up" | "polaris_read_only"
            | "polaris_error_ratio"
            | "polaris_requests_total"
            | "polaris_errors_total"
    ) || !selector.fits(&labels(name))
    {
        return Vec::new();
    }
    let value = match name {
        "polaris_read_only" => f64::from(u8::from(ctx.look(|world| world.vercel.is_read_only()))),
        "up" => f64::from(u8::from(polaris::is_healthy(ctx).await)),
        "polaris_error_ratio" => {
            // As a prober does: there is always somebody who asks.
            ctx.traffic.note(!polaris::is_healthy(ctx).await);
            ctx.traffic.measured().0
        }
        "polaris_requests_total" => ctx.traffic.measured().1,
        _ => ctx.traffic.measured().2,
    };
    vec![(labels(name), value)]
}
