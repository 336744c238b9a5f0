//! `slo.watch`: looks at queries for a while and fails when they go bad. What was watched is checkpointed, so a
//! resumed run goes on with the time that remains; a watch that failed begins anew.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::api::{api, ask, shortened};
use super::judge::{Bounds, Judged, judge};
use crate::http::{Api, pause};
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// Objectives in one step.
const OBJECTIVES_MAX: usize = 50;
/// Shortest time between two samples: each is a checkpoint in the journal.
const EVERY_MIN: Duration = Duration::from_millis(100);
/// The checkpoint.
const WATCHED: &str = "watched";

/// Parameters of `slo.watch`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What to look at, and what is bad.
    #[schemars(length(min = 1, max = 50))]
    pub objectives: Vec<Objective>,
    /// How long to watch in all. A resumed run goes on with what remains.
    pub duration: Period,
    /// Time between two samples.
    #[serde(default = "every")]
    #[schemars(default = "every")]
    pub every: Period,
    /// The watch fails with this many bad samples of one objective; 1 fails at the first.
    #[serde(default = "one")]
    #[schemars(default = "one", range(min = 1))]
    pub fail_after: u32,
}

fn every() -> Period {
    Period::seconds(30)
}

fn one() -> u32 {
    1
}

/// One objective.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// How the report names it.
    pub name: String,
    /// PromQL that gives numbers of now; every series must be good.
    pub query: String,
    /// Lowest value that is good. This or `max`, or both.
    #[serde(default)]
    pub min: Option<f64>,
    /// Highest value that is good.
    #[serde(default)]
    pub max: Option<f64>,
    /// What a sample counts as for which no value is there. Nothing is not zero.
    #[serde(default)]
    pub unknown: Unknown,
}

/// What nothing counts as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// As bad as a bad value.
    #[default]
    Bad,
    /// Passed over; but an objective that was never seen fails the watch at its end.
    Skip,
}

/// Outputs of `slo.watch`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// When the watch began.
    pub since: Timestamp,
    /// When it ended.
    pub until: Timestamp,
    /// How long was watched, in seconds, without the time in which no run did.
    pub watched_seconds: f64,
    /// Each objective.
    pub results: Vec<Seen>,
}

/// What was seen of one objective.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Samples in all.
    pub samples: u32,
    /// Bad ones.
    pub bad: u32,
    /// Those for which no value was there.
    pub unknown: u32,
    /// The worst value, in words: `0.02 instead of at most 0.01`, or `0.004`.
    pub worst: Option<String>,
    /// How near the worst came to being bad, or how far it went beyond.
    #[serde(default)]
    worst_value: Option<f64>,
    /// When that was.
    pub worst_at: Option<Timestamp>,
}

/// What an interrupted watch leaves behind.
#[derive(Debug, Serialize, Deserialize)]
struct Watched {
    since: Timestamp,
    millis: u64,
    results: Vec<Seen>,
}

/// The action `slo.watch`.
pub struct Watch;

impl Typed for Watch {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Prometheus: whoever may query"],
        has_plan: true,
        ..About::new(
            "slo.watch",
            "Watches metrics for a while and fails when they are bad; a resumed run goes on with the time that remains.",
            Effect::Read,
            r"id: watch
uses: slo.watch
with:
  objectives:
    - { name: errors, query: polaris_error_ratio, max: 0.01 }
    - { name: up, query: up, min: 1 }
  duration: 2s
  every: 500ms
  fail_after: 2
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let api = api(ctx)?;
        let mut lines = vec![format!("watches for {}, every {}:", params.duration, params.every)];
        for objective in &params.objectives {
            let now = match ask(&api, &objective.query).await {
                Ok(found) => match judge(&found, objective.bounds()) {
                    Judged::Good(value) => value.to_string(),
                    Judged::Bad { why, .. } => why,
                    Judged::Unknown(why) => why,
                },
                Err(error) => error.to_string(),
            };
            let Objective { name, query, .. } = objective;
            let wanted = objective.bounds().words();
            lines.push(format!("  {name}: {wanted} of {} (now: {now})", shortened(query)));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check(&params)?;
        let api = api(ctx)?;
        let mut watched = begun(ctx, &params);
        let whole = params.duration.0;
        loop {
            let begin = Instant::now();
            for (objective, seen) in params.objectives.iter().zip(&mut watched.results) {
                look(&api, objective, seen).await?;
            }
            save(ctx, &watched).await?;
            if let Some(bad) = watched.results.iter().find(|seen| seen.bad >= params.fail_after) {
                return Err(failed(ctx, &params, &watched, bad).await);
            }
            let before = Duration::from_millis(watched.millis);
            report(ctx, &watched, whole);
            if before >= whole {
                break;
            }
            let length = params.every.0.saturating_sub(begin.elapsed()).min(whole - before);
            pause(ctx, "the next sample", length).await?;
            // Between two samples no more counts as watched than was wanted, however long one took.
            let passed = begin.elapsed().min(params.every.0).min(whole - before);
            watched.millis += u64::try_from(passed.as_millis()).unwrap_or(u64::MAX).max(1);
        }
        finish(ctx, watched).await
    }
}

impl Objective {
    fn bounds(&self) -> Bounds {
        Bounds { min: self.min, max: self.max }
    }
}

fn check(params: &Params) -> Result<(), ActionError> {
    let refuse = |why: String| Err(ActionError::refused(format!("watch: {why}")));
    let count = params.objectives.len();
    if count == 0 || count > OBJECTIVES_MAX {
        return refuse(format!("{count} objectives, 1 to {OBJECTIVES_MAX} are allowed"));
    }
    if let Some(open) = params.objectives.iter().find(|o| o.min.is_none() && o.max.is_none()) {
        return refuse(format!("`{}` says neither `min` nor `max`, so nothing would be bad", open.name));
    }
    if params.every.0 < EVERY_MIN || params.fail_after == 0 {
        return refuse(format!("`every` is at least {}, `fail_after` at least 1", Period(EVERY_MIN)));
    }
    Ok(())
}

/// Where an interrupted watch of the same objectives stood, or the beginning.
fn begun(ctx: &Context, params: &Params) -> Watched {
    let saved = ctx.checkpoints.get(WATCHED).filter(|saved| !saved.is_null());
    let saved: Option<Watched> = saved.and_then(|saved| serde_json::from_value(saved).ok());
    let same = |watched: &Watched| {
        let names = watched.results.iter().map(|seen| &seen.name);
        names.eq(params.objectives.iter().map(|objective| &objective.name))
    };
    saved.filter(same).unwrap_or_else(|| Watched {
        since: Timestamp::now(),
        millis: 0,
        results: params
            .objectives
            .iter()
            .map(|objective| Seen { name: objective.name.clone(), ..Seen::default() })
            .collect(),
    })
}

async fn save(ctx: &Context, watched: &Watched) -> Result<(), ActionError> {
    ctx.checkpoints.save(WATCHED, json!(watched)).await
}

/// One sample. A query that nobody can answer fails at once; a Prometheus that does not answer is unknown.
async fn look(api: &Api, objective: &Objective, seen: &mut Seen) -> Result<(), ActionError> {
    seen.samples += 1;
    let judged = match ask(api, &objective.query).await {
        Ok(found) => judge(&found, objective.bounds()),
        Err(error) if matches!(error.aftermath, Aftermath::Unchanged { .. }) => {
            Judged::Unknown(error.to_string())
        }
        Err(error) => return Err(error),
    };
    let now = Timestamp::now();
    match judged {
        Judged::Good(value) => seen.worse(objective, value, value.to_string(), now),
        Judged::Bad { value, why } => {
            seen.bad += 1;
            seen.worse(objective, value, why, now);
        }
        Judged::Unknown(why) => {
            seen.unknown += 1;
            if objective.unknown == Unknown::Bad {
                seen.bad += 1;
                if seen.worst.is_none() {
                    (seen.worst, seen.worst_at) = (Some(why), Some(now));
                }
            }
        }
    }
    Ok(())
}

impl Seen {
    /// Keeps the worst. Which of two good values is nearer to being bad is told by the bounds as well.
    fn worse(&mut self, objective: &Objective, value: f64, words: String, at: Timestamp) {
        if self.worst_value.is_none_or(|before| objective.bounds().is_worse(value, before)) {
            (self.worst, self.worst_at) = (Some(words), Some(at));
            self.worst_value = Some(value.clamp(f64::MIN, f64::MAX));
        }
    }
}

fn report(ctx: &Context, watched: &Watched, whole: Duration) {
    let bad: u32 = watched.results.iter().map(|seen| seen.bad).sum();
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    ctx.progress.report(Progress {
        done: watched.millis / 1000,
        total: Some(millis(whole).div_ceil(1000)),
        unit: "seconds",
        message: if bad == 0 { "all good".to_owned() } else { format!("{bad} bad samples") },
    });
}

/// The failure in words. The next attempt watches anew: what was bad must be seen good for the whole time.
async fn failed(ctx: &Context, params: &Params, watched: &Watched, bad: &Seen) -> ActionError {
    let of = format!("{} of {} samples", bad.bad, bad.samples);
    let worst = bad.worst.as_deref().unwrap_or("no value");
    let after = Period(Duration::from_millis(watched.millis));
    let text = format!(
        "see `{}` good for {}: {of} were bad after {after}, the worst: {worst}",
        bad.name, params.duration
    );
    let error = ActionError::refused(text)
        .code("slo-violated")
        .hint("Find out why. A resume watches for the whole time again.");
    match ctx.checkpoints.save(WATCHED, Value::Null).await {
        Ok(()) => error,
        Err(unsaved) => error.because(unsaved),
    }
}

async fn finish(ctx: &Context, watched: Watched) -> Result<Done<Outputs>, ActionError> {
    let unseen = watched.results.iter().find(|seen| seen.unknown == seen.samples);
    if let Some(unseen) = unseen {
        ctx.checkpoints.save(WATCHED, Value::Null).await?;
        let text =
            format!("see `{}` good: in {} samples it had no value at all", unseen.name, unseen.samples);
        return Err(ActionError::refused(text).code("unknown-metric"));
    }
    let (bad, samples) =
        watched.results.iter().fold((0, 0), |(bad, all), seen| (bad + seen.bad, all + seen.samples));
    let length = Duration::from_millis(watched.millis);
    let worst: Vec<String> = watched
        .results
        .iter()
        .filter_map(|seen| Some(format!("{} {}", seen.name, seen.worst.as_deref()?)))
        .collect();
    let summary = format!(
        "{bad} of {samples} samples bad in {}; worst: {}",
        Period(Duration::from_secs(length.as_secs())),
        worst.join(", ")
    );
    let outputs = Outputs {
        since: watched.since,
        until: Timestamp::now(),
        watched_seconds: length.as_secs_f64(),
        results: watched.results,
    };
    Ok(Done::new(outputs, summary))
}
