//! The application's scheduled jobs. Whoever calls them shows the `CRON_SECRET` of the deployment that users
//! see, as Vercel does. A job that comes with an `Idempotency-Key` it has seen answers again what it
//! answered then.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Trouble, build, database, unavailable};
use crate::shared::Ctx;
use crate::world::JobRun;

/// Older runs are forgotten, so that an endless loop of jobs cannot fill the disk.
const RUNS_MAX: usize = 1000;

pub(super) fn routes() -> Router<Ctx> {
    Router::new().route("/api/cron/{job}", post(run).get(run))
}

/// What the nightly reconciliation compares: rows that should belong together and do not. It also books payments that
/// PayMongo took and did not deliver.
const RECONCILE: &str = "select (select count(*) from public.profiles), (select count(*) from public.messages), \
    (select count(*) from public.messages m where m.author_id is not null \
       and not exists (select from public.profiles p where p.id = m.author_id))";

/// What the weekly recap would send: one mail to everybody who wrote something.
const RECAP: &str = "select (select count(distinct author_id) from public.messages), \
    (select count(*) from public.messages), 0::bigint";

async fn run(
    State(ctx): State<Ctx>,
    Path(job): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    let secret = build.variables.get("CRON_SECRET").ok_or_else(|| unavailable("CRON_SECRET is not set"))?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::AUTHORIZATION.as_str()).and_then(|given| given.strip_prefix("Bearer ")) != Some(secret) {
        return Err(Trouble(StatusCode::UNAUTHORIZED, "unauthorized".to_owned()));
    }
    let (sql, names) = match job.as_str() {
        "reconcile" => (RECONCILE, ["profiles", "messages", "orphans"]),
        "recap" => (RECAP, ["recipients", "messages", "failed"]),
        _ => return Err(Trouble(StatusCode::NOT_FOUND, "no such job".to_owned())),
    };
    let key = text("idempotency-key").map(str::to_owned);
    if let Some(seen) = key.as_deref().and_then(|key| seen(&ctx, &job, key)) {
        return Ok(axum::Json(seen).into_response());
    }
    if build.read_only {
        return Err(unavailable("read-only: we are repairing something, please come back soon"));
    }
    let row = database(&build).await?.query_one(sql, &[]).await?;
    let mut result = json!({ "ok": true, "job": job });
    if job == "reconcile" {
        result["booked"] = json!(super::billing::book_missed(&ctx, &build).await?);
    }
    for (index, name) in names.into_iter().enumerate() {
        result[name] = json!(row.get::<_, i64>(index));
    }
    let kept = ctx.change(|world| {
        world.jobs.push(JobRun { job, at: Timestamp::now(), key, result: result.clone() });
        let surplus = world.jobs.len().saturating_sub(RUNS_MAX);
        world.jobs.drain(..surplus);
    });
    kept.map_err(|error| Trouble(StatusCode::INTERNAL_SERVER_ERROR, format!("could not {error}")))?;
    Ok(axum::Json(result).into_response())
}

/// What the job answered when this key came first.
fn seen(ctx: &Ctx, job: &str, key: &str) -> Option<Value> {
    ctx.look(|world| {
        let mut runs = world.jobs.iter();
        runs.find(|run| run.job == job && run.key.as_deref() == Some(key)).map(|run| run.result.clone())
    })
}
