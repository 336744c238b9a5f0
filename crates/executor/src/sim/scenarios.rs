//! Whole runs under the real driver: scripted actions, a journal in memory, a process that dies where it is
//! told to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::bench::{Bench, drive, options, state, step};
use super::world::{Act, Actions, Dying};
use crate::driver::{DriveOptions, Engine, EngineError, RunOutcome, StatePaths, Stop};
use crate::event::{Event, News, Reporter};
use crate::machine::State;
use crate::record::{Record, Verdict};
use crate::requests::Resolution;
use crate::store::Journal;
use crate::view::RunView;

const MIXED: &str = "
steps:
  - { id: list, uses: t.read, with: { value: [eu, us, ap] } }
  - id: copy
    uses: t.keyed
    for_each: { items: \"{{ steps.list.value }}\", as: region, key: \"{{ region }}\", max_parallel: 2 }
    with: { value: \"{{ region }}\" }
  - { id: left, uses: t.idempotent, needs: [list] }
  - { id: never, uses: t.once, needs: [list], if: 1 == 2 }
  - { id: right, uses: t.probed, needs: [left, never] }
  - { id: join, uses: t.once, needs: [copy, right], with: { value: \"{{ steps.copy['us'].value }}\" } }
finally:
  - { id: tidy, uses: t.idempotent }
outputs: { picked: \"{{ steps.join.value }}\" }
";

#[tokio::test]
async fn a_run_goes_through_to_its_outputs() {
    let bench = Bench::new();
    let engine = bench.engine();
    let run = bench.start(&engine, MIXED);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded, "{:?}", end.problems);
    assert_eq!(end.outputs["picked"], json!("us"));
    assert_eq!(state(&engine, &run, "never"), State::Skipped);
    assert_eq!(bench.world.calls().len(), 8, "{:?}", bench.world.calls());
    let again = drive(&engine, &run).await;
    assert_eq!(again.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls().len(), 8, "a finished run is left alone");
    bench.journal.verify(&run).unwrap();
}

#[tokio::test]
async fn a_death_at_any_append_is_survived_and_no_effect_happens_twice() {
    let unbroken = Bench::new();
    let (engine, counter) = unbroken.engine_on(Dying::never(&unbroken.journal));
    let run = unbroken.start(&engine, MIXED);
    drive(&engine, &run).await;
    let appends = counter.appends.load(Ordering::SeqCst);
    assert!(appends >= 8, "{appends}");
    for after in [false, true] {
        for dies_at in 0..appends {
            let bench = Bench::new();
            let (dying, _) = bench.engine_on(Dying::at(&bench.journal, dies_at, after));
            let run = bench.start(&dying, MIXED);
            dying.drive(&run, options(), Vec::new()).await.expect_err("the process dies");
            let known_done = bench.records(&run).iter().filter(|k| **k == "step_done").count();
            let calls_before = bench.world.calls().len();
            let engine = bench.engine();
            let mut end = drive(&engine, &run).await;
            if end.outcome == RunOutcome::InDoubt {
                // `join` must not happen twice, and cannot be asked: a person looks.
                let happened = bench.world.effects().contains_key("join");
                let verdict = if happened { Verdict::Done } else { Verdict::Again };
                let outputs = Some(json!({ "value": "us" }));
                let answer = Resolution { verdict, reason: "looked".to_owned(), outputs };
                engine.resolve(&run, &step("join"), "bob", answer).unwrap();
                end = drive(&engine, &run).await;
            }
            assert_eq!(
                end.outcome,
                RunOutcome::Succeeded,
                "dies at {dies_at}, after {after}: {:?}",
                end.problems
            );
            assert_eq!(end.outputs["picked"], json!("us"), "dies at {dies_at}");
            let effects = bench.world.effects();
            assert!(effects.values().all(|&n| n == 1), "dies at {dies_at}: {effects:?}");
            assert_eq!(effects.len(), 7, "dies at {dies_at}: {effects:?}");
            let repeated = bench.world.calls().len() - 8;
            assert!(repeated <= 4, "only open steps repeat: {known_done} done, {calls_before} calls before");
            bench.journal.verify(&run).unwrap();
        }
    }
}

#[tokio::test]
async fn steps_in_a_row_cost_one_commit_each() {
    let bench = Bench::new();
    let (engine, counter) = bench.engine_on(Dying::never(&bench.journal));
    let steps: String = (0..50).map(|n| format!("  - {{ id: s{n}, uses: t.read }}\n")).collect();
    let run = bench.start(&engine, &format!("steps:\n{steps}"));
    drive(&engine, &run).await;
    let appends = counter.appends.load(Ordering::SeqCst);
    assert!(appends <= 54, "{appends} commits for 50 steps");
}

const CHAIN: &str = "
steps:
  - { id: a, uses: t.idempotent }
  - id: b
    uses: t.keyed
    retry: { max_attempts: 2, initial_interval: 1ms }
    if_it_fails: Call the vendor.
  - { id: c, uses: t.once }
finally:
  - { id: tidy, uses: t.read }
";

#[tokio::test]
async fn when_retries_are_used_up_the_run_waits_to_be_resumed() {
    let bench = Bench::new();
    bench.world.script("b", [Act::Unchanged, Act::Unchanged]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::Failed, 5));
    let problem = &end.problems[0];
    assert_eq!((problem.step.as_str(), problem.attempts), ("b", 2));
    assert_eq!(problem.message, "reach it: it is away");
    assert_eq!(problem.if_it_fails.as_deref(), Some("Call the vendor."));
    assert_eq!(bench.world.calls(), ["a#1", "b#1", "b#2"], "nothing after it, nor `finally`");

    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls()[3..], ["b#3", "c#1", "tidy#1"], "attempts are counted on");
}

#[tokio::test]
async fn a_refusal_is_not_tried_again_and_keeps_its_hint() {
    let bench = Bench::new();
    bench.world.script("b", [Act::Refused]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Failed);
    assert_eq!(end.problems[0].hint.as_deref(), Some("Do something else."));
    assert_eq!(bench.world.calls(), ["a#1", "b#1"]);
}

#[tokio::test]
async fn a_panic_is_a_failed_attempt_whose_effect_is_unknown() {
    let bench = Bench::new();
    bench.world.script("b", [Act::Panic]);
    bench.world.script("c", [Act::Panic]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::InDoubt, 6), "`c` must not happen twice");
    assert_eq!(bench.world.calls(), ["a#1", "b#1", "b#2", "c#1"]);
    let fenced = bench.world.fenced.lock().unwrap().clone();
    assert_eq!(fenced.iter().map(|f| f.0.as_str()).collect::<Vec<_>>(), ["b", "c"], "before it is repeated");
    assert!(fenced.iter().all(|f| f.1 > 1_000_000), "sessions of this very epoch count as old");
}

#[tokio::test]
async fn an_attempt_that_runs_out_of_time_is_dropped_fenced_and_repeated() {
    let bench = Bench::new();
    bench.world.script("a", [Act::UntilStopped]);
    let engine = bench.engine();
    let steps = "steps: [{ id: a, uses: t.idempotent, timeout: 20ms, retry: { initial_interval: 1ms } }]";
    let run = bench.start(&engine, steps);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls(), ["a#1", "a#2"]);
    let loaded = engine.load(&run).unwrap();
    let timed_out = loaded
        .records
        .iter()
        .any(|(_, r)| matches!(r, Record::AttemptFailed(f) if f.code.as_deref() == Some("timeout")));
    assert!(timed_out);
}

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
async fn a_second_engine_is_told_who_holds_the_run() {
    let bench = Bench::new();
    bench.world.script("a", [Act::UntilStopped]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let held = Engine::new(
        bench.journal.clone(),
        Arc::new(Actions::new(&bench.world)),
        StatePaths { root: bench.folder.path().to_owned() },
    );
    let stop = Stop::new();
    let first = DriveOptions { stop: stop.clone(), ..options() };
    let (end, refused) = tokio::join!(held.drive(&run, first, Vec::new()), async {
        bench.world.was_called("a").await;
        let refused = held.drive(&run, options(), Vec::new()).await.unwrap_err();
        stop.gentle();
        refused
    });
    assert_eq!(end.unwrap().outcome, RunOutcome::Stopped);
    assert!(matches!(refused, EngineError::Lease(_)), "{refused}");
}

#[tokio::test]
async fn an_engine_that_lost_the_run_appends_nothing_and_starts_nothing() {
    let bench = Bench::new();
    bench.world.script("a", [Act::UntilStopped]);
    let (engine, stale) = (bench.engine(), bench.engine());
    let run = bench.start(&engine, CHAIN);
    let stop = Stop::new();
    let first = DriveOptions { stop: stop.clone(), ..options() };
    let (lost, end) = tokio::join!(stale.drive(&run, first, Vec::new()), async {
        bench.world.was_called("a").await;
        // The lease of the first looks dead to this one; a step of the first is still in flight.
        let end = drive(&engine, &run).await;
        stop.gentle();
        end
    });
    assert_eq!(end.outcome, RunOutcome::Succeeded);
    let lost = lost.unwrap_err();
    assert!(
        matches!(lost, EngineError::Fenced(_) | EngineError::Replay { .. } | EngineError::Lease(_)),
        "{lost}"
    );
    assert_eq!(bench.records(&run).last(), Some(&"run_finished"));
    assert_eq!(bench.records(&run).iter().filter(|k| **k == "closed").count(), 0);
    bench.journal.verify(&run).unwrap();
}

#[tokio::test]
async fn a_gentle_stop_lets_steps_checkpoint_and_a_resume_goes_on_from_there() {
    let bench = Bench::new();
    bench.world.script("a", [Act::InTwoParts, Act::InTwoParts]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let stop = Stop::new();
    let first = DriveOptions { stop: stop.clone(), ..options() };
    let (end, ()) = tokio::join!(engine.drive(&run, first, Vec::new()), async {
        bench.world.was_called("a").await;
        stop.gentle();
    });
    assert_eq!(end.unwrap().outcome, RunOutcome::Stopped);
    assert!(bench.records(&run).contains(&"checkpoint"));
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls()[..2], ["a#1", "a#2"]);
}

#[tokio::test]
async fn a_stop_at_once_leaves_the_step_to_the_next_resume() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Hang]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let stop = Stop::new();
    let first = DriveOptions { stop: stop.clone(), ..options() };
    let (end, ()) = tokio::join!(engine.drive(&run, first, Vec::new()), async {
        bench.world.was_called("a").await;
        stop.now();
    });
    assert_eq!(end.unwrap().outcome, RunOutcome::Stopped);
    let plan = engine.resume_plan(&run).unwrap();
    assert_eq!(plan[0].what, crate::driver::ResumeWhat::ProveDeadAndRepeat, "{plan:?}");
    assert_eq!(drive(&engine, &run).await.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.fenced.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_an_author_s_key_names_is_done_once_in_an_environment() {
    let steps = |value: u32| {
        format!("steps: [{{ id: a, uses: t.once, idempotency_key: incident-7, with: {{ value: {value} }} }}]")
    };
    let bench = Bench::new();
    let engine = bench.engine();
    let first = bench.start(&engine, &steps(1));
    assert_eq!(drive(&engine, &first).await.outcome, RunOutcome::Succeeded);
    let second = bench.start(&engine, &steps(1));
    assert_eq!(drive(&engine, &second).await.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.world.calls(), ["a#1"], "not again");
    let loaded = engine.load(&second).unwrap();
    let instance = loaded.machine.instance(&step("a")).unwrap();
    assert_eq!(instance.by_key_of, Some(format!("{first}/a")));
    assert_eq!(instance.outcome.as_ref().unwrap().outputs, json!({ "value": 1 }));

    let other = bench.start(&engine, &steps(2));
    let end = drive(&engine, &other).await;
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::Refused, 4));
    assert!(end.problems[0].message.contains("other parameters"), "{}", end.problems[0].message);
}

#[tokio::test]
async fn a_secret_in_an_output_that_is_shown_is_refused() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Spill]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Failed);
    assert!(end.problems[0].message.contains("`value` holds a secret"), "{}", end.problems[0].message);
}

#[tokio::test]
async fn checks_stand_before_and_after_the_effect() {
    let bench = Bench::new();
    let engine = bench.engine();
    let steps = "
steps:
  - id: a
    uses: t.idempotent
    with: { value: 1 }
    postconditions: [{ check: steps.a.value == 2, message: \"it is {{ steps.a.value }}\" }]
  - { id: b, uses: t.read, needs: [], preconditions: [{ check: 1 == 2, message: one is not two }] }
";
    let run = bench.start(&engine, steps);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Failed);
    assert_eq!(end.problems[0].message, "call it done: a postcondition does not hold: it is 1");
    assert_eq!(end.problems[1].message, "one is not two");
    assert_eq!(bench.world.calls(), ["a#1"], "`b` never started");
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
async fn a_probe_finds_what_was_done_when_the_answer_is_lost() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Unknown]);
    let engine = bench.engine();
    let run =
        bench.start(&engine, "steps: [{ id: a, uses: t.probed }]\noutputs: { v: \"{{ steps.a.value }}\" }");
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded);
    assert_eq!(end.outputs["v"], Value::from("found"));
    assert_eq!(bench.world.effects()["a"], 1);
}

#[tokio::test]
async fn what_is_in_force_ends_with_the_step_that_ends_it() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Force("writes")]);
    bench.world.script("b", [Act::Release("writes")]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    assert!(drive(&engine, &run).await.in_force.is_empty());
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

#[tokio::test]
async fn a_deadline_stops_new_steps_until_a_person_resumes() {
    let bench = Bench::new();
    let now = Arc::new(std::sync::atomic::AtomicI64::new(1_800_000_000));
    let clock = now.clone();
    let engine = bench.engine().with_clock(Arc::new(move || super::plan::at(clock.load(Ordering::SeqCst))));
    let run = bench.start(&engine, &format!("deadline: 1h{CHAIN}"));
    now.fetch_add(3600, Ordering::SeqCst);
    let end = drive(&engine, &run).await;
    assert_eq!((end.outcome, end.exit_status()), (RunOutcome::DeadlinePassed, 7));
    assert!(bench.world.calls().is_empty());
    assert_eq!(drive(&engine, &run).await.outcome, RunOutcome::Succeeded);
}

#[tokio::test]
async fn the_view_of_a_run_comes_from_its_records_alone() {
    let bench = Bench::new();
    bench.world.script("a", [Act::Force("writes")]);
    bench.world.script("b", [Act::Refused]);
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let before = RunView::of(&engine.load(&run).unwrap());
    assert_eq!((before.outcome, before.ended_at), (None, None), "nobody has worked on it");
    drive(&engine, &run).await;
    let view = RunView::of(&engine.load(&run).unwrap());
    assert_eq!(view.outcome, Some(RunOutcome::Failed));
    let words: Vec<_> = view.steps.iter().map(|s| (s.step.as_str(), s.word)).collect();
    assert_eq!(words, [("a", "done"), ("b", "failed"), ("c", "waiting"), ("tidy", "waiting")]);
    assert_eq!(view.steps[0].summary.as_deref(), Some("a is done"));
    assert_eq!(view.in_force[0].text, "writes holds");
    assert!(!view.passed_no_return);
    serde_json::to_string(&view).unwrap();
}

#[tokio::test]
async fn a_watcher_is_told_what_is_durable_and_nothing_else() {
    struct Durable(Arc<dyn Journal>, Arc<std::sync::Mutex<Vec<&'static str>>>);
    impl Reporter for Durable {
        fn event(&mut self, event: &Event<'_>) {
            if let News::Record { seq, record } = event.news {
                let stored = self.0.read(event.run, seq - 1).unwrap();
                assert_eq!(&Record::decode(&stored[0].body).unwrap(), record, "told before it was durable");
                self.1.lock().unwrap().push(record.kind());
            }
        }
    }
    let bench = Bench::new();
    let engine = bench.engine();
    let run = bench.start(&engine, CHAIN);
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let reporter = Durable(bench.journal.clone(), told.clone());
    engine.drive(&run, options(), vec![Box::new(reporter)]).await.unwrap();
    assert_eq!(*told.lock().unwrap(), bench.records(&run)[1..]);
}
