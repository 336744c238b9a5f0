//! What evidence says, and that it cannot be moved by a repeat.

use runbook_core::action::{Aftermath, Context};
use serde_json::{Value, json};

use super::{Measure, Record};
use crate::http::stand_in::World;
use crate::typed::Typed as _;

async fn measured(
    ctx: &Context,
    params: Value,
) -> Result<super::measure::Outputs, runbook_core::action::ActionError> {
    Measure.run(ctx, serde_json::from_value(params).unwrap()).await.map(|done| done.outputs)
}

#[tokio::test]
async fn the_window_and_the_duration_are_measured_once() {
    let world = World::new();
    let params = json!({
        "restore_point": "2026-01-01T00:00:00Z", "declared_at": "2026-01-01T06:00:00Z",
        "written_until": "2026-01-01T06:02:03Z", "rpo": "24h", "rto": "1h",
    });
    let first = measured(&world.ctx, params.clone()).await.unwrap();
    let again = measured(&world.ctx, params).await.unwrap();
    assert_eq!(first.measured_at, again.measured_at, "a repeat does not move the moment");
    assert_eq!((first.rpo_seconds, first.rpo_met, first.rto_met), (Some(21_723.0), Some(true), Some(false)));
    let begins = "Data-loss window 2026-01-01 00:00:00 UTC to 2026-01-01 06:02:03 UTC: 6h2m3s, within the RPO of 1d. \
                  Duration 2026-01-01 06:00:00 UTC to ";
    assert!(first.statement.starts_with(begins), "{}", first.statement);
    assert!(first.statement.ends_with("OVER the RTO of 1h."), "{}", first.statement);
}

#[tokio::test]
async fn a_missed_objective_fails_only_where_that_is_wished() {
    let declared = json!({ "declared_at": "2026-01-01T06:00:00Z", "rto": "1h", "fail": true });
    let error = measured(&World::new().ctx, declared).await.unwrap_err();
    assert_eq!(error.code, Some("objective-missed"));
    let nothing = measured(&World::new().ctx, json!({ "fail": true })).await.unwrap();
    assert_eq!((nothing.rpo_met, nothing.rto_met, nothing.lost_from), (None, None, None));
}

#[tokio::test]
async fn moments_in_the_wrong_order_are_refused() {
    for params in
        [json!({ "declared_at": "2999-01-01T00:00:00Z" }), json!({ "restore_point": "2999-01-01T00:00:00Z" })]
    {
        let error = measured(&World::new().ctx, params.clone()).await.unwrap_err();
        assert_eq!(error.aftermath, Aftermath::Refused, "{params}");
    }
}

/// A context of another run in the same state directory.
fn of_run(world: &World, run: &str, started_at: &str) -> Context {
    let artifacts = world.ctx.base.join("artifacts").join(run).join("evidence");
    let checkpoints = World::new().ctx.checkpoints;
    Context {
        run: run.to_owned(),
        run_short: run.chars().take(8).collect(),
        started_at: started_at.parse().unwrap(),
        artifacts,
        checkpoints,
        ..world.ctx.clone()
    }
}

fn checks(restored: Value) -> Value {
    let done = json!({ "url": "s3://b/k", "sha256": "ab".repeat(32) });
    json!([
        { "id": "backup", "action": "backup.select", "of": done },
        { "id": "restore", "action": "postgres.restore", "of": restored },
    ])
}

#[tokio::test]
async fn records_are_chained_and_a_repeat_writes_the_same_bytes() {
    let world = World::new();
    let params = |restored: Value| {
        serde_json::from_value(json!({ "runbook": "drill", "rpo": "24h", "checks": checks(restored) }))
            .unwrap()
    };
    let first = of_run(&world, "aaaaaaaa11", "2026-01-01T00:00:00Z");
    let second = of_run(&world, "bbbbbbbb22", "2026-02-01T00:00:00Z");

    let one = Record.run(&first, params(json!({ "rows": 5 }))).await.unwrap().outputs;
    let again = Record.run(&first, params(json!({ "rows": 5 }))).await.unwrap().outputs;
    let two = Record.run(&second, params(Value::Null)).await.unwrap().outputs;

    assert_eq!((one.outcome.as_str(), one.prev_hash.as_ref(), &one.sha256), ("passed", None, &again.sha256));
    assert_eq!(one.levels, ["V0", "V1", "V2", "V3"]);
    assert_eq!(two.outcome, "failed", "a step that was not done is no proof");
    assert_eq!((two.passed, two.failed, two.levels), (1, 1, vec!["V0".to_owned()]));
    assert_eq!(two.prev_hash, Some(one.sha256));
    let record: Value = serde_json::from_slice(&std::fs::read(&two.path).unwrap()).unwrap();
    for field in [
        "schema",
        "drill_id",
        "runbook",
        "tool",
        "operator",
        "trigger",
        "started_at",
        "finished_at",
        "environment",
        "backup",
        "scope",
        "objectives",
        "measured",
        "checks",
        "errors",
        "deviations",
        "controls",
        "attachments",
        "prev_hash",
        "sign_off",
    ] {
        assert!(record.get(field).is_some(), "{field}");
    }
    assert_eq!(record["errors"][0]["id"], "restore");
}
