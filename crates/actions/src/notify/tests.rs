//! Messages: what may be in them, and what is known after a lost answer.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use runbook_core::action::{ActionError, Aftermath};
use serde_json::{Value, json};

use super::Notify;
use super::send::Outputs;
use crate::http::stand_in::{World, lose_the_answer, serve};
use crate::typed::{Done, Found, Typed as _};

type Heard = Arc<Mutex<(Vec<Value>, bool)>>;

async fn world(lose: bool) -> (World, Heard) {
    let heard = Heard::new(Mutex::new((Vec::new(), lose)));
    let hook = |State(heard): State<Heard>, Json(body): Json<Value>| async move {
        let lose = {
            let mut heard = heard.lock().unwrap();
            heard.0.push(body);
            heard.1
        };
        if lose {
            lose_the_answer();
        }
        "ok"
    };
    let url = serve(Router::new().route("/hooks/canary", post(hook)).with_state(heard.clone())).await;
    (World::at(&url), heard)
}

async fn run(world: &World, params: Value) -> Result<Done<Outputs>, ActionError> {
    Notify.run(&world.ctx, serde_json::from_value(params).unwrap()).await
}

#[tokio::test]
async fn a_template_is_filled_and_posted() {
    let (world, heard) = world(false).await;
    std::fs::write(world.ctx.base.join("m.txt"), "{{ env.name }} {{ run.short_id }}: {{ rows }} rows")
        .unwrap();
    let done =
        run(&world, json!({ "to": "team", "template": "m.txt", "values": { "rows": 7 } })).await.unwrap();
    assert_eq!(heard.lock().unwrap().0, [json!({ "text": "test 01234567: 7 rows" })]);
    assert!(done.outputs.sent);
}

#[tokio::test]
async fn a_shown_message_goes_nowhere() {
    let (world, heard) = world(false).await;
    let done = run(&world, json!({ "to": "show", "text": "hello" })).await.unwrap();
    assert_eq!((done.outputs.text.as_str(), done.outputs.sent), ("hello", false));
    assert!(heard.lock().unwrap().0.is_empty());
}

#[tokio::test]
async fn secrets_unknown_names_and_odd_parameters_are_refused() {
    let (world, heard) = world(false).await;
    std::fs::write(world.ctx.base.join("m.txt"), "{{ key }} {{ missing }}").unwrap();
    std::fs::write(world.ctx.base.join("s.txt"), "{{ key }}").unwrap();
    for params in [
        json!({ "to": "team", "text": "the key is ⟦secret:pw⟧" }),
        json!({ "to": "team", "template": "s.txt", "values": { "key": "⟦secret:pw⟧" } }),
        json!({ "to": "team", "template": "m.txt", "values": { "key": "x" } }),
        json!({ "to": "team", "template": "/etc/hostname" }),
        json!({ "to": "team", "template": "none.txt" }),
        json!({ "to": "nobody", "text": "x" }),
        json!({ "to": "team", "text": "x", "template": "s.txt" }),
        json!({ "to": "team" }),
        json!({ "to": "team", "text": " " }),
    ] {
        let error = run(&world, params.clone()).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{params}");
    }
    assert!(heard.lock().unwrap().0.is_empty());
}

#[tokio::test]
async fn a_lost_answer_stays_in_doubt() {
    let (world, heard) = world(true).await;
    let params = json!({ "to": "team", "text": "hello" });
    let probe = || Notify.probe(&world.ctx, serde_json::from_value(params.clone()).unwrap());
    assert!(matches!(probe().await.unwrap(), Found::Absent), "nothing was tried");
    let error = run(&world, params.clone()).await.unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown);
    assert!(!format!("{error:?}").contains("/hooks/"), "the address of a webhook is a secret: {error:?}");
    assert!(matches!(probe().await.unwrap(), Found::Unclear(_)));
    assert_eq!(heard.lock().unwrap().0.len(), 1);
    heard.lock().unwrap().1 = false;
    run(&world, params.clone()).await.unwrap();
    assert!(matches!(probe().await.unwrap(), Found::Happened(_)));
}

#[tokio::test]
async fn blocks_and_fields_go_beside_the_text_and_templates_may_loop() {
    let (world, heard) = world(false).await;
    let source = "{{ title }}\n{% for line in lines %}\n- {{ line.at }} {{ line.what }}\n{% endfor %}\nend";
    std::fs::write(world.ctx.base.join("m.txt"), source).unwrap();
    let lines = json!([{ "at": "10:00", "what": "frozen" }, { "at": "10:20", "what": "restored" }]);
    let params = json!({
        "to": "team", "template": "m.txt", "values": { "title": "t", "lines": lines },
        "blocks": [{ "type": "divider" }], "fields": { "severity": 1 },
    });
    run(&world, params).await.unwrap();
    let text = "t\n- 10:00 frozen\n- 10:20 restored\nend";
    let posted = json!({ "text": text, "blocks": [{ "type": "divider" }], "severity": 1 });
    assert_eq!(heard.lock().unwrap().0, [posted]);
    let secret = json!({ "to": "team", "text": "x", "fields": { "key": "⟦secret:pw⟧" } });
    assert_eq!(run(&world, secret).await.unwrap_err().code, Some("secret-in-message"));
}

#[test]
fn slack_must_say_ok_and_others_may_say_what_they_like() {
    use super::send::taken;
    assert!(taken("https://hooks.slack.com/services/T/B/x", "ok").is_ok());
    let error = taken("https://hooks.slack.com/services/T/B/x", "<html>proxy</html>").unwrap_err();
    assert_eq!(error.aftermath, Aftermath::Unknown);
    assert!(taken("https://chat.example/hooks.slack.com", "<html>").is_ok());
}
