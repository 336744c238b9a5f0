//! Pages to a server that keeps incidents by their key.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{Outputs, Page};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Typed as _};

type Heard = Arc<Mutex<(Vec<Value>, bool)>>;

async fn enqueue(State(heard): State<Heard>, Json(event): Json<Value>) -> (StatusCode, Json<Value>) {
    let key = event["dedup_key"].clone();
    let lose = {
        let mut heard = heard.lock().unwrap();
        heard.0.push(event);
        std::mem::take(&mut heard.1)
    };
    if lose {
        lose_the_answer();
    }
    (
        StatusCode::ACCEPTED,
        Json(json!({ "status": "success", "message": "Event processed", "dedup_key": key })),
    )
}

async fn world() -> (World, Heard) {
    let heard = Heard::default();
    let url = serve(Router::new().route("/v2/enqueue", post(enqueue)).with_state(heard.clone())).await;
    (World::at(&url), heard)
}

async fn run(world: &World, params: Value) -> Result<Done<Outputs>, ActionError> {
    Page.run(&world.ctx, serde_json::from_value(params).unwrap()).await
}

#[tokio::test]
async fn a_page_whose_answer_was_lost_is_sent_again_under_the_same_key() {
    let (world, heard) = world().await;
    heard.lock().unwrap().1 = true;
    let error = run(&world, json!({ "summary": "down" })).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None }, "the key makes twice once");
    let done = run(&world, json!({ "summary": "down" })).await.unwrap();
    let events = heard.lock().unwrap().0.clone();
    assert_eq!(events[0], events[1]);
    assert_eq!(events[0]["dedup_key"], world.ctx.key.as_str());
    assert_eq!(events[0]["payload"]["severity"], "critical");
    assert_eq!(events[0]["payload"]["source"], "test");
    assert_eq!(done.outputs.dedup_key, world.ctx.key);
}

#[tokio::test]
async fn the_undo_of_a_page_resolves_it_and_others_need_to_say_which() {
    let (world, heard) = world().await;
    let params = json!({ "event": "acknowledge" });
    assert_eq!(run(&world, params).await.unwrap_err().aftermath, Aftermath::Refused);
    let outputs = run(&world, json!({ "summary": "down", "dedup_key": "own" })).await.unwrap().outputs;
    run(&world, json!({ "event": "acknowledge", "dedup_key": outputs.dedup_key })).await.unwrap();
    let params = || serde_json::from_value(json!({ "summary": "down", "dedup_key": "own" })).unwrap();
    Page.undo(&world.ctx, params(), outputs).await.unwrap();
    Page.undo_unfinished(&world.ctx, params()).await.unwrap();
    let events: Vec<(String, String)> = heard
        .lock()
        .unwrap()
        .0
        .iter()
        .map(|e| (e["event_action"].as_str().unwrap().into(), e["dedup_key"].as_str().unwrap().into()))
        .collect();
    let own = |event: &str| (event.to_owned(), "own".to_owned());
    assert_eq!(events, [own("trigger"), own("acknowledge"), own("resolve"), own("resolve")]);
}

#[tokio::test]
async fn what_pagerduty_would_refuse_is_not_sent() {
    let (world, heard) = world().await;
    for params in [
        json!({}),
        json!({ "summary": " " }),
        json!({ "summary": "x", "dedup_key": "k".repeat(256) }),
        json!({ "summary": "the key is ⟦secret:pw⟧" }),
    ] {
        assert_eq!(run(&world, params.clone()).await.unwrap_err().aftermath, Aftermath::Refused, "{params}");
    }
    assert!(heard.lock().unwrap().0.is_empty());
    run(&world, json!({ "summary": "x".repeat(3000) })).await.unwrap();
    assert_eq!(heard.lock().unwrap().0[0]["payload"]["summary"].as_str().unwrap().len(), 1024);
}
