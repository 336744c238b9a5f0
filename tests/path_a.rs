//! Path A from end to end: rows that were deleted or overwritten come back out of a backup. What they must be is read
//! by psql before the damage.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::path_b::{count, nobody_is_left, outputs};
use crate::world::{Said, Watched, World};

/// What a person would type: two profiles that are gone, one that was changed, and one that never was.
const PROFILES: [&str; 5] = [
    r#"keys=["00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000007",
        "00000000-0000-4000-8000-000000000009", "00000000-0000-4000-8000-0000000000ff"]"#,
    "table=public.profiles",
    r#"update=["display_name", "bio"]"#,
    r#"conflict=["id"]"#,
    "title=Two people are gone",
];
const MESSAGES: [&str; 3] = [
    "table=public.messages",
    r#"key=["author_id"]"#,
    r#"keys=["00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000007"]"#,
];
/// Everything of the profiles but what a trigger sets, and the messages of those who were gone.
const WANTED: &str = "select (id, handle, display_name, bio, rank, settings, created_at)::text from public.profiles \
     union all select m::text from public.messages m where right(author_id::text, 2) in ('03', '07') order by 1";

fn arguments<'a>(inputs: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["--json", "run", "runbooks/path-a.yaml", "--env", "local", "--yes"];
    for input in inputs {
        arguments.extend(["--input", input]);
    }
    arguments
}

fn path_a(world: &World, inputs: &[&str], via: &str) -> Said {
    world.runbook(&arguments(&[inputs, &[via]].concat()))
}

#[test]
fn rows_come_back_out_of_a_plain_dump() {
    rows_come_back("plain", "via=dump", "via=database");
}

#[test]
fn rows_come_back_out_of_an_archive() {
    rows_come_back("custom", "via=database", "via=dump");
}

#[track_caller]
fn rows_come_back(format: &str, first: &str, second: &str) {
    let world = World::with_data();
    world.runbook(&["sandbox", "backup", "--format", format]).ended(0);
    let live = world.live();
    let wanted = world.sql(&live, WANTED);
    world.runbook(&["sandbox", "break", "deleted-rows"]).ended(0);
    assert_ne!(world.sql(&live, WANTED), wanted);

    // Messages have no author yet: that is found before anything is written.
    let early = path_a(&world, &MESSAGES, first).ended(5).run();
    let status = world.status(&early).to_string();
    assert!(status.contains("public.profiles (id)") && status.contains("000000000003"), "{status}");
    world.runbook(&["--json", "rollback", &early, "--yes"]).ended(0);

    let run = path_a(&world, &PROFILES, first).ended(0).run();
    let records = world.records(&run);
    let upsert = outputs(&records, "upsert");
    assert_eq!(
        (&upsert["inserted"], &upsert["changed"], &upsert["unchanged"]),
        (&json!(2), &json!(1), &json!(0))
    );
    assert_eq!(upsert["by_triggers"], json!(["updated_at"]));
    let extract = outputs(&records, "extract");
    assert_eq!((&extract["rows"], &extract["missing"]), (&json!(3), &json!(1)));
    let missing = std::fs::read_to_string(extract["missing_file"].as_str().unwrap()).unwrap();
    assert!(missing.contains("0000000000ff"), "{missing}");
    asked_with_the_difference(&records);
    nothing_is_told_but_in_private_files(&world, &run, &upsert);
    ended_well(&world, &run);

    let run = path_a(&world, &MESSAGES, second).ended(0).run();
    let inserted = outputs(&world.records(&run), "upsert")["inserted"].clone();
    ended_well(&world, &run);
    // Those who answered the deleted messages lost their reference to them; that is not what was asked for.
    let back = world.sql(&live, WANTED);
    let differ = back.lines().filter(|line| !wanted.contains(line)).count();
    assert_eq!(differ, 0, "{back}");
    assert_eq!(back.lines().count(), wanted.lines().count());
    assert!(inserted.as_u64().unwrap() > 10, "{inserted}");
}

#[track_caller]
fn asked_with_the_difference(records: &[Value]) {
    let asked = records.iter().find(|r| r["kind"] == "approval_requested" && r["step"] == "upsert").unwrap();
    let prompt = asked["prompt"].as_str().unwrap();
    assert!(prompt.contains("2 rows inserted, 1 changed (bio in 1, display_name in 1)"), "{prompt}");
    assert!(prompt.contains("1 keys are not in it"), "{prompt}");
}

/// Values are in the private artifacts, and in nothing that anybody is shown.
#[track_caller]
fn nothing_is_told_but_in_private_files(world: &World, run: &str, upsert: &Value) {
    use std::os::unix::fs::PermissionsExt as _;
    let file = Path::new(upsert["difference_file"].as_str().unwrap());
    let difference = std::fs::read_to_string(file).unwrap();
    assert!(difference.contains("deleted user") && file.starts_with(world.state()), "{difference}");
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o077, 0);
    for shown in [
        world.runbook(&["status", run]).stdout,
        world.runbook(&["logs", run]).stdout,
        world.runbook(&["--json", "logs", run]).stdout,
    ] {
        assert!(!shown.contains("deleted user"), "{shown}");
    }
}

#[track_caller]
fn ended_well(world: &World, run: &str) {
    let records = world.records(run);
    assert_eq!(records.last().unwrap()["outcome"], "succeeded");
    for (step, times) in count(&records, "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
    let status = world.status(run);
    assert_eq!(status["in_force"], json!([]), "nothing is in force any more");
    let state = world.inspect();
    assert_eq!(state["vercel"]["flags"], json!({ "read_only": false }));
    assert_eq!(state["vercel"]["crons_enabled"], true);
    crate::path_b::payments_arrive(&state);
    let billing = state["vercel"]["env"].as_array().unwrap().iter().any(|v| v["key"] == "BILLING_PROVIDER");
    assert!(billing, "payments can be made again");
    assert_eq!(
        world.sql("postgres", "select count(*) from pg_database where datname ~ '^(polaris_temp|runbook_)'"),
        "0"
    );
    let key = format!("select count(*) from _runbook.effects where outputs->'after'->>'path' like '%{run}%'");
    assert_eq!(world.sql(&world.live(), &key), "1", "the rows were written once");
    world.runbook(&["verify", run]).ended(0);
    nobody_is_left(world);
}

#[test]
fn what_was_put_back_can_be_taken_back() {
    let world = World::with_backup();
    world.runbook(&["sandbox", "break", "deleted-rows"]).ended(0);
    let live = world.live();
    let damaged = world.sql(&live, WANTED);
    // The application does not answer, and somebody ends the wait for it.
    world.fault(&["app", "--status", "503", "--times", "100"]);
    let mut going = Watched::start(world.command(&arguments(&[&PROFILES[..], &["via=dump"]].concat())));
    let run = going.until(|line| line["run"].is_string())["run"].as_str().unwrap().to_owned();
    going.until(|line| line["kind"] == "attempt_started" && line["step"] == "smoke");
    going.kill();
    assert_ne!(world.sql(&live, WANTED), damaged);
    world.runbook(&["rollback", &run, "--yes", "--reason", "it made nothing better"]).ended(0);
    assert_eq!(world.sql(&live, WANTED), damaged);
}

#[test]
fn path_a_killed_after_every_record_writes_every_row_once() {
    let world = World::with_backup();
    let live = world.live();
    let wanted = world.sql(&live, "select (id, display_name, bio)::text from public.profiles order by 1");
    world.runbook(&["sandbox", "break", "deleted-rows"]).ended(0);
    let inputs = [&PROFILES[..], &["via=database"]].concat();
    let first = world.command(&[arguments(&inputs), vec!["--die-after", "1"]].concat()).output().unwrap();
    assert_eq!(first.status.signal(), Some(9), "{first:?}");
    let line = first.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    let (mut kills, mut beyond, mut furthest) = (1, 2, 0);
    loop {
        let records = world.records(&run);
        let done = records.iter().filter(|r| r["kind"] == "step_done" || r["kind"] == "step_skipped").count();
        // A resume writes records of its own before it goes on; where that is all, the next may write one more.
        beyond = if done > furthest { 2 } else { beyond + 1 };
        furthest = furthest.max(done);
        let at = (records.len() + beyond).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &at]).output().unwrap();
        if output.status.signal() == Some(9) {
            kills += 1;
            assert!(kills < 400, "it comes to no end");
            continue;
        }
        let said = Said::of(output);
        if said.status == Some(6) {
            crate::turns::settle(&world, &run);
            continue;
        }
        said.ended(0);
        break;
    }
    assert!(kills > 20, "{kills}");
    ended_well(&world, &run);
    assert_eq!(
        world.sql(&live, "select (id, display_name, bio)::text from public.profiles order by 1"),
        wanted
    );
}
