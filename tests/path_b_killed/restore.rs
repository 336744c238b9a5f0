//! A restore killed at random moments, and one whose backend outlives its client: real S3, real PostgreSQL,
//! and a runbook that does nothing else.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::sessions::{Session, Superuser, Watch, overlaps};
use crate::path_b::{assert_same, count, nobody_is_left, outputs};
use crate::world::{Database, World};

/// Kills of each of the two tests.
const MOMENTS: usize = 25;
/// The lock that a restore takes on its database: held by somebody else, it makes the restore wait.
const RESTORE_LOCK: i64 = 7_236_283_640_821_776;
/// Longest random wait after a line of progress, in microseconds. Lines are at least 100 ms apart.
const WAIT_MICROS: u64 = 120_000;

/// A runbook that does nothing but fill a new project.
pub(crate) const RUNBOOK: &str = r#"name: refill
title: Fill a new project from the newest backup
kind: maintenance
steps:
  - id: backup
    uses: backup.select
  - id: password
    uses: secret.generate
  - id: database
    uses: supabase.create_project
    with:
      name: "refill-{{ run.short_id }}"
      region: "{{ env.region }}"
      db_password: "{{ steps.password.value }}"
  - id: restore
    uses: postgres.restore
    with:
      backup: "{{ steps.backup }}"
      into: "{{ steps.database.connection }}"
      profile: supabase
      chunk_mib: 1
"#;

#[test]
fn a_restore_of_a_plain_dump_killed_at_random_moments_loads_each_row_once() {
    random_moments("plain");
}

#[test]
fn a_restore_of_an_archive_killed_at_random_moments_loads_each_row_once() {
    random_moments("custom");
}

#[track_caller]
fn random_moments(format: &str) {
    let world = World::with_data();
    world.hurry();
    let file = world.runbook_file(RUNBOOK);
    let more = "insert into public.messages (author_id, room, body, metadata) \
                select p.id, 'hangar', repeat(md5(n::text), 8), jsonb_build_object('n', n) \
                from generate_series(1, 20000) n, (select id from public.profiles order by id limit 1) p";
    world.sql(&world.live(), more);
    world.sql(&world.live(), "refresh materialized view private.room_stats");
    world.runbook(&["sandbox", "backup", "--format", format]).ended(0);
    let live = world.database(&world.live());
    let mut dice = Dice::from_clock();

    let said = world.runbook(&["--json", "run", &file, "--env", "local"]).ended(0);
    let unbroken = outputs(&world.records(&said.run()), "restore");
    let lines = said.lines().iter().filter(|line| is_progress(line)).count() as u64;
    is_filled(&world, &said.run(), &live, &unbroken);
    println!("a restore takes {} s; seed {} (give it as RUNBOOK_TEST_SEED)", unbroken["seconds"], dice.seed);

    let watch = Watch::start(&world);
    let (mut inside, mut half_way) = (0, 0);
    for turn in 0..2 * MOMENTS {
        let mut run = Running::start(world.command(&["--json", "run", &file, "--env", "local"]));
        let id = run.until_the_restore_starts();
        run.kill_at_random(&mut dice, lines);
        let killed = world.records(&id);
        inside += usize::from(!count(&killed, "step_done").contains_key("restore"));
        let chunks = chunks(&world, &killed);
        half_way += usize::from(chunks > 0);
        if dice.below(4) == 0 {
            let mut resumed = Running::start(world.command(&["--json", "resume", &id]));
            resumed.kill_at_random(&mut dice, lines);
        }
        world.runbook(&["--json", "resume", &id]).ended(0);
        println!("turn {turn}: killed with {chunks} chunks in, {inside} times inside the restore");
        is_filled(&world, &id, &live, &unbroken);
        if inside == MOMENTS {
            break;
        }
    }
    let seen = watch.end();
    assert_eq!(inside, MOMENTS, "too few kills were inside the restore");
    assert!(half_way > 0, "no kill came between two chunks");
    assert!(seen.overlaps.is_empty(), "sessions of two epochs lived side by side: {:?}", seen.overlaps);
    assert!(seen.newest > 1, "the sessions of resumed runs were looked at: {seen:?}");
}

/// How many chunks of a killed run's restore are in.
fn chunks(world: &World, records: &[Value]) -> u64 {
    let project = outputs(records, "database")["ref"].as_str().unwrap().to_owned();
    if world.sql(&project, "select to_regclass('_runbook.chunks')").is_empty() {
        return 0;
    }
    world.sql(&project, "select count(*) from _runbook.chunks").parse().unwrap()
}

/// Demands that a run has ended and its project holds what the live one does, and drops its database.
#[track_caller]
fn is_filled(world: &World, run: &str, live: &Database, unbroken: &Value) {
    let records = world.records(run);
    assert!(count(&records, "step_done").values().all(|times| *times == 1), "each step is done once");
    let project = outputs(&records, "database")["ref"].as_str().unwrap().to_owned();
    let restored = outputs(&records, "restore");
    for field in ["tables", "rows", "bytes", "skipped", "taken_at"] {
        assert_eq!(restored[field], unbroken[field], "{field}");
    }
    let database = world.database(&project);
    assert_eq!((&database.tables, &database.sequences), (&live.tables, &live.sequences));
    assert_same(&database, live);
    let markers = "select string_agg(status, ','), to_regclass('_runbook.chunks') from _runbook.restores";
    assert_eq!(world.sql(&project, markers), "done|");
    world.runbook(&["verify", run]).ended(0);
    nobody_is_left(world);
    world.sql("postgres", &format!("drop database \"{project}\""));
}

#[test]
fn a_backend_that_outlives_its_client_is_gone_before_the_restore_goes_on() {
    let world = World::with_backup();
    let asks = "  - id: restore\n    approval: { prompt: \"Fill it?\" }\n";
    let file = world.runbook_file(&RUNBOOK.replace("  - id: restore\n", asks));
    let said = world.runbook(&["--json", "run", &file, "--env", "local", "--no-wait"]).ended(7);
    let run = said.run();
    let project = outputs(&world.records(&run), "database")["ref"].as_str().unwrap().to_owned();
    let superuser = Superuser::connect(world.superuser(), &project);
    superuser.execute(&format!("select pg_advisory_lock({RESTORE_LOCK})"));
    world.runbook(&["approve", &run, "restore"]).ended(0);

    let resume = |world: &World| Running::start(world.command(&["--json", "resume", &run]));
    let mut first = resume(&world);
    let old = waiting(&superuser, 0);
    first.kill();
    assert!(superuser.sessions().contains(&old), "the server does not notice that its client is gone");

    let mut second = resume(&world);
    let new = waiting(&superuser, old.epoch);
    assert_ne!(old.pid, new.pid);
    superuser.execute(&format!("select pg_advisory_unlock({RESTORE_LOCK})"));
    assert_eq!(second.child.wait().unwrap().code(), Some(0));
    let ended: u64 = world.records(&run).iter().filter_map(|record| record["ended"].as_u64()).sum();
    assert_eq!(ended, 1, "the journal says that one session was ended");
    assert_same(&world.database(&project), &world.database(&world.live()));
}

/// Looks until a session of an epoch after `epoch` waits for a lock; meanwhile there are never two epochs.
#[track_caller]
fn waiting(superuser: &Superuser, epoch: u64) -> Session {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let sessions = superuser.sessions();
        assert!(overlaps(&sessions).is_empty(), "sessions of two epochs live side by side: {sessions:?}");
        if let Some(found) = sessions.into_iter().find(|s| s.epoch > epoch && s.waits) {
            return found;
        }
        assert!(Instant::now() < until, "no session of an epoch after {epoch} came to wait");
    }
}

fn is_progress(line: &Value) -> bool {
    line["kind"] == "progress" && line["step"] == "restore"
}

/// A process whose lines arrive on a channel, so that one can wait for them for a while.
struct Running {
    child: Child,
    lines: Receiver<Value>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines() {
                // The last line may be cut off by the kill; whoever listened may have heard enough.
                let Some(line) = serde_json::from_str(&line.unwrap()).ok() else { break };
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// Gives the run's id when its restore has started.
    #[track_caller]
    fn until_the_restore_starts(&mut self) -> String {
        let starts = |line: &Value| line["kind"] == "attempt_started" && line["step"] == "restore";
        let mut last = Value::Null;
        let found = self.lines.iter().inspect(|line| last.clone_from(line)).find(starts);
        let found = found.unwrap_or_else(|| panic!("the restore did not start; the last line is {last}"));
        found["run"].as_str().unwrap().to_owned()
    }

    /// Kills after some lines of progress, at most so many, and some microseconds.
    #[track_caller]
    fn kill_at_random(&mut self, dice: &mut Dice, lines: u64) {
        let (lines, wait) = (dice.below(lines + 1), Duration::from_micros(dice.below(WAIT_MICROS)));
        for _ in 0..lines {
            let over = |line: &Value| line["kind"] == "step_done" && line["step"] == "restore";
            if self.lines.iter().find(|line| is_progress(line) || over(line)).is_none_or(|line| over(&line)) {
                break;
            }
        }
        let until = Instant::now() + wait;
        while let Ok(_line) = self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {}
        self.kill();
    }

    /// SIGKILL, which may come too late.
    #[track_caller]
    fn kill(&mut self) {
        self.child.kill().unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.signal() == Some(9) || status.code() == Some(0), "{status}");
    }
}

/// Random numbers that can be had again (SplitMix64).
struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    fn from_clock() -> Self {
        let given = std::env::var("RUNBOOK_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let seed = given.unwrap_or(u64::try_from(now & u128::from(u64::MAX)).unwrap());
        Self { seed, state: seed }
    }

    /// From 0 to `limit`, without it.
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
