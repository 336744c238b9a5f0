//! The report of a run, from the journal alone: of one that ended, of one that was killed, in three forms.

use serde_json::{Value, json};

use crate::world::{Said, World};

/// A title that would be markup and script wherever it is not escaped.
const HOSTILE: &str = "Gone <script>alert(1)</script> \"& | `x` \u{1b}[31m\u{202e}";

fn report(world: &World, run: &str, form: &str) -> String {
    world.runbook(&["report", run, "--format", form]).ended(0).stdout
}

fn model(world: &World, run: &str) -> Value {
    serde_json::from_str(&report(world, run, "json")).unwrap()
}

#[test]
fn a_killed_and_resumed_restore_is_told_as_it_was() {
    let world = World::with_backup();
    world.hurry();
    world.runbook(&["sandbox", "break"]).ended(0);
    let title = format!("title={HOSTILE}");
    let arguments =
        ["--json", "run", "runbooks/production-restore.yaml", "--env", "local", "--yes", "--input", &title];
    let killed = world.command(&[&arguments[..], &["--die-after", "40"]].concat()).output().unwrap();
    let line = String::from_utf8(killed.stdout).unwrap();
    let run = serde_json::from_str::<Value>(line.lines().next().unwrap()).unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();

    let cut = model(&world, &run);
    assert_eq!((&cut["head"]["outcome"], &cut["head"]["finished"]), (&json!("interrupted"), &json!(false)));
    assert_eq!(
        (&cut["objectives"]["reopened_at"], &cut["objectives"]["rto"]["met"]),
        (&Value::Null, &Value::Null)
    );
    let force: Vec<&str> =
        cut["in_force"].as_array().unwrap().iter().map(|f| f["text"].as_str().unwrap()).collect();
    assert!(force.iter().any(|text| text.contains("writes are frozen")), "{force:?}");

    world.runbook(&["note", &run, "follow-up: look at dropped columns"]).ended(0);
    world.runbook(&["resume", &run, "--yes"]).ended(0);
    let whole = model(&world, &run);
    says_who_what_and_when(&whole);
    is_proven(&world, &run, &whole);
    three_forms(&world, &run);
}

#[track_caller]
fn says_who_what_and_when(report: &Value) {
    let head = &report["head"];
    assert_eq!(
        (&head["outcome"], &head["severity"], &head["sittings"]),
        (&json!("succeeded"), &json!("sev-1"), &json!(2))
    );
    assert_eq!((&head["owner"], &head["started_by"]), (&json!("on-call"), &json!("tester")));
    assert_eq!(report["idle"][0]["why"], "its process was killed");
    let phases: Vec<&str> =
        report["phases"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["freeze", "backup", "restore", "validate", "expose", "verify"]);
    let objectives = &report["objectives"];
    assert_eq!((&objectives["rpo"]["met"], &objectives["rto"]["met"]), (&json!(true), &json!(true)));
    let sum: f64 = report["phases"].as_array().unwrap().iter().map(|p| p["seconds"].as_f64().unwrap()).sum();
    assert!(
        (sum - objectives["rto"]["seconds"].as_f64().unwrap()).abs() < 0.001,
        "phases add up to the RTO: {sum}"
    );
    let decisions = report["decisions"].as_array().unwrap();
    assert_eq!(decisions.len(), 2, "{decisions:?}");
    assert!(decisions.iter().all(|d| d["by"] == "tester" && d["verdict"] == "approved"), "{decisions:?}");
    let systems: Vec<&str> =
        report["changes"].as_array().unwrap().iter().map(|s| s["system"].as_str().unwrap()).collect();
    let wanted = ["Vercel", "PayPal", "PayMongo", "Messages", "Supabase", "PostgreSQL", "Application"];
    assert_eq!(systems, wanted);
    assert_eq!(
        report["follow_ups"],
        json!([{ "how": "note", "text": "look at dropped columns", "url": null, "from": "tester" }])
    );
    assert_eq!(
        report["in_force"].as_array().unwrap().len(),
        1,
        "the damaged database's successor: {}",
        report["in_force"]
    );
}

#[track_caller]
fn is_proven(world: &World, run: &str, report: &Value) {
    let shown = |level: &Value| !level["proven_by"].as_array().unwrap().is_empty();
    let levels = report["evidence"]["levels"].as_array().unwrap().iter().filter(|l| shown(l));
    let levels: Vec<&str> = levels.map(|l| l["level"].as_str().unwrap()).collect();
    assert_eq!(levels, ["V0", "V1", "V2", "V3", "V4", "V5", "V7"]);
    let checks = report["evidence"]["checks"].as_array().unwrap();
    assert!(checks.len() > 10 && checks.iter().all(|c| c["ok"] == true), "{checks:?}");
    let verified = world.runbook(&["--json", "verify", run]).ended(0).last();
    assert_eq!(
        (&report["chain"]["head"], &report["chain"]["records"]),
        (&verified["head"], &verified["records"])
    );
}

#[track_caller]
fn three_forms(world: &World, run: &str) {
    let html = report(world, run, "html");
    assert_eq!(html, report(world, run, "html"), "the same journal gives the same bytes");
    assert_eq!(report(world, run, "json"), report(world, run, "json"));
    assert!(!html.contains("<script") && html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!html.contains("src=") && !html.contains("@import") && !html.contains("url("), "one file");
    assert!(
        html.contains("<svg") && html.contains("@media print") && html.contains("prefers-color-scheme: dark")
    );
    let markdown = report(world, run, "md");
    assert!(!markdown.contains("<script") && markdown.contains("## Decisions and approvals"));
    for text in [&html, &markdown] {
        assert!(
            !text.contains('\u{1b}') && !text.contains('\u{202e}'),
            "control characters are shown, not sent"
        );
        assert!(!text.contains("⟦secret:"), "no reference to a secret");
    }
    let file = world.folder().join("r.html");
    let path = file.to_str().unwrap();
    for _ in 0..2 {
        let said: Said = world.runbook(&["report", "--format", "html", "--output", path]).ended(0);
        assert_eq!(said.stdout, "", "the newest run, into a file that may be there");
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), html);
}

#[test]
fn no_secret_of_the_sandbox_is_in_a_report() {
    let world = World::with_backup();
    world.hurry();
    let run = world.runbook(&["--json", "run", "runbooks/drill.yaml", "--env", "local"]).ended(0).run();
    let forms = ["md", "html", "json"].map(|form| report(&world, &run, form));
    for file in std::fs::read_dir(world.state().join("sandbox/secrets")).unwrap() {
        let path = file.unwrap().path();
        let secret = std::fs::read_to_string(&path).unwrap();
        for text in &forms {
            assert!(!text.contains(secret.trim()), "{} is in a report", path.display());
        }
    }
}

#[test]
fn a_run_that_does_not_exist_and_one_whose_journal_was_changed_have_no_report() {
    let world = World::bare();
    world.runbook(&["report"]).ended(2);
    let run = world.runbook(&["--json", "run", "examples/hello.yaml", "--env", "local"]).ended(0).run();
    world.runbook(&["report", "nothing"]).ended(2);
    let told = report(&world, &run, "md");
    assert!(told.contains("**✓ succeeded**") && told.contains("no restore point is known"), "{told}");
}
