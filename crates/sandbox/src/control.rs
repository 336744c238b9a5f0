//! The control API: what only a sandbox has. For the `runbook sandbox` commands and tests; no runbook
//! knows it. Every call carries the control token.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::error::SandboxError;
use crate::providers::Metric;
use crate::providers::payment::{Payment, PaymentProvider};
use crate::s3::Put;
use crate::shared::Ctx;
use crate::world::World;
use crate::{backup, providers, seed};

/// An object that a test puts into the bucket is at most so large.
const OBJECT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Everything behind `control_url`.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/_sandbox/status", get(status))
        .route("/_sandbox/state", get(state))
        .route("/_sandbox/fault", post(add_fault).get(list_faults).delete(clear_faults))
        .route("/_sandbox/timing", post(set_timing))
        .route("/_sandbox/metric", post(set_metric))
        .route("/_sandbox/seed", post(do_seed))
        .route("/_sandbox/backup", post(do_backup))
        .route("/_sandbox/break", post(do_break))
        .route("/_sandbox/pay", post(do_pay))
        .route("/_sandbox/stop", post(stop))
        .route("/_sandbox/object/{*key}", put(put_object).layer(DefaultBodyLimit::max(OBJECT_BYTES_MAX)))
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .layer(DefaultBodyLimit::max(64 * 1024))
        .with_state(ctx.clone())
}

struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Self(StatusCode::CONFLICT, error.to_string())
    }
}

fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("read the request: {error}")))
}

async fn authorize(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|value| value.strip_prefix("Bearer ")) == Some(ctx.tokens.control.as_str()) {
        return next.run(request).await;
    }
    Refusal(StatusCode::UNAUTHORIZED, "talk to this sandbox: the control token is wrong".to_owned())
        .into_response()
}

async fn status(State(ctx): State<Ctx>) -> Json<Value> {
    let faults = ctx.faults.waiting().len();
    Json(ctx.look(|world| {
        json!({
            "endpoints": ctx.endpoints, "projects": world.projects.len(), "seeded": world.seeded.is_some(),
            "damaged": world.damaged.is_some(), "backups": world.backups, "faults": faults,
        })
    }))
}

/// Everything that a test may want to compare; secrets only as digests.
async fn state(State(ctx): State<Ctx>) -> Json<Value> {
    let faults = ctx.faults.waiting();
    Json(ctx.look(|world| {
        let mut shown = show(world);
        shown["faults"] = json!(faults);
        shown["effects"] = json!(ctx.effects.all());
        shown
    }))
}

fn show(world: &World) -> Value {
    let now = Timestamp::now();
    let digest = |text: &str| hex::encode(Sha256::digest(text));
    let projects: Vec<Value> = world
        .projects
        .values()
        .map(|p| {
            let keys: Vec<Value> = p
                .signing_keys
                .iter()
                .map(|k| json!({ "id": k.id, "algorithm": k.algorithm, "status": k.status, "legacy": k.legacy }))
                .collect();
            let api_keys: Vec<Value> = p
                .api_keys
                .iter()
                .map(|k| json!({ "id": k.id, "name": k.name, "type": k.kind, "sha256": digest(&k.value) }))
                .collect();
            json!({
                "ref": p.reference, "name": p.name, "region": p.region, "status": p.status(now),
                "live": p.reference == world.live, "signing_keys": keys, "api_keys": api_keys,
                "legacy_enabled": p.legacy_enabled, "secrets": p.secrets.keys().collect::<Vec<_>>(),
                "secret_digests": p.secrets.iter().map(|(name, (sha256, _))| (name.clone(), json!(sha256))).collect::<serde_json::Map<_, _>>(),
            })
        })
        .collect();
    let vercel = &world.vercel;
    let env: Vec<Value> = vercel
        .env
        .iter()
        .map(|v| {
            json!({
                "id": v.id, "key": v.key, "target": v.target, "type": v.kind,
                "sha256": digest(&v.value), "updated_at": v.updated_at.to_string(),
            })
        })
        .collect();
    let deployments: Vec<Value> = vercel
        .deployments
        .iter()
        .map(|d| json!({ "id": d.id, "target": d.target, "state": d.state(now), "meta": d.meta }))
        .collect();
    let flags: serde_json::Map<String, Value> =
        vercel.flags.iter().map(|(key, flag)| (key.clone(), flag.value.clone())).collect();
    json!({
        "projects": projects,
        "vercel": {
            "env": env, "deployments": deployments, "production": vercel.production, "flags": flags,
            "crons_enabled": vercel.crons_disabled_at.is_none(), "paused": vercel.paused,
        },
        "providers": world.providers.shown(), "hooks": world.hooks, "jobs": world.jobs, "backups": world.backups, "timing": world.timing,
        "seeded": world.seeded.is_some(), "damaged": world.damaged.is_some(),
    })
}

async fn add_fault(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    ctx.faults.add(body(&bytes)?);
    Ok(Json(json!({ "faults": ctx.faults.waiting() })))
}

async fn list_faults(State(ctx): State<Ctx>) -> Json<Value> {
    Json(json!({ "faults": ctx.faults.waiting() }))
}

async fn clear_faults(State(ctx): State<Ctx>) -> Json<Value> {
    ctx.faults.clear();
    Json(json!({ "faults": [] }))
}

async fn set_timing(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    let timing = body(&bytes)?;
    ctx.change(|world| world.timing = timing)?;
    Ok(Json(json!(timing)))
}

async fn set_metric(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    let wanted: Metric = body(&bytes)?;
    let refuse = |why: String| Refusal(StatusCode::BAD_REQUEST, format!("set a metric: {why}"));
    ctx.try_change(|world| world.providers.prometheus.set(&wanted.name, wanted.value).map_err(refuse))?;
    Ok(Json(json!(wanted)))
}

async fn do_seed(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    seed::seed(&ctx, body(&bytes)?).await?;
    Ok(Json(json!({ "seeded": true })))
}

async fn do_backup(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    Ok(Json(json!(backup::backup(&ctx, body(&bytes)?).await?)))
}

async fn do_break(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    seed::break_with(&ctx, body(&bytes)?).await?;
    Ok(Json(json!({ "damaged": true })))
}

#[derive(Deserialize)]
struct Pay {
    provider: PaymentProvider,
    #[serde(flatten)]
    payment: Payment,
}

/// Somebody pays; whether the application hears of it is another matter.
async fn do_pay(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Json<Value>, Refusal> {
    let wanted: Pay = body(&bytes)?;
    let paid = match wanted.provider {
        PaymentProvider::Paypal => providers::paypal::pay(&ctx, &wanted.payment).await?,
        PaymentProvider::Paymongo => providers::paymongo::pay(&ctx, &wanted.payment).await?,
    };
    Ok(Json(json!(paid)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutOptions {
    /// Let the store keep a sha256 of its own.
    #[serde(default)]
    store_checksum: bool,
}

/// Stores any bytes under a key of the bucket, as an uploader would that the sandbox knows nothing of.
async fn put_object(
    State(ctx): State<Ctx>,
    Path(key): Path<String>,
    Query(options): Query<PutOptions>,
    bytes: Bytes,
) -> Result<Json<Value>, Refusal> {
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    ctx.store
        .put(Put {
            key: &key,
            content_type: "application/octet-stream",
            length: bytes.len() as u64,
            sha256: options.store_checksum.then_some(digest),
            metadata: &[],
            body: bytes.into(),
        })
        .await?;
    Ok(Json(json!({ "key": key, "sha256": hex::encode(digest) })))
}

async fn stop(State(ctx): State<Ctx>) -> Json<Value> {
    ctx.stop.send_replace(true);
    Json(json!({ "stopping": true }))
}
