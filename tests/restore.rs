//! Where everybody starts, from end to end: what was seen is decided, by whom and why is kept, and the path that
//! mends it is gone. And what triage leaves behind for whoever looks later.

use serde_json::{Value, json};

use crate::path_b::{assert_same, payments_arrive, wanted};
use crate::world::World;

fn outputs<'r>(records: &'r [Value], step: &str) -> &'r Value {
    let done = records.iter().find(|record| record["kind"] == "step_done" && record["step"] == step);
    &done.unwrap_or_else(|| panic!("step {step} is not done"))["outcome"]["outputs"]
}

#[test]
fn a_broken_schema_is_restored_and_the_decision_is_kept() {
    let world = World::with_backup();
    world.hurry();
    let wanted = wanted(&world);
    world.runbook(&["sandbox", "break"]).ended(0);
    let start = [
        "--json",
        "run",
        "runbooks/restore.yaml",
        "--env",
        "local",
        "--yes",
        "--no-wait",
        "--input",
        "owner=ana",
    ];
    let run = world.runbook(&start).ended(7).run();
    let before = world.records(&run).iter().filter(|record| record["kind"] == "attempt_started").count();
    assert_eq!(before, 0, "nothing is done before somebody said what was seen");
    world.runbook(&["approve", &run, "--choose", "schema", "--reason", "drills have no policy"]).ended(0);
    let end = world.runbook(&["--json", "resume", &run, "--yes", "--no-wait"]).ended(0).last();
    assert_eq!(
        end["outputs"],
        json!({ "seen": "schema", "reason": "drills have no policy", "decided_by": "tester" })
    );

    let records = world.records(&run);
    let made = outputs(&records, "path_b/database")["ref"].as_str().unwrap();
    assert_same(&world.database(made), &wanted);
    assert_eq!(outputs(&records, "path_b/triage/declare")["owner"], "ana");
    let state = world.inspect();
    assert_eq!(state["vercel"]["flags"], json!({ "read_only": false }));
    assert_eq!(state["vercel"]["crons_enabled"], true);
}

#[test]
fn triage_keeps_what_it_saw_and_freezes_the_database_where_asked() {
    let world = World::with_backup();
    world.hurry();
    world.runbook(&["sandbox", "break"]).ended(0);
    let file = "runbooks/path-b.yaml";
    let start = ["--json", "run", file, "--env", "local", "--no-wait", "--input", "freeze_database=true"];
    let run = world.runbook(&start).ended(7).run();
    // It waits for the approval of the traffic: everything is frozen.
    let status = world.status(&run);
    let in_force: Vec<&str> =
        status["in_force"].as_array().unwrap().iter().map(|force| force["text"].as_str().unwrap()).collect();
    for words in ["writes are frozen", "takes no payments", "are read-only", "the crons of project"] {
        assert!(in_force.iter().any(|text| text.contains(words)), "{words}: {in_force:?}");
    }
    let live = world.live();
    assert_eq!(read_only(&world), live);
    let records = world.records(&run);
    let file = outputs(&records, "triage/evidence")["file"].as_str().unwrap();
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(seen["migration"]["value"], "20260309090000");
    assert_eq!(seen["database"]["rows"][0]["database"], live);
    assert!(seen["deployment"]["serving"]["id"].as_str().unwrap().starts_with("dpl_"));
    let rows = seen["rows"]["rows"].as_array().unwrap();
    let messages = rows.iter().find(|row| row["table_name"] == "public.messages").unwrap();
    assert!(messages["rows"].as_u64().unwrap() > 0, "{messages}");

    world.runbook(&["approve", &run]).ended(0);
    world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(0);
    assert_eq!(read_only(&world), "");
    let status = world.status(&run);
    let keys: Vec<&str> =
        status["in_force"].as_array().unwrap().iter().map(|force| force["key"].as_str().unwrap()).collect();
    assert!(keys.iter().all(|key| key.starts_with("supabase.")), "what was frozen is open again: {keys:?}");
}

#[test]
fn a_rollback_of_a_frozen_run_opens_everything_again() {
    let world = World::with_backup();
    world.hurry();
    let start = ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--no-wait"];
    let run = world.runbook(&[&start[..], &["--input", "freeze_database=true"]].concat()).ended(7).run();
    world.runbook(&["rollback", &run, "--yes", "--reason", "false alarm"]).ended(0);
    let state = world.inspect();
    assert_ne!(state["vercel"]["flags"]["read_only"], json!(true));
    assert_eq!(state["vercel"]["crons_enabled"], true);
    assert_eq!(read_only(&world), "");
}

/// Databases whose new sessions are read-only.
fn read_only(world: &World) -> String {
    let sql = "select datname from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase \
               where 'default_transaction_read_only=on' = any (setconfig)";
    world.sql("postgres", sql)
}

/// Starts `restore` with an answer as input, to its end.
fn answered(world: &World, seen: &str, inputs: &[&str]) -> String {
    let seen = format!("seen={seen}");
    let mut arguments = vec!["--json", "run", "runbooks/restore.yaml", "--env", "local", "--yes"];
    for input in [&[seen.as_str(), "reason=the test knows"], inputs].concat() {
        arguments.extend(["--input", input]);
    }
    world.runbook(&arguments).ended(0).run()
}

/// Only one path was gone.
#[track_caller]
fn went(world: &World, run: &str, path: &str) -> Vec<Value> {
    let records = world.records(run);
    let state = |step: &str, kind: &str| records.iter().any(|r| r["step"] == step && r["kind"] == kind);
    for other in ["path_a", "path_b", "path_c", "path_d"] {
        let kind = if other == path { "step_done" } else { "step_skipped" };
        assert!(state(other, kind), "{other} is not {kind}");
    }
    payments_arrive(&world.inspect());
    assert_eq!(world.inspect()["vercel"]["flags"]["read_only"], false);
    records
}

#[test]
fn missing_rows_whose_keys_are_known_come_back_by_path_a() {
    let world = World::with_backup();
    world.runbook(&["sandbox", "break", "deleted-rows"]).ended(0);
    let keys = r#"keys=["00000000-0000-4000-8000-000000000003"]"#;
    let run = answered(&world, "rows", &["table=public.profiles", keys]);
    let records = went(&world, &run, "path_a");
    assert_eq!(outputs(&records, "path_a/upsert")["inserted"], 1);

    // Without the keys it says what is missing, and has changed nothing.
    let effects = world.inspect()["effects"].clone();
    let start = ["--json", "run", "runbooks/restore.yaml", "--env", "local", "--yes", "--input", "seen=rows"];
    let said = world.runbook(&[&start[..], &["--input", "reason=unknown"]].concat());
    assert_ne!(said.status, Some(0));
    assert!(said.last()["problems"].to_string().contains("--input table="), "{}", said.stdout);
    assert_eq!(world.inspect()["effects"], effects);
}

#[test]
fn missing_files_come_back_by_path_c() {
    let world = World::with_backup();
    world.runbook(&["sandbox", "break", "lost-files"]).ended(0);
    let run = answered(&world, "files", &["buckets=[\"recordings\"]"]);
    let records = went(&world, &run, "path_c");
    assert!(outputs(&records, "path_c/files")["restored"].as_u64().unwrap() > 0);
    assert_eq!(outputs(&records, "path_c/proof")["rows_without_files"], json!([]));
}

#[test]
fn suspected_credentials_lead_to_path_d() {
    let world = World::with_backup();
    world.hurry();
    let run = answered(&world, "credentials", &["signer=Ana Cruz"]);
    let records = went(&world, &run, "path_d");
    let made = outputs(&records, "path_d/database")["ref"].clone();
    assert_eq!(world.application()["database"], made);
}

#[test]
fn payments_made_while_webhooks_are_paused_are_found_afterwards() {
    let world = World::with_backup();
    world.hurry();
    let pay = |who: &str| world.runbook(&["--json", "sandbox", "pay", who]).ended(0).last();
    let mut before: Vec<Value> = Vec::new();
    for (webhooks, words) in [("pause", "is disabled"), ("gone", "answers 410")] {
        let webhooks = format!("webhooks={webhooks}");
        let start =
            ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--no-wait", "--input", &webhooks];
        let run = world.runbook(&start).ended(7).run();
        let status = world.status(&run);
        let force: Vec<&str> = status["in_force"]
            .as_array()
            .unwrap()
            .iter()
            .map(|force| force["text"].as_str().unwrap())
            .collect();
        assert!(force.iter().any(|text| text.contains("PayPal's webhook")), "{force:?}");
        assert!(force.iter().any(|text| text.contains("PayMongo") && text.contains(words)), "{force:?}");
        let unheard = ["paypal", "paymongo"].map(|who| {
            let paid = pay(who);
            assert_eq!(paid["delivered"], false, "{who} delivers to nobody");
            paid
        });
        let file = outputs(&world.records(&run), "triage/evidence")["file"].as_str().unwrap().to_owned();
        let seen: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        assert!(seen["errors"]["known"].is_boolean(), "{}", seen["errors"]);

        world.runbook(&["approve", &run]).ended(0);
        world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(0);
        payments_arrive(&world.inspect());
        let records = world.records(&run);
        let reopened = outputs(&records, "reopen");
        assert_eq!(reopened["resent"], 1);
        let missed = outputs(&records, "reopen/paymongo-missed")["missed"].as_array().unwrap();
        assert_eq!(reopened["unbooked"], missed.len());
        // PayMongo tells seconds. The restore takes away what the round before booked at its end, and that is
        // missed as well where this run began in the same second.
        let mut found: Vec<&Value> = missed.iter().map(|missed| &missed["payment"]).collect();
        found.retain(|payment| !before.contains(*payment));
        assert_eq!(found, [&unheard[1]["payment"]]);
        for who in ["paypal", "paymongo"] {
            let paid = pay(who);
            assert_eq!(paid["delivered"], true, "{who} delivers again");
            before.push(paid["payment"].clone());
        }
        let status = world.status(&run);
        let left = status["in_force"].as_array().unwrap().iter();
        assert!(left.clone().all(|f| f["key"].as_str().unwrap().starts_with("supabase.")), "{status}");
    }

    // PayMongo sends nothing again: the reconciliation books what it took.
    let after = ["--json", "run", "runbooks/post-restore.yaml", "--env", "local", "--yes"];
    let said = world.runbook(&after).ended(0).last();
    assert!(said["outputs"]["reconciliation"]["booked"].as_u64().unwrap() > 0, "{said}");
    let project = world.application()["database"].as_str().unwrap().to_owned();
    let booked = world.sql(&project, "select payment_id from public.ledger where provider = 'paymongo'");
    for payment in world.inspect()["providers"]["paymongo"]["payments"].as_array().unwrap() {
        let id = payment["id"].as_str().unwrap();
        assert_eq!(booked.lines().filter(|line| *line == id).count(), 1, "{id}");
    }
}
