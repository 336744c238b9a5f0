//! The Sev-1 procedure: frozen first, decided by a person, proven before anybody is let in, documented to the second.

use serde_json::{Value, json};

use crate::path_b::outputs;
use crate::world::{Watched, World};

fn broken() -> World {
    let world = World::with_backup();
    world.hurry();
    world.runbook(&["sandbox", "break"]).ended(0);
    world
}

const RUN: [&str; 5] = ["--json", "run", "runbooks/production-restore.yaml", "--env", "local"];

#[track_caller]
fn is_restored(world: &World, run: &str) {
    let records = world.records(run);
    let made = outputs(&records, "database");
    let app = world.application();
    assert_eq!(
        (&app["ok"], &app["read_only"], &app["database"]),
        (&json!(true), &json!(false), &made["ref"]),
        "{app}"
    );
    let measured = outputs(&records, "measured");
    assert_eq!(measured["lost_from"], outputs(&records, "backup")["taken_at"]);
    assert_eq!(measured["lost_until"], outputs(&records, "frozen")["measured_at"]);
    assert_eq!((&measured["rpo_met"], &measured["rto_met"]), (&json!(true), &json!(true)));
    let posts = world.inspect()["hooks"].as_array().cloned().unwrap_or_default();
    let texts: Vec<&str> = posts.iter().filter_map(|post| post["body"]["text"].as_str()).collect();
    assert_eq!(texts.len(), 4, "team and users are told once at each end: {texts:?}");
    assert!(texts[3].contains(measured["statement"].as_str().unwrap()), "{}", texts[3]);
    crate::path_b::payments_arrive(&world.inspect());
    let force: Vec<Value> = world.status(run)["in_force"].as_array().unwrap().clone();
    assert_eq!(force.len(), 1, "only the new project stands beside the old one: {force:?}");
}

#[test]
fn production_is_restored_and_the_loss_documented() {
    let world = broken();
    let live = world.database(&world.live());
    let run = world.runbook(&[&RUN[..], &["--yes"]].concat()).ended(0).run();
    is_restored(&world, &run);
    assert_eq!(world.database(&world.live()), live, "the damaged database is kept");
}

#[test]
fn nothing_is_restored_before_the_commander_said_yes() {
    let world = broken();
    let mut watched = Watched::start(world.command(&RUN));
    let asked = watched.until(|line| line["kind"] == "approval_requested");
    assert_eq!(asked["step"], "commander");
    let prompt = asked["prompt"].as_str().unwrap();
    assert!(prompt.contains("sha256") && prompt.contains("Data-loss window"), "{prompt}");
    let run = asked["run"].as_str().unwrap().to_owned();
    assert_eq!(world.effects("supabase POST /v1/projects"), 0);
    assert_eq!(world.inspect()["vercel"]["flags"]["read_only"], true, "writes are frozen while people think");

    world.runbook(&["deny", &run, "commander", "--reason", "too much would be lost"]).ended(0);

    let (_, status) = watched.end();
    assert_eq!(status.code(), Some(4));
    assert_eq!(world.effects("supabase POST /v1/projects"), 0);
    let report = world.runbook(&["report", &run]).ended(0).stdout;
    assert!(report.contains("✗ denied") && report.contains("too much would be lost"), "{report}");
}

#[test]
fn killed_again_and_again_it_comes_to_the_same_end() {
    let world = broken();
    let killed = world.command(&[&RUN[..], &["--yes", "--die-after", "2"]].concat()).output().unwrap();
    let line = String::from_utf8(killed.stdout).unwrap();
    let run = serde_json::from_str::<Value>(line.lines().next().unwrap()).unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    let sittings = crate::path_b::killed_to_the_end(&world, &run);
    assert!(sittings > 5, "it was killed {sittings} times");
    is_restored(&world, &run);
    assert_eq!(world.effects("supabase POST /v1/projects"), 1);
    assert_eq!(world.effects("vercel POST /v13/deployments"), 2, "the new database, then payments");
}
