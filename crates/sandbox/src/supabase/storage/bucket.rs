//! Requests about buckets.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::IntoResponse;
use serde::Deserialize;
use serde_json::{Value, json};

use super::files::check_bucket;
use super::reply::{Refusal, Reply};
use super::rows::{self, NewBucket};
use crate::shared::Ctx;

#[derive(Deserialize)]
struct Wanted {
    name: Option<String>,
    id: Option<String>,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    file_size_limit: Option<Value>,
    #[serde(default)]
    allowed_mime_types: Option<Vec<String>>,
}

/// A limit in bytes, or as `100MB`.
fn limit(given: Option<Value>) -> Reply<Option<i64>> {
    let refuse = || Refusal::bad("InvalidParameter", "file_size_limit is not a size");
    match given {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => number.as_i64().filter(|n| *n >= 0).map(Some).ok_or_else(refuse),
        Some(Value::String(text)) => {
            let text = text.to_ascii_uppercase();
            let units = [("GB", 1_i64 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];
            let found = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
            let number = found.and_then(|(number, size)| number.parse::<i64>().ok()?.checked_mul(size));
            number.filter(|n| *n >= 0).map(Some).ok_or_else(refuse)
        }
        Some(_) => Err(refuse()),
    }
}

fn wanted(bytes: &Bytes, name: Option<String>) -> Reply<NewBucket> {
    let wanted: Wanted = serde_json::from_slice(bytes)
        .map_err(|error| Refusal::bad("InvalidRequest", format!("body: {error}")))?;
    let name = name.or(wanted.id).or(wanted.name).unwrap_or_default();
    check_bucket(&name)?;
    let file_size_limit = limit(wanted.file_size_limit)?;
    Ok(NewBucket {
        name,
        public: wanted.public,
        file_size_limit,
        allowed_mime_types: wanted.allowed_mime_types,
    })
}

pub(super) async fn list(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Reply {
    let number = |name: &str, default: usize| match query.get(name) {
        None => Ok(default),
        Some(text) => text
            .parse::<usize>()
            .map_err(|_| Refusal::bad("InvalidParameter", format!("querystring/{name} must be integer"))),
    };
    let (offset, limit) = (number("offset", 0)?, number("limit", usize::MAX)?);
    let search = query.get("search").cloned().unwrap_or_default();
    let named = |bucket: &Value| bucket["name"].as_str().is_some_and(|name| name.contains(&search));
    let found = rows::buckets(&ctx, &reference, None).await?;
    let page: Vec<Value> = found.into_iter().filter(named).skip(offset).take(limit).collect();
    Ok(Json(page).into_response())
}

pub(super) async fn show(State(ctx): State<Ctx>, Path((reference, bucket)): Path<(String, String)>) -> Reply {
    Ok(Json(rows::bucket(&ctx, &reference, &bucket).await?).into_response())
}

pub(super) async fn create(State(ctx): State<Ctx>, Path(reference): Path<String>, bytes: Bytes) -> Reply {
    let wanted = wanted(&bytes, None)?;
    rows::create_bucket(&ctx, &reference, &wanted).await?;
    Ok(Json(json!({ "name": wanted.name })).into_response())
}

pub(super) async fn change(
    State(ctx): State<Ctx>,
    Path((reference, bucket)): Path<(String, String)>,
    bytes: Bytes,
) -> Reply {
    let wanted = wanted(&bytes, Some(bucket))?;
    rows::change_bucket(&ctx, &reference, &wanted).await?;
    Ok(Json(json!({ "message": "Successfully updated" })).into_response())
}

pub(super) async fn delete(
    State(ctx): State<Ctx>,
    Path((reference, bucket)): Path<(String, String)>,
) -> Reply {
    rows::delete_bucket(&ctx, &reference, &bucket).await?;
    Ok(Json(json!({ "message": "Successfully deleted" })).into_response())
}
