//! What every store must do, as tests: `journal_contract!(make)` runs them all on one kind of store.

use std::process::Command;
use std::sync::{Arc, Barrier};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::*;
use crate::holder::{Holder, Liveness};

/// A store under test, and what must outlive it.
pub(super) struct World {
    pub(super) journal: Arc<dyn Journal>,
    pub(super) _directory: Option<tempfile::TempDir>,
}

macro_rules! journal_contract {
    ($module:ident, $make:path: $($test:ident)*) => {
        mod $module { $( #[test] fn $test() { super::$test($make()); } )* }
    };
    ($module:ident, $make:path) => {
        journal_contract!($module, $make:
            records_come_back_as_they_were_appended
            a_run_is_made_once
            a_run_that_is_not_there_is_said_by_every_call
            an_append_after_the_wrong_record_writes_nothing
            of_many_records_all_are_appended_or_none
            of_eight_appends_after_the_same_record_one_wins
            runs_are_listed_newest_first_and_found_by_prefix
            any_change_is_noticed
            a_whole_run_is_adopted_only_with_its_chain
            a_lease_has_one_holder_and_a_rising_epoch
            of_eight_engines_one_gets_the_lease
            a_dead_engine_loses_its_lease_at_once
            an_engine_of_an_earlier_boot_loses_its_lease_at_once
            an_engine_on_another_host_keeps_its_lease_while_it_gives_signs_of_life
            an_engine_that_lost_its_lease_changes_nothing_any_more
            an_environment_has_one_writing_run_until_that_is_over
            a_dead_engine_s_environment_is_given_back_under_a_lease_of_its_own
            a_refused_environment_leaves_the_run_free
            a_run_that_only_reads_needs_no_environment
            a_key_is_claimed_once_and_remembers_what_was_done
            a_key_that_was_given_up_is_free_again
        );
    };
}

journal_contract!(memory_store, super::memory);
journal_contract!(sqlite_store, super::sqlite);

fn memory() -> World {
    World { journal: Arc::new(MemoryJournal::new()), _directory: None }
}

fn sqlite() -> World {
    let directory = tempfile::tempdir().unwrap();
    World { journal: Arc::new(SqliteJournal::open(directory.path()).unwrap()), _directory: Some(directory) }
}

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(super) fn row(id: &str) -> RunRow {
    RunRow {
        id: id.to_owned(),
        runbook: "path-b".to_owned(),
        environment: "staging".to_owned(),
        created_at: at(0),
        writes: true,
    }
}

impl World {
    fn with_run(self, id: &str) -> Self {
        self.journal.create(&row(id), b"first", at(0)).unwrap();
        self
    }

    fn take(&self, run: &str, holder: &Holder, now: Timestamp) -> Result<Lease, LeaseError> {
        self.journal.take_lease(run, "staging", holder, true, now)
    }
}

/// A process that was here and has ended.
fn dead() -> Holder {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    Holder { pid, started: Some(1), ..Holder::me("ada") }
}

fn elsewhere() -> Holder {
    Holder { host: "a-host-that-is-not-this-one".to_owned(), ..Holder::me("grace") }
}

fn records_come_back_as_they_were_appended(world: World) {
    let journal = world.journal;
    let odd: Timestamp = "2027-01-15T08:00:00.123456789Z".parse().unwrap();
    let first = journal.create(&row("r1"), b"{\"kind\":\"started\"}", at(0)).unwrap();
    let more = [(odd, vec![0, 255, b'\n']), (at(2), Vec::new()), (at(1), "⟦secret:x⟧".as_bytes().to_vec())];
    let appended = journal.append("r1", 1, &more, None).unwrap();

    let read = journal.read("r1", 0).unwrap();
    assert_eq!(read[0], first);
    assert_eq!(read[1..], appended);
    assert_eq!(read.iter().map(|record| record.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((read[1].at, read[1].body.as_slice()), (odd, &[0, 255, b'\n'][..]));
    assert_eq!(journal.read("r1", 2).unwrap(), read[2..]);
    assert_eq!(journal.read("r1", 4).unwrap(), []);
    assert_eq!(journal.verify("r1").unwrap(), Verified { records: 4, head: read[3].hash });
    assert_eq!(prove(&row("r1"), read).unwrap(), journal.verify("r1").unwrap());
    assert_eq!(journal.run("r1").unwrap(), row("r1"));
}

fn a_run_is_made_once(world: World) {
    let world = world.with_run("r1");
    let again = world.journal.create(&row("r1"), b"other", at(1));
    assert!(matches!(again, Err(JournalError::Exists { run }) if run == "r1"));
    assert_eq!(world.journal.read("r1", 0).unwrap()[0].body, b"first");
}

fn a_run_that_is_not_there_is_said_by_every_call(world: World) {
    let journal = world.journal;
    let none = |error: &JournalError| matches!(error, JournalError::NoRun { run } if run == "gone");
    assert!(none(&journal.read("gone", 0).unwrap_err()));
    assert!(none(&journal.verify("gone").unwrap_err()));
    assert!(none(&journal.run("gone").unwrap_err()));
    assert!(none(&journal.lease("gone").unwrap_err()));
    assert!(none(&journal.release("gone", 1, true).unwrap_err()));
    let me = Holder::me("ada");
    let lease =
        |result: Result<(), LeaseError>| matches!(result, Err(LeaseError::Store(error)) if none(&error));
    assert!(lease(journal.renew("gone", 1, at(0))));
    assert!(lease(journal.take_lease("gone", "staging", &me, true, at(0)).map(drop)));
    let append = journal.append("gone", 0, &[(at(0), vec![])], None);
    assert!(matches!(append, Err(AppendError::Store(error)) if none(&error)));
    assert_eq!(journal.runs().unwrap(), []);
}

fn an_append_after_the_wrong_record_writes_nothing(world: World) {
    let world = world.with_run("r1");
    world.journal.append("r1", 1, &[(at(1), b"second".to_vec())], None).unwrap();
    for after in [0, 1, 3, u64::MAX] {
        let refused = world.journal.append("r1", after, &[(at(2), b"other".to_vec())], None);
        assert!(matches!(refused, Err(AppendError::Moved { head: 2 })), "after {after}");
    }
    assert_eq!(world.journal.verify("r1").unwrap().records, 2);
}

fn of_many_records_all_are_appended_or_none(world: World) {
    let world = world.with_run("r1");
    let good = (at(1), b"good".to_vec());
    let long = (at(2), vec![b'x'; RECORD_BYTES_MAX + 1]);
    let refused = world.journal.append("r1", 1, &[good.clone(), long], None);
    assert!(matches!(refused, Err(AppendError::Store(JournalError::TooLong { .. }))));
    assert_eq!(world.journal.verify("r1").unwrap().records, 1);
    world.journal.append("r1", 1, &vec![good; 500], None).unwrap();
    assert_eq!(world.journal.verify("r1").unwrap().records, 501);
}

fn of_eight_appends_after_the_same_record_one_wins(world: World) {
    let world = world.with_run("r1");
    let start = Barrier::new(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8u8)
            .map(|name| {
                let (journal, start) = (&world.journal, &start);
                scope.spawn(move || {
                    start.wait();
                    journal.append("r1", 1, &[(at(1), vec![name])], None)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = results.iter().filter(|result| result.is_ok()).count();
    let moved = results.iter().filter(|result| matches!(result, Err(AppendError::Moved { head: 2 }))).count();
    assert_eq!((won, moved), (1, 7));
    assert_eq!(world.journal.verify("r1").unwrap().records, 2);
}

fn runs_are_listed_newest_first_and_found_by_prefix(world: World) {
    let journal = world.journal;
    let made = |id: &str, time: &str| {
        let row = RunRow { created_at: time.parse().unwrap(), ..row(id) };
        journal.create(&row, b"first", at(0)).unwrap();
        row
    };
    let a = made("7f3a", "2027-01-15T08:00:00Z");
    let b = made("7f3b", "2027-01-15T08:00:00.5Z");
    let c = made("7f", "2027-01-14T08:00:00Z");
    assert_eq!(journal.runs().unwrap(), [b.clone(), a.clone(), c.clone()]);
    assert_eq!(journal.find_run("7f3a").unwrap(), Found::One(a.clone()));
    assert_eq!(journal.find_run("7f3").unwrap(), Found::Ambiguous(vec![b, a]));
    assert_eq!(
        journal.find_run("7f").unwrap(),
        Found::One(c),
        "a whole id is meant, even if others begin so"
    );
    assert_eq!(journal.find_run("8").unwrap(), Found::None);
}

fn any_change_is_noticed(world: World) {
    let world = world.with_run("r1");
    let journal = &world.journal;
    let mut seen = journal.changed().unwrap();
    assert_eq!(journal.changed().unwrap(), seen, "nothing happened");
    let mut noticed = |what: &str| {
        let now = journal.changed().unwrap();
        assert_ne!(now, seen, "{what}");
        assert_eq!(journal.changed().unwrap(), now, "after {what}");
        seen = now;
    };
    journal.append("r1", 1, &[(at(1), b"x".to_vec())], None).unwrap();
    noticed("an append");
    world.take("r1", &Holder::me("ada"), at(1)).unwrap();
    noticed("a lease");
    journal.create(&row("r2"), b"first", at(1)).unwrap();
    noticed("a run");
}

fn a_whole_run_is_adopted_only_with_its_chain(world: World) {
    let source = memory().with_run("r1");
    source.journal.append("r1", 1, &[(at(1), b"second".to_vec()), (at(2), b"third".to_vec())], None).unwrap();
    let records = source.journal.read("r1", 0).unwrap();

    let mut changed = records.clone();
    changed[1].body = b"s3cond".to_vec();
    let refused = world.journal.adopt(&row("r1"), &changed, 7);
    assert!(matches!(refused, Err(JournalError::Broken { seq: 2, .. })));
    let renamed = RunRow { environment: "local".to_owned(), ..row("r1") };
    let refused = world.journal.adopt(&renamed, &records, 7);
    assert!(matches!(refused, Err(JournalError::Broken { seq: 1, .. })), "the row is proven, too");
    assert_eq!(world.journal.runs().unwrap(), []);

    let verified = world.journal.adopt(&row("r1"), &records, 7).unwrap();
    assert_eq!(verified, source.journal.verify("r1").unwrap());
    assert_eq!(world.journal.read("r1", 0).unwrap(), records);
    assert!(matches!(world.journal.adopt(&row("r1"), &records, 7), Err(JournalError::Exists { .. })));
    world.journal.append("r1", 3, &[(at(3), b"fourth".to_vec())], None).unwrap();
    assert_eq!(world.journal.verify("r1").unwrap().records, 4);
    assert!(world.journal.lease("r1").unwrap().is_none(), "nobody works on it here");
    assert_eq!(world.take("r1", &Holder::me("ada"), at(4)).unwrap().epoch, 8);
}

fn a_lease_has_one_holder_and_a_rising_epoch(world: World) {
    let world = world.with_run("r1");
    let me = Holder::me("ada");
    assert_eq!(world.journal.lease("r1").unwrap(), None);
    assert_eq!(world.take("r1", &me, at(0)).unwrap(), Lease { epoch: 1, taken_from: None });
    world.journal.renew("r1", 1, at(5)).unwrap();
    let info = world.journal.lease("r1").unwrap().unwrap();
    let expected =
        LeaseInfo { holder: me.clone(), epoch: 1, since: at(0), renewed_at: at(5), alive: Liveness::Alive };
    assert_eq!(info, expected);

    // Silent for a day, but alive: it would go on with what it was doing.
    let refused = world.take("r1", &Holder::me("grace"), at(86_400)).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, LeaseError::RunHeld { alive: Liveness::Alive, .. }), "{text}");
    for part in ["ada", &me.host, "2027-01-15T08:00:00Z", "is alive", "runbook status r1", "runbook pause r1"]
    {
        assert!(text.contains(part), "`{part}` in: {text}");
    }

    world.journal.release("r1", 1, false).unwrap();
    assert_eq!(world.journal.lease("r1").unwrap(), None);
    assert_eq!(world.take("r1", &me, at(1)).unwrap(), Lease { epoch: 2, taken_from: None });
}

fn of_eight_engines_one_gets_the_lease(world: World) {
    let world = world.with_run("r1");
    let dead = dead();
    world.take("r1", &dead, at(0)).unwrap();
    let start = Barrier::new(8);
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|name| {
                let (world, start) = (&world, &start);
                scope.spawn(move || {
                    let me = Holder::me(&format!("engine {name}"));
                    start.wait();
                    world.take("r1", &me, at(1))
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won: Vec<_> = results.iter().flatten().collect();
    assert_eq!(won, [&Lease { epoch: 2, taken_from: Some(dead) }]);
    let held = results.iter().filter(|result| matches!(result, Err(LeaseError::RunHeld { .. }))).count();
    assert_eq!(held, 7);
}

fn a_dead_engine_loses_its_lease_at_once(world: World) {
    let world = world.with_run("r1");
    let dead = dead();
    world.take("r1", &dead, at(0)).unwrap();
    assert_eq!(world.journal.lease("r1").unwrap().unwrap().alive, Liveness::Dead);
    let lease = world.take("r1", &Holder::me("grace"), at(0)).unwrap();
    assert_eq!(lease, Lease { epoch: 2, taken_from: Some(dead) });
}

fn an_engine_of_an_earlier_boot_loses_its_lease_at_once(world: World) {
    let world = world.with_run("r1");
    // This very process, had the machine been started anew since.
    let before = Holder { boot_id: "0b0e0d0c-another-boot".to_owned(), ..Holder::me("ada") };
    world.take("r1", &before, at(0)).unwrap();
    assert_eq!(world.take("r1", &Holder::me("ada"), at(0)).unwrap().epoch, 2);
}

fn an_engine_on_another_host_keeps_its_lease_while_it_gives_signs_of_life(world: World) {
    let world = world.with_run("r1");
    let me = Holder::me("ada");
    world.take("r1", &elsewhere(), at(0)).unwrap();
    let refused = world.take("r1", &me, at(29)).unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, LeaseError::RunHeld { alive: Liveness::Unknown, .. }), "{text}");
    for part in ["grace", "a-host-that-is-not-this-one", "cannot be seen", "runbook resume r1", "30 s"] {
        assert!(text.contains(part), "`{part}` in: {text}");
    }
    world.journal.renew("r1", 1, at(25)).unwrap();
    assert!(world.take("r1", &me, at(54)).is_err(), "29 s after the last sign of life");
    assert!(world.take("r1", &me, at(-500)).is_err(), "a clock that is behind is no reason");
    assert_eq!(world.take("r1", &me, at(55)).unwrap().epoch, 2);
}

fn an_engine_that_lost_its_lease_changes_nothing_any_more(world: World) {
    let world = world.with_run("r1");
    let journal = &world.journal;
    let record = [(at(1), b"late".to_vec())];
    let none = journal.append("r1", 1, &record, Some(1));
    assert!(matches!(none, Err(AppendError::Fenced { current: 0, holder: None })), "no lease was ever taken");

    world.take("r1", &elsewhere(), at(0)).unwrap();
    let me = Holder::me("ada");
    world.take("r1", &me, at(100)).unwrap();
    let fenced = journal.append("r1", 1, &record, Some(1)).unwrap_err();
    assert!(fenced.to_string().contains("ada"), "{fenced}");
    assert!(matches!(fenced, AppendError::Fenced { current: 2, holder: Some(holder) } if *holder == me));
    assert!(matches!(journal.renew("r1", 1, at(101)), Err(LeaseError::Lost { epoch: 1, current: 2 })));
    assert!(matches!(journal.release("r1", 1, true), Err(JournalError::NotHeld { epoch: 1, .. })));
    assert_eq!(journal.lease("r1").unwrap().unwrap().holder, me);
    journal.create(&row("r2"), b"first", at(0)).unwrap();
    assert!(world.take("r2", &me, at(102)).is_err(), "the environment was not closed by the one who lost it");
    assert_eq!(journal.verify("r1").unwrap().records, 1);

    journal.append("r1", 1, &record, Some(2)).unwrap();
    journal.append("r1", 2, &record, None).unwrap();
    journal.release("r1", 2, false).unwrap();
    let released = journal.append("r1", 3, &record, Some(2));
    assert!(matches!(released, Err(AppendError::Fenced { current: 2, holder: None })));
    assert!(matches!(journal.renew("r1", 2, at(103)), Err(LeaseError::Lost { epoch: 2, current: 2 })));
    assert!(matches!(journal.release("r1", 2, true), Err(JournalError::NotHeld { .. })));
}

fn an_environment_has_one_writing_run_until_that_is_over(world: World) {
    let world = world.with_run("r1").with_run("r2");
    let (ada, grace) = (Holder::me("ada"), Holder::me("grace"));
    let refused = |alive: Liveness, parts: &[&str]| {
        let error = world.take("r2", &grace, at(9)).unwrap_err();
        let text = error.to_string();
        let LeaseError::EnvironmentHeld { run, holder, since, alive: said, .. } = error else {
            panic!("{text}")
        };
        assert_eq!((run.as_str(), holder.actor.as_str(), since, said), ("r1", "ada", at(0), alive));
        for part in parts.iter().chain(&["staging", "`r1`", "2027-01-15T08:00:00Z", "runbook cancel r1"]) {
            assert!(text.contains(part), "`{part}` in: {text}");
        }
    };

    world.take("r1", &ada, at(0)).unwrap();
    refused(Liveness::Alive, &["is working on it", "runbook status r1"]);
    world.journal.take_lease("r2", "local", &grace, true, at(1)).expect("another environment is free");
    world.journal.release("r2", 1, true).unwrap();

    // Paused: the engine is gone, the run is not over.
    world.journal.release("r1", 1, false).unwrap();
    refused(Liveness::Dead, &["nobody works on it", "runbook resume r1"]);
    world.take("r1", &ada, at(5)).expect("its own run goes on");
    refused(Liveness::Alive, &[]);

    world.journal.release("r1", 2, true).unwrap();
    assert_eq!(world.take("r2", &grace, at(9)).unwrap().epoch, 2);
    let back = world.take("r1", &ada, at(10)).unwrap_err();
    assert!(matches!(back, LeaseError::EnvironmentHeld { run, .. } if run == "r2"));
}

fn a_dead_engine_s_environment_is_given_back_under_a_lease_of_its_own(world: World) {
    let world = world.with_run("r1").with_run("r2");
    let has = |environment: &str| world.journal.environment_run(environment).unwrap();
    assert_eq!(has("staging"), None);
    world.take("r1", &dead(), at(0)).unwrap();
    assert_eq!((has("staging"), has("local")), (Some("r1".to_owned()), None));
    let me = Holder::me("ada");
    let lease = world.journal.take_lease("r1", "staging", &me, false, at(1)).unwrap();
    assert_eq!(has("staging").as_deref(), Some("r1"), "a lease without the environment does not touch it");
    world.journal.release("r1", lease.epoch, true).unwrap();
    assert_eq!(has("staging"), None);
    world.take("r2", &me, at(2)).unwrap();
    assert_eq!(has("staging").as_deref(), Some("r2"));
}

fn a_refused_environment_leaves_the_run_free(world: World) {
    let world = world.with_run("r1").with_run("r2");
    let me = Holder::me("ada");
    world.take("r1", &me, at(0)).unwrap();
    assert!(world.take("r2", &me, at(1)).is_err());
    assert_eq!(world.journal.lease("r2").unwrap(), None);
    // And a refused run leaves the environment as it was.
    world.journal.take_lease("r2", "staging", &me, false, at(2)).unwrap();
    assert!(world.journal.take_lease("r2", "local", &me, true, at(3)).is_err());
    world.journal.create(&row("r3"), b"first", at(0)).unwrap();
    assert_eq!(world.journal.take_lease("r3", "local", &me, true, at(4)).unwrap().epoch, 1);
}

fn a_run_that_only_reads_needs_no_environment(world: World) {
    let world = world.with_run("r1").with_run("r2").with_run("r3");
    let me = Holder::me("ada");
    world.journal.take_lease("r2", "staging", &me, false, at(0)).unwrap();
    world.take("r1", &me, at(1)).unwrap();
    world.journal.take_lease("r3", "staging", &me, false, at(2)).unwrap();
}

fn a_key_is_claimed_once_and_remembers_what_was_done(world: World) {
    let journal = world.with_run("r1").with_run("r2").journal;
    let claim =
        |digest: &str, run: &str, step: &str| journal.claim_key("staging", "k", digest, run, step).unwrap();
    let (run, step) = ("r1".to_owned(), "mail".to_owned());
    assert_eq!(claim("d1", "r1", "mail"), KeyClaim::New);
    assert_eq!(claim("d1", "r1", "mail"), KeyClaim::Mine);
    let in_flight = KeyClaim::InFlightBy { run: run.clone(), step: step.clone() };
    assert_eq!(claim("d1", "r2", "mail"), in_flight);
    assert_eq!(claim("d1", "r1", "other"), in_flight);
    let mismatch = KeyClaim::Mismatch { run: run.clone(), step: step.clone() };
    assert_eq!(claim("d2", "r1", "mail"), mismatch);
    assert_eq!(journal.claim_key("local", "k", "d2", "r2", "mail").unwrap(), KeyClaim::New, "elsewhere");

    let others = journal.finish_key("staging", "k", "r2", &json!(1));
    assert!(matches!(others, Err(JournalError::NotClaimed { .. })));
    let nobodys = journal.finish_key("staging", "k2", "r1", &json!(1));
    assert!(matches!(nobodys, Err(JournalError::NotClaimed { .. })));
    let outputs = json!({ "z": [1, null], "a": "⟦secret:x⟧" });
    journal.finish_key("staging", "k", "r1", &outputs).unwrap();
    journal.finish_key("staging", "k", "r1", &json!("again")).unwrap();
    let done = KeyClaim::DoneBy { run, step, outputs };
    assert_eq!(claim("d1", "r1", "mail"), done);
    assert_eq!(claim("d1", "r2", "mail"), done);
    assert_eq!(claim("d2", "r2", "mail"), mismatch);
    journal.drop_key("staging", "k", "r1").unwrap();
    assert_eq!(claim("d1", "r2", "mail"), done, "what is done stays done");
}

fn a_key_that_was_given_up_is_free_again(world: World) {
    let journal = world.with_run("r1").with_run("r2").journal;
    let claim = |run: &str| journal.claim_key("staging", "k", "d", run, "mail").unwrap();
    assert_eq!(claim("r1"), KeyClaim::New);
    assert!(matches!(journal.drop_key("staging", "k", "r2"), Err(JournalError::NotClaimed { .. })));
    journal.drop_key("staging", "k", "r1").unwrap();
    assert_eq!(claim("r2"), KeyClaim::New);
    journal.finish_key("staging", "k", "r2", &json!(null)).unwrap();
    assert!(matches!(claim("r1"), KeyClaim::DoneBy { outputs, .. } if outputs.is_null()));
}

#[test]
fn an_hour_later_is_not_the_ttl_of_somebody_alive() {
    // The two stores share this decision; here it stands alone, on the edge.
    let held = LeaseInfo {
        holder: elsewhere(),
        epoch: 1,
        since: at(0),
        renewed_at: at(0),
        alive: Liveness::Unknown,
    };
    let edge = SignedDuration::try_from(LEASE_TTL).unwrap();
    let just_before = at(0) + edge - SignedDuration::from_nanos(1);
    assert!(lease::may_take("r1", &held, just_before).is_err());
    assert!(lease::may_take("r1", &held, at(0) + edge).is_ok());
    let alive = LeaseInfo { alive: Liveness::Alive, ..held };
    assert!(lease::may_take("r1", &alive, at(3600)).is_err());
}
