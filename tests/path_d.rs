//! Path D from end to end: a new project from verified copies, every secret a new one, a named person who signs off,
//! and only then users on it; also when the run is killed again and again.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use crate::path_b::{assert_same, count, nobody_is_left, outputs, payments_arrive, wanted};
use crate::turns::settle;
use crate::world::{Database, Said, World};

/// Processes that one run may need; more means that it does not come on.
const DEATHS_MAX: usize = 150;
const START: [&str; 7] =
    ["--json", "run", "runbooks/path-d.yaml", "--env", "local", "--input", "signer=Ana Cruz"];

/// A world in which credentials are suspected: what the new project must come to, and the state before.
fn suspected() -> (World, Database, Value) {
    let world = World::with_backup();
    world.hurry();
    let wanted = wanted(&world);
    world.runbook(&["sandbox", "break"]).ended(0);
    let before = world.inspect();
    (world, wanted, before)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The digest of a variable of the application.
fn variable(state: &Value, key: &str) -> String {
    let found = list(&state["vercel"]["env"]).iter().find(|variable| variable["key"] == key).unwrap();
    found["sha256"].as_str().unwrap().to_owned()
}

/// Demands everything that Path D promises of a run that has ended.
#[track_caller]
fn is_rebuilt(world: &World, run: &str, wanted: &Database, before: &Value) {
    let records = world.records(run);
    for (step, times) in count(&records, "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
    let made = outputs(&records, "database");
    let project = made["ref"].as_str().unwrap();
    let after = world.inspect();
    let projects = list(&after["projects"]).len() - list(&before["projects"]).len();
    assert_eq!(projects, 1, "one project is made");

    // The database, but for what happened since: the journeys of the checks and the test payments that came late.
    let mut found = world.database(project);
    let mut wanted = wanted.clone();
    for database in [&mut found, &mut wanted] {
        database.tables.retain(|table, _| !is_touched(table));
    }
    assert_same(&found, &wanted);
    files_are_whole(world, project);

    // Everything that is secret is new, and where it belongs.
    for key in [
        "CRON_SECRET",
        "DATABASE_URL",
        "NEXT_PUBLIC_SUPABASE_ANON_KEY",
        "PAYMONGO_WEBHOOK_SECRET",
        "PAYPAL_WEBHOOK_ID",
        "RESEND_API_KEY",
        "SUPABASE_SERVICE_ROLE_KEY",
    ] {
        assert_ne!(variable(&after, key), variable(before, key), "{key} is another one");
    }
    let new = list(&after["projects"]).iter().find(|p| p["ref"] == project).unwrap();
    assert_eq!(new["secret_digests"]["CRON_SECRET"], json!(variable(&after, "CRON_SECRET")));
    let keys: Vec<&Value> = list(&new["api_keys"]).iter().filter(|key| key["type"] == "secret").collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert_eq!(keys[0]["sha256"].as_str(), Some(variable(&after, "SUPABASE_SERVICE_ROLE_KEY").as_str()));

    // One deployment, looked at before it served.
    let fresh: Vec<&Value> = list(&after["vercel"]["deployments"])
        .iter()
        .filter(|deployment| deployment["meta"]["runbookRun"] == run)
        .collect();
    assert_eq!(fresh.len(), 1, "{fresh:?}");
    assert_eq!(after["vercel"]["production"], fresh[0]["id"]);
    assert_eq!(outputs(&records, "rotate/deploy")["previous"], before["vercel"]["production"]);
    let done_at = |step: &str| {
        records
            .iter()
            .position(|r| r["kind"] == "step_done" && r["step"] == step)
            .unwrap_or_else(|| panic!("{step}"))
    };
    assert!(
        done_at("rotate/paypal-signature") < done_at("sign-off") && done_at("sign-off") < done_at("promote")
    );
    assert_eq!(outputs(&records, "rotate/paypal-signature")["verified"], true);

    let app = world.application();
    assert_eq!(
        (&app["ok"], &app["read_only"], &app["database"]),
        (&json!(true), &json!(false), &json!(project))
    );
    assert_eq!(after["vercel"]["flags"], json!({ "read_only": false }));
    assert_eq!(after["vercel"]["crons_enabled"], true);
    payments_arrive(&after);
    let status = world.status(run);
    let force: Vec<&str> =
        list(&status["in_force"]).iter().map(|force| force["key"].as_str().unwrap()).collect();
    assert!(force.iter().all(|key| key.starts_with("supabase.")), "only the new project stays: {force:?}");
    assert_eq!(world.effects("hooks POST /hooks/chat"), 2, "the team is told at both ends");
    assert_eq!(world.effects("hooks POST /hooks/users"), 2, "and so are users");
    world.runbook(&["verify", run]).ended(0);
    nobody_is_left(world);
}

/// Tables that the application and the sandbox's Auth and Storage write to by themselves.
fn is_touched(table: &str) -> bool {
    table.starts_with("auth.")
        || table.starts_with("storage.")
        || matches!(table, "public.ledger" | "public.entitlements")
}

/// Every file of the old project is in the new one with the same bytes.
#[track_caller]
fn files_are_whole(world: &World, project: &str) {
    let files = |project: &str| {
        let sql = "select bucket_id || '/' || name || '/' || version from storage.objects order by 1";
        let folder = world.state().join("sandbox/storage").join(project);
        let bytes = |line: &str| std::fs::read(folder.join(line)).unwrap_or_else(|e| panic!("{line}: {e}"));
        let lines = world.sql(project, sql);
        let named = |line: &str| (line.rsplit_once('/').unwrap().0.to_owned(), bytes(line));
        lines.lines().map(named).collect::<std::collections::BTreeMap<_, _>>()
    };
    let (old, new) = (files(&world.live()), files(project));
    assert_eq!(old.len(), 49);
    assert_eq!(new.keys().collect::<Vec<_>>(), old.keys().collect::<Vec<_>>());
    assert!(new == old, "files have other bytes");
}

#[test]
fn everything_is_rebuilt_and_a_named_person_signs_off() {
    let (world, wanted, before) = suspected();
    let live = world.database(&world.live());
    // Up to the sign-off nobody is moved; then it is for Ana Cruz to say.
    let mut run: Option<String> = None;
    for _ in 0..12 {
        let said = match &run {
            None => world.runbook(&[&START[..], &["--no-wait"]].concat()),
            Some(run) => world.runbook(&["--json", "resume", run.as_str(), "--no-wait"]),
        };
        let id = run.get_or_insert_with(|| said.run()).clone();
        if said.status == Some(0) {
            break;
        }
        said.ended(7);
        let status = world.status(&id);
        let asked =
            list(&status["steps"]).iter().find(|step| step["state"] == "waiting for approval").unwrap();
        let step = asked["step"].as_str().unwrap();
        if step == "sign-off" {
            assert_eq!(world.inspect()["vercel"]["production"], before["vercel"]["production"]);
            assert_eq!(
                world.application()["database"],
                json!(world.live()),
                "users still see the old project"
            );
            let prompt =
                world.records(&id).iter().rev().find_map(|r| r["prompt"].as_str().map(str::to_owned));
            assert!(prompt.unwrap().starts_with("Ana Cruz: shall http"));
        }
        world.runbook(&["approve", &id, step, "--reason", "looked at it"]).ended(0);
    }
    let run = run.unwrap();
    assert_eq!(world.status(&run)["state"], "succeeded", "{}", world.status(&run));
    is_rebuilt(&world, &run, &wanted, &before);
    assert_eq!(world.database(&world.live()), live, "the old project is kept as it was, for forensics");
    let signed = outputs(&world.records(&run), "sign-off");
    assert_eq!((&signed["done_by"], &signed["evidence"]), (&json!("tester"), &json!("looked at it")));
}

#[test]
fn a_rebuild_that_is_killed_again_and_again_comes_to_the_same_end() {
    let (world, wanted, before) = suspected();
    let output = world.command(&[&START[..], &["--yes", "--die-after", "1"]].concat()).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    let (mut deaths, mut done, mut more) = (1, 0, 9);
    loop {
        let records = world.records(&run);
        // Something new happens from death to death, or the next one comes some records later.
        let what = |r: &Value| (r["kind"].to_string(), r["step"].to_string(), r["name"].to_string());
        let now = records.iter().map(what).collect::<std::collections::BTreeSet<_>>().len();
        more = if now > done { 11 } else { more + 4 };
        done = now;
        let at = (records.len() + more).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &at]).output().unwrap();
        if output.status.signal() == Some(9) {
            deaths += 1;
            assert!(deaths < DEATHS_MAX, "the run goes on from death to death: {:?}", records.last());
            continue;
        }
        let said = Said::of(output);
        if said.status == Some(6) {
            settle(&world, &run);
            continue;
        }
        said.ended(0);
        break;
    }
    assert!(deaths > 15, "killed {deaths} times");
    is_rebuilt(&world, &run, &wanted, &before);
}

#[test]
fn a_secret_that_does_not_reach_a_place_keeps_users_where_they_are() {
    let (world, ..) = suspected();
    // The new project is there, and nothing is told of it yet.
    let run = world.runbook(&[&START[..], &["--no-wait"]].concat()).ended(7).run();
    let made = outputs(&world.records(&run), "database");
    let path = format!("/v1/projects/{}/secrets", made["ref"].as_str().unwrap());
    world.fault(&["supabase", "--method", "POST", "--path", &path, "--status", "403"]);
    world.runbook(&["approve", &run]).ended(0);
    let said = world.runbook(&["--json", "resume", &run, "--yes"]).ended(5);
    let text = said.last()["problems"].to_string();
    assert!(text.contains("G09") && text.contains("secret CRON_SECRET of the Edge Functions"), "{text}");
    assert_eq!(world.application()["database"], json!(world.live()));
    world.clear_faults();
    world.runbook(&["--json", "resume", &run, "--yes"]).ended(0);
    assert_eq!(world.application()["database"], made["ref"]);
}
