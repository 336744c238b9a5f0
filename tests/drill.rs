//! The monthly drill: proves the newest backup in a scratch project, leaves evidence, and leaves nothing else. What fails
//! is told at once.

use std::path::Path;

use serde_json::{Value, json};

use crate::path_b::{nobody_is_left, outputs};
use crate::world::World;

fn drill(world: &World, arguments: &[&str]) -> crate::world::Said {
    let base = ["--json", "run", "runbooks/drill.yaml", "--env", "local"];
    world.runbook(&[&base[..], arguments].concat())
}

/// The messages that the team has received.
fn told(world: &World) -> Vec<String> {
    let posts = world.inspect()["hooks"].as_array().cloned().unwrap_or_default();
    posts.iter().filter_map(|post| post["body"]["text"].as_str().map(str::to_owned)).collect()
}

fn evidence(path: &str) -> (Value, Vec<u8>) {
    let bytes = std::fs::read(Path::new(path)).unwrap();
    (serde_json::from_slice(&bytes).unwrap(), bytes)
}

/// What a drill must leave as it was.
fn untouched(world: &World) -> Value {
    let state = world.inspect();
    json!([
        state["projects"],
        state["vercel"],
        world.sql("postgres", "select datname from pg_database order by 1")
    ])
}

#[test]
fn drills_prove_the_newest_backup_leave_a_chain_of_evidence_and_nothing_else() {
    let world = World::with_backup();
    world.hurry();
    let before = untouched(&world);
    let live = world.database(&world.live());

    let first = drill(&world, &[]).ended(0).run();
    let second = drill(&world, &["--input", "trigger=schedule"]).ended(0).run();

    assert_eq!(untouched(&world), before, "scratch is gone and nothing live has changed");
    assert_eq!(world.database(&world.live()), live);
    nobody_is_left(&world);
    assert!(told(&world).is_empty(), "a drill that passes wakes nobody");
    let of = |run: &str| outputs(&world.records(run), "evidence");
    let (one, two) = (of(&first), of(&second));
    assert_eq!(
        (&one["outcome"], &one["failed"], &one["prev_hash"]),
        (&json!("passed"), &json!(0), &Value::Null)
    );
    assert_eq!(one["levels"], json!(["V0", "V1", "V2", "V3", "V4", "V5", "V7"]));
    assert_eq!(two["prev_hash"], one["sha256"], "each record names the one before");
    let (record, bytes) = evidence(two["path"].as_str().unwrap());
    assert_eq!((&record["trigger"], &record["drill_id"]), (&json!("schedule"), &json!(second)));
    assert_eq!(record["measured"]["rto_met"], true);
    assert!(record["environment"]["isolation"]["destroyed_at"].is_string(), "{record}");
    let key = two["url"].as_str().unwrap().trim_start_matches("s3://").split_once('/').unwrap().1.to_owned();
    let kept = std::fs::read(world.state().join("sandbox/s3/polaris-backups").join(&key)).unwrap();
    assert!(kept == bytes, "the copy in the bucket is the same");
    assert_eq!(world.status(&first)["in_force"], json!([]));
    history_shows_both(&world, &first, &second);
}

#[track_caller]
fn history_shows_both(world: &World, first: &str, second: &str) {
    let said = world.runbook(&["--json", "drill", "history", "--env", "local"]).ended(0);
    let drills: Vec<Value> = said.lines().into_iter().map(|line| line["drill"].clone()).collect();
    assert_eq!((&drills[0]["run"], &drills[1]["run"]), (&json!(second), &json!(first)));
    assert!(drills.iter().all(|d| d["outcome"] == "passed" && d["rto"]["met"] == true), "{drills:?}");
    assert!(drills[0]["rto_trend_seconds"].is_number() && drills[1]["rto_trend_seconds"].is_null());
    assert_eq!(world.runbook(&["--json", "drill", "history", "--env", "other"]).ended(0).stdout, "");
}

#[test]
fn a_corrupted_byte_escalates_at_once_and_scratch_goes_all_the_same() {
    let world = World::with_backup();
    world.hurry();
    let before = untouched(&world);
    // One byte of the dump is another one; the checksum beside it is that of the right bytes.
    let key = world.inspect()["backups"][0].as_str().unwrap().to_owned();
    let mut bytes = std::fs::read(world.state().join("sandbox/s3/polaris-backups").join(&key)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.put(&key, &bytes, false);

    let said = drill(&world, &[]).ended(4);

    let run = said.run();
    assert_eq!(said.last()["outcome"], "given_up");
    let told = told(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("DRILL FAILED in local: the restore failed, or the checksum is wrong."),
        "{}",
        told[0]
    );
    assert!(told[0].contains(&key), "{}", told[0]);
    assert_eq!(untouched(&world), before, "scratch goes after a failure, too");
    let record = outputs(&world.records(&run), "evidence");
    assert_eq!((&record["outcome"], &record["levels"]), (&json!("failed"), &json!(["V0"])));
    let shown = world.runbook(&["drill", "history"]).ended(0).stdout;
    assert!(
        shown.contains("0 of 1 passed") && shown.contains("FAILED") && shown.contains("failed at restore"),
        "{shown}"
    );
}

#[test]
fn no_backup_and_an_old_one_escalate() {
    let world = World::with_data();
    world.hurry();
    drill(&world, &[]).ended(5);
    world.runbook(&["sandbox", "backup"]).ended(0);
    drill(&world, &["--input", "rpo=1ms"]).ended(5);
    let told = told(&world);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("no verified backup was found") && !told[0].contains("Backup:"), "{}", told[0]);
    assert!(told[1].contains("the newest backup is older than the RPO"), "{}", told[1]);
}

#[test]
fn a_drill_killed_again_and_again_leaves_the_same() {
    let world = World::with_backup();
    world.hurry();
    let before = untouched(&world);
    let killed = world
        .command(&["--json", "run", "runbooks/drill.yaml", "--env", "local", "--die-after", "2"])
        .output()
        .unwrap();
    let line = String::from_utf8(killed.stdout).unwrap();
    let run = serde_json::from_str::<Value>(line.lines().next().unwrap()).unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let sittings = crate::path_b::killed_to_the_end(&world, &run);

    assert!(sittings > 4, "it was killed {sittings} times");
    assert_eq!(untouched(&world), before);
    assert_eq!(outputs(&world.records(&run), "evidence")["outcome"], "passed");
    assert_eq!(world.effects("supabase POST /v1/projects"), 1, "one scratch project");
    assert_eq!(world.effects("supabase DELETE /v1/projects"), 1, "removed once");
}
