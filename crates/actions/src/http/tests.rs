//! The client layer against servers that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{any, get, post};
use runbook_core::action::Aftermath;
use runbook_core::secret::Revealed;
use serde_json::{Value, json};

use super::Api;
use super::check::HttpCheck;
use super::stand_in::{World, lose_the_answer, serve};
use crate::typed::Typed as _;

fn api(url: &str) -> Api {
    Api::new("the stand-in", url, Some(Revealed::new("canary"))).unwrap()
}

type Count = Arc<AtomicU32>;

#[tokio::test]
async fn a_read_is_tried_again_and_a_write_is_not() {
    let count = Count::default();
    let answer = |State(count): State<Count>| async move {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            lose_the_answer();
        }
        axum::Json(json!({ "ok": true }))
    };
    let url = serve(Router::new().route("/x", any(answer)).with_state(count.clone())).await;
    assert_eq!(api(&url).get("read x", &["x"]).send().await.unwrap().body, json!({ "ok": true }));
    assert_eq!(count.load(Ordering::SeqCst), 2);
    count.store(0, Ordering::SeqCst);
    let error = api(&url).post_once("write x", &["x"]).json(&json!({})).send().await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    count.store(0, Ordering::SeqCst);
    let error =
        api(&url).put(reqwest::Method::PUT, "put x", &["x"]).json(&json!({})).send().await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
}

#[tokio::test]
async fn nothing_was_sent_where_nobody_listens() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = api(&url).post_once("write x", &["x"]).send().await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
}

#[tokio::test]
async fn a_throttled_call_says_when_to_come_again_and_repeats_no_secret() {
    let throttled = || async {
        (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "7")], "slow down, canary-in-body\u{7}")
    };
    let url = serve(Router::new().route("/x", post(throttled))).await;
    let error = api(&url).post_once("write x", &["x"]).hide("canary-in-body").send().await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: Some(Duration::from_secs(7)) });
    assert_eq!(error.code, Some("rate-limited"));
    assert_eq!(error.attempted, "write x at the stand-in: it answered 429: slow down, •••\\u{7}");
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let heard = Count::default();
    let other = |State(heard): State<Count>| async move {
        heard.fetch_add(1, Ordering::SeqCst);
        "{}"
    };
    let other = serve(Router::new().route("/", get(other)).with_state(heard.clone())).await;
    let away = move || async move { (StatusCode::FOUND, [(header::LOCATION, other)]) };
    let home = || async { (StatusCode::FOUND, [(header::LOCATION, "/here".to_owned())]) };
    let here = |headers: HeaderMap| async move { axum::Json(headers.contains_key(header::AUTHORIZATION)) };
    let router = Router::new().route("/away", get(away)).route("/home", get(home)).route("/here", get(here));
    let url = serve(router).await;
    let error = api(&url).get("read", &["away"]).send().await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
    assert_eq!(api(&url).get("read", &["home"]).send().await.unwrap().body, json!(true));
}

#[tokio::test]
async fn an_answer_of_another_shape_is_told_without_its_values() {
    let url =
        serve(Router::new().route("/x", any(|| async { axum::Json(json!({ "a": "canary-value" })) }))).await;
    #[derive(Debug, serde::Deserialize)]
    struct Shape {
        #[expect(dead_code, reason = "only its type matters")]
        a: u32,
    }
    let error = api(&url).get("read x", &["x"]).send().await.unwrap().read::<Shape>().unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    assert!(!format!("{error:?}").contains("canary-value"), "{error:?}");
    let error = api(&url).post_once("write x", &["x"]).send().await.unwrap().read::<Shape>().unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown);
}

async fn check(world: &World, params: Value) -> Result<Value, runbook_core::action::ActionError> {
    let done = HttpCheck.run(&world.ctx, serde_json::from_value(params).unwrap()).await?;
    Ok(serde_json::to_value(done.outputs).unwrap())
}

#[tokio::test]
async fn a_check_is_tried_until_it_passes() {
    let count = Count::default();
    let health = |State(count): State<Count>, headers: HeaderMap| async move {
        assert_eq!(headers["x-key"], "canary-password");
        let up = count.fetch_add(1, Ordering::SeqCst) >= 2;
        let status = if up { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, axum::Json(json!({ "db": { "replicas": ["ok"] } }))).into_response()
    };
    let url = serve(Router::new().route("/health", get(health)).with_state(count)).await;
    let world = World::new();
    let outputs = check(
        &world,
        json!({ "checks": [{
        "url": format!("{url}/health?key=1"),
        "headers": { "x-key": "⟦secret:pw⟧" },
        "expect": { "json": { "db.replicas.0": "ok" }, "contains": "replicas" },
    }] }),
    )
    .await
    .unwrap();
    assert_eq!((&outputs["passed"], &outputs["failed"]), (&json!(1), &json!(0)));
    assert_eq!(outputs["results"][0]["tries"], 3);
    assert_eq!(outputs["results"][0]["name"], json!(format!("{url}/health")));
}

#[tokio::test]
async fn a_failed_check_fails_the_step_unless_that_is_not_wanted() {
    let url = serve(Router::new().route("/x", get(|| async { axum::Json(json!({ "n": 2 })) }))).await;
    let world = World::new();
    let checks = json!([
        { "name": "good", "url": format!("{url}/x"), "expect": { "json": { "/n": 2 } } },
        { "name": "bad", "url": format!("{url}/x"), "expect": { "json": { "n": 3 } } },
        { "name": "gone", "url": format!("{url}/y") },
        { "name": "slow", "url": format!("{url}/x"), "expect": { "contains": "nothing" } },
    ]);
    let outputs = check(&world, json!({ "checks": checks, "within": "0s", "fail": false })).await.unwrap();
    let problems: Vec<&str> = (1..4).map(|i| outputs["results"][i]["problem"].as_str().unwrap()).collect();
    assert_eq!(
        problems,
        ["`n` is 2 instead of 3", "status 404 instead of 200", "the body does not contain `nothing`"]
    );
    assert_eq!(outputs["failed"], 3);
    let error = check(&world, json!({ "checks": checks, "within": "0s" })).await.unwrap_err();
    assert_eq!(error.code, Some("check-failed"));
    assert!(error.attempted.starts_with("pass 3 of 4 checks: bad: `n` is 2"), "{error}");
}
