//! What people ask of a run, under the real driver: approvals, cancel, pause, rollback.

use serde_json::json;

use super::bench::{Bench, CHAIN, drive, options, step};
use super::world::{Act, Dying};
use crate::driver::{DriveOptions, RunOutcome};
use crate::store::Journal;

#[tokio::test]
async fn a_cancel_beats_what_would_start_and_the_handlers_run() {
    let bench = Bench::new();
    bench.world.script("a", [Act::UntilStopped]);
    let engine = bench.engine();
    let steps = format!("{CHAIN}on_failure:\n  - {{ id: alarm, uses: t.read }}\n");
    let run = bench.start(&engine, &steps);
    let other = bench.engine();
    let (end, ()) = tokio::join!(drive(&engine, &run), async {
        bench.world.was_called("a").await;
        other.cancel(&run, "bob", Some("wrong database".to_owned())).unwrap();
    });
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::Cancelled, 7));
    assert_eq!(bench.world.calls(), ["a#1", "alarm#1", "tidy#1"]);
    assert!(other.pause(&run, "bob", None).unwrap_err().to_string().contains("finished"));
}

#[tokio::test]
async fn a_start_that_a_cancel_overtook_does_not_happen() {
    let bench = Bench::new();
    let journal = Dying { overtaken_at: Some("b"), ..Dying::never(&bench.journal) };
    let (engine, _) = bench.engine_on(journal);
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Cancelled);
    assert_eq!(bench.world.calls(), ["a#1", "tidy#1"]);
    bench.journal.verify(&run).unwrap();
}

const ASKING: &str = "
steps:
  - { id: a, uses: t.idempotent }
  - id: b
    uses: t.once
    approval: { prompt: \"Go on after {{ steps.a.value }}?\", approvers: [bob, eve] }
";

#[tokio::test]
async fn an_approval_comes_before_the_effect_and_is_answered_from_elsewhere() {
    let bench = Bench::new();
    let engine = bench.engine();
    let run = bench.start(&engine, ASKING);
    let end = drive(&engine, &run).await;
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::Waiting, 7));
    assert_eq!(end.problems[0].message, "Go on after a?");
    assert_eq!(bench.world.calls(), ["a#1"]);

    let refused = engine.approve(&run, &step("b"), "mallory", None).unwrap_err();
    assert!(refused.to_string().contains("`mallory` may not answer; bob, eve may"), "{refused}");
    let waiting = DriveOptions { waits_for_people: true, ..options() };
    let other = bench.engine();
    let (end, prompt) = tokio::join!(engine.drive(&run, waiting, Vec::new()), async {
        other.approve(&run, &step("b"), "bob", None).unwrap()
    });
    assert_eq!(prompt, "Go on after a?");
    assert_eq!(end.unwrap().outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls(), ["a#1", "b#1"]);
}

#[tokio::test]
async fn a_no_refuses_the_step_until_somebody_is_asked_anew() {
    let bench = Bench::new();
    let engine = bench.engine();
    let run = bench.start(&engine, ASKING);
    drive(&engine, &run).await;
    engine.deny(&run, &step("b"), "eve", Some("not now".to_owned())).unwrap();
    let late = engine.approve(&run, &step("b"), "bob", None).unwrap_err();
    assert!(late.to_string().contains("nothing is asked"), "{late}");
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Waiting, "a resume asks anew");
    assert_eq!(bench.world.calls(), ["a#1"]);
}

#[tokio::test]
async fn yes_answers_for_the_actor_outside_of_production_only() {
    let steps = "steps: [{ id: a, uses: t.ask, with: { prompt: Sure? } }]";
    for (kind, outcome) in [("local", RunOutcome::Succeeded), ("production", RunOutcome::Waiting)] {
        let mut bench = Bench::new();
        bench.kind = kind;
        let engine = bench.engine();
        let run = bench.start(&engine, steps);
        let yes = DriveOptions { yes: true, ..options() };
        let end = engine.drive(&run, yes, Vec::new()).await.unwrap();
        assert_eq!(end.outcome, outcome, "{kind}");
        if outcome == RunOutcome::Succeeded {
            let params = bench.world.params.lock().unwrap()["a"].clone();
            assert_eq!(params["answers"][0]["by"], json!("ada"), "{params}");
        }
    }
}

#[tokio::test]
async fn a_rollback_takes_back_what_was_done_newest_first_and_is_resumable() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Force("crons")]);
    bench.world.script("c", [Act::Refused]);
    bench.world.script("undo a", [Act::Unchanged]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Failed);
    assert_eq!(end.in_force[0].what.key, "crons", "what is in force is said");

    engine.rollback(&run, "ada", None).unwrap();
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Failed, "the undo of `a` failed");
    assert!(end.problems.iter().any(|p| p.in_undo && p.step == step("a")), "{:?}", end.problems);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::RolledBack);
    assert_eq!(*bench.world.undone.lock().unwrap(), ["b \"b\"", "a \"a\""]);
    assert!(end.in_force.is_empty());
    assert_eq!(bench.world.calls().last().map(String::as_str), Some("tidy#1"), "`finally` comes last");
}

#[tokio::test]
async fn past_the_point_of_no_return_a_rollback_is_refused() {
    let bench = Bench::new();
    bench.world.script("b", [Act::Refused]);
    let engine = bench.engine();
    let steps = "
steps:
  - { id: a, uses: t.once, point_of_no_return: true }
  - { id: b, uses: t.read }
";
    let run = bench.start(&engine, steps);
    drive(&engine, &run).await;
    let refused = engine.rollback(&run, "ada", None).unwrap_err();
    assert!(refused.to_string().contains("point of no return"), "{refused}");
}

#[tokio::test]
async fn a_pause_lets_what_runs_come_to_a_stop_and_a_resume_goes_on() {
    let bench = Bench::new();
    bench.world.script("b", [Act::UntilStopped]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let (end, ()) = tokio::join!(drive(&engine, &run), async {
        bench.world.was_called("b").await;
        bench.engine().pause(&run, "bob", None).unwrap();
    });
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::Paused, 7));
    assert_eq!(drive(&engine, &run).await.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls(), ["a#1", "b#1", "b#2", "c#1", "tidy#1"]);
}
