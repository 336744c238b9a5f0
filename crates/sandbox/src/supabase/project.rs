//! A project: its life, and the requests that create, show and delete it.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::keys::{ApiKey, SigningKey, legacy_keys};
use super::reply::{Refusal, Reply, bad, body, missing};
use super::{ORGANIZATION, REGION};
use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

/// How long a new project says `UNKNOWN` before it says `COMING_UP`.
const UNKNOWN_MS: i64 = 100;
const REGIONS: [&str; 19] = [
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
    "ap-east-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-south-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eu-north-1",
    "eu-central-1",
    "eu-central-2",
    "ca-central-1",
    "sa-east-1",
    "local",
];

/// Where a project stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// Its database is being made.
    Provisioning,
    /// Its database is there.
    Made,
    /// Its database could not be made.
    Failed,
}

/// A project and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) reference: String,
    pub(crate) name: String,
    pub(crate) region: String,
    pub(crate) created_at: Timestamp,
    pub(crate) phase: Phase,
    /// Not healthy before this moment, however quick the database was.
    pub(crate) ready_at: Timestamp,
    pub(crate) db_pass: String,
    pub(crate) legacy_enabled: bool,
    pub(crate) api_keys: Vec<ApiKey>,
    pub(crate) signing_keys: Vec<SigningKey>,
    pub(crate) signing_keys_changed: Option<Timestamp>,
    pub(crate) auth: serde_json::Map<String, Value>,
    /// Edge function secrets: name, sha256 of the value, when.
    pub(crate) secrets: BTreeMap<String, (String, Timestamp)>,
    pub(crate) read_only_override_until: Option<Timestamp>,
}

impl Project {
    pub(crate) fn new(
        name: &str,
        region: &str,
        db_pass: String,
        ready_after_ms: u64,
    ) -> Result<Self, SandboxError> {
        let now = Timestamp::now();
        let reference = disk::random_text(20, b"abcdefghijklmnopqrstuvwxyz");
        let wait = SignedDuration::from_millis(i64::try_from(ready_after_ms).unwrap_or(i64::MAX / 2));
        let jwt_secret = disk::random_secret();
        let auth = [
            ("jwt_exp", json!(3600)),
            ("site_url", json!("http://localhost:3000")),
            ("disable_signup", json!(false)),
        ];
        Ok(Self {
            name: name.to_owned(),
            region: region.to_owned(),
            created_at: now,
            phase: Phase::Provisioning,
            ready_at: now.saturating_add(wait).unwrap_or(now),
            db_pass,
            legacy_enabled: true,
            api_keys: legacy_keys(&reference, &jwt_secret, now),
            signing_keys: vec![
                SigningKey::made("ES256", "in_use", now)?,
                SigningKey::legacy(&jwt_secret, now),
            ],
            signing_keys_changed: None,
            auth: auth.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            secrets: BTreeMap::new(),
            read_only_override_until: None,
            reference,
        })
    }

    pub(crate) fn status(&self, now: Timestamp) -> &'static str {
        match self.phase {
            Phase::Failed => "INIT_FAILED",
            Phase::Made if now >= self.ready_at => "ACTIVE_HEALTHY",
            _ if now.duration_since(self.created_at).as_millis() < i128::from(UNKNOWN_MS) => "UNKNOWN",
            _ => "COMING_UP",
        }
    }

    fn show(&self, now: Timestamp) -> Value {
        json!({
            "id": self.reference, "ref": self.reference, "name": self.name, "region": self.region,
            "organization_id": ORGANIZATION, "organization_slug": ORGANIZATION,
            "created_at": self.created_at.to_string(), "status": self.status(now),
        })
    }

    fn show_with_database(&self, now: Timestamp, version: &(String, String)) -> Value {
        let mut shown = self.show(now);
        shown["database"] = json!({
            "host": format!("db.{}.supabase.co", self.reference),
            "version": version.0, "postgres_engine": version.1, "release_channel": "ga",
        });
        shown
    }
}

/// Reads one project, or refuses as the API does.
pub(super) fn find<T>(ctx: &Ctx, reference: &str, read: impl FnOnce(&Project) -> T) -> Reply<T> {
    ctx.look(|world| world.projects.get(reference).map(read)).ok_or_else(|| missing("Project not found"))
}

/// Changes one project.
pub(super) fn change<T>(
    ctx: &Ctx,
    reference: &str,
    change: impl FnOnce(&mut Project) -> Reply<T>,
) -> Reply<T> {
    ctx.try_change(|world| match world.projects.get_mut(reference) {
        Some(project) => change(project),
        None => Err(missing("Project not found")),
    })
}

/// Makes the database of a project that has none yet; the outcome is its phase.
pub(crate) async fn provision(ctx: Ctx, reference: String) {
    let Some(password) = ctx.look(|world| world.projects.get(&reference).map(|p| p.db_pass.clone())) else {
        return;
    };
    let made = ctx.cluster.provision(&reference, &password).await;
    let phase = match &made {
        Ok(()) => Phase::Made,
        Err(error) => {
            tracing::error!(reference, %error, "a project could not be made");
            Phase::Failed
        }
    };
    let saved = ctx.change(|world| {
        if let Some(project) = world.projects.get_mut(&reference) {
            project.phase = phase;
        }
    });
    if let Err(error) = saved {
        tracing::error!(reference, %error, "a project's state was not written");
    }
}

pub(super) async fn list(State(ctx): State<Ctx>) -> Reply {
    let version = ctx.cluster.version().await?;
    let now = Timestamp::now();
    let shown: Vec<Value> =
        ctx.look(|world| world.projects.values().map(|p| p.show_with_database(now, &version)).collect());
    Ok(Json(shown).into_response())
}

pub(super) async fn list_of_organization(
    State(ctx): State<Ctx>,
    Path(slug): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    if slug != ORGANIZATION {
        return Err(missing("Organization not found"));
    }
    let number = |name: &str, default: usize| match query.get(name) {
        None => Ok(default),
        Some(text) => text.parse::<usize>().map_err(|_| bad(format!("{name} must be a number"))),
    };
    let (limit, offset) = (number("limit", 100)?.min(100), number("offset", 0)?);
    let search = query.get("search").map(|text| text.to_lowercase());
    let statuses: Option<Vec<&str>> = query.get("statuses").map(|text| text.split(',').collect());
    let now = Timestamp::now();
    let found: Vec<Value> = ctx.look(|world| {
        let named = |p: &&Project| {
            search.as_ref().is_none_or(|s| p.name.to_lowercase().contains(s) || p.reference.contains(s))
        };
        let stands = |p: &&Project| statuses.as_ref().is_none_or(|s| s.contains(&p.status(now)));
        world.projects.values().filter(named).filter(stands).map(|p| p.show(now)).collect()
    });
    let count = found.len();
    let page: Vec<Value> = found.into_iter().skip(offset).take(limit).collect();
    let pagination = json!({ "count": count, "limit": limit, "offset": offset });
    Ok(Json(json!({ "projects": page, "pagination": pagination })).into_response())
}

#[derive(Deserialize)]
struct Create {
    name: String,
    db_pass: String,
    organization_slug: Option<String>,
    organization_id: Option<String>,
    region: Option<String>,
    region_selection: Option<RegionSelection>,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum RegionSelection {
    #[serde(rename = "specific")]
    Specific { code: String },
    #[serde(rename = "smartGroup")]
    SmartGroup { code: String },
}

pub(super) async fn create(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Create = body(&bytes)?;
    let organization = wanted.organization_slug.or(wanted.organization_id);
    if organization.as_deref() != Some(ORGANIZATION) {
        return Err(Refusal(
            StatusCode::FORBIDDEN,
            "Your account does not have access to this organization".into(),
        ));
    }
    if wanted.name.is_empty() || wanted.name.chars().count() > 256 {
        return Err(bad("name must be 1 to 256 characters"));
    }
    if wanted.db_pass.chars().count() < 4 {
        return Err(bad("db_pass must be longer than or equal to 4 characters"));
    }
    let region = match (&wanted.region_selection, &wanted.region) {
        (Some(RegionSelection::Specific { code }), _) | (None, Some(code)) => code.clone(),
        (Some(RegionSelection::SmartGroup { code }), _) => match code.as_str() {
            "americas" => "us-east-1".to_owned(),
            "emea" => "eu-central-1".to_owned(),
            "apac" => REGION.to_owned(),
            _ => return Err(bad("region_selection.code must be one of americas, emea, apac")),
        },
        (None, None) => return Err(bad("region_selection or region is required")),
    };
    if !REGIONS.contains(&region.as_str()) {
        return Err(bad(format!("region must be one of the following values: {}", REGIONS.join(", "))));
    }
    let wait = ctx.look(|world| world.timing.project_ms);
    let project = Project::new(&wanted.name, &region, wanted.db_pass, wait)?;
    let (reference, shown) = (project.reference.clone(), project.show(project.created_at));
    ctx.change(|world| drop(world.projects.insert(reference.clone(), project)))?;
    tokio::spawn(provision(ctx.clone(), reference));
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let version = ctx.cluster.version().await?;
    let shown = find(&ctx, &reference, |p| p.show_with_database(Timestamp::now(), &version))?;
    Ok(Json(shown).into_response())
}

pub(super) async fn delete(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let (name, status) = find(&ctx, &reference, |p| (p.name.clone(), p.status(Timestamp::now())))?;
    if !matches!(status, "ACTIVE_HEALTHY" | "INIT_FAILED") {
        return Err(bad("Project not ready for deletion."));
    }
    ctx.cluster.drop_project(&reference).await?;
    super::storage::forget(&ctx, &reference)?;
    ctx.change(|world| drop(world.projects.remove(&reference)))?;
    let id = reference.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Ok(Json(json!({ "id": id, "ref": reference, "name": name })).into_response())
}

const SERVICES: [&str; 8] =
    ["auth", "db", "db_postgres_user", "pooler", "realtime", "rest", "storage", "pg_bouncer"];

pub(super) async fn health(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply<Response> {
    let wanted = query.get("services").ok_or_else(|| bad("services should not be empty"))?;
    let status = find(&ctx, &reference, |p| p.status(Timestamp::now()))?;
    let healthy = status == "ACTIVE_HEALTHY" && ctx.cluster.admin(&reference).await.is_ok();
    let status = match (healthy, status) {
        (true, _) => "ACTIVE_HEALTHY",
        (false, "UNKNOWN" | "COMING_UP") => "COMING_UP",
        _ => "UNHEALTHY",
    };
    let mut shown = Vec::new();
    for name in wanted.split(',') {
        if !SERVICES.contains(&name) {
            return Err(bad(format!("each value in services must be one of {}", SERVICES.join(", "))));
        }
        shown.push(json!({ "name": name, "healthy": healthy, "status": status }));
    }
    Ok(Json(shown).into_response())
}
