//! `wait.until`: lets a run go on when something has become true, or at a moment. Changes nothing.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{Check, Held, holds, pause};
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Longest single pause: a machine that slept notices the moment soon after it wakes.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Parameters of `wait.until`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Go on at this moment. This or `check`.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// Go on when this question is answered as expected. This or `at`.
    #[serde(default)]
    pub check: Option<Check>,
    /// Fail when `check` does not hold after so long, counted from the first attempt: a resumed run does not wait
    /// anew.
    #[serde(default = "within")]
    #[schemars(default = "within")]
    pub within: Period,
    /// Time between two questions.
    #[serde(default = "every")]
    #[schemars(default = "every")]
    pub every: Period,
}

fn within() -> Period {
    Period::seconds(10 * 60)
}

fn every() -> Period {
    Period::seconds(5)
}

/// Outputs of `wait.until`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// When waiting ended.
    pub at: Timestamp,
    /// How long was waited, in seconds.
    pub waited_seconds: f64,
    /// How often the question was asked.
    pub tries: u32,
}

/// The action `wait.until`.
pub struct Until;

impl Typed for Until {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        has_plan: true,
        ..About::new(
            "wait.until",
            "Waits until a question is answered as expected, or until a moment.",
            Effect::Read,
            r#"id: healthy
uses: wait.until
with:
  check: { url: "{{ vars.app_url }}/api/health", expect: { json: { ok: true } } }
  within: 2m
  every: 1s
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let line = match (&params.at, &params.check) {
            (Some(at), None) => format!("waits until {at}"),
            (None, Some(check)) => {
                let now = match holds(ctx, check).await? {
                    Held::Yes => "it holds now".to_owned(),
                    Held::No(how) | Held::Unheard(how) => format!("now: {how}"),
                };
                format!("waits at most {} ({now})", params.within)
            }
            _ => return Err(neither()),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let since = begun(ctx).await?;
        let tries = match (params.at, &params.check) {
            (Some(at), None) => {
                until_moment(ctx, at).await?;
                0
            }
            (None, Some(check)) => until_true(ctx, &params, check, since).await?,
            _ => return Err(neither()),
        };
        let at = Timestamp::now();
        let waited_seconds = at.duration_since(since).as_secs_f64().max(0.0);
        let summary = format!("waited {waited_seconds:.1} s");
        Ok(Done::new(Outputs { at, waited_seconds, tries }, summary))
    }
}

fn neither() -> ActionError {
    ActionError::refused("wait: give `at` or `check`, and not both")
}

/// When the first attempt began to wait.
async fn begun(ctx: &Context) -> Result<Timestamp, ActionError> {
    if let Some(since) = ctx.checkpoints.get("since").and_then(|v| v.as_str()?.parse().ok()) {
        return Ok(since);
    }
    let now = Timestamp::now();
    ctx.checkpoints.save("since", json!(now)).await?;
    Ok(now)
}

fn left(until: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(Timestamp::now())).unwrap_or_default()
}

async fn until_moment(ctx: &Context, at: Timestamp) -> Result<(), ActionError> {
    loop {
        let left = left(at);
        if left.is_zero() {
            return Ok(());
        }
        let message = format!("{} left", Period(Duration::from_secs(left.as_secs())));
        ctx.progress.report(Progress { message, ..Progress::default() });
        pause(ctx, "the moment", left.min(PAUSE_MAX)).await?;
    }
}

async fn until_true(
    ctx: &Context,
    params: &Params,
    check: &Check,
    since: Timestamp,
) -> Result<u32, ActionError> {
    let end = jiff::SignedDuration::try_from(params.within.0).ok().and_then(|d| since.checked_add(d).ok());
    let end = end.unwrap_or(Timestamp::MAX);
    let mut tries = 0;
    loop {
        tries += 1;
        let how = match holds(ctx, check).await? {
            Held::Yes => return Ok(tries),
            Held::No(how) | Held::Unheard(how) => how,
        };
        let left = left(end);
        if left.is_zero() {
            // The next attempt, which somebody asked for, waits anew.
            ctx.checkpoints.save("since", serde_json::Value::Null).await?;
            let text = format!("wait for `{}`: after {}: {how}", named(check), params.within);
            return Err(ActionError::refused(text).code("not-in-time"));
        }
        ctx.progress.report(Progress { message: how, ..Progress::default() });
        pause(ctx, "the next question", params.every.0.min(left).max(Duration::from_millis(10))).await?;
    }
}

fn named(check: &Check) -> String {
    let bare = check.url.split(['?', '#']).next().unwrap_or_default();
    check.name.clone().unwrap_or_else(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::{World, serve};
    use axum::Router;
    use axum::routing::get;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn run(world: &World, params: serde_json::Value) -> Result<Done<Outputs>, ActionError> {
        Until.run(&world.ctx, serde_json::from_value(params).unwrap()).await
    }

    /// Says yes from the third question on.
    async fn slow() -> String {
        let asked = Arc::new(AtomicU32::new(0));
        let answer = move || {
            let asked = asked.clone();
            async move { if asked.fetch_add(1, Ordering::SeqCst) < 2 { "no" } else { "yes" } }
        };
        serve(Router::new().route("/", get(answer))).await
    }

    #[tokio::test]
    async fn it_asks_until_the_answer_is_as_expected() {
        let (world, url) = (World::new(), slow().await);
        let check = json!({ "url": url, "expect": { "contains": "yes" } });
        let done = run(&world, json!({ "check": check, "every": "10ms" })).await.unwrap();
        assert_eq!(done.outputs.tries, 3);
    }

    #[tokio::test]
    async fn time_that_an_earlier_attempt_waited_counts() {
        let (world, url) = (World::new(), slow().await);
        let long_ago = Timestamp::now().checked_sub(jiff::SignedDuration::from_mins(9)).unwrap();
        world.ctx.checkpoints.save("since", json!(long_ago)).await.unwrap();
        let check = json!({ "url": url, "expect": { "contains": "never" } });
        let error = run(&world, json!({ "check": check, "within": "5m" })).await.unwrap_err();
        assert_eq!(error.code, Some("not-in-time"));
        let done = run(&world, json!({ "at": "2020-01-01T00:00:00Z" })).await.unwrap();
        assert_eq!(done.outputs.tries, 0);
    }

    #[tokio::test]
    async fn a_wish_to_stop_ends_the_wait() {
        let world = World::new();
        world.stop.ask();
        let error = run(&world, json!({ "at": "2999-01-01T00:00:00Z" })).await.unwrap_err();
        assert_eq!(error.code, Some("stopped"));
        for params in [json!({}), json!({ "at": "2999-01-01T00:00:00Z", "check": { "url": "http://x" } })] {
            let error = run(&world, params).await.unwrap_err();
            assert_eq!(error.aftermath, runbook_core::action::Aftermath::Refused);
        }
    }
}
