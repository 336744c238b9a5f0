//! DNS records of a zone with a small server.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath, Preview};
use serde_json::{Value, json};

use super::{Outputs, Set};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Typed as _};

#[derive(Default)]
struct Dns {
    records: Vec<Value>,
    patches: u32,
    lose: bool,
    refuse: bool,
}

type Shared = Arc<Mutex<Dns>>;

fn record(id: &str, kind: &str, name: &str, content: &str) -> Value {
    json!({ "id": id, "type": kind, "name": name, "content": content, "ttl": 300, "proxied": true })
}

fn enveloped(result: Value) -> Json<Value> {
    Json(json!({ "success": true, "errors": [], "messages": [], "result": result }))
}

async fn list(
    State(dns): State<Shared>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Json<Value> {
    let dns = dns.lock().unwrap();
    let fits = |r: &&Value| r["name"] == query["name"].as_str() && r["type"] == query["type"].as_str();
    enveloped(dns.records.iter().filter(fits).cloned().collect())
}

async fn show(State(dns): State<Shared>, Path((_, id)): Path<(String, String)>) -> Json<Value> {
    enveloped(dns.lock().unwrap().records.iter().find(|r| r["id"] == id.as_str()).cloned().unwrap())
}

async fn change(
    State(dns): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Json<Value> {
    let mut dns = dns.lock().unwrap();
    if dns.refuse {
        return Json(
            json!({ "success": false, "errors": [{ "code": 9005, "message": "Content for A record must be a valid IPv4 address." }], "result": null }),
        );
    }
    dns.patches += 1;
    let lose = std::mem::take(&mut dns.lose);
    let found = dns.records.iter_mut().find(|r| r["id"] == id.as_str()).unwrap();
    for (name, value) in body.as_object().unwrap() {
        found[name] = value.clone();
    }
    let shown = found.clone();
    drop(dns);
    if lose {
        lose_the_answer();
    }
    enveloped(shown)
}

async fn world() -> (World, Shared) {
    let dns = Shared::default();
    dns.lock().unwrap().records = vec![
        record("r1", "CNAME", "app.example", "old.example"),
        record("r2", "TXT", "example", "a"),
        record("r3", "TXT", "example", "b"),
    ];
    let router = Router::new()
        .route("/zones/{zone}/dns_records", get(list))
        .route("/zones/{zone}/dns_records/{id}", get(show).patch(change));
    (World::at(&serve(router.with_state(dns.clone())).await), dns)
}

fn params(content: &str) -> super::Params {
    serde_json::from_value(json!({ "name": "app.example", "type": "CNAME", "content": content })).unwrap()
}

async fn run(world: &World, content: &str) -> Result<Done<Outputs>, ActionError> {
    Set.run(&world.ctx, params(content)).await
}

#[tokio::test]
async fn a_lost_answer_changes_nothing_of_what_the_undo_knows() {
    let (world, dns) = world().await;
    let Preview::Changes { lines, .. } = Set.plan(&world.ctx, params("new.example")).await.unwrap() else {
        panic!("a plan of a change")
    };
    assert_eq!(
        lines,
        [
            "points CNAME app.example at new.example (ttl 300 s, proxied) instead of old.example (ttl 300 s, proxied)"
        ]
    );
    dns.lock().unwrap().lose = true;
    let error = run(&world, "new.example").await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
    let done = run(&world, "new.example").await.unwrap().outputs;
    assert_eq!(
        (done.record.content.as_str(), done.previous.content.as_str()),
        ("new.example", "old.example")
    );
    assert_eq!(dns.lock().unwrap().patches, 1, "it was there already");
    Set.undo(&world.ctx, params("new.example"), done).await.unwrap();
    Set.undo_unfinished(&world.ctx, params("new.example")).await.unwrap();
    let dns = dns.lock().unwrap();
    assert_eq!((dns.records[0]["content"].as_str(), dns.patches), (Some("old.example"), 2));
}

#[tokio::test]
async fn what_is_not_one_record_and_what_cloudflare_refuses_is_refused() {
    let (world, dns) = world().await;
    for (name, kind) in [("none.example", "A"), ("example", "TXT")] {
        let params = json!({ "name": name, "type": kind, "content": "x" });
        let error = Set.run(&world.ctx, serde_json::from_value(params).unwrap()).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{name}");
    }
    dns.lock().unwrap().refuse = true;
    let error = run(&world, "not an address").await.unwrap_err();
    assert!(error.attempted.contains("must be a valid IPv4"), "{}", error.attempted);
    assert_eq!(dns.lock().unwrap().patches, 0);
}
