//! Every secret rotated: from end to end, killed again and again, with a place that cannot be reached, and
//! with payments that nobody took meanwhile.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::{Value, json};

use crate::path_b::count;
use crate::world::{Said, World};

const RUNBOOK: &str = "runbooks/rotate-secrets.yaml";

/// The arguments of a run in a world.
fn arguments(world: &World, more: &[&str]) -> Vec<String> {
    let endpoints = world.endpoints();
    let project = format!("project={}", endpoints["live_project"].as_str().unwrap());
    let app = format!("app_url={}", endpoints["app_url"].as_str().unwrap());
    let fixed = ["--json", "run", RUNBOOK, "--env", "local", "--yes", "-i", &project, "-i", &app];
    fixed.iter().chain(more).map(|text| (*text).to_owned()).collect()
}

fn run(world: &World, more: &[&str]) -> Said {
    let arguments = arguments(world, more);
    world.runbook(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The digest of a variable of the application.
fn variable(state: &Value, key: &str) -> String {
    let found = list(&state["vercel"]["env"]).iter().find(|variable| variable["key"] == key).unwrap();
    found["sha256"].as_str().unwrap().to_owned()
}

/// Demands everything that a run promises that has ended.
#[track_caller]
fn reached(world: &World, run: &str, before: &Value) {
    let after = world.inspect();
    let (was, is) = (&before["providers"], &after["providers"]);
    let project = list(&after["projects"]).iter().find(|p| p["live"] == true).unwrap();

    let [webhook] = list(&is["paypal"]["webhooks"]) else { panic!("one webhook at PayPal: {is}") };
    assert_ne!(webhook["id"], was["paypal"]["webhooks"][0]["id"]);
    assert_eq!(webhook["url"], was["paypal"]["webhooks"][0]["url"]);
    let sql = format!("select encode(sha256('{}'), 'hex')", webhook["id"].as_str().unwrap());
    assert_eq!(variable(&after, "PAYPAL_WEBHOOK_ID"), world.sql("postgres", &sql));

    let [old, new] = list(&is["paymongo"]["webhooks"]) else { panic!("two webhooks at PayMongo: {is}") };
    assert_eq!((&old["status"], &new["status"]), (&json!("disabled"), &json!("enabled")));
    assert_eq!(variable(&after, "PAYMONGO_WEBHOOK_SECRET"), new["sha256"].as_str().unwrap());

    let [key] = list(&is["resend"]["keys"]) else { panic!("one key at Resend: {is}") };
    assert_eq!(variable(&after, "RESEND_API_KEY"), key["sha256"].as_str().unwrap());
    assert!(key["name"].as_str().unwrap().starts_with("polaris@"), "{key}");

    let cron = variable(&after, "CRON_SECRET");
    assert_ne!(cron, variable(before, "CRON_SECRET"));
    assert_eq!(project["secret_digests"]["CRON_SECRET"], json!(cron));

    let keys = list(&project["api_keys"]).iter().filter(|key| key["type"] == "secret");
    let [key] = keys.collect::<Vec<_>>()[..] else { panic!("one secret key: {project}") };
    assert_eq!(variable(&after, "SUPABASE_SERVICE_ROLE_KEY"), key["sha256"].as_str().unwrap());
    let signing = list(&project["signing_keys"]).iter().filter(|key| key["status"] == "in_use").count();
    assert_eq!((signing, list(&project["signing_keys"]).len()), (1, 3), "{project}");

    happened_once(world, before, &after);
    for (step, times) in count(&world.records(run), "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
    world.runbook(&["verify", run]).ended(0);
}

#[track_caller]
fn happened_once(world: &World, before: &Value, after: &Value) {
    for request in [
        "paypal POST /paypal/v1/notifications/webhooks",
        "paymongo POST /paymongo/v1/webhooks",
        "vercel POST /v13/deployments",
    ] {
        let exact = |state: &Value| state["effects"][request].as_u64().unwrap_or(0);
        assert_eq!(exact(after) - exact(before), 1, "{request}");
    }
    let (was, is) = (&before["providers"], &after["providers"]);
    let made = |list_of: &str, provider: &str| {
        list(&is[provider][list_of]).len() - list(&was[provider][list_of]).len()
    };
    assert_eq!((made("events", "paypal"), made("payments", "paymongo")), (1, 1), "each pays once");
    let ledger = "select count(*) || ' ' || count(distinct event_id) from public.ledger where received_at > '2026-06-01'";
    let tests = list(&is["paypal"]["events"]).len() + list(&is["paymongo"]["payments"]).len();
    assert_eq!(world.sql(&world.live(), ledger), format!("{tests} {tests}"), "each payment is booked once");
}

#[test]
fn every_secret_is_rotated_reaches_its_places_and_is_proven_by_test_payments() {
    let world = World::with_data();
    world.hurry();
    let before = world.inspect();
    let said = run(&world, &[]).ended(0);
    reached(&world, &said.run(), &before);
    let again = world.inspect();
    let said = run(&world, &[]).ended(0);
    let (first, second) =
        (&again["providers"]["resend"]["keys"], &world.inspect()["providers"]["resend"]["keys"]);
    assert_ne!(first, second, "a second run makes another key");
    assert_eq!(list(second).len(), 1, "and ends the one of the first run");
    world.runbook(&["verify", &said.run()]).ended(0);
}

#[test]
fn a_rotation_that_is_killed_again_and_again_comes_to_the_same_end() {
    let world = World::with_data();
    world.hurry();
    let before = world.inspect();
    let arguments = arguments(&world, &["--die-after", "1"]);
    let output = world.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).output().unwrap();
    assert_eq!(output.status.signal(), Some(9));
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let id = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    let (mut deaths, mut done, mut more) = (1, 0, 5);
    loop {
        let records = world.records(&id);
        // Something new happens from death to death, or the next one comes some records later.
        let what = |r: &Value| (r["kind"].to_string(), r["step"].to_string(), r["name"].to_string());
        let now = records.iter().map(what).collect::<std::collections::BTreeSet<_>>().len();
        more = if now > done { 5 } else { more + 3 };
        done = now;
        let at = (records.len() + more).to_string();
        let output = world.command(&["--json", "resume", &id, "--yes", "--die-after", &at]).output().unwrap();
        if output.status.signal() != Some(9) {
            Said::of(output).ended(0);
            break;
        }
        deaths += 1;
        assert!(deaths < 500, "the run goes on from death to death: {:?}", records.last());
    }
    println!("killed {deaths} times");
    assert!(deaths > 15, "killed {deaths} times");
    reached(&world, &id, &before);
}

#[test]
fn an_answer_that_is_lost_after_it_acted_makes_nothing_twice() {
    let world = World::with_data();
    world.hurry();
    let before = world.inspect();
    let project = format!("/v1/projects/{}/api-keys", world.live());
    for (service, path) in [
        ("supabase", project.as_str()),
        ("resend", "/resend/api-keys"),
        ("paymongo", "/paymongo/v1/webhooks"),
        ("paymongo", "/paymongo/v1/payment_intents/"),
        ("paypal", "/paypal/v1/notifications/webhooks"),
        ("paypal", "/paypal/v2/checkout/orders"),
    ] {
        world.fault(&[service, "--method", "POST", "--path", path, "--cut", "after", "--times", "1"]);
    }
    let said = run(&world, &[]).ended(0);
    assert_eq!(world.inspect()["faults"], json!([]), "each answer was lost");
    reached(&world, &said.run(), &before);
    let keys = world.inspect()["effects"]["resend POST /resend/api-keys"].clone();
    assert_eq!(keys, 2, "the key whose value nobody has is deleted, and another one made");
}

#[test]
fn a_place_that_cannot_be_reached_fails_by_name_and_a_resume_does_only_what_is_left() {
    let world = World::with_data();
    world.hurry();
    let project = world.live();
    let path = format!("/v1/projects/{project}/secrets");
    world.fault(&["supabase", "--method", "POST", "--path", &path, "--status", "403"]);
    let said = run(&world, &[]).ended(5);
    let records = world.records(&said.run());
    let failed = records.iter().rev().find(|r| r["step"] == "cron-secret-places").unwrap();
    let text = failed.to_string();
    assert!(text.contains("G09") && text.contains("1 of 2 places are left"), "{text}");
    assert!(text.contains("secret CRON_SECRET of the Edge Functions"), "{text}");
    assert!(!text.contains("variable CRON_SECRET at Vercel"), "what was reached is not named: {text}");
    world.clear_faults();
    world.runbook(&["--json", "resume", &said.run(), "--yes"]).ended(0);
    let after = world.inspect();
    let live = list(&after["projects"]).iter().find(|p| p["live"] == true).unwrap();
    assert_eq!(live["secret_digests"]["CRON_SECRET"], json!(variable(&after, "CRON_SECRET")));
}

#[test]
fn what_nobody_took_during_an_outage_is_found_and_paypal_sends_it_again() {
    let world = World::with_data();
    let file = world.runbook_file(OUTAGE);
    let since = jiff::Timestamp::now().to_string();
    let pay = |who: &str| world.runbook(&["--json", "sandbox", "pay", who]).ended(0).last();
    let since = format!("since={since}");
    let step = |which: &str| {
        let which = format!("which={which}");
        let arguments = ["--json", "run", &file, "--env", "local", "--yes", "-i", &since, "-i", &which];
        world.runbook(&arguments).ended(0).last()["outputs"].clone()
    };
    step("pause");
    for who in ["paypal", "paymongo"] {
        assert_eq!(pay(who)["delivered"], false, "{who} is paused");
    }
    let taken = step("resume");
    assert_eq!((&taken["paypal"], &taken["paymongo"]), (&json!(1), &json!(1)), "{taken}");
    assert_eq!(taken["resent"], 1);
    let later = step("resume");
    assert_eq!(
        (&later["paypal"], &later["paymongo"]),
        (&json!(0), &json!(1)),
        "PayMongo sends nothing again"
    );
    assert_eq!(pay("paypal")["delivered"], true);
    assert_eq!(pay("paymongo")["delivered"], true);

    // An application that is down: PayMongo gives up by itself after three events.
    world.fault(&["app", "--path", "/api/webhooks/", "--status", "503", "--times", "3"]);
    for _ in 0..3 {
        assert_eq!(pay("paymongo")["delivered"], false);
    }
    assert_eq!(world.inspect()["providers"]["paymongo"]["webhooks"][0]["status"], "disabled");
    assert_eq!(step("resume")["paymongo"], 4);
    assert_eq!(world.inspect()["providers"]["paymongo"]["webhooks"][0]["status"], "enabled");
}

/// Pauses both providers, or resumes them and asks what was missed.
const OUTAGE: &str = r#"
name: outage
title: Pause and resume
kind: maintenance
inputs:
  since: { type: timestamp, help: When the outage began. }
  which: { type: string, help: Pause or resume. }
steps:
  - id: pause-paypal
    uses: paypal.pause
    if: inputs.which == 'pause'
    with: { to: "{{ vars.app_url }}/api/webhooks/paused" }
  - id: pause-paymongo
    uses: paymongo.pause
    if: inputs.which == 'pause'
  - id: resume-paypal
    uses: paypal.resume
    if: inputs.which == 'resume'
    with: { to: "{{ vars.app_url }}/api/webhooks/paypal" }
  - id: resume-paymongo
    uses: paymongo.resume
    if: inputs.which == 'resume'
  - id: paypal
    uses: paypal.missed_events
    with: { since: "{{ inputs.since }}", ask: "{{ vars.app_url }}/api/billing/{id}", resend: "{{ inputs.which == 'resume' }}" }
  - id: paymongo
    uses: paymongo.missed_events
    with: { since: "{{ inputs.since }}", ask: "{{ vars.app_url }}/api/billing/{id}" }
outputs:
  paypal: "{{ steps.paypal.missed | length }}"
  paymongo: "{{ steps.paymongo.missed | length }}"
  resent: "{{ steps.paypal.resent }}"
"#;
