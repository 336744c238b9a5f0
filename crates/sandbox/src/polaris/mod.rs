//! The deployed application and the chat room that notifications go to.
//!
//! The application knows only the variables of the deployment that users see, as they were when it was
//! built, and the flags of the global config: what a runbook changes elsewhere reaches it no sooner
//! than it would reach the real one. Every deployment also answers at its own address (`staged`).

pub(crate) mod billing;
mod drills;
mod jobs;
mod media;
mod staged;

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use crate::shared::Ctx;
use crate::world::{HookPost, World};

/// A page that takes longer is an error to its visitor.
const DATABASE_WAIT: Duration = Duration::from_secs(5);
/// Older posts are forgotten, so that an endless loop of notifications cannot fill the disk.
const HOOK_POSTS_MAX: usize = 1000;

/// Everything behind `vars.app_url`, and the webhook sink under `/hooks`.
pub(crate) fn router(ctx: &Ctx) -> Router {
    let pages = Router::new()
        .route("/api/health", get(health))
        .route("/api/profiles/{handle}", get(profile))
        .route("/api/messages/count", get(count_messages))
        .route("/api/messages", post(write_message))
        .route("/api/drills", get(list_drills))
        .merge(self::drills::routes())
        .merge(billing::routes())
        .route("/hooks", get(all_posts))
        .route("/hooks/{name}", post(receive).get(posts))
        .merge(media::routes())
        .merge(jobs::routes())
        .with_state(ctx.clone());
    staged::beside(pages)
}

/// Whether the application answers well; what the derived metrics are made of.
pub(crate) async fn is_healthy(ctx: &Ctx) -> bool {
    health(State(ctx.clone())).await.status().is_success()
}

/// Why a request got no answer from the application.
struct Trouble(StatusCode, String);

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "ok": false, "error": self.1 }))).into_response()
    }
}

fn unavailable(reason: impl Into<String>) -> Trouble {
    Trouble(StatusCode::SERVICE_UNAVAILABLE, reason.into())
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let reason = error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
        unavailable(format!("database: {reason}"))
    }
}

/// What the running application was built with.
struct Build {
    deployment: String,
    variables: BTreeMap<String, String>,
    read_only: bool,
}

fn build(ctx: &Ctx) -> Result<Build, Trouble> {
    ctx.look(|world| {
        let vercel = &world.vercel;
        if vercel.paused {
            return Err(unavailable("DEPLOYMENT_PAUSED"));
        }
        let asked = staged::asked();
        let wanted = match &asked {
            Some(id) => vercel.deployment(id).filter(|staged| staged.state(Timestamp::now()) == "READY"),
            None => vercel.live(),
        };
        let live = wanted.ok_or_else(|| Trouble(StatusCode::NOT_FOUND, "DEPLOYMENT_NOT_FOUND".to_owned()))?;
        Ok(Build {
            deployment: live.id.clone(),
            variables: live.snapshot.clone(),
            read_only: vercel.is_read_only(),
        })
    })
}

async fn database(build: &Build) -> Result<Client, Trouble> {
    let url = build.variables.get("DATABASE_URL").ok_or_else(|| unavailable("DATABASE_URL is not set"))?;
    let mut config: tokio_postgres::Config = url
        .parse()
        .map_err(|error| unavailable(format!("DATABASE_URL is not a connection string: {error}")))?;
    config.connect_timeout(DATABASE_WAIT).application_name("polaris");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the application ended");
        }
    });
    let wait = format!("set statement_timeout = '{}s'", DATABASE_WAIT.as_secs());
    client.batch_execute(&wait).await?;
    Ok(client)
}

/// Touches what the pages need: columns, the view, the functions.
const HEALTH: &str = "select current_database()::text, \
    (select count(display_name) from public.profiles), \
    (select count(*) from public.leaderboard), \
    (select count(public.has_entitlement(id, 'pro')) from (select id from public.profiles limit 1) p)";

async fn health(State(ctx): State<Ctx>) -> Response {
    let build = match build(&ctx) {
        Ok(build) => build,
        Err(trouble) => return trouble.into_response(),
    };
    let named =
        build.variables.get("DATABASE_URL").and_then(|url| url.parse::<tokio_postgres::Config>().ok());
    let named = named.and_then(|config| config.get_dbname().map(str::to_owned));
    let mut shown = json!({
        "ok": true, "database": named, "deployment": build.deployment, "read_only": build.read_only,
        "supabase_url": build.variables.get("NEXT_PUBLIC_SUPABASE_URL"),
        "keys": ctx.look(|world| keys(world, &build.variables)),
    });
    let asked = async { Ok::<_, Trouble>(database(&build).await?.query_one(HEALTH, &[]).await?) };
    match asked.await {
        Ok(row) => {
            shown["database"] = json!(row.get::<_, String>(0));
            Json(shown).into_response()
        }
        Err(Trouble(_, error)) => {
            shown["ok"] = json!(false);
            shown["error"] = json!(error);
            (StatusCode::SERVICE_UNAVAILABLE, Json(shown)).into_response()
        }
    }
}

/// Whether the keys it was built with are keys of the project it talks to.
fn keys(world: &World, variables: &BTreeMap<String, String>) -> Value {
    let reference = variables
        .get("NEXT_PUBLIC_SUPABASE_URL")
        .and_then(|url| url.trim_end_matches('/').rsplit('/').next());
    let project = reference.and_then(|reference| world.projects.get(reference));
    let state = |name: &str| {
        let (Some(value), Some(project)) = (variables.get(name), project) else { return "missing" };
        match project.api_keys.iter().find(|key| key.value == *value) {
            Some(key) if key.kind == "legacy" && !project.legacy_enabled => "disabled",
            Some(_) => "valid",
            None => "unknown",
        }
    };
    json!({ "anon": state("NEXT_PUBLIC_SUPABASE_ANON_KEY"), "service_role": state("SUPABASE_SERVICE_ROLE_KEY") })
}

async fn profile(State(ctx): State<Ctx>, Path(handle): Path<String>) -> Result<Response, Trouble> {
    let client = database(&build(&ctx)?).await?;
    let row = client
        .query_opt(
            "select id::text, handle, display_name, bio, rank::text from public.profiles where handle = $1",
            &[&handle],
        )
        .await?;
    let Some(row) = row else { return Err(Trouble(StatusCode::NOT_FOUND, "no such profile".to_owned())) };
    let text = |index: usize| row.get::<_, Option<String>>(index);
    Ok(Json(
        json!({ "id": text(0), "handle": text(1), "display_name": text(2), "bio": text(3), "rank": text(4) }),
    )
    .into_response())
}

async fn count_messages(State(ctx): State<Ctx>) -> Result<Response, Trouble> {
    let client = database(&build(&ctx)?).await?;
    let sql = "select count(*), count(distinct id) from public.messages";
    let row = client.query_one(sql, &[]).await?;
    Ok(Json(json!({ "count": row.get::<_, i64>(0), "distinct": row.get::<_, i64>(1) })).into_response())
}

async fn list_drills(State(ctx): State<Ctx>) -> Result<Response, Trouble> {
    let client = database(&build(&ctx)?).await?;
    let rows = client
        .query(
            "select slug, title, difficulty::int from public.drills where published order by id limit 100",
            &[],
        )
        .await?;
    let shown: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({ "slug": row.get::<_, String>(0), "title": row.get::<_, String>(1), "difficulty": row.get::<_, i32>(2) })
        })
        .collect();
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct NewMessage {
    handle: String,
    body: String,
}

async fn write_message(State(ctx): State<Ctx>, bytes: Bytes) -> Result<Response, Trouble> {
    let build = build(&ctx)?;
    if build.read_only {
        return Err(unavailable("read-only: we are repairing something, please come back soon"));
    }
    let message: NewMessage = serde_json::from_slice(&bytes)
        .map_err(|error| Trouble(StatusCode::BAD_REQUEST, error.to_string()))?;
    let client = database(&build).await?;
    let row = client
        .query_opt(
            "insert into public.messages (author_id, body) \
             select id, $2 from public.profiles where handle = $1 returning id",
            &[&message.handle, &message.body],
        )
        .await?;
    let Some(row) = row else { return Err(Trouble(StatusCode::NOT_FOUND, "no such profile".to_owned())) };
    Ok((StatusCode::CREATED, Json(json!({ "id": row.get::<_, i64>(0) }))).into_response())
}

/// Answers like a chat service: the body `ok`.
async fn receive(State(ctx): State<Ctx>, Path(hook): Path<String>, bytes: Bytes) -> Response {
    let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes)));
    let kept = ctx.change(|world| {
        world.hooks.push(HookPost { hook, at: Timestamp::now(), body });
        let surplus = world.hooks.len().saturating_sub(HOOK_POSTS_MAX);
        world.hooks.drain(..surplus);
    });
    match kept {
        Ok(()) => "ok".into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("could not {error}")).into_response(),
    }
}

async fn posts(State(ctx): State<Ctx>, Path(hook): Path<String>) -> Response {
    let found: Vec<HookPost> =
        ctx.look(|world| world.hooks.iter().filter(|post| post.hook == hook).cloned().collect());
    Json(found).into_response()
}

async fn all_posts(State(ctx): State<Ctx>) -> Response {
    Json(ctx.look(|world| world.hooks.clone())).into_response()
}
