//! Metrics against a server that answers from a list: unknown is never zero, and a watch survives its process.

use std::sync::{Arc, Mutex};

use axum::extract::{Query as Pairs, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{Query, Watch};
use crate::http::stand_in::{World, serve};
use crate::typed::{Done, Typed};

/// The values of `x`, one an answer, the last for ever; `-` is an empty result.
type Values = Arc<Mutex<Vec<&'static str>>>;

async fn answer(
    State(values): State<Values>,
    Pairs(pairs): Pairs<std::collections::BTreeMap<String, String>>,
) -> Response {
    let bad = |code: StatusCode, kind: &str| {
        (code, Json(json!({ "status": "error", "errorType": kind, "error": "parse error" }))).into_response()
    };
    let result = match pairs["query"].as_str() {
        "x" => {
            let mut values = values.lock().unwrap();
            match if values.len() > 1 { values.remove(0) } else { values[0] } {
                "-" => json!([]),
                "503" => return bad(StatusCode::SERVICE_UNAVAILABLE, "timeout"),
                value => json!([{ "metric": { "__name__": "x" }, "value": [1.5, value] }]),
            }
        }
        "two" => {
            json!([{ "metric": { "a": "1" }, "value": [1, "1"] }, { "metric": { "a": "2" }, "value": [1, "5"] }])
        }
        "number" => {
            return Json(
                json!({ "status": "success", "data": { "resultType": "scalar", "result": [1, "7"] } }),
            )
            .into_response();
        }
        "range" => {
            return Json(json!({ "status": "success", "data": { "resultType": "matrix", "result": [] } }))
                .into_response();
        }
        _ => return bad(StatusCode::BAD_REQUEST, "bad_data"),
    };
    Json(json!({ "status": "success", "data": { "resultType": "vector", "result": result } })).into_response()
}

async fn world(values: &[&'static str]) -> World {
    let values = Values::new(Mutex::new(values.to_vec()));
    World::at(&serve(Router::new().route("/api/v1/query", get(answer)).with_state(values)).await)
}

async fn query(world: &World, params: Value) -> Result<Done<<Query as Typed>::Outputs>, ActionError> {
    Query.run(&world.ctx, serde_json::from_value(params).unwrap()).await
}

async fn watch(world: &World, params: Value) -> Result<Done<<Watch as Typed>::Outputs>, ActionError> {
    Watch.run(&world.ctx, serde_json::from_value(params).unwrap()).await
}

#[tokio::test]
async fn a_value_is_a_value_and_nothing_is_unknown() {
    let world = world(&["0.25", "-", "NaN", "-"]).await;
    let found = query(&world, json!({ "query": "x" })).await.unwrap().outputs;
    assert_eq!((found.known, found.value, found.highest), (true, Some(0.25), Some(0.25)));
    let nothing = query(&world, json!({ "query": "x" })).await.unwrap().outputs;
    assert_eq!((nothing.known, nothing.value), (false, None));
    let error = query(&world, json!({ "query": "x", "max": 1 })).await.unwrap_err();
    assert_eq!(error.code, Some("unknown-metric"), "NaN is within no bounds");
    let allowed = query(&world, json!({ "query": "x", "max": 1, "allow_unknown": true })).await.unwrap();
    assert!(!allowed.outputs.known);
}

#[tokio::test]
async fn bounds_hold_for_every_series_and_a_bad_question_is_not_asked_again() {
    let world = world(&["1"]).await;
    let two = query(&world, json!({ "query": "two", "max": 5 })).await.unwrap().outputs;
    assert_eq!((two.value, two.lowest, two.highest), (None, Some(1.0), Some(5.0)));
    let error = query(&world, json!({ "query": "two", "max": 4 })).await.unwrap_err();
    assert!(error.attempted.contains("5 (a=2) instead of at most 4"), "{}", error.attempted);
    assert_eq!(query(&world, json!({ "query": "number" })).await.unwrap().outputs.value, Some(7.0));
    for asked in ["sum(", "range"] {
        let error = query(&world, json!({ "query": asked })).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{asked}");
    }
}

fn asked(values: &[(&str, Value)]) -> Value {
    let mut params = json!({
        "objectives": [{ "name": "x", "query": "x", "max": 1 }], "duration": "300ms", "every": "100ms",
    });
    for (name, value) in values {
        params[name] = value.clone();
    }
    params
}

#[tokio::test]
async fn a_watch_takes_a_sample_at_both_ends_and_says_the_worst() {
    let world = world(&["0.1", "0.7", "0.2"]).await;
    let done = watch(&world, asked(&[])).await.unwrap().outputs;
    let seen = &done.results[0];
    assert!((0.3..0.4).contains(&done.watched_seconds), "{}", done.watched_seconds);
    assert_eq!((seen.samples, seen.bad, seen.worst.as_deref()), (4, 0, Some("0.7")));
}

#[tokio::test]
async fn a_watch_fails_with_so_many_bad_samples_and_then_begins_anew() {
    let world = world(&["0.1", "3", "0.1", "-", "0.1"]).await;
    let error = watch(&world, asked(&[("fail_after", json!(2))])).await.unwrap_err();
    assert_eq!((error.code, error.aftermath), (Some("slo-violated"), Aftermath::Refused));
    assert!(error.attempted.contains("2 of 4 samples") && error.attempted.contains("3 instead of at most 1"));
    let done = watch(&world, asked(&[])).await.unwrap().outputs;
    assert_eq!((done.results[0].samples, done.results[0].bad), (4, 0), "what was bad is not counted twice");
}

#[tokio::test]
async fn a_resumed_watch_goes_on_with_the_time_that_remains() {
    let world = world(&["0.1"]).await;
    let saved = json!({
        "since": "2026-01-01T00:00:00Z", "millis": 7_199_900,
        "results": [{ "name": "x", "samples": 240, "bad": 1, "unknown": 0, "worst": "2", "worst_value": 2.0, "worst_at": null }],
    });
    world.ctx.checkpoints.save("watched", saved).await.unwrap();
    let begun = std::time::Instant::now();
    let done = watch(&world, asked(&[("duration", json!("2h")), ("fail_after", json!(2))])).await.unwrap();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    let seen = &done.outputs.results[0];
    assert_eq!((seen.samples, seen.bad, seen.worst.as_deref()), (242, 1, Some("2")));
    assert!((7200.0..7201.0).contains(&done.outputs.watched_seconds));
}

#[tokio::test]
async fn nobody_calls_good_what_was_never_seen() {
    let objective = json!([{ "name": "x", "query": "x", "max": 1, "unknown": "skip" }]);
    let quiet = world(&["-"]).await;
    let error = watch(&quiet, asked(&[("objectives", objective)])).await.unwrap_err();
    assert_eq!(error.code, Some("unknown-metric"));
    let silent = world(&["503"]).await;
    let error = watch(&silent, asked(&[])).await.unwrap_err();
    assert_eq!(error.code, Some("slo-violated"), "a Prometheus that does not answer is unknown, so bad");
}

#[tokio::test]
async fn a_watch_that_could_find_nothing_bad_is_refused_and_one_that_is_stopped_keeps_its_place() {
    let world = world(&["0.1"]).await;
    for values in [
        ("objectives", json!([])),
        ("objectives", json!([{ "name": "x", "query": "x" }])),
        ("every", json!("1ms")),
        ("fail_after", json!(0)),
        ("objectives", json!([{ "name": "x", "query": "sum(", "max": 1 }])),
    ] {
        let error = watch(&world, asked(std::slice::from_ref(&values))).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{values:?}");
    }
    world.stop.ask();
    let error = watch(&world, asked(&[("duration", json!("2h"))])).await.unwrap_err();
    assert_eq!(error.code, Some("stopped"));
    assert_eq!(world.ctx.checkpoints.get("watched").unwrap()["results"][0]["samples"], 1);
}
