//! Whole runs under the real driver: scripted actions, a journal in memory, a process that dies where it is
//! told to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::bench::{Bench, CHAIN, drive, options, state, step};
use super::world::{Act, Dying};
use crate::driver::RunOutcome;
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
            assert_eq!(bench.journal.environment_run("local").unwrap(), None, "dies at {dies_at}");
        }
    }
}

/// The cli's runtime: there the journal is called on the engine's own thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_several_threads_a_run_goes_through_as_well() {
    let bench = Bench::new();
    let engine = bench.engine();
    let run = bench.start(&engine, MIXED);
    let end = drive(&engine, &run).await;
    assert_eq!(end.outcome, RunOutcome::Succeeded, "{:?}", end.problems);
    assert_eq!(bench.world.calls().len(), 8, "{:?}", bench.world.calls());
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
