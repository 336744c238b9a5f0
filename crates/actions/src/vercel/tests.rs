//! The Vercel actions against a small server with the documented paths and shapes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath, Preview};
use serde_json::{Value, json};

use super::{Crons, Deploy, Env, Flag};
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed};

#[derive(Default)]
struct Verc {
    envs: Vec<Value>,
    posts: u32,
    refuse_key: Option<&'static str>,
    lose: bool,
    crons_disabled: bool,
    items: BTreeMap<String, Value>,
    production: String,
    deployments: Vec<Value>,
    /// States that reads of the newest deployment show before `READY`.
    states: Vec<&'static str>,
    alias_by_itself: bool,
}

type Shared = Arc<Mutex<Verc>>;
type Pairs = Query<BTreeMap<String, String>>;

fn env(id: &str, key: &str, value: &str, kind: &str, target: Value) -> Value {
    json!({ "id": id, "key": key, "value": value, "type": kind, "target": target, "updatedAt": 1 })
}

/// Lists values encrypted, as Vercel does without the permission to decrypt: the single read decrypts.
async fn list_env(State(verc): State<Shared>, Query(query): Pairs) -> Json<Value> {
    assert_eq!((query["decrypt"].as_str(), query["teamId"].as_str()), ("true", "team_1"));
    let mut envs = verc.lock().unwrap().envs.clone();
    for entry in &mut envs {
        match entry["type"].as_str().unwrap() {
            "plain" => {}
            "sensitive" => entry["value"] = json!(""),
            _ => {
                entry["value"] = json!("eyJ2IjoidjIi");
                entry["decrypted"] = json!(false);
            }
        }
    }
    Json(json!({ "envs": envs }))
}

async fn one_env(State(verc): State<Shared>, Path((_, id)): Path<(String, String)>) -> Response {
    let verc = verc.lock().unwrap();
    match verc.envs.iter().find(|e| e["id"] == id.as_str()) {
        Some(entry) => {
            let mut entry = entry.clone();
            entry["decrypted"] = json!(true);
            Json(entry).into_response()
        }
        None => (StatusCode::NOT_FOUND, Json(json!({ "error": { "code": "not_found", "message": "no" } })))
            .into_response(),
    }
}

async fn set_env(State(verc): State<Shared>, Query(query): Pairs, Json(body): Json<Value>) -> Response {
    assert_eq!(query["upsert"], "true");
    let mut verc = verc.lock().unwrap();
    verc.posts += 1;
    let (mut created, mut failed) = (Vec::new(), Vec::new());
    for wanted in body.as_array().unwrap() {
        if verc.refuse_key.is_some_and(|key| wanted["key"] == key) {
            failed.push(json!({ "error": { "code": "ENV_CONFLICT", "envVarKey": wanted["key"], "message": wanted["value"] } }));
            continue;
        }
        verc.envs.retain(|e| !(e["key"] == wanted["key"] && e["target"] == wanted["target"]));
        let mut entry = wanted.clone();
        entry["id"] = json!(format!("env_{}_{}", verc.posts, wanted["key"].as_str().unwrap()));
        verc.envs.push(entry.clone());
        created.push(entry);
    }
    if std::mem::take(&mut verc.lose) {
        drop(verc);
        lose_the_answer();
    }
    (StatusCode::CREATED, Json(json!({ "created": created, "failed": failed }))).into_response()
}

async fn delete_env(State(verc): State<Shared>, Path((_, id)): Path<(String, String)>) -> Json<Value> {
    verc.lock().unwrap().envs.retain(|e| e["id"] != id.as_str());
    Json(json!([]))
}

async fn read_project(State(verc): State<Shared>, Path(_): Path<String>) -> Json<Value> {
    let verc = verc.lock().unwrap();
    let mut project = json!({ "id": "prj_1", "name": "polaris", "accountId": "team_1",
        "crons": { "definitions": [{ "path": "/x" }], "enabledAt": 1, "disabledAt": null, "updatedAt": 1 },
        "targets": { "production": { "id": verc.production } } });
    if verc.crons_disabled {
        project["crons"]["disabledAt"] = json!(5);
    }
    Json(project)
}

async fn crons(State(verc): State<Shared>, Path(id): Path<String>, Json(body): Json<Value>) -> Json<Value> {
    assert_eq!(id, "prj_1");
    verc.lock().unwrap().crons_disabled = body["enabled"] == false;
    Json(json!({ "id": id }))
}

async fn item(State(verc): State<Shared>, Path((_, key)): Path<(String, String)>) -> Response {
    match verc.lock().unwrap().items.get(&key) {
        Some(value) => Json(json!({ "key": key, "value": value, "edgeConfigId": "ecfg_1" })).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn items(State(verc): State<Shared>, Json(body): Json<Value>) -> Json<Value> {
    let mut verc = verc.lock().unwrap();
    for change in body["items"].as_array().unwrap() {
        let key = change["key"].as_str().unwrap().to_owned();
        match change["operation"].as_str().unwrap() {
            "upsert" => verc.items.insert(key, change["value"].clone()),
            "delete" => verc.items.remove(&key),
            other => panic!("unknown operation {other}"),
        };
    }
    Json(json!({ "status": "ok" }))
}

async fn list_deployments(State(verc): State<Shared>, Query(query): Pairs) -> Json<Value> {
    assert_eq!((query["projectId"].as_str(), query["target"].as_str()), ("prj_1", "production"));
    let verc = verc.lock().unwrap();
    let listed: Vec<Value> = verc
        .deployments
        .iter()
        .map(|d| json!({ "uid": d["id"], "state": d["readyState"], "readyState": d["readyState"], "meta": d["meta"], "url": d["url"] }))
        .collect();
    Json(json!({ "deployments": listed, "pagination": { "count": listed.len(), "next": null, "prev": 1 } }))
}

async fn deploy(State(verc): State<Shared>, Query(query): Pairs, Json(body): Json<Value>) -> Response {
    assert_eq!(query["forceNew"], "1");
    assert_eq!(
        (&body["name"], &body["deploymentId"], &body["target"]),
        (&json!("polaris"), &json!("dpl_0"), &json!("production"))
    );
    let mut verc = verc.lock().unwrap();
    let id = format!("dpl_{}", verc.deployments.len() + 1);
    let made = json!({ "id": id, "url": format!("{id}.vercel.app"), "readyState": "QUEUED", "meta": body["meta"], "aliasAssigned": false });
    verc.deployments.push(made.clone());
    if std::mem::take(&mut verc.lose) {
        drop(verc);
        lose_the_answer();
    }
    Json(made).into_response()
}

async fn read_deployment(State(verc): State<Shared>, Path(id): Path<String>) -> Json<Value> {
    let mut verc = verc.lock().unwrap();
    let state = if verc.states.is_empty() { "READY" } else { verc.states.remove(0) };
    let by_itself = verc.alias_by_itself;
    let found = verc.deployments.iter_mut().find(|d| d["id"] == id.as_str()).unwrap();
    found["readyState"] = json!(state);
    found["aliasAssigned"] = json!(state == "READY" && by_itself);
    let found = found.clone();
    if found["aliasAssigned"] == true {
        verc.production = id;
    }
    Json(found)
}

async fn promote(State(verc): State<Shared>, Path((project, id)): Path<(String, String)>) -> Response {
    assert_eq!(project, "prj_1");
    verc.lock().unwrap().production = id;
    (StatusCode::CREATED, Json(json!({}))).into_response()
}

async fn world(verc: Verc, home: &str) -> (World, Shared) {
    let shared = Arc::new(Mutex::new(verc));
    let router = Router::new()
        .route("/v10/projects/{project}/env", get(list_env).post(set_env))
        .route("/v1/projects/{project}/env/{id}", get(one_env))
        .route("/v9/projects/{project}/env/{id}", delete(delete_env))
        .route("/v9/projects/{project}", get(read_project))
        .route("/v1/projects/{project}/crons", patch(crons))
        .route(&format!("/v1/{home}/{{config}}/item/{{key}}"), get(item))
        .route(&format!("/v1/{home}/{{config}}/items"), patch(items))
        .route("/v7/deployments", get(list_deployments))
        .route("/v13/deployments", post(deploy))
        .route("/v13/deployments/{id}", get(read_deployment))
        .route("/v10/projects/{project}/promote/{id}", post(promote))
        .with_state(shared.clone());
    (World::at(&serve(router).await), shared)
}

async fn run<T: Typed>(action: &T, world: &World, params: &Value) -> Result<Done<T::Outputs>, ActionError> {
    action.run(&world.ctx, serde_json::from_value(params.clone()).unwrap()).await
}

async fn undo<T: Typed>(
    action: &T,
    world: &World,
    params: &Value,
    done: &Done<T::Outputs>,
) -> runbook_core::action::Outcome {
    // As the executor does it: outputs come out of the journal.
    let outputs = serde_json::from_value(serde_json::to_value(&done.outputs).unwrap()).unwrap();
    action.undo(&world.ctx, serde_json::from_value(params.clone()).unwrap(), outputs).await.unwrap()
}

fn values(verc: &Shared) -> BTreeMap<String, String> {
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    verc.lock().unwrap().envs.iter().map(|e| (text(&e["key"]), text(&e["value"]))).collect()
}

fn seeded() -> Verc {
    Verc {
        envs: vec![
            env("e1", "URL", "canary-old-url", "encrypted", json!(["production", "preview"])),
            env("e2", "SAME", "canary-new-value", "plain", json!(["production"])),
            env("e3", "HIDDEN", "canary-hidden", "sensitive", json!(["production"])),
            env("e4", "GOES", "canary-goes", "encrypted", json!("production")),
            env("e5", "URL", "canary-dev-url", "encrypted", json!(["development"])),
        ],
        ..Verc::default()
    }
}

fn setting() -> Value {
    json!({ "set": { "URL": "https://new", "SAME": "⟦secret:new⟧", "HIDDEN": "⟦secret:new⟧", "ADDED": "x⟦secret:pw⟧", "GOES": null } })
}

#[tokio::test]
async fn a_plan_names_what_changes_and_shows_no_value() {
    let (world, verc) = world(seeded(), "global-config").await;
    let params = serde_json::from_value(setting()).unwrap();
    let Preview::Changes { lines, .. } = Env.plan(&world.ctx, params).await.unwrap() else {
        panic!("a preview")
    };
    assert_eq!(
        lines,
        [
            "ADDED is created (production)",
            "GOES is deleted (production)",
            "HIDDEN is set (production); its present value cannot be read, so there is no way back",
            "SAME has this value already (production)",
            "URL changes (production, preview)",
        ]
    );
    assert_eq!(verc.lock().unwrap().posts, 0);
}

#[tokio::test]
async fn variables_are_set_and_put_back() {
    let (world, verc) = world(seeded(), "global-config").await;
    let done = run(&Env, &world, &setting()).await.unwrap();
    assert_eq!(done.outputs.changed, ["ADDED", "GOES", "HIDDEN", "URL"]);
    let written = serde_json::to_string(&done.outputs).unwrap();
    assert!(!written.contains("canary"), "{written}");
    let now = values(&verc);
    assert_eq!((now["ADDED"].as_str(), now.get("GOES")), ("xcanary-password", None));
    let production: Vec<Value> =
        verc.lock().unwrap().envs.iter().filter(|e| e["key"] == "URL").map(|e| e["value"].clone()).collect();
    assert_eq!(production, ["canary-dev-url", "https://new"], "the entry of another target stays");
    // A repeat changes nothing and remembers the same previous values.
    let again = run(&Env, &world, &setting()).await.unwrap();
    assert_eq!(again.outputs.changed, done.outputs.changed);
    let outcome = undo(&Env, &world, &setting(), &again).await;
    let now = values(&verc);
    assert_eq!(
        (now["URL"].as_str(), now["GOES"].as_str(), now.get("ADDED")),
        ("canary-old-url", "canary-goes", None)
    );
    assert_eq!(outcome.in_force[0].key, "vercel.env/polaris/HIDDEN");
}

#[tokio::test]
async fn a_failure_inside_a_success_is_seen() {
    let (world, _) = world(Verc { refuse_key: Some("URL"), ..seeded() }, "global-config").await;
    let error = run(&Env, &world, &setting()).await.unwrap_err();
    assert_eq!((error.code, &error.aftermath), (Some("vercel-env-failed"), &Aftermath::Refused));
    assert_eq!(error.attempted, "set 1 of 3 variables of project `polaris`: URL: ENV_CONFLICT");
}

/// As the executor undoes a step that failed: there are no outputs.
async fn undo_failed<T: Typed>(action: T, world: &World, params: &Value) -> runbook_core::action::Outcome {
    crate::typed::action(action).undo(&world.ctx, params.clone(), Value::Null).await.unwrap()
}

#[tokio::test]
async fn what_a_failed_step_changed_is_put_back() {
    let (world, verc) = world(Verc { refuse_key: Some("URL"), ..seeded() }, "global-config").await;
    let outcome = undo_failed(Env, &world, &setting()).await;
    assert_eq!(outcome.summary, "it had changed nothing");
    run(&Env, &world, &setting()).await.unwrap_err();
    assert!(values(&verc).contains_key("ADDED"));
    let outcome = undo_failed(Env, &world, &setting()).await;
    let now = values(&verc);
    assert_eq!((now.get("ADDED"), now["GOES"].as_str()), (None, "canary-goes"), "{}", outcome.summary);

    let off = json!({ "enabled": false });
    assert_eq!(undo_failed(Crons, &world, &off).await.summary, "it had changed nothing");
    run(&Crons, &world, &off).await.unwrap();
    assert_eq!(undo_failed(Crons, &world, &off).await.summary, "the crons of polaris are on again");
}

#[tokio::test]
async fn variables_whose_answer_was_lost_are_set_again_and_still_put_back() {
    let (world, verc) = world(Verc { lose: true, ..seeded() }, "global-config").await;
    let params = json!({ "set": { "URL": "https://new" } });
    let error = run(&Env, &world, &params).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None });
    let done = run(&Env, &world, &params).await.unwrap();
    assert_eq!(
        (verc.lock().unwrap().posts, done.outputs.changed.as_slice()),
        (1, ["URL".to_owned()].as_slice())
    );
    undo(&Env, &world, &params, &done).await;
    assert_eq!(values(&verc)["URL"], "canary-old-url");
}

#[tokio::test]
async fn crons_go_off_and_on_and_say_so() {
    let (world, verc) = world(Verc::default(), "global-config").await;
    let off = json!({ "enabled": false });
    run(&Crons, &world, &off).await.unwrap();
    let done = run(&Crons, &world, &off).await.unwrap();
    assert!(verc.lock().unwrap().crons_disabled && done.outputs.were_enabled);
    assert_eq!(done.in_force[0].text, "the crons of project polaris are off");
    let outcome = undo(&Crons, &world, &off, &done).await;
    assert!(!verc.lock().unwrap().crons_disabled);
    assert_eq!(outcome.released, ["vercel.crons/polaris"]);
    let on = run(&Crons, &world, &json!({ "enabled": true })).await.unwrap();
    assert_eq!(on.released, ["vercel.crons/polaris"]);
}

#[tokio::test]
async fn a_flag_is_set_at_either_address_and_put_back() {
    for home in ["global-config", "edge-config"] {
        let (world, verc) = world(Verc::default(), home).await;
        let params = json!({ "key": "read_only", "value": true, "in_force": "the app refuses writes" });
        run(&Flag, &world, &params).await.unwrap();
        let done = run(&Flag, &world, &params).await.unwrap();
        assert_eq!(verc.lock().unwrap().items["read_only"], true, "{home}");
        assert_eq!(done.in_force[0].key, "vercel.flag/ecfg_1/read_only");
        assert!(!done.outputs.existed);
        let outcome = undo(&Flag, &world, &params, &done).await;
        assert!(verc.lock().unwrap().items.is_empty(), "{home}");
        assert_eq!(outcome.released, ["vercel.flag/ecfg_1/read_only"]);
        let error = run(&Flag, &world, &json!({ "key": "a b", "value": 1 })).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused);
    }
}

#[tokio::test]
async fn a_flag_that_ends_a_freeze_says_so_and_so_does_its_undo() {
    let frozen = Verc { items: BTreeMap::from([("read_only".to_owned(), json!(true))]), ..Verc::default() };
    let (world, verc) = world(frozen, "global-config").await;
    let params = json!({ "key": "read_only", "value": false, "releases": true });
    let done = run(&Flag, &world, &params).await.unwrap();
    assert_eq!(done.released, ["vercel.flag/ecfg_1/read_only"]);
    let outcome = undo(&Flag, &world, &params, &done).await;
    assert_eq!(verc.lock().unwrap().items["read_only"], true);
    assert_eq!(outcome.in_force[0].text, "flag read_only is true again");
    let both = json!({ "key": "read_only", "value": true, "in_force": "frozen", "releases": true });
    assert_eq!(run(&Flag, &world, &both).await.unwrap_err().aftermath, Aftermath::Refused);
}

fn serving() -> Verc {
    Verc { production: "dpl_0".into(), alias_by_itself: true, ..Verc::default() }
}

#[tokio::test]
async fn a_deployment_whose_answer_was_lost_is_found_by_its_key() {
    let (world, verc) =
        world(Verc { lose: true, states: vec!["BUILDING"], ..serving() }, "global-config").await;
    let params = json!({});
    let probe = || Deploy.probe(&world.ctx, serde_json::from_value(json!({})).unwrap());
    assert!(matches!(probe().await.unwrap(), Found::Absent), "nothing was tried");
    assert_eq!(run(&Deploy, &world, &params).await.unwrap_err().aftermath, Aftermath::Unknown);
    assert!(matches!(probe().await.unwrap(), Found::Absent), "it is still building");
    let done = run(&Deploy, &world, &params).await.unwrap();
    assert_eq!(verc.lock().unwrap().deployments.len(), 1);
    assert_eq!(verc.lock().unwrap().deployments[0]["meta"]["runbookKey"], json!(world.ctx.key));
    assert_eq!((done.outputs.id.as_str(), done.outputs.url.as_str()), ("dpl_1", "https://dpl_1.vercel.app"));
    assert_eq!(done.outputs.previous.as_deref(), Some("dpl_0"));
    assert!(matches!(probe().await.unwrap(), Found::Happened(_)));
    undo(&Deploy, &world, &params, &done).await;
    assert_eq!(verc.lock().unwrap().production, "dpl_0");
}

#[tokio::test]
async fn a_build_that_fails_is_refused_and_a_later_attempt_builds_anew() {
    let (world, verc) = world(Verc { states: vec!["BUILDING", "ERROR"], ..serving() }, "global-config").await;
    let error = run(&Deploy, &world, &json!({})).await.unwrap_err();
    assert_eq!((error.code, error.aftermath), (Some("deployment-failed"), Aftermath::Refused));
    verc.lock().unwrap().states = vec!["ERROR"];
    world.ctx.checkpoints.save("creating", json!({ "at": "2026-01-01T00:00:00Z" })).await.unwrap();
    let done = run(&Deploy, &world, &json!({})).await.unwrap();
    assert_eq!(done.outputs.id, "dpl_2");
}

#[tokio::test]
async fn a_deployment_that_gets_no_domains_by_itself_is_promoted() {
    let (world, verc) = world(Verc { alias_by_itself: false, ..serving() }, "global-config").await;
    let done = run(&Deploy, &world, &json!({ "wait": "2s" })).await.unwrap();
    assert_eq!(verc.lock().unwrap().production, done.outputs.id);
}
