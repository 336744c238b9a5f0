//! Who holds a run and its environment, under the real driver: two engines for one run, two runs for one
//! environment, stops, and what a dead process leaves behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bench::{Bench, CHAIN, drive, options};
use super::world::{Act, Actions, Dying};
use crate::driver::{DriveOptions, Engine, EngineError, RunOutcome, StatePaths, Stop};
use crate::store::{Journal, LeaseError};

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

/// A run whose process died at the given append; how many there were when it did not.
async fn dead_after(bench: &Bench, appends: i64) -> (String, i64) {
    let (engine, counter) = bench.engine_on(Dying::at(&bench.journal, appends, true));
    let run = bench.start(&engine, CHAIN);
    let end = engine.drive(&run, options(), Vec::new()).await;
    assert_eq!(end.is_ok(), appends == i64::MAX);
    (run, counter.appends.load(Ordering::SeqCst))
}

/// A run that died after its last record, and before it gave its environment back.
async fn dead_after_the_end(bench: &Bench) -> String {
    let appends = dead_after(&Bench::new(), i64::MAX).await.1;
    let run = dead_after(bench, appends - 1).await.0;
    assert_eq!(bench.records(&run).last(), Some(&"run_finished"));
    assert_eq!(bench.journal.environment_run("local").unwrap().as_ref(), Some(&run));
    run
}

#[tokio::test]
async fn a_finished_run_whose_process_died_before_the_release_is_in_nobody_s_way() {
    let bench = Bench::new();
    let dead = dead_after_the_end(&bench).await;
    let engine = bench.engine();
    engine.note(&dead, "bob", "what happened?").unwrap();
    let next = bench.start(&engine, CHAIN);
    assert_eq!(drive(&engine, &next).await.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.journal.environment_run("local").unwrap(), None);
    bench.journal.verify(&dead).unwrap();
}

#[tokio::test]
async fn resuming_a_finished_run_gives_its_environment_back() {
    let bench = Bench::new();
    let dead = dead_after_the_end(&bench).await;
    let engine = bench.engine();
    let records = bench.records(&dead).len();
    assert_eq!(drive(&engine, &dead).await.outcome, RunOutcome::Succeeded);
    assert_eq!(bench.journal.environment_run("local").unwrap(), None);
    assert!(!engine.is_driven(&dead).unwrap());
    assert_eq!(bench.records(&dead).len(), records, "nothing else happened");
}

#[tokio::test]
async fn a_finished_run_that_is_being_worked_on_keeps_its_environment() {
    let bench = Bench::new();
    let dead = dead_after_the_end(&bench).await;
    // Somebody alive took it, to roll it back or to read its end.
    let me = crate::holder::Holder::me("eve");
    bench.journal.take_lease(&dead, "local", &me, true, jiff::Timestamp::now()).unwrap();
    let engine = bench.engine();
    assert!(engine.is_driven(&dead).unwrap());
    let next = bench.start(&engine, CHAIN);
    let refused = engine.drive(&next, options(), Vec::new()).await.unwrap_err();
    assert!(matches!(refused, EngineError::Lease(LeaseError::EnvironmentHeld { .. })), "{refused}");
    assert_eq!(bench.journal.environment_run("local").unwrap(), Some(dead));
}

#[tokio::test]
async fn an_unfinished_run_keeps_its_environment_until_it_is_cancelled_and_driven() {
    let bench = Bench::new();
    let (dead, _) = dead_after(&bench, 2).await;
    let engine = bench.engine();
    let next = bench.start(&engine, CHAIN);
    let refused = engine.drive(&next, options(), Vec::new()).await.unwrap_err();
    assert!(matches!(&refused, EngineError::Lease(LeaseError::EnvironmentHeld { run, .. }) if *run == dead));

    engine.cancel(&dead, "bob", None).unwrap();
    assert!(!engine.is_driven(&dead).unwrap(), "so whoever cancels it drives it");
    assert_eq!(drive(&engine, &dead).await.outcome, RunOutcome::Cancelled);
    assert_eq!(bench.journal.environment_run("local").unwrap(), None);
    assert_eq!(drive(&engine, &next).await.outcome, RunOutcome::Succeeded);
}
