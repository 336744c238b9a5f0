//! A way through an application: values carried on, effects once, nothing told that is secret.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::Journey;
use super::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Typed as _};

const TOKEN: &str = "canary/token value";

/// What the application heard, and whether the next answer to a POST is lost.
#[derive(Default)]
struct App {
    keys: Vec<String>,
    seen: Vec<String>,
    lose: bool,
    busy: bool,
}

type Shared = Arc<Mutex<App>>;

async fn world(app: App) -> (World, Shared, String) {
    let shared = Arc::new(Mutex::new(app));
    let enter = |Json(body): Json<Value>| async move {
        if body == json!({ "email": "a@b", "password": "canary-password" }) {
            Json(json!({ "token": TOKEN, "id": 7 })).into_response()
        } else {
            (StatusCode::BAD_REQUEST, body.to_string()).into_response()
        }
    };
    let me = |State(app): State<Shared>, Path(id): Path<String>, headers: HeaderMap| async move {
        let token = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        app.lock().unwrap().seen.push(format!("{id} {token}"));
        Json(json!({ "name": "Ada", "token": token }))
    };
    let router = Router::new()
        .route("/enter", post(enter))
        .route("/me/{id}", get(me))
        .route("/do", post(act))
        .with_state(shared.clone());
    let url = serve(router).await;
    (World::at(&url), shared, url)
}

async fn act(State(app): State<Shared>, headers: HeaderMap) -> Response {
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let mut app = app.lock().unwrap();
    if std::mem::take(&mut app.busy) {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response();
    }
    app.keys.push(key);
    if std::mem::take(&mut app.lose) {
        drop(app);
        lose_the_answer();
    }
    (StatusCode::CREATED, Json(json!({ "ok": true }))).into_response()
}

async fn run(world: &World, requests: Value) -> Result<Done<super::journey::Outputs>, ActionError> {
    Journey.run(&world.ctx, serde_json::from_value(json!({ "requests": requests })).unwrap()).await
}

fn enter(url: &str) -> Value {
    json!({ "name": "sign in", "method": "POST", "url": format!("{url}/enter"), "json": { "email": "a@b" },
            "secrets": { "password": "⟦secret:pw⟧" }, "capture": { "token": "token", "id": "id" } })
}

#[tokio::test]
async fn a_url_that_an_answer_gave_is_asked_as_it_is_and_without_credentials() {
    let (world, app, url) = world(App::default()).await;
    let link = format!("{url}/me/signed?token=a%2Fb");
    let first = json!({ "url": format!("{url}/me/1"), "headers": { "authorization": link }, "capture": { "link": "token" } });
    let done = run(&world, json!([first, { "url": "${link}", "expect": { "json": { "name": "Ada" } } }]))
        .await
        .unwrap();
    assert_eq!(done.outputs.passed, 2);
    assert_eq!(app.lock().unwrap().seen[1], "signed ");
    let told = json!({ "url": "${link}", "headers": { "authorization": "Bearer mine" } });
    let error = run(&world, json!([first, told])).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused, "{error}");
}

#[tokio::test]
async fn what_one_answer_gave_the_next_request_uses() {
    let (world, app, url) = world(App::default()).await;
    let me = json!({ "url": format!("{url}/me/${{token}}-${{id}}"), "headers": { "authorization": "Bearer ${token}" },
                     "expect": { "json": { "name": "Ada" } } });
    let done = run(&world, json!([enter(&url), me])).await.unwrap();
    assert_eq!((done.outputs.passed, done.outputs.failed), (2, 0));
    assert_eq!(
        app.lock().unwrap().seen,
        [format!("{TOKEN}-7 Bearer {TOKEN}")],
        "encoded in the path, and read back"
    );
    let told = serde_json::to_string(&done.outputs).unwrap() + &done.summary;
    assert!(!told.contains("canary"), "{told}");
}

#[tokio::test]
async fn a_wrong_answer_ends_the_way_and_tells_no_secret() {
    let (world, app, url) = world(App::default()).await;
    let wrong = json!({ "name": "me", "url": format!("{url}/me/1"), "bearer": "token",
                        "expect": { "json": { "token": "x" } } });
    let never = json!({ "name": "after", "url": format!("{url}/me/2") });
    let error = run(&world, json!([enter(&url), wrong, never])).await.unwrap_err();
    assert_eq!(
        (error.code, &error.aftermath),
        (Some("check-failed"), &Aftermath::Unchanged { retry_after: None })
    );
    assert!(error.to_string().contains("me: `token` is") && !error.to_string().contains("canary"), "{error}");
    assert_eq!(app.lock().unwrap().seen.len(), 1, "what comes after a wrong answer is not sent");
}

#[tokio::test]
async fn a_repeat_carries_the_same_keys_and_a_lost_answer_is_not_known() {
    let (world, app, url) = world(App { lose: true, ..App::default() }).await;
    let act = || json!({ "method": "POST", "url": format!("{url}/do"), "expect": { "status": 201 } });
    let lost = run(&world, json!([act(), act()])).await.unwrap_err();
    assert_eq!(lost.aftermath, Aftermath::Unknown);
    run(&world, json!([act(), act()])).await.unwrap();
    let keys = app.lock().unwrap().keys.clone();
    assert_eq!(keys.len(), 3);
    assert!(keys[0] == keys[1] && keys[1] != keys[2], "one key for each request: {keys:?}");
}

#[tokio::test]
async fn a_remote_that_asks_for_time_gets_it() {
    let (world, _, url) = world(App { busy: true, ..App::default() }).await;
    let error = run(&world, json!([{ "method": "POST", "url": format!("{url}/do") }])).await.unwrap_err();
    assert_eq!(
        error.aftermath,
        Aftermath::Unchanged { retry_after: Some(std::time::Duration::from_secs(7)) }
    );
}

#[tokio::test]
async fn odd_requests_are_refused_before_they_are_sent() {
    let (world, _, url) = world(App::default()).await;
    for request in [
        json!({ "url": "ftp://a" }),
        json!({ "url": format!("{url}/me/${{never}}") }),
        json!({ "url": url, "headers": { "a b": "x" } }),
        json!({ "url": url, "json": [1], "secrets": { "a": "⟦secret:pw⟧" } }),
    ] {
        let error = run(&world, json!([request])).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{request}");
    }
    let missing = json!({ "url": format!("{url}/me/1"), "capture": { "a": "b.c" } });
    assert!(run(&world, json!([missing])).await.unwrap_err().to_string().contains("`b.c` is missing"));
}
