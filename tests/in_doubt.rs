//! Promise P3: when an answer is lost, or the process dies, in the middle of an effect that must not happen
//! twice, a probe settles it; without one a person does. And remote calls that fail are waited for, tried
//! again, and given up in the end.

use std::process::Command;

use jiff::Timestamp;
use serde_json::Value;

use crate::world::{Said, Watched, World};

/// A change of a stand-in that Path B must do once: the step, the fault that loses its answer, its effect.
struct Once {
    step: &'static str,
    fault: [&'static str; 5],
    effect: &'static str,
}

const ONCE: [Once; 4] = [
    Once {
        step: "database",
        fault: ["supabase", "--method", "POST", "--path", "/v1/projects"],
        effect: "supabase POST /v1/projects",
    },
    Once {
        step: "jwt",
        fault: ["supabase", "--method", "POST", "--path", "/v1/projects/"],
        effect: "supabase POST /v1/projects/",
    },
    Once {
        step: "traffic",
        fault: ["vercel", "--method", "POST", "--path", "/v10/projects/"],
        effect: "vercel POST /v10/projects/",
    },
    Once {
        step: "deploy",
        fault: ["vercel", "--method", "POST", "--path", "/v13/deployments"],
        effect: "vercel POST /v13/deployments",
    },
];

fn of_kind<'a>(records: &'a [Value], kind: &str, step: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind && record["step"] == step).collect()
}

/// Projects beside the live one, keys that sign in them, deployments beside the first.
fn made(world: &World) -> (usize, usize, usize) {
    let state = world.inspect();
    let projects: Vec<&Value> =
        state["projects"].as_array().unwrap().iter().filter(|project| project["live"] == false).collect();
    let signing = projects.iter().flat_map(|project| project["signing_keys"].as_array().unwrap());
    let in_use = signing.filter(|key| key["status"] == "in_use").count();
    (projects.len(), in_use, state["vercel"]["deployments"].as_array().unwrap().len() - 1)
}

#[test]
fn an_effect_whose_answer_was_lost_is_found_and_not_repeated() {
    let world = World::with_backup();
    world.hurry();
    for once in &ONCE {
        world.fault(&[&once.fault[..], &["--cut", "after"]].concat());
    }
    let said = world.path_b().ended(0);
    let records = world.records(&said.run());
    for once in &ONCE {
        let failed = of_kind(&records, "attempt_failed", once.step);
        assert_eq!(failed.len(), 1, "{}: {failed:?}", once.step);
        assert_eq!(of_kind(&records, "step_done", once.step).len(), 1, "{}", once.step);
    }
    assert_eq!(made(&world), (1, 1, 2));
    assert_eq!(world.effects("supabase POST /v1/projects"), 2, "one project, one signing key");
    assert_eq!(world.effects("vercel POST /v13/deployments"), 2, "the new database, then payments");
    assert_eq!(world.application()["ok"], true);
}

#[test]
fn a_process_that_died_in_the_middle_of_a_once_step_leaves_it_to_the_probe() {
    let world = World::with_backup();
    world.hurry();
    let mut run = String::new();
    for step in ["database", "jwt", "deploy"] {
        // The intent is durable and the effect happened; the process dies before it could find that out.
        let once = ONCE.iter().find(|once| once.step == step).unwrap();
        world.fault(&[&once.fault[..], &["--cut", "after"]].concat());
        let before = world.effects(once.effect);
        let arguments: Vec<&str> = if run.is_empty() {
            vec!["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes"]
        } else {
            vec!["--json", "resume", &run, "--yes"]
        };
        let mut live = Watched::start(world.command(&arguments));
        let failed = live.until(|line| line["kind"] == "attempt_failed" && line["step"] == step);
        live.kill();
        run = failed["run"].as_str().unwrap().to_owned();
        assert_eq!(world.effects(once.effect) - before, 1, "{step}");
    }
    world.runbook(&["--json", "resume", &run, "--yes"]).ended(0);
    assert_eq!(made(&world), (1, 1, 2));
}

#[test]
fn a_process_that_died_right_before_a_once_effect_does_it_once() {
    let world = World::with_backup();
    world.hurry();
    let unbroken = world.path_b().ended(0);
    let before = made(&world);
    let told = world.effects("hooks POST");
    let records = world.records(&unbroken.run());
    let seq = |step: &str, kind: &str| of_kind(&records, kind, step)[0]["seq"].as_u64().unwrap();
    // The chat's intent is a record of its own: nothing was sent before that.
    let deaths = [
        ("database", "attempt_started"),
        ("jwt", "attempt_started"),
        ("deploy", "attempt_started"),
        ("tell", "attempt_started"),
        ("tell", "checkpoint"),
    ];
    for (step, kind) in deaths {
        let die_after = seq(step, kind).to_string();
        let posts = world.effects("hooks POST");
        let run =
            ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes", "--die-after", &die_after];
        let killed = Said::of(world.command(&run).output().unwrap());
        assert_eq!(killed.status, None, "{step}: {}", killed.stdout);
        let id = killed.run();
        let records = world.records(&id);
        assert_eq!(records.last().unwrap()["step"], step);
        assert_eq!(records.last().unwrap()["kind"], kind);
        let so_far = world.effects("hooks POST");
        if kind == "checkpoint" {
            // Nobody can ask a chat whether the message came.
            world.runbook(&["--json", "resume", &id, "--yes"]).ended(6);
            assert_eq!(world.effects("hooks POST"), so_far);
            world
                .runbook(&["resolve", &id, "tell", "--again", "--reason", "the chat has no message"])
                .ended(0);
        }
        world.runbook(&["--json", "resume", &id, "--yes"]).ended(0);
        assert_eq!(world.effects("hooks POST") - posts, told, "{step}");
    }
    let after = made(&world);
    assert_eq!((after.0 - before.0, after.1 - before.1, after.2 - before.2), (5, 5, 10));
}

const TELL: &str = "
name: tell
title: Tell the team
kind: maintenance
steps:
  - id: tell
    uses: notify
    with: { to: chat, text: \"run {{ run.short_id }} speaks\" }
  - id: after
    uses: flow.noop
";

/// A run of [`TELL`] whose post arrived and whose answer was lost.
fn in_doubt(world: &World) -> String {
    let file = world.runbook_file(TELL);
    world.fault(&["hooks", "--method", "POST", "--cut", "after"]);
    let said = world.runbook(&["--json", "run", &file, "--env", "local"]).ended(6);
    assert_eq!(said.last()["outcome"], "in_doubt");
    let run = said.run();
    let status = world.runbook(&["status", &run]).ended(0).stdout;
    assert!(status.contains("in doubt"), "{status}");
    for answer in ["--done", "--again"] {
        assert!(
            status.contains(&format!("runbook resolve {} tell {answer} --reason", &run[..8])),
            "{status}"
        );
    }
    run
}

#[test]
fn a_message_in_doubt_that_a_person_saw_is_not_posted_again() {
    let world = World::with_data();
    let run = in_doubt(&world);
    // Nothing moves until somebody has looked.
    world.runbook(&["--json", "resume", &run]).ended(6);
    world.runbook(&["resolve", &run, "tell", "--done"]).ended(2);
    world.runbook(&["resolve", &run, "after", "--done", "--reason", "x"]).ended(4);
    world.runbook(&["resolve", &run, "tell", "--done", "--reason", "it stands in the channel"]).ended(0);
    world.runbook(&["resolve", &run, "tell", "--done", "--reason", "again"]).ended(4);
    let said = world.runbook(&["--json", "resume", &run]).ended(0);
    assert_eq!(said.last()["outcome"], "succeeded");
    assert_eq!(world.effects("hooks POST"), 1);
    let records = world.records(&run);
    let resolved = of_kind(&records, "resolved", "tell")[0];
    assert_eq!(resolved["by"], "tester");
    assert_eq!(resolved["reason"], "it stands in the channel");
}

#[test]
fn a_message_in_doubt_that_nobody_saw_is_posted_again() {
    let world = World::with_data();
    let run = in_doubt(&world);
    world.runbook(&["resolve", &run, "tell", "--again", "--reason", "the channel is empty"]).ended(0);
    world.runbook(&["--json", "resume", &run]).ended(0);
    assert_eq!(world.effects("hooks POST"), 2);
}

#[test]
fn a_request_that_is_throttled_waits_as_long_as_it_is_told() {
    let world = World::with_data();
    let file = world.runbook_file(TELL);
    world.fault(&["hooks", "--method", "POST", "--status", "429", "--retry-after", "3"]);
    let said = world.runbook(&["--json", "run", &file, "--env", "local"]).ended(0);
    let records = world.records(&said.run());
    let failed = of_kind(&records, "attempt_failed", "tell");
    let started = of_kind(&records, "attempt_started", "tell");
    assert_eq!((failed.len(), started.len()), (1, 2));
    assert_eq!(failed[0]["aftermath"]["unchanged"]["retry_after"]["secs"], 3, "{}", failed[0]);
    let waited = at(started[1]).duration_since(at(failed[0])).as_secs_f64();
    assert!((3.0..10.0).contains(&waited), "waited {waited} s");
    assert_eq!(world.effects("hooks POST"), 1);
}

fn at(record: &Value) -> Timestamp {
    record["at"].as_str().unwrap().parse().unwrap()
}

const FREEZE: &str = "
name: freeze
title: Close for writes
kind: maintenance
steps:
  - id: close
    title: Close for writes
    uses: vercel.flag
    with: { key: read_only, value: true, in_force: writes are frozen (flag read_only) }
    retry: { max_attempts: 3, initial_interval: 10ms, max_interval: 20ms }
    if_it_fails: Close the shop by hand.
  - id: after
    uses: flow.noop
";

#[test]
fn a_fault_that_lasts_uses_the_retries_up_and_a_resume_goes_on_when_it_is_over() {
    let world = World::with_data();
    let file = world.runbook_file(FREEZE);
    world.fault(&["vercel", "--status", "503", "--times", "1000"]);
    let said = world.runbook(&["--json", "run", &file, "--env", "local"]).ended(5);
    let run = said.run();
    let end = said.last();
    assert_eq!(end["outcome"], "failed");
    assert_eq!(end["problems"][0]["step"], "close");
    assert_eq!(end["problems"][0]["attempts"], 3);
    let message = end["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("503"), "{message}");

    let status = world.runbook(&["status", &run]).ended(0).stdout;
    for words in ["failed, can be resumed", "3 attempts", "503", &format!("runbook resume {}", &run[..8])] {
        assert!(status.contains(words), "`{words}` is not in:\n{status}");
    }
    let screen = world.runbook(&["resume", &run]).ended(5).stdout;
    assert!(screen.contains("Close the shop by hand."), "{screen}");

    world.clear_faults();
    let said = world.runbook(&["--json", "resume", &run]).ended(0);
    assert_eq!(said.last()["in_force"][0]["text"], "writes are frozen (flag read_only)");
    assert_eq!(world.inspect()["vercel"]["flags"]["read_only"], true);
}

#[test]
fn the_screen_shown_first_after_a_doubt_names_the_way_out() {
    let world = World::with_data();
    let file = world.runbook_file(TELL);
    world.fault(&["hooks", "--method", "POST", "--cut", "after"]);
    let mut command: Command = world.command(&["run", &file, "--env", "local"]);
    let said = Said::of(command.output().unwrap()).ended(6);
    assert!(said.stdout.contains("is in doubt: whether its effect happened is not known"), "{}", said.stdout);
    assert!(said.stdout.contains("tell --again --reason"), "{}", said.stdout);
}
