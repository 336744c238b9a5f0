//! What follows a restore, from end to end; and the same run killed after every one of its records.

use serde_json::{Value, json};

use crate::path_b::count;
use crate::turns::killed_after_every_record;
use crate::world::World;

const RUNBOOK: &str = "runbooks/post-restore.yaml";
const INPUTS: [&str; 6] = [
    "--input",
    r#"follow_ups=[{"id":"alarm","title":"Alarm earlier","body":"Why so late?"}]"#,
    "--input",
    r#"timeline=[{"at":"10:00","what":"writes frozen"}]"#,
    "--input",
    "title=Bad migration",
];

fn arguments() -> Vec<&'static str> {
    [&["--json", "run", RUNBOOK, "--env", "local", "--yes"][..], &INPUTS].concat()
}

/// Demands the end state: crons and billing on, each job run once, everybody told, a ticket for each follow-up.
#[track_caller]
fn is_over(world: &World, run: &str) {
    let state = world.inspect();
    assert_eq!(state["vercel"]["crons_enabled"], true);
    let variables = state["vercel"]["env"].as_array().unwrap();
    assert_eq!(variables.iter().filter(|v| v["key"] == "BILLING_PROVIDER").count(), 1);
    let jobs: Vec<&str> =
        state["jobs"].as_array().unwrap().iter().map(|job| job["job"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["reconcile", "recap"], "each job runs once");
    let made = state["vercel"]["deployments"].as_array().unwrap();
    let own: Vec<&Value> = made.iter().filter(|d| d["meta"]["runbookRun"] == run).collect();
    assert_eq!(own.len(), 1, "one deployment is made");
    assert_eq!(state["vercel"]["production"], own[0]["id"]);
    let tickets: Vec<&str> = state["providers"]["github"]["issues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| issue["title"].as_str().unwrap())
        .collect();
    assert_eq!(tickets, ["Alarm earlier"], "each follow-up has one ticket");
    let posts = state["hooks"].as_array().unwrap();
    assert_eq!(posts.len(), 1, "everybody is told once: {posts:?}");
    let text = posts[0]["body"]["text"].as_str().unwrap();
    for part in ["# Bad migration (sev-1): over", "errors: 0 of ", "- 10:00 writes frozen", "- Alarm earlier"]
    {
        assert!(text.contains(part), "`{part}` is missing in:\n{text}");
    }
    world.runbook(&["verify", run]).ended(0);
    for (step, times) in count(&world.records(run), "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
}

#[test]
fn after_a_restore_everything_comes_back_and_is_watched() {
    let world = World::with_data();
    world.hurry();
    let said = world.runbook(&arguments()).ended(0);
    is_over(&world, &said.run());
    let end = said.last();
    assert_eq!(end["outputs"]["watched_seconds"], json!(1.5));
    assert_eq!(end["outputs"]["reconciliation"]["orphans"], 0);
    assert_eq!(world.status(&said.run())["in_force"], json!([]));
}

#[test]
fn a_bad_service_level_ends_the_watch_and_a_resume_watches_for_the_whole_time_again() {
    let world = World::with_data();
    world.hurry();
    world.runbook(&["sandbox", "metric", "polaris_error_ratio", "0.2"]).ended(0);
    let said = world.runbook(&arguments()).ended(5);
    let problem = &said.last()["problems"][0];
    assert_eq!(problem["step"], "watch");
    let text = problem.to_string();
    assert!(text.contains("0.2 instead of at most 0.01"), "{text}");
    assert_eq!(world.inspect()["hooks"], json!([]), "nobody is told that it is over");
    world.runbook(&["sandbox", "metric", "polaris_error_ratio", "none"]).ended(0);
    world.runbook(&["--json", "resume", &said.run(), "--yes"]).ended(0);
    is_over(&world, &said.run());
}

#[test]
fn killed_after_each_record_it_comes_to_the_same_end() {
    let world = World::with_data();
    world.hurry();
    let run = killed_after_every_record(&world, &arguments());
    is_over(&world, &run);
}
