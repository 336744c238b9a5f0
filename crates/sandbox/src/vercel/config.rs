//! Global config (formerly Edge Config): small values that reach the running application without a
//! deployment, such as `read_only`.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Refusal, Reply, bad, body, missing};
use super::state::Flag;
use crate::shared::Ctx;

fn known(ctx: &Ctx, id: &str) -> Reply<()> {
    if ctx.look(|world| world.vercel.global_config == id) {
        Ok(())
    } else {
        Err(missing("Edge Config not found"))
    }
}

fn shown(id: &str, key: &str, flag: &Flag) -> Value {
    json!({
        "key": key, "value": flag.value, "edgeConfigId": id, "description": "",
        "createdAt": flag.created_at.as_millisecond(), "updatedAt": flag.updated_at.as_millisecond(),
    })
}

pub(super) async fn items(State(ctx): State<Ctx>, Path(id): Path<String>) -> Reply {
    known(&ctx, &id)?;
    let items: Vec<Value> =
        ctx.look(|world| world.vercel.flags.iter().map(|(key, flag)| shown(&id, key, flag)).collect());
    Ok(Json(items).into_response())
}

/// An absent item is 204, not 404.
pub(super) async fn item(State(ctx): State<Ctx>, Path((id, key)): Path<(String, String)>) -> Reply {
    known(&ctx, &id)?;
    let found = ctx.look(|world| world.vercel.flags.get(&key).map(|flag| shown(&id, &key, flag)));
    Ok(match found {
        Some(item) => Json(item).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

#[derive(Deserialize)]
struct Batch {
    items: Vec<Operation>,
}

#[derive(Deserialize)]
struct Operation {
    operation: String,
    key: String,
    #[serde(default)]
    value: Value,
}

/// All operations or none.
pub(super) async fn change(State(ctx): State<Ctx>, Path(id): Path<String>, bytes: Bytes) -> Reply {
    known(&ctx, &id)?;
    let batch: Batch = body(&bytes)?;
    let now = Timestamp::now();
    ctx.try_change(|world| {
        let mut flags = world.vercel.flags.clone();
        for wanted in batch.items {
            let named = !wanted.key.is_empty()
                && wanted.key.len() <= 256
                && wanted.key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            if !named {
                return Err(bad("Invalid request: `key` should match ^[\\w-]+$"));
            }
            let present = flags.contains_key(&wanted.key);
            match (wanted.operation.as_str(), present) {
                ("create", true) => {
                    let message = format!("An item with the key {} exists already", wanted.key);
                    return Err(Refusal(StatusCode::CONFLICT, "conflict", message));
                }
                ("update" | "delete", false) => {
                    return Err(missing(format!("There is no item with the key {}", wanted.key)));
                }
                ("create" | "update" | "upsert", _) => {
                    let created_at = flags.get(&wanted.key).map_or(now, |flag| flag.created_at);
                    flags.insert(wanted.key, Flag { value: wanted.value, created_at, updated_at: now });
                }
                ("delete", true) => drop(flags.remove(&wanted.key)),
                _ => {
                    return Err(bad(
                        "Invalid request: `operation` should be one of create, update, upsert, delete",
                    ));
                }
            }
        }
        world.vercel.flags = flags;
        Ok::<(), Refusal>(())
    })?;
    Ok(Json(json!({ "status": "ok" })).into_response())
}
