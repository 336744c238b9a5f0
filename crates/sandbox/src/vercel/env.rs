//! Environment variables of the project. A change reaches only deployments made after it.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use base64::Engine as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Refusal, Reply, bad, body, missing};
use super::state::{EnvVar, Vercel, fresh_id};
use crate::shared::Ctx;

/// All variables of a deployment together; the API refuses more.
const VALUE_BYTES_MAX: usize = 64 * 1024;
const TARGETS: [&str; 3] = ["production", "preview", "development"];

impl EnvVar {
    /// `sensitive` values are never shown again; `encrypted` ones only to those who ask for it.
    fn show(&self, decrypt: bool) -> Value {
        let value = match self.kind.as_str() {
            "sensitive" => String::new(),
            "encrypted" if !decrypt => base64::engine::general_purpose::STANDARD.encode(format!(
                "encrypted:{}:{}",
                self.id,
                self.value.len()
            )),
            _ => self.value.clone(),
        };
        json!({
            "id": self.id, "key": self.key, "value": value, "type": self.kind, "target": self.target,
            "gitBranch": self.git_branch, "comment": self.comment, "decrypted": decrypt && self.kind != "sensitive",
            "configurationId": null,
            "createdAt": self.created_at.as_millisecond(), "updatedAt": self.updated_at.as_millisecond(),
        })
    }

    fn overlaps(&self, other: &NewVar) -> bool {
        self.key == other.key
            && self.git_branch == other.git_branch
            && self.target.iter().any(|target| other.target.contains(target))
    }
}

pub(super) async fn list(State(ctx): State<Ctx>, Query(query): Query<HashMap<String, String>>) -> Reply {
    let decrypt = query.get("decrypt").is_some_and(|value| value == "true");
    let envs: Vec<Value> = ctx.look(|world| world.vercel.env.iter().map(|var| var.show(decrypt)).collect());
    Ok(Json(json!({ "envs": envs })).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path((_, id)): Path<(String, String)>) -> Reply {
    let shown = ctx.look(|world| world.vercel.env.iter().find(|var| var.id == id).map(|var| var.show(true)));
    Ok(Json(shown.ok_or_else(not_found)?).into_response())
}

fn not_found() -> Refusal {
    missing("The environment variable was not found")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NewVar {
    key: String,
    value: String,
    r#type: String,
    target: Vec<String>,
    git_branch: Option<String>,
    comment: Option<String>,
}

pub(super) async fn create(
    State(ctx): State<Ctx>,
    Query(query): Query<HashMap<String, String>>,
    bytes: Bytes,
) -> Reply {
    let upsert = query.get("upsert").is_some_and(|value| value == "true");
    let given: Value = body(&bytes)?;
    let many = given.is_array();
    let wanted: Vec<NewVar> =
        if many { serde_json::from_value(given) } else { serde_json::from_value(json!([given])) }
            .map_err(|error| bad(format!("Invalid request: {error}")))?;
    for var in &wanted {
        check(var)?;
    }
    let (created, failed) = ctx.try_change(|world| {
        let now = Timestamp::now();
        let (mut created, mut failed) = (Vec::new(), Vec::new());
        for var in wanted {
            match put(&mut world.vercel, var, upsert, now) {
                Ok(shown) => created.push(shown),
                Err(refusal) if many => failed.push(refusal),
                Err(refusal) => {
                    return Err(Refusal(
                        StatusCode::BAD_REQUEST,
                        "ENV_CONFLICT",
                        refusal["error"]["message"].as_str().unwrap_or_default().to_owned(),
                    ));
                }
            }
        }
        Ok((created, failed))
    })?;
    let created = if many { Value::Array(created) } else { created.into_iter().next().unwrap_or_default() };
    Ok((StatusCode::CREATED, Json(json!({ "created": created, "failed": failed }))).into_response())
}

fn check(var: &NewVar) -> Reply<()> {
    let named = var.key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && var.key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !named || var.key.len() > 256 {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "INVALID_KEY",
            "The name contains invalid characters. Only letters, digits, and underscores are allowed. Furthermore, the name should not start with a digit.".to_owned(),
        ));
    }
    if var.value.len() > VALUE_BYTES_MAX {
        return Err(Refusal(
            StatusCode::BAD_REQUEST,
            "ENV_VALUE_TOO_LARGE",
            format!("{} is too large", var.key),
        ));
    }
    if !matches!(var.r#type.as_str(), "system" | "encrypted" | "plain" | "sensitive") {
        return Err(bad("Invalid request: `type` should be equal to one of the allowed values"));
    }
    if var.target.is_empty() || var.target.iter().any(|target| !TARGETS.contains(&target.as_str())) {
        return Err(bad("Invalid request: `target` should be one of production, preview, development"));
    }
    if var.r#type == "sensitive" && var.target.iter().any(|target| target == "development") {
        return Err(bad("You cannot set a Sensitive Environment Variable's target to development."));
    }
    Ok(())
}

/// Adds or, with `upsert`, replaces. The error is an entry of `failed`.
fn put(vercel: &mut Vercel, var: NewVar, upsert: bool, now: Timestamp) -> Result<Value, Value> {
    if let Some(known) = vercel.env.iter_mut().find(|known| known.overlaps(&var)) {
        if !upsert {
            let message = format!("Another environment variable with the key {} already exists", var.key);
            return Err(json!({ "error": {
                "code": "ENV_CONFLICT", "message": message, "key": var.key, "envVarKey": var.key, "target": var.target,
            } }));
        }
        known.value = var.value;
        known.kind = var.r#type;
        known.target = var.target;
        known.comment = var.comment;
        known.updated_at = now;
        return Ok(known.show(false));
    }
    let made = EnvVar {
        id: fresh_id("env"),
        key: var.key,
        value: var.value,
        kind: var.r#type,
        target: var.target,
        git_branch: var.git_branch,
        comment: var.comment,
        created_at: now,
        updated_at: now,
    };
    let shown = made.show(false);
    vercel.env.push(made);
    Ok(shown)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeVar {
    key: Option<String>,
    value: Option<String>,
    r#type: Option<String>,
    target: Option<Vec<String>>,
    git_branch: Option<String>,
    comment: Option<String>,
}

pub(super) async fn change(
    State(ctx): State<Ctx>,
    Path((_, id)): Path<(String, String)>,
    bytes: Bytes,
) -> Reply {
    let wanted: ChangeVar = body(&bytes)?;
    let shown = ctx.try_change(|world| {
        let var = world.vercel.env.iter_mut().find(|var| var.id == id).ok_or_else(not_found)?;
        let changed = NewVar {
            key: wanted.key.unwrap_or_else(|| var.key.clone()),
            value: wanted.value.unwrap_or_else(|| var.value.clone()),
            r#type: wanted.r#type.unwrap_or_else(|| var.kind.clone()),
            target: wanted.target.unwrap_or_else(|| var.target.clone()),
            git_branch: wanted.git_branch.or_else(|| var.git_branch.clone()),
            comment: wanted.comment.or_else(|| var.comment.clone()),
        };
        check(&changed)?;
        var.key = changed.key;
        var.value = changed.value;
        var.kind = changed.r#type;
        var.target = changed.target;
        var.git_branch = changed.git_branch;
        var.comment = changed.comment;
        var.updated_at = Timestamp::now();
        Ok::<Value, Refusal>(var.show(false))
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn delete(State(ctx): State<Ctx>, Path((_, id)): Path<(String, String)>) -> Reply {
    let shown = ctx.try_change(|world| {
        let index = world.vercel.env.iter().position(|var| var.id == id).ok_or_else(not_found)?;
        Ok::<Value, Refusal>(world.vercel.env.remove(index).show(false))
    })?;
    Ok(Json(shown).into_response())
}
