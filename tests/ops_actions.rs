//! The actions around a restore against their stand-ins, all in one run: first every changing request loses its answer
//! after it acted, then every service asks for patience. Nothing happens twice.

use serde_json::{Value, json};

use crate::world::World;

/// A quick retry for each step: the faults are met by the first attempt.
const STEPS: &str = r#"
name: own
kind: maintenance
steps:
  - { id: ready, uses: http.check, tags: [validate], with: { checks: [{ url: "{{ vars.app_url }}/api/health" }] } }
  - { id: errors, uses: metrics.query, with: { query: polaris_error_ratio, max: 0.5 }, retry: RETRY }
  - { id: unknown, uses: metrics.query, with: { query: nobody_measures_this }, retry: RETRY }
  - { id: deploy, uses: vercel.deploy, tags: [expose], with: {}, retry: RETRY }
  - { id: back, uses: vercel.rollback, tags: [expose], with: {}, retry: RETRY }
  - { id: forth, uses: vercel.promote, tags: [expose], with: { deployment: "{{ steps.deploy.id }}" }, retry: RETRY }
  - id: dns
    uses: dns.set
    tags: [expose]
    with: { name: api.polaris.example, type: A, content: 192.0.2.77, ttl: 60 }
    retry: RETRY
  - { id: label, uses: supabase.label, with: { name: kept }, retry: RETRY }
  - { id: page, uses: page, with: { summary: look here }, retry: RETRY }
  - { id: ticket, uses: ticket.create, with: { title: T, body: B }, retry: RETRY }
  - id: job
    uses: job.run
    with: { url: "{{ vars.app_url }}/api/cron/reconcile", secret: "{{ secrets.cron_secret }}", keyed: true }
    retry: RETRY
  - id: audit
    uses: http.request
    with:
      method: POST
      url: "{{ vars.hooks_url }}/audit"
      json: { event: restored }
      probe: { url: "{{ vars.hooks_url }}/audit", expect: { contains: restored } }
    retry: RETRY
  - { id: end, uses: page, with: { event: resolve, dedup_key: "{{ steps.page.dedup_key }}" }, retry: RETRY }
"#;

/// Where the changing requests go: service, method, path.
const REQUESTS: [(&str, &str, &str); 10] = [
    ("vercel", "POST", "/v13/deployments"),
    ("vercel", "POST", "/v1/projects/"),
    ("vercel", "POST", "/v10/projects/"),
    ("cloudflare", "PATCH", "/cloudflare"),
    ("supabase", "PATCH", "/v1/projects/"),
    ("pagerduty", "POST", "/pagerduty"),
    ("github", "POST", "/github"),
    ("app", "POST", "/api/cron"),
    ("hooks", "POST", "/hooks/audit"),
    ("prometheus", "GET", "/prometheus"),
];

fn world() -> (World, String) {
    let world = World::with_data();
    world.hurry();
    let retry = "{ max_attempts: 4, initial_interval: 50ms, max_interval: 100ms }";
    let runbook = world.runbook_file(&STEPS.replace("RETRY", retry));
    (world, runbook)
}

/// Demands that each effect is there, and there once.
#[track_caller]
fn each_happened_once(world: &World, run: &str) {
    let state = world.inspect();
    let deployments = state["vercel"]["deployments"].as_array().unwrap();
    assert_eq!(deployments.len(), 2);
    assert_eq!(state["vercel"]["production"], deployments[1]["id"]);
    let records = state["providers"]["cloudflare"]["records"].as_array().unwrap();
    let changed: Vec<&Value> = records.iter().filter(|r| r["content"] == "192.0.2.77").collect();
    assert_eq!((changed.len(), &changed[0]["ttl"], &changed[0]["type"]), (1, &json!(60), &json!("A")));
    assert_eq!(state["projects"][0]["name"], "kept");
    let incidents = state["providers"]["pagerduty"]["incidents"].as_object().unwrap();
    let statuses: Vec<&Value> = incidents.values().map(|incident| &incident["status"]).collect();
    assert_eq!(statuses, ["resolved"]);
    assert_eq!(state["providers"]["github"]["issues"].as_array().unwrap().len(), 1);
    assert_eq!(state["jobs"].as_array().unwrap().len(), 1, "the job knows its key");
    assert_eq!(state["hooks"].as_array().unwrap().len(), 1, "the probe sees what was sent");
    let unknown = world.records(run).into_iter().find(|r| r["kind"] == "step_done" && r["step"] == "unknown");
    assert_eq!(unknown.unwrap()["outcome"]["outputs"]["value"], Value::Null, "nothing is not zero");
}

#[test]
fn effects_whose_answers_were_lost_are_not_repeated() {
    let (world, runbook) = world();
    for (service, method, path) in REQUESTS {
        world.fault(&[service, "--method", method, "--path", path, "--cut", "after"]);
    }
    let said = world.runbook(&["--json", "run", &runbook, "--env", "local", "--yes"]).ended(0);
    each_happened_once(&world, &said.run());
}

#[test]
fn services_that_ask_for_patience_get_it() {
    let (world, runbook) = world();
    for (service, method, path) in REQUESTS {
        let wait = ["--status", "429", "--retry-after", "0"];
        world.fault(&[&[service, "--method", method, "--path", path][..], &wait].concat());
    }
    let said = world.runbook(&["--json", "run", &runbook, "--env", "local", "--yes"]).ended(0);
    each_happened_once(&world, &said.run());
}

#[test]
fn a_request_whose_answer_was_lost_is_for_a_person_where_nothing_can_be_asked() {
    let world = World::with_data();
    let runbook = world.runbook_file(
        "name: own\nkind: maintenance\nsteps:\n  - { id: post, uses: http.request, \
         with: { method: POST, url: \"{{ vars.hooks_url }}/audit\", json: {} } }\n",
    );
    world.fault(&["hooks", "--cut", "after"]);
    let said = world.runbook(&["--json", "run", &runbook, "--env", "local", "--yes"]).ended(6);
    assert_eq!(said.last()["problems"][0]["step"], "post");
    world.runbook(&["resolve", &said.run(), "post", "--done", "--reason", "it is there"]).ended(0);
    world.runbook(&["--json", "resume", &said.run(), "--yes"]).ended(0);
    assert_eq!(world.effects("hooks POST"), 1);
}
