//! Taking a bad restore back, from end to end; and the same run killed after every one of its records.

use serde_json::{Value, json};

use crate::path_b::count;
use crate::turns::killed_after_every_record;
use crate::world::World;

const RUNBOOK: &str = "runbooks/rollback.yaml";

/// A world in which something was deployed since, and the arguments of the run that takes it back.
fn world() -> (World, Vec<String>) {
    let world = World::with_data();
    world.hurry();
    let deploy = world.runbook_file(
        "name: own\nkind: maintenance\nsteps:\n  - { id: ready, uses: http.check, tags: [validate], \
         with: { checks: [{ url: \"{{ vars.app_url }}/api/health\" }] } }\n  \
         - { id: deploy, uses: vercel.deploy, tags: [expose], with: {} }\n",
    );
    world.runbook(&["--json", "run", &deploy, "--env", "local", "--yes"]).ended(0);
    let project = format!("restored_project={}", world.live());
    let words = [
        "--json",
        "run",
        RUNBOOK,
        "--env",
        "local",
        "--yes",
        "--input",
        "reason=it is slow",
        "--input",
        "dns_content=old.polaris.example",
        "--input",
        &project,
        "--input",
        r#"decisions=[{"who":"ana","what":"go back","why":"users wait"}]"#,
    ];
    let arguments = words.iter().map(|word| (*word).to_owned()).collect();
    (world, arguments)
}

/// Demands the end state: the first deployment serves, the name points back, the project is labelled, one ticket.
#[track_caller]
fn is_back(world: &World, run: &str) {
    let state = world.inspect();
    let deployments = state["vercel"]["deployments"].as_array().unwrap();
    assert_eq!(deployments.len(), 2, "a rollback builds nothing");
    assert_eq!(state["vercel"]["production"], deployments[0]["id"], "and never goes back further");
    assert_eq!(state["providers"]["cloudflare"]["records"][0]["content"], "old.polaris.example");
    let name = state["projects"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("polaris-local KEEP for forensics, rollback "), "{name}");
    assert_eq!(state["vercel"]["flags"]["read_only"], false);
    let tickets = state["providers"]["github"]["issues"].as_array().unwrap();
    assert_eq!(tickets.len(), 1);
    let body = tickets[0]["body"].as_str().unwrap();
    for part in ["it is slow", "ana: go back (users wait)", "| error ratio | 0", &world.live(), run] {
        assert!(body.contains(part), "`{part}` is missing in:\n{body}");
    }
    let posts: Vec<&str> =
        state["hooks"].as_array().unwrap().iter().map(|p| p["body"]["text"].as_str().unwrap()).collect();
    assert_eq!(posts.len(), 2, "{posts:?}");
    assert!(
        posts[0].starts_with("[local] Rollback: it is slow") && posts[1].starts_with("We have gone back")
    );
    assert_eq!(world.application()["ok"], true);
    world.runbook(&["verify", run]).ended(0);
    for (step, times) in count(&world.records(run), "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
    let in_force: Vec<Value> = world.status(run)["in_force"].as_array().unwrap().clone();
    let texts: Vec<&str> = in_force.iter().filter_map(|entry| entry["text"].as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("is kept for forensics")), "{texts:?}");
}

#[test]
fn a_bad_restore_is_taken_back() {
    let (world, arguments) = world();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let said = world.runbook(&arguments).ended(0);
    is_back(&world, &said.run());
    assert!(said.last()["outputs"]["ticket"].as_str().unwrap().ends_with("/issues/1"));
}

#[test]
fn killed_after_each_record_it_goes_back_no_further() {
    let (world, arguments) = world();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let run = killed_after_every_record(&world, &arguments);
    is_back(&world, &run);
}

#[test]
fn its_own_rollback_brings_the_restored_system_back() {
    let (world, mut arguments) = world();
    // The step that labels fails for good, after traffic went back: there is no such project.
    for argument in &mut arguments {
        if argument.starts_with("restored_project=") {
            *argument = format!("restored_project={}", "a".repeat(20));
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let restored = world.inspect()["vercel"]["production"].clone();
    let said = world.runbook(&arguments).ended(5);
    assert_eq!(said.last()["problems"][0]["step"], "keep");
    let run = said.run();
    assert_ne!(world.inspect()["vercel"]["production"], restored);
    world.runbook(&["--json", "rollback", &run, "--yes"]).ended(0);
    let state = world.inspect();
    assert_eq!(state["vercel"]["production"], restored);
    assert_eq!(state["providers"]["cloudflare"]["records"][0]["content"], "cname.vercel-dns.example");
    assert!(state["vercel"]["flags"].get("read_only").is_none_or(|flag| flag != true));
    assert_eq!(world.status(&run)["in_force"], json!([]));
}
