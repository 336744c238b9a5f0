//! The Supabase actions against a small server with the documented paths and shapes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};
use axum::{Json, Router};
use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::{ApiKeys, CreateProject, RevokeJwt, RotateJwt};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed};

const REF: &str = "abcdefghijklmnopqrst";
const LIVE: &str = "liveliveliveliveliv";

#[derive(Default)]
struct Supa {
    projects: Vec<Value>,
    created: Vec<Value>,
    /// Statuses that reads of the project show one after the other, before `ACTIVE_HEALTHY`.
    statuses: Vec<&'static str>,
    /// Health of the database on the way up.
    healths: Vec<&'static str>,
    throttled: u32,
    lose_create: bool,
    lose_key: bool,
    throttle_patch: bool,
    keys: Vec<Value>,
    legacy_gone: bool,
    api_keys: Value,
}

type Shared = Arc<Mutex<Supa>>;

fn project(name: &str, status: &str) -> Value {
    json!({ "id": REF, "ref": REF, "organization_id": "polaris", "organization_slug": "polaris", "name": name,
        "region": "ap-southeast-1", "created_at": "2026-01-01T00:00:00Z", "status": status })
}

fn key(id: &str, status: &str, at: &str) -> Value {
    json!({ "id": id, "algorithm": "ES256", "status": status, "public_jwk": { "kid": id }, "created_at": at, "updated_at": at })
}

async fn create(State(supa): State<Shared>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    assert_eq!(headers["authorization"], "Bearer sbp_canary_token");
    let mut supa = supa.lock().unwrap();
    if supa.throttled > 0 {
        supa.throttled -= 1;
        let headers = [("retry-after", "9"), ("x-ratelimit-reset", "57")];
        return (StatusCode::TOO_MANY_REQUESTS, headers, Json(json!({ "message": "Too many" })))
            .into_response();
    }
    let made = project(body["name"].as_str().unwrap(), "UNKNOWN");
    supa.projects.push(made.clone());
    supa.created.push(body);
    if std::mem::take(&mut supa.lose_create) {
        drop(supa);
        lose_the_answer();
    }
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn read(State(supa): State<Shared>) -> Json<Value> {
    let mut supa = supa.lock().unwrap();
    let status = if supa.statuses.is_empty() { "ACTIVE_HEALTHY" } else { supa.statuses.remove(0) };
    let mut found = supa.projects[0].clone();
    found["status"] = json!(status);
    Json(found)
}

async fn health(State(supa): State<Shared>, Query(query): Query<Vec<(String, String)>>) -> Json<Value> {
    assert!(query.iter().any(|(k, v)| k == "services" && v == "db"));
    let mut supa = supa.lock().unwrap();
    let status = if supa.healths.is_empty() { "ACTIVE_HEALTHY" } else { supa.healths.remove(0) };
    Json(json!([{ "name": "db", "healthy": status == "ACTIVE_HEALTHY", "status": status }]))
}

async fn pooler() -> Json<Value> {
    Json(json!([{ "identifier": REF, "database_type": "PRIMARY", "is_using_scram_auth": true,
        "db_user": format!("postgres.{REF}"), "db_host": "aws-0-x.pooler.supabase.com", "db_port": 6543,
        "db_name": "postgres", "connection_string": "", "connectionString": "", "default_pool_size": null,
        "max_client_conn": null, "pool_mode": "transaction" }]))
}

async fn add_key(State(supa): State<Shared>, Json(body): Json<Value>) -> Response {
    assert_eq!(body, json!({ "algorithm": "ES256", "status": "standby" }));
    let mut supa = supa.lock().unwrap();
    let made = key(&format!("new{}", supa.keys.len()), "standby", "2026-02-01T00:00:00Z");
    supa.keys.push(made.clone());
    if std::mem::take(&mut supa.lose_key) {
        drop(supa);
        lose_the_answer();
    }
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn move_key(
    State(supa): State<Shared>,
    Path((_, id)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let mut supa = supa.lock().unwrap();
    if std::mem::take(&mut supa.throttle_patch) {
        return (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "300")], Json(json!({ "message": "wait" })))
            .into_response();
    }
    if body["status"] == "in_use" {
        for key in supa.keys.iter_mut().filter(|key| key["status"] == "in_use") {
            key["status"] = json!("previously_used");
        }
    }
    let key = supa.keys.iter_mut().find(|key| key["id"] == id.as_str()).unwrap();
    key["status"] = body["status"].clone();
    Json(key.clone()).into_response()
}

async fn legacy(State(supa): State<Shared>) -> Response {
    let mut supa = supa.lock().unwrap();
    if supa.legacy_gone {
        return (StatusCode::NOT_FOUND, Json(json!({ "message": "Not found" }))).into_response();
    }
    let made = key("legacy", "in_use", "2025-01-01T00:00:00Z");
    supa.keys.push(made.clone());
    (StatusCode::CREATED, Json(made)).into_response()
}

async fn jwks(State(supa): State<Shared>) -> Json<Value> {
    let keys: Vec<Value> = supa.lock().unwrap().keys.iter().map(|key| key["public_jwk"].clone()).collect();
    Json(json!({ "keys": keys }))
}

async fn world(supa: Supa) -> (World, Shared) {
    let shared = Arc::new(Mutex::new(supa));
    let signing = "/v1/projects/{ref}/config/auth/signing-keys";
    let router = Router::new()
        .route(
            "/v1/projects",
            get(|State(s): State<Shared>| async move { Json(json!(s.lock().unwrap().projects)) })
                .post(create),
        )
        .route("/v1/projects/{ref}", get(read))
        .route("/v1/projects/{ref}/health", get(health))
        .route("/v1/projects/{ref}/config/database/pooler", get(pooler))
        .route("/v1/projects/{ref}/config/auth", get(|| async { Json(json!({ "jwt_exp": 3600 })) }))
        .route(
            "/v1/projects/{ref}/api-keys",
            get(|State(s): State<Shared>| async move { Json(s.lock().unwrap().api_keys.clone()) }),
        )
        .route(
            signing,
            get(|State(s): State<Shared>| async move { Json(json!({ "keys": s.lock().unwrap().keys })) })
                .post(add_key),
        )
        .route(&format!("{signing}/legacy"), post(legacy))
        .route(&format!("{signing}/{{id}}"), patch(move_key))
        .route("/projects/{ref}/auth/v1/.well-known/jwks.json", get(jwks))
        .with_state(shared.clone());
    (World::at(&serve(router).await), shared)
}

async fn run<T: Typed>(action: &T, world: &World, params: Value) -> Result<Done<T::Outputs>, ActionError> {
    action.run(&world.ctx, serde_json::from_value(params).unwrap()).await
}

async fn probe<T: Typed>(action: &T, world: &World, params: Value) -> Result<Found<T::Outputs>, ActionError> {
    action.probe(&world.ctx, serde_json::from_value(params).unwrap()).await
}

fn wanted() -> Value {
    json!({ "name": "polaris-01234567", "db_password": "⟦secret:pw⟧" })
}

#[tokio::test]
async fn a_project_is_created_waited_for_and_handed_on_as_a_connection() {
    let supa = Supa { statuses: vec!["UNKNOWN", "COMING_UP"], healths: vec!["COMING_UP"], ..Supa::default() };
    let (world, supa) = world(supa).await;
    let done = run(&CreateProject, &world, wanted()).await.unwrap();
    assert_eq!(
        supa.lock().unwrap().created,
        [json!({ "name": "polaris-01234567", "organization_slug": "polaris", "db_pass": "canary-password",
            "region_selection": { "type": "specific", "code": "ap-southeast-1" } })]
    );
    let connection = &done.outputs.connection;
    assert_eq!(connection.label(), format!("postgres.{REF}@aws-0-x.pooler.supabase.com:5432/postgres"));
    assert_eq!(connection.password.marked(), "⟦secret:pw⟧");
    assert!(done.outputs.api_url.ends_with(&format!("/projects/{REF}")));
    assert_eq!(done.in_force[0].key, format!("supabase.project/{REF}"));
}

#[tokio::test]
async fn a_lost_answer_never_makes_a_second_project() {
    let (world, supa) =
        world(Supa { lose_create: true, statuses: vec!["COMING_UP"], ..Supa::default() }).await;
    let error = run(&CreateProject, &world, wanted()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown);
    assert!(
        matches!(probe(&CreateProject, &world, wanted()).await.unwrap(), Found::Absent),
        "still coming up"
    );
    assert!(matches!(probe(&CreateProject, &world, wanted()).await.unwrap(), Found::Happened(_)));
    run(&CreateProject, &world, wanted()).await.unwrap();
    assert_eq!(supa.lock().unwrap().created.len(), 1);
}

#[tokio::test]
async fn a_create_call_that_never_arrived_is_sent_again() {
    let (world, supa) = world(Supa::default()).await;
    world.ctx.checkpoints.save("creating", json!({ "at": "2026-01-01T00:00:00Z" })).await.unwrap();
    assert!(matches!(probe(&CreateProject, &world, wanted()).await.unwrap(), Found::Absent));
    run(&CreateProject, &world, wanted()).await.unwrap();
    assert_eq!(supa.lock().unwrap().created.len(), 1);
}

#[tokio::test]
async fn throttling_is_obeyed() {
    let (world, supa) = world(Supa { throttled: 1, ..Supa::default() }).await;
    let error = run(&CreateProject, &world, wanted()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: Some(Duration::from_secs(9)) });
    // The call was turned away, so the list may be believed without waiting for it to settle.
    world.ctx.checkpoints.save("creating", json!({ "at": "2026-01-01T00:00:00Z" })).await.unwrap();
    run(&CreateProject, &world, wanted()).await.unwrap();
    assert_eq!(supa.lock().unwrap().created.len(), 1);
}

#[tokio::test]
async fn a_project_that_somebody_else_made_is_not_taken_over() {
    let (world, supa) =
        world(Supa { projects: vec![project("polaris-01234567", "ACTIVE_HEALTHY")], ..Supa::default() })
            .await;
    let error = run(&CreateProject, &world, wanted()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    assert!(supa.lock().unwrap().created.is_empty());
}

#[tokio::test]
async fn a_project_that_cannot_come_up_ends_the_wait() {
    let (world, _) = world(Supa { statuses: vec!["COMING_UP", "INIT_FAILED"], ..Supa::default() }).await;
    let error = run(&CreateProject, &world, wanted()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    assert!(error.attempted.contains("INIT_FAILED"), "{error}");
}

#[tokio::test]
async fn a_wait_ends_in_time_and_when_the_run_stops_and_goes_on_later() {
    let (world, supa) = world(Supa { statuses: vec!["COMING_UP"; 4], ..Supa::default() }).await;
    let mut params = wanted();
    params["wait"] = json!("100ms");
    let error = run(&CreateProject, &world, params).await.unwrap_err();
    assert_eq!(error.code, Some("not-in-time"));
    world.stop.ask();
    let error = run(&CreateProject, &world, wanted()).await.unwrap_err();
    assert_eq!((error.code, error.aftermath), (Some("stopped"), Aftermath::Unchanged { retry_after: None }));
    assert_eq!(supa.lock().unwrap().created.len(), 1);
}

#[tokio::test]
async fn a_name_without_the_runs_id_gets_it() {
    let (world, supa) = world(Supa::default()).await;
    run(&CreateProject, &world, json!({ "name": "polaris", "region": "apac", "db_password": "⟦secret:pw⟧" }))
        .await
        .unwrap();
    let created = &supa.lock().unwrap().created[0];
    assert_eq!(created["name"], "polaris-01234567");
    assert_eq!(created["region_selection"], json!({ "type": "smartGroup", "code": "apac" }));
}

#[tokio::test]
async fn keys_go_into_the_vault_and_masked_ones_are_refused() {
    let legacy =
        |name: &str, value: &str| json!({ "name": name, "id": name, "type": "legacy", "api_key": value });
    let (world, supa) = world(Supa {
        api_keys: json!([legacy("anon", "canary-anon"), legacy("service_role", "canary-service"),
            { "name": "default", "type": "secret", "api_key": "sb_secret_abc····" }]),
        ..Supa::default()
    })
    .await;
    let done = run(&ApiKeys, &world, json!({ "project": REF })).await.unwrap();
    let clear = world.ctx.secrets.reveal(&done.outputs.service_role_key).unwrap();
    assert_eq!(clear.expose(), "canary-service");
    assert!(!serde_json::to_string(&done.outputs).unwrap().contains("canary"));
    assert!(done.outputs.secret_key.is_none());
    supa.lock().unwrap().api_keys =
        json!([{ "name": "default", "type": "publishable", "api_key": "sb_publishable_x" }]);
    let error = run(&ApiKeys, &world, json!({})).await.unwrap_err();
    assert!(error.attempted.contains("service_role key"), "{error}");
}

#[tokio::test]
async fn a_rotation_goes_on_with_the_key_that_it_made() {
    let keys = vec![key("old", "in_use", "2025-01-01T00:00:00Z")];
    let (world, supa) = world(Supa { keys, lose_key: true, throttle_patch: true, ..Supa::default() }).await;
    assert_eq!(run(&RotateJwt, &world, json!({})).await.unwrap_err().aftermath, Aftermath::Unknown);
    assert!(matches!(probe(&RotateJwt, &world, json!({})).await.unwrap(), Found::Absent));
    let error = run(&RotateJwt, &world, json!({ "wait": "1s" })).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: Some(Duration::from_secs(300)) });
    let done = run(&RotateJwt, &world, json!({})).await.unwrap();
    assert_eq!(
        (done.outputs.key.as_str(), done.outputs.previous.as_slice()),
        ("new1", ["old".to_owned()].as_slice())
    );
    let life = done.outputs.revoke_after.duration_since(done.outputs.rotated_at);
    assert_eq!(life.as_secs(), 3600 + 900);
    assert_eq!(done.in_force[0].key, format!("supabase.jwt/{LIVE}/old"));
    assert_eq!(supa.lock().unwrap().keys.len(), 2, "one key was made");
    let again = run(&RotateJwt, &world, json!({})).await.unwrap();
    assert_eq!(again.outputs.rotated_at, done.outputs.rotated_at);
    assert!(matches!(probe(&RotateJwt, &world, json!({})).await.unwrap(), Found::Happened(_)));
    assert_eq!(supa.lock().unwrap().keys.len(), 2);
}

#[tokio::test]
async fn a_project_with_only_the_legacy_secret_imports_it_where_that_is_possible() {
    for (legacy_gone, previous) in [(false, vec!["legacy".to_owned()]), (true, vec![])] {
        let (world, _) = world(Supa { legacy_gone, ..Supa::default() }).await;
        let done = run(&RotateJwt, &world, json!({})).await.unwrap();
        assert_eq!(done.outputs.previous, previous);
    }
}

#[tokio::test]
async fn a_key_is_revoked_in_its_time_and_never_while_it_signs() {
    let keys = vec![
        key("old", "previously_used", "2025-01-01T00:00:00Z"),
        key("now", "in_use", "2026-01-01T00:00:00Z"),
    ];
    let (world, supa) = world(Supa { keys, ..Supa::default() }).await;
    let later = Timestamp::now() + jiff::SignedDuration::from_mins(10);
    let error = run(&RevokeJwt, &world, json!({ "keys": ["old"], "not_before": later })).await.unwrap_err();
    assert_eq!(error.code, Some("too-early"));
    assert!(
        matches!(error.aftermath, Aftermath::Unchanged { retry_after: Some(left) } if left.as_secs() > 500)
    );
    assert_eq!(supa.lock().unwrap().keys[0]["status"], "previously_used");
    let error = run(&RevokeJwt, &world, json!({ "keys": ["now"] })).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Refused);
    let soon = Timestamp::now() + jiff::SignedDuration::from_millis(50);
    for _ in 0..2 {
        let params = json!({ "keys": ["old"], "not_before": soon, "wait": "1m" });
        let done = run(&RevokeJwt, &world, params).await.unwrap();
        assert_eq!(done.released, [format!("supabase.jwt/{LIVE}/old")]);
    }
    assert_eq!(supa.lock().unwrap().keys[0]["status"], "revoked");
}
