//! Tickets with a small server whose search may know more or less than its list.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{Create, Outputs};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed as _};

#[derive(Default)]
struct Hub {
    issues: Vec<Value>,
    /// Known to the search alone.
    old: Vec<Value>,
    lose: bool,
    status: Option<u16>,
}

type Shared = Arc<Mutex<Hub>>;

fn issue(number: usize, body: &str) -> Value {
    json!({ "number": number, "html_url": format!("https://github.example/{number}"), "body": body, "created_at": Timestamp::now() })
}

async fn list(State(hub): State<Shared>, headers: HeaderMap) -> Json<Value> {
    assert_eq!(headers["accept"], "application/vnd.github+json");
    assert!(headers.contains_key("x-github-api-version"));
    Json(json!(hub.lock().unwrap().issues))
}

async fn create(State(hub): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut hub = hub.lock().unwrap();
    if let Some(status) = hub.status {
        let said = json!({ "message": "Issues has been disabled in this repository." });
        return (StatusCode::from_u16(status).unwrap(), [("retry-after", "9")], Json(said)).into_response();
    }
    let made = issue(hub.issues.len() + 1, body["body"].as_str().unwrap());
    hub.issues.push(made.clone());
    let lose = std::mem::take(&mut hub.lose);
    drop(hub);
    if lose {
        lose_the_answer();
    }
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn search(State(hub): State<Shared>, Query(query): Query<BTreeMap<String, String>>) -> Json<Value> {
    assert!(query["q"].starts_with("repo:polaris/polaris is:issue in:body \"runbook:"), "{}", query["q"]);
    let old = hub.lock().unwrap().old.clone();
    Json(json!({ "total_count": old.len(), "incomplete_results": false, "items": old }))
}

async fn world() -> (World, Shared) {
    let hub = Shared::default();
    let router = Router::new()
        .route("/repos/polaris/polaris/issues", get(list).post(create))
        .route("/search/issues", get(search));
    (World::at(&serve(router.with_state(hub.clone())).await), hub)
}

fn params(title: &str) -> super::Params {
    serde_json::from_value(json!({ "title": title, "body": "text" })).unwrap()
}

async fn run(world: &World, title: &str) -> Result<Done<Outputs>, ActionError> {
    Create.run(&world.ctx, params(title)).await
}

#[tokio::test]
async fn a_ticket_whose_answer_was_lost_is_found_by_its_marker() {
    let (world, hub) = world().await;
    assert!(matches!(Create.probe(&world.ctx, params("t")).await.unwrap(), Found::Absent));
    hub.lock().unwrap().lose = true;
    assert_eq!(run(&world, "t").await.unwrap_err().aftermath, Aftermath::Unknown);
    let Found::Happened(done) = Create.probe(&world.ctx, params("t")).await.unwrap() else {
        panic!("it was created")
    };
    assert_eq!(done.outputs.number, 1);
    let again = run(&world, "t").await.unwrap().outputs;
    assert_eq!((again.number, again.created, hub.lock().unwrap().issues.len()), (1, false, 1));
}

#[tokio::test]
async fn the_search_finds_what_an_earlier_run_created_and_a_longer_key_is_another() {
    let (world, hub) = world().await;
    hub.lock().unwrap().old = vec![issue(3, &format!("x `runbook:{}0`", world.ctx.key))];
    assert_eq!(run(&world, "t").await.unwrap().outputs.number, 1, "the marker of another key is not ours");
    let (world, hub) = self::world().await;
    hub.lock().unwrap().old = vec![issue(7, &format!("x `runbook:{}`", world.ctx.key))];
    let found = run(&world, "t").await.unwrap().outputs;
    assert_eq!((found.number, found.created, hub.lock().unwrap().issues.len()), (7, false, 0));
}

#[tokio::test]
async fn the_status_decides_and_odd_tickets_are_not_sent() {
    let (world, hub) = world().await;
    let wait = Some(std::time::Duration::from_secs(9));
    for (status, expected) in [
        (410, Aftermath::Refused),
        (422, Aftermath::Refused),
        (429, Aftermath::Unchanged { retry_after: wait }),
        (502, Aftermath::Unknown),
    ] {
        hub.lock().unwrap().status = Some(status);
        let error = run(&self::world_at(&world), "t").await.unwrap_err();
        assert_eq!(error.aftermath, expected, "{status}");
    }
    hub.lock().unwrap().status = None;
    for params in [
        json!({ "title": " ", "body": "x" }),
        json!({ "title": "t".repeat(300), "body": "x" }),
        json!({ "title": "t" }),
        json!({ "title": "t", "body": "the key is ⟦secret:pw⟧" }),
        json!({ "title": "t", "body": "x", "repository": "../../etc" }),
    ] {
        let error =
            Create.run(&world.ctx, serde_json::from_value(params.clone()).unwrap()).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{params}");
    }
    assert!(hub.lock().unwrap().issues.is_empty());
}

/// Another step in the same environment: nothing was attempted yet.
fn world_at(world: &World) -> World {
    World::at(world.ctx.environment.github.as_ref().unwrap().api_url.as_deref().unwrap())
}
