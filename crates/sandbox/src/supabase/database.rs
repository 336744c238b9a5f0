//! Requests about a project's database: where it is, its password, read-only mode, backups.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;

use super::project::{change, find};
use super::reply::{Reply, bad, body};
use crate::shared::Ctx;

/// How long read-only mode stays off after `temporary-disable`.
const OVERRIDE: SignedDuration = SignedDuration::from_mins(15);

pub(super) async fn pooler(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    find(&ctx, &reference, |_| ())?;
    let port = ctx.cluster.port;
    Ok(Json(json!([{
        "identifier": reference,
        "database_type": "PRIMARY",
        "is_using_scram_auth": true,
        "db_user": format!("postgres.{reference}"),
        "db_host": "127.0.0.1",
        "db_port": port,
        "db_name": reference,
        "connection_string": format!("postgresql://postgres.{reference}:[YOUR-PASSWORD]@127.0.0.1:{port}/{reference}"),
        "connectionString": format!("postgresql://postgres.{reference}:[YOUR-PASSWORD]@127.0.0.1:{port}/{reference}"),
        "default_pool_size": null,
        "max_client_conn": null,
        "pool_mode": "session",
    }]))
    .into_response())
}

#[derive(Deserialize)]
struct Password {
    password: String,
}

pub(super) async fn set_password(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    bytes: Bytes,
) -> Reply {
    let wanted: Password = body(&bytes)?;
    if wanted.password.chars().count() < 4 {
        return Err(bad("password must be longer than or equal to 4 characters"));
    }
    find(&ctx, &reference, |_| ())?;
    ctx.cluster.set_password(&reference, &wanted.password).await?;
    change(&ctx, &reference, |project| {
        project.db_pass = wanted.password;
        Ok(())
    })?;
    Ok(Json(json!({ "message": "Successfully updated password" })).into_response())
}

pub(super) async fn read_only(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let until = find(&ctx, &reference, |p| p.read_only_override_until)?;
    let enabled = ctx.cluster.is_read_only(&reference).await?;
    let active = until.is_some_and(|until| until > Timestamp::now());
    Ok(Json(json!({
        "enabled": enabled,
        "override_enabled": active,
        "override_active_until": until.map(|t| t.to_string()).unwrap_or_default(),
    }))
    .into_response())
}

pub(super) async fn disable_read_only(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    change(&ctx, &reference, |project| {
        project.read_only_override_until = Timestamp::now().saturating_add(OVERRIDE).ok();
        Ok(())
    })?;
    Ok(StatusCode::CREATED.into_response())
}

/// The sandbox has no platform backups: like a free project.
pub(super) async fn backups(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    let region = find(&ctx, &reference, |p| p.region.clone())?;
    Ok(Json(json!({
        "region": region, "walg_enabled": false, "pitr_enabled": false, "backups": [], "physical_backup_data": {},
    }))
    .into_response())
}

pub(super) async fn no_pitr(State(ctx): State<Ctx>, Path(reference): Path<String>) -> Reply {
    find(&ctx, &reference, |_| ())?;
    Err(bad("PITR is not enabled for this project."))
}
