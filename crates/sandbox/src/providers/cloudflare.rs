//! Stand-in for the Cloudflare API: the DNS records of one zone.

use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State as Extract};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::shared::Ctx;

/// The zone that the sandbox has.
const ZONE: &str = "zone_polaris";

/// What it remembers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct State {
    records: Vec<Record>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: String,
    name: String,
    r#type: String,
    content: String,
    /// 1 is automatic.
    ttl: u32,
    proxied: bool,
}

impl Default for State {
    fn default() -> Self {
        let record = |id: &str, name: &str, kind: &str, content: &str, proxied| Record {
            id: id.to_owned(),
            name: name.to_owned(),
            r#type: kind.to_owned(),
            content: content.to_owned(),
            ttl: 1,
            proxied,
        };
        Self {
            records: vec![
                record("rec_app", "app.polaris.example", "CNAME", "cname.vercel-dns.example", true),
                record("rec_api", "api.polaris.example", "A", "192.0.2.10", false),
                record("rec_apiv6", "api.polaris.example", "AAAA", "2001:db8::10", false),
                record("rec_mx1", "polaris.example", "TXT", "v=spf1 -all", false),
                record("rec_mx2", "polaris.example", "TXT", "polaris-verification=1", false),
            ],
        }
    }
}

impl State {
    /// Everything that a test may want to compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({ "records": self.records })
    }
}

/// Everything below its prefix.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .route("/client/v4/zones/{zone}/dns_records", get(list))
        .route("/client/v4/zones/{zone}/dns_records/{id}", get(show).patch(change))
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .with_state(ctx.clone())
}

fn refuse(status: StatusCode, code: u32, message: &str) -> Response {
    let error = json!({ "code": code, "message": message });
    let body = json!({ "success": false, "errors": [error], "messages": [], "result": null });
    (status, Json(body)).into_response()
}

fn success(result: Value) -> Value {
    json!({ "success": true, "errors": [], "messages": [], "result": result })
}

async fn authorize(Extract(ctx): Extract<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let wanted = ctx.tokens.provider("cloudflare_token");
    if given.and_then(|value| value.strip_prefix("Bearer ")) != Some(wanted) {
        return refuse(StatusCode::FORBIDDEN, 10_000, "Authentication error");
    }
    if request.uri().path().split('/').nth(4) != Some(ZONE) {
        return refuse(
            StatusCode::NOT_FOUND,
            7003,
            "Could not route to the zone, perhaps your object identifier is invalid?",
        );
    }
    next.run(request).await
}

fn shown(record: &Record) -> Value {
    json!({
        "id": record.id, "name": record.name, "type": record.r#type, "content": record.content,
        "ttl": record.ttl, "proxied": record.proxied, "proxiable": record.r#type != "TXT",
        "comment": null, "tags": [], "settings": {}, "meta": {},
        "created_on": "2026-01-01T00:00:00Z", "modified_on": "2026-01-01T00:00:00Z",
    })
}

async fn list(Extract(ctx): Extract<Ctx>, Query(query): Query<HashMap<String, String>>) -> Response {
    let fits = |record: &&Record| {
        query.get("name").is_none_or(|name| record.name.eq_ignore_ascii_case(name))
            && query.get("type").is_none_or(|kind| record.r#type == *kind)
    };
    let found: Vec<Value> =
        ctx.look(|world| world.providers.cloudflare.records.iter().filter(fits).map(shown).collect());
    let count = found.len();
    let mut body = success(json!(found));
    body["result_info"] =
        json!({ "page": 1, "per_page": 100, "count": count, "total_count": count, "total_pages": 1 });
    Json(body).into_response()
}

const GONE: (StatusCode, u32, &str) = (StatusCode::NOT_FOUND, 81_044, "Record does not exist.");

async fn show(Extract(ctx): Extract<Ctx>, Path((_, id)): Path<(String, String)>) -> Response {
    let found = ctx.look(|world| world.providers.cloudflare.records.iter().find(|r| r.id == id).map(shown));
    match found {
        Some(record) => Json(success(record)).into_response(),
        None => refuse(GONE.0, GONE.1, GONE.2),
    }
}

#[derive(Deserialize)]
struct Change {
    content: Option<String>,
    ttl: Option<u32>,
    proxied: Option<bool>,
}

async fn change(Extract(ctx): Extract<Ctx>, Path((_, id)): Path<(String, String)>, bytes: Bytes) -> Response {
    let Ok(wanted) = serde_json::from_slice::<Change>(&bytes) else {
        return refuse(StatusCode::BAD_REQUEST, 9207, "Request body is invalid.");
    };
    if wanted.ttl.is_some_and(|ttl| ttl != 1 && !(60..=86_400).contains(&ttl)) {
        return refuse(
            StatusCode::BAD_REQUEST,
            9021,
            "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.",
        );
    }
    let changed = ctx.change(|world| {
        let record = world.providers.cloudflare.records.iter_mut().find(|record| record.id == id)?;
        if let Some(content) = wanted.content {
            record.content = content;
        }
        record.ttl = wanted.ttl.unwrap_or(record.ttl);
        record.proxied = wanted.proxied.unwrap_or(record.proxied);
        Some(shown(record))
    });
    match changed {
        Ok(Some(record)) => Json(success(record)).into_response(),
        Ok(None) => refuse(GONE.0, GONE.1, GONE.2),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, 10_000, &format!("could not {error}")),
    }
}
