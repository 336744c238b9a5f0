//! Requests to a server that says what it heard: what counts as success, and what is known after a lost answer.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{HttpRequest, Outputs};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed as _};

#[derive(Default)]
struct Heard {
    calls: Vec<(String, String, String)>,
    lose: bool,
    status: u16,
}

type Shared = Arc<Mutex<Heard>>;

async fn hear(State(heard): State<Shared>, method: Method, headers: HeaderMap, body: String) -> Response {
    let (lose, status) = {
        let mut heard = heard.lock().unwrap();
        let token = headers.get("x-token").map_or("", |value| value.to_str().unwrap()).to_owned();
        if method != Method::GET {
            heard.calls.push((method.to_string(), token, body));
        }
        (std::mem::take(&mut heard.lose), heard.status)
    };
    if lose {
        lose_the_answer();
    }
    let status = StatusCode::from_u16(status).unwrap();
    (status, [(header::RETRY_AFTER, "3")], axum::Json(json!({ "said": "canary-password", "n": 7 })))
        .into_response()
}

async fn world(status: u16) -> (World, Shared, String) {
    let heard = Shared::new(Mutex::new(Heard { status, ..Heard::default() }));
    let url = serve(Router::new().route("/x", any(hear)).with_state(heard.clone())).await;
    (World::at(&url), heard, format!("{url}/x"))
}

async fn run(world: &World, params: &Value) -> Result<Done<Outputs>, ActionError> {
    HttpRequest.run(&world.ctx, serde_json::from_value(params.clone()).unwrap()).await
}

async fn probe(world: &World, params: &Value) -> Found<Outputs> {
    HttpRequest.probe(&world.ctx, serde_json::from_value(params.clone()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_request_is_sent_with_its_secrets_and_its_answer_comes_without_them() {
    let (world, heard, url) = world(201).await;
    let params =
        json!({ "url": url, "method": "POST", "headers": { "x-token": "⟦secret:pw⟧" }, "json": { "a": 1 } });
    let done = run(&world, &params).await.unwrap();
    let call = ("POST".to_owned(), "canary-password".to_owned(), r#"{"a":1}"#.to_owned());
    assert_eq!(heard.lock().unwrap().calls, [call]);
    assert_eq!((done.outputs.status, &done.outputs.json["n"]), (Some(201), &json!(7)));
    assert!(!done.outputs.body.contains("canary"), "{}", done.outputs.body);
}

#[tokio::test]
async fn the_status_decides_what_is_known() {
    for (method, status, expected) in [
        ("POST", 404, Aftermath::Refused),
        ("POST", 500, Aftermath::Unknown),
        ("PUT", 500, Aftermath::Unchanged { retry_after: Some(std::time::Duration::from_secs(3)) }),
        ("POST", 429, Aftermath::Unchanged { retry_after: Some(std::time::Duration::from_secs(3)) }),
    ] {
        let (world, _, url) = world(status).await;
        let error = run(&world, &json!({ "url": url, "method": method })).await.unwrap_err();
        assert_eq!(error.aftermath, expected, "{method} {status}");
    }
    let (world, _, url) = world(200).await;
    let error = run(&world, &json!({ "url": url, "method": "POST", "expect": [204] })).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown, "it has acted, and not as expected");
    let done = run(&world, &json!({ "url": url, "expect": [200, 204] })).await.unwrap();
    assert_eq!(done.outputs.status, Some(200));
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_method_or_by_the_probe() {
    let (world, heard, url) = world(200).await;
    let post = json!({ "url": url, "method": "POST" });
    assert!(matches!(probe(&world, &post).await, Found::Absent), "nothing was sent yet");
    heard.lock().unwrap().lose = true;
    assert_eq!(run(&world, &post).await.unwrap_err().aftermath, Aftermath::Unknown);
    assert!(matches!(probe(&world, &post).await, Found::Unclear(_)));
    for (wanted, happened) in [(7, true), (8, false)] {
        let asked = json!({ "url": url, "method": "POST", "probe": { "url": url, "expect": { "json": { "n": wanted } } } });
        let found = probe(&world, &asked).await;
        assert_eq!(matches!(found, Found::Happened(_)), happened);
        assert_eq!(matches!(found, Found::Absent), !happened);
    }
    heard.lock().unwrap().lose = true;
    let put = json!({ "url": url, "method": "PUT" });
    let error = run(&world, &put).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
    assert!(matches!(probe(&world, &put).await, Found::Absent), "twice is once");
}

#[tokio::test]
async fn an_answer_that_came_before_the_process_died_is_known() {
    let (world, heard, url) = world(200).await;
    let post = json!({ "url": url, "method": "POST" });
    run(&world, &post).await.unwrap();
    let Found::Happened(done) = probe(&world, &post).await else { panic!("it answered") };
    assert_eq!((done.outputs.status, heard.lock().unwrap().calls.len()), (Some(200), 1));
}

#[tokio::test]
async fn odd_requests_are_refused() {
    let world = World::new();
    for params in [
        json!({ "url": "ftp://x" }),
        json!({ "url": "nonsense" }),
        json!({ "url": "http://127.0.0.1:9", "json": 1, "body": "x" }),
        json!({ "url": "http://127.0.0.1:9", "headers": { "bad name": "x" } }),
        json!({ "url": "http://127.0.0.1:9", "headers": { "x": "a\nb" } }),
    ] {
        assert_eq!(run(&world, &params).await.unwrap_err().aftermath, Aftermath::Refused, "{params}");
    }
    let nobody = json!({ "url": "http://127.0.0.1:9/", "method": "POST" });
    let error = run(&world, &nobody).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None }, "it was never on its way");
}
