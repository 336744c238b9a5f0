//! Jobs at a small server: what is known after a lost answer, with a key and without.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{Outputs, Run};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed as _};

#[derive(Default)]
struct App {
    keys: Vec<String>,
    asked: u32,
    lose: bool,
}

type Shared = Arc<Mutex<App>>;

async fn job(State(app): State<Shared>, headers: HeaderMap) -> Response {
    if headers["authorization"] != "Bearer canary-password" {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let mut app = app.lock().unwrap();
    app.keys.push(headers.get("idempotency-key").map_or("", |v| v.to_str().unwrap()).to_owned());
    let lose = std::mem::take(&mut app.lose);
    drop(app);
    if lose {
        lose_the_answer();
    }
    (StatusCode::ACCEPTED, Json(json!({ "rows": 3 }))).into_response()
}

/// Says that the job ended from the third question on.
async fn state(State(app): State<Shared>) -> Json<Value> {
    let mut app = app.lock().unwrap();
    app.asked += 1;
    Json(json!({ "ended": app.asked > 2, "runs": app.keys.len() }))
}

async fn world() -> (World, Shared, String) {
    let app = Shared::default();
    let router = Router::new().route("/job", post(job)).route("/state", get(state)).with_state(app.clone());
    let url = serve(router).await;
    (World::new(), app, url)
}

fn params(url: &str, more: &[(&str, Value)]) -> super::Params {
    let mut params = json!({ "url": format!("{url}/job"), "secret": "⟦secret:pw⟧" });
    for (name, value) in more {
        params[name] = value.clone();
    }
    serde_json::from_value(params).unwrap()
}

async fn run(world: &World, params: super::Params) -> Result<Done<Outputs>, ActionError> {
    Run.run(&world.ctx, params).await
}

#[tokio::test]
async fn a_job_runs_with_its_secret_and_its_end_is_waited_for() {
    let (world, app, url) = world().await;
    let ended = json!({ "url": format!("{url}/state"), "expect": { "json": { "ended": true } } });
    let done = run(&world, params(&url, &[("until", ended)])).await.unwrap();
    assert_eq!((done.outputs.status, &done.outputs.result["rows"]), (Some(202), &json!(3)));
    let app = app.lock().unwrap();
    assert_eq!((app.keys.as_slice(), app.asked), (&[String::new()][..], 3));
}

#[tokio::test]
async fn with_a_key_a_lost_answer_is_asked_for_again() {
    let (world, app, url) = world().await;
    app.lock().unwrap().lose = true;
    let keyed = || params(&url, &[("keyed", json!(true))]);
    let error = run(&world, keyed()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
    assert!(matches!(Run.probe(&world.ctx, keyed()).await.unwrap(), Found::Absent));
    run(&world, keyed()).await.unwrap();
    assert_eq!(app.lock().unwrap().keys, vec![world.ctx.key.clone(); 2]);
}

#[tokio::test]
async fn without_a_key_the_probe_decides_or_a_person() {
    let (world, app, url) = world().await;
    assert!(matches!(Run.probe(&world.ctx, params(&url, &[])).await.unwrap(), Found::Absent));
    app.lock().unwrap().lose = true;
    assert_eq!(run(&world, params(&url, &[])).await.unwrap_err().aftermath, Aftermath::Unknown);
    assert!(matches!(Run.probe(&world.ctx, params(&url, &[])).await.unwrap(), Found::Unclear(_)));
    let ran = json!({ "url": format!("{url}/state"), "expect": { "json": { "runs": 1 } } });
    let found = Run.probe(&world.ctx, params(&url, &[("probe", ran)])).await.unwrap();
    assert!(matches!(found, Found::Happened(_)));
}

#[tokio::test]
async fn an_answer_that_came_is_not_asked_for_again() {
    let (world, app, url) = world().await;
    let never = json!({ "url": format!("{url}/state"), "expect": { "json": { "runs": 9 } } });
    let late = || params(&url, &[("until", never.clone()), ("wait", json!("1s"))]);
    assert_eq!(run(&world, late()).await.unwrap_err().code, Some("not-in-time"));
    assert!(matches!(Run.probe(&world.ctx, late()).await.unwrap(), Found::Absent), "going on is safe");
    run(&world, params(&url, &[])).await.unwrap();
    assert_eq!(app.lock().unwrap().keys.len(), 1);
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_never_shown() {
    let (world, _, url) = world().await;
    let mut wrong = params(&url, &[]);
    wrong.secret = runbook_core::secret::SecretText::reference("new");
    let error = run(&world, wrong).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    let shown = format!("{error:?}");
    assert!(!shown.contains("canary"), "{shown}");
}
