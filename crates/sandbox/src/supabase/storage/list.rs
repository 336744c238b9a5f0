//! `POST /object/list-v2/{bucket}`: rows by name, page by page. Says nothing about bytes.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::reply::{Refusal, Reply};
use super::rows::{self, Object};
use crate::shared::Ctx;

/// The service gives no more at a time.
const PAGE_MAX: i64 = 1000;

#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    prefix: String,
    limit: Option<i64>,
    cursor: Option<String>,
    #[serde(default)]
    with_delimiter: bool,
    #[serde(rename = "sortBy")]
    sort_by: Option<Sort>,
}

#[derive(Deserialize)]
struct Sort {
    column: String,
    order: Option<String>,
}

pub(super) async fn list(
    State(ctx): State<Ctx>,
    Path((reference, bucket)): Path<(String, String)>,
    bytes: Bytes,
) -> Reply {
    let invalid = |why: String| Refusal::bad("InvalidParameter", why);
    let wanted: Wanted = serde_json::from_slice(&bytes).map_err(|error| invalid(format!("body: {error}")))?;
    let limit = wanted.limit.unwrap_or(PAGE_MAX);
    if limit < 1 {
        return Err(invalid("body/limit must be >= 1".to_owned()));
    }
    let limit = limit.min(PAGE_MAX);
    if wanted.sort_by.is_some_and(|sort| sort.column != "name" || sort.order.is_some_and(|o| o != "asc")) {
        return Err(invalid("the sandbox lists by name, ascending".to_owned()));
    }
    let after = match &wanted.cursor {
        None => String::new(),
        Some(cursor) => URL_SAFE_NO_PAD
            .decode(cursor)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| invalid("Invalid cursor".to_owned()))?,
    };
    rows::bucket(&ctx, &reference, &bucket).await?;
    let place = (bucket.as_str(), wanted.prefix.as_str());
    let page = if wanted.with_delimiter {
        level(&ctx, &reference, place, after, limit).await?
    } else {
        flat(rows::list(&ctx, &reference, place, &after, limit + 1).await?, limit)
    };
    Ok(Json(page).into_response())
}

fn answer(folders: Vec<Value>, objects: Vec<Value>, next: Option<&str>) -> Value {
    let mut page = json!({ "hasNext": next.is_some(), "folders": folders, "objects": objects });
    if let Some(last) = next {
        page["nextCursor"] = json!(URL_SAFE_NO_PAD.encode(last));
    }
    page
}

fn flat(mut found: Vec<Object>, limit: i64) -> Value {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.name.clone());
    answer(Vec::new(), found.iter().map(Object::show).collect(), next.as_deref())
}

/// One level below a prefix: what has a slash further on is a folder.
async fn level(
    ctx: &Ctx,
    reference: &str,
    (bucket, prefix): (&str, &str),
    mut after: String,
    limit: i64,
) -> Reply<Value> {
    let (mut folders, mut objects) = (Vec::new(), Vec::new());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let Some(found) = rows::list(ctx, reference, (bucket, prefix), &after, 1).await?.pop() else {
            return Ok(answer(folders, objects, None));
        };
        if folders.len() + objects.len() == limit {
            return Ok(answer(folders, objects, Some(&after)));
        }
        match found.name[prefix.len()..].split_once('/') {
            Some((folder, _)) => {
                let name = format!("{prefix}{folder}/");
                folders.push(json!({ "name": name, "key": name }));
                // No byte of a name sorts after this one.
                after = format!("{name}\u{10ffff}");
            }
            None => {
                after.clone_from(&found.name);
                objects.push(found.show());
            }
        }
    }
}
