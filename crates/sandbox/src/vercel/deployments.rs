//! Deployments, promotion, rollback, crons and pause.

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::PROJECT;
use super::reply::{Refusal, Reply, bad, body, missing};
use super::state::{AliasRequest, later};
use crate::shared::Ctx;

/// Page size of the deployment list when none is asked for, and at most.
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

pub(super) async fn project(State(ctx): State<Ctx>) -> Reply {
    Ok(Json(ctx.look(|world| world.vercel.show_project(Timestamp::now()))).into_response())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Create {
    name: String,
    project: Option<String>,
    deployment_id: Option<String>,
    git_source: Option<Value>,
    target: Option<String>,
    #[serde(default)]
    meta: BTreeMap<String, String>,
    auto_assign_custom_domains: Option<bool>,
}

pub(super) async fn create(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Create = body(&bytes)?;
    if wanted.deployment_id.is_none() && wanted.git_source.is_none() {
        return Err(bad("Invalid request: one of `files`, `deploymentId`, `gitSource` is required"));
    }
    let target = match wanted.target.as_deref() {
        None | Some("preview") => None,
        Some("production") => wanted.target,
        Some(_) => return Err(bad("Invalid request: `target` should be `staging` or `production`")),
    };
    let shown = ctx.try_change(|world| {
        let build_ms = world.timing.deployment_ms;
        let now = Timestamp::now();
        let known = wanted.name == PROJECT || wanted.project.as_deref() == Some(world.vercel.id.as_str());
        if !known {
            return Err(missing("Project not found"));
        }
        let mut meta = wanted.meta;
        if let Some(source) = &wanted.deployment_id {
            let source = world.vercel.deployment(source).ok_or_else(|| missing("Deployment not found"))?;
            meta.entry("originalDeploymentId".to_owned()).or_insert_with(|| source.id.clone());
        }
        let made = world.vercel.deploy(target, meta, now, build_ms);
        made.held = wanted.auto_assign_custom_domains == Some(false);
        let id = made.id.clone();
        let made = world.vercel.deployment(&id).map(|d| d.show(&world.vercel, now));
        made.ok_or_else(|| missing("Deployment not found"))
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let now = Timestamp::now();
    let shown = ctx.look(|world| world.vercel.deployment(&id).map(|d| d.show(&world.vercel, now)));
    Ok(Json(shown.ok_or_else(|| missing("The deployment was not found"))?).into_response())
}

pub(super) async fn cancel(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    let now = Timestamp::now();
    let shown = ctx.try_change(|world| {
        let found = world.vercel.deployments.iter_mut().find(|d| d.id == id);
        let deployment = found.ok_or_else(|| missing("The deployment was not found"))?;
        if deployment.state(now) != "BUILDING" {
            return Err(bad("The deployment cannot be canceled any more"));
        }
        deployment.cancelled = true;
        let shown = world.vercel.deployment(&id).map(|d| d.show(&world.vercel, now));
        shown.ok_or_else(|| missing("The deployment was not found"))
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn list(State(ctx): State<Ctx>, Query(query): Query<HashMap<String, String>>) -> Reply {
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<i64>()
            .map(Some)
            .map_err(|_| bad(format!("Invalid request: `{name}` should be a number"))),
    };
    let (since, until) = (number("since")?, number("until")?);
    let limit = number("limit")?.and_then(|n| usize::try_from(n).ok()).unwrap_or(PAGE).min(PAGE_MAX);
    let states: Option<Vec<&str>> = query.get("state").map(|text| text.split(',').collect());
    let metas: Vec<(&str, &String)> =
        query.iter().filter_map(|(key, value)| Some((key.strip_prefix("meta-")?, value))).collect();
    let now = Timestamp::now();
    let (page, next) = ctx.look(|world| {
        let vercel = &world.vercel;
        let project_fits = query.get("projectId").is_none_or(|id| *id == vercel.id || id == PROJECT)
            && query.get("app").is_none_or(|name| name == PROJECT);
        let fits = |d: &&super::Deployment| {
            let at = d.created_at.as_millisecond();
            project_fits
                && query.get("target").is_none_or(|t| d.target.as_deref().unwrap_or("preview") == t)
                && states.as_ref().is_none_or(|s| s.contains(&d.state(now)))
                && metas.iter().all(|(key, value)| d.meta.get(*key) == Some(*value))
                && since.is_none_or(|since| at >= since)
                && until.is_none_or(|until| at < until)
        };
        let found: Vec<_> = vercel.deployments.iter().rev().filter(fits).collect();
        let page: Vec<_> = found.iter().take(limit).map(|d| d.show(vercel, now)).collect();
        let more = found.len() > limit && limit > 0;
        (page, more.then(|| found[limit - 1].created_at.as_millisecond()))
    });
    let pagination = json!({ "count": page.len(), "next": next, "prev": until });
    Ok(Json(json!({ "deployments": page, "pagination": pagination })).into_response())
}

pub(super) async fn promote(State(ctx): State<Ctx>, Path((_, id)): Path<(String, String)>) -> Reply {
    point_at(&ctx, &id, "promote")?;
    Ok((StatusCode::CREATED, Json(json!({}))).into_response())
}

pub(super) async fn rollback(State(ctx): State<Ctx>, Path((_, id)): Path<(String, String)>) -> Reply {
    point_at(&ctx, &id, "rollback")?;
    Ok((StatusCode::CREATED, Json(json!({}))).into_response())
}

/// Asks for the production domain to point at a deployment; it does a moment later.
fn point_at(ctx: &Ctx, id: &str, kind: &str) -> Reply<()> {
    let now = Timestamp::now();
    ctx.try_change(|world| {
        let wait = world.timing.promotion_ms;
        let vercel = &mut world.vercel;
        let deployment = vercel.deployment(id).ok_or_else(|| missing("The deployment was not found"))?;
        if deployment.state(now) != "READY" {
            return Err(bad("The deployment is not ready"));
        }
        if deployment.target.as_deref() != Some("production") {
            let message = "A preview deployment has to be rebuilt for production first".to_owned();
            return Err(Refusal(StatusCode::UNPROCESSABLE_ENTITY, "not_production", message));
        }
        if vercel.production.as_deref() == Some(id) {
            let message = "The deployment is the current production deployment already".to_owned();
            return Err(Refusal(StatusCode::CONFLICT, "already_current", message));
        }
        vercel.alias_request = Some(AliasRequest {
            kind: kind.to_owned(),
            from: vercel.production.clone(),
            to: id.to_owned(),
            requested_at: now,
            due_at: later(now, wait),
            done: false,
        });
        Ok(())
    })
}

pub(super) async fn aliases(State(ctx): State<Ctx>) -> Reply {
    let aliases = ctx.look(|world| {
        let done = world.vercel.alias_request.as_ref();
        done.map(|r| json!([{ "alias": "polaris.local", "id": r.to, "status": if r.done { "completed" } else { "pending" } }]))
    });
    Ok(Json(json!({ "aliases": aliases.unwrap_or_else(|| json!([])), "pagination": { "count": 1, "next": null, "prev": null } }))
        .into_response())
}

#[derive(Deserialize)]
struct Crons {
    enabled: bool,
}

pub(super) async fn crons(State(ctx): State<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Crons = body(&bytes)?;
    let now = Timestamp::now();
    let shown = ctx.change(|world| {
        let vercel = &mut world.vercel;
        match (wanted.enabled, vercel.crons_disabled_at) {
            (true, _) => (vercel.crons_disabled_at, vercel.crons_enabled_at) = (None, Some(now)),
            (false, None) => vercel.crons_disabled_at = Some(now),
            (false, Some(_)) => {}
        }
        vercel.show_project(now)
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn pause(State(ctx): State<Ctx>) -> Reply {
    ctx.change(|world| world.vercel.paused = true)?;
    Ok(StatusCode::OK.into_response())
}

pub(super) async fn unpause(State(ctx): State<Ctx>) -> Reply {
    ctx.change(|world| world.vercel.paused = false)?;
    Ok(StatusCode::OK.into_response())
}
