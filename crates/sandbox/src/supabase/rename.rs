//! `PATCH /v1/projects/{ref}`: a project's name. Changes nothing else.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::json;

use super::project::change;
use super::reply::{Reply, bad, body};
use crate::shared::Ctx;

#[derive(Deserialize)]
struct Update {
    name: String,
}

pub(super) async fn rename(State(ctx): State<Ctx>, Path(reference): Path<String>, bytes: Bytes) -> Reply {
    let wanted: Update = body(&bytes)?;
    if wanted.name.is_empty() || wanted.name.chars().count() > 256 {
        return Err(bad("name must be 1 to 256 characters"));
    }
    change(&ctx, &reference, |project| {
        project.name.clone_from(&wanted.name);
        Ok(())
    })?;
    let id = reference.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Ok(Json(json!({ "id": id, "ref": reference, "name": wanted.name })).into_response())
}
