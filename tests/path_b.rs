//! Path B from end to end, and what every run of it must come to: `path_b_killed` asks for the same of runs
//! that were killed on the way. What a database must be is made here by psql alone, never by a restore.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{Database, World};

/// What the application is told; what concerns the project must point at the new one.
const VARIABLES: [&str; 9] = [
    "BILLING_PROVIDER",
    "CRON_SECRET",
    "DATABASE_URL",
    "NEXT_PUBLIC_SUPABASE_ANON_KEY",
    "NEXT_PUBLIC_SUPABASE_URL",
    "PAYMONGO_WEBHOOK_SECRET",
    "PAYPAL_WEBHOOK_ID",
    "RESEND_API_KEY",
    "SUPABASE_SERVICE_ROLE_KEY",
];
/// The table whose rows hold how a migration was cut into statements, which psql does not know.
pub(crate) const MIGRATIONS: &str = "supabase_migrations.schema_migrations";

#[test]
fn path_b_restores_a_plain_dump_and_moves_the_application() {
    unbroken("plain");
}

#[test]
fn path_b_restores_an_archive_and_moves_the_application() {
    unbroken("custom");
}

#[track_caller]
fn unbroken(format: &str) {
    let world = World::with_data();
    world.runbook(&["sandbox", "backup", "--format", format]).ended(0);
    let wanted = wanted(&world);
    world.runbook(&["sandbox", "break"]).ended(0);
    let live = world.database(&world.live());
    let before = world.inspect();

    let said = world.path_b().ended(0);

    let run = said.run();
    let reached = reached(&world, &run, &before);
    assert_same(&reached.database, &wanted);
    let end = said.last();
    assert_eq!(
        (&end["kind"], &end["outcome"], &end["status"]),
        (&json!("end"), &json!("succeeded"), &json!(0))
    );
    assert_eq!(end["problems"], json!([]));
    assert_eq!(end["outputs"]["project"], json!(reached.project));
    assert_eq!(world.database(&world.live()), live, "the damaged database is kept as it was, for forensics");
}

/// Applies by psql the migration that the backup is too old for, and gives what is then there: what a restore of
/// that backup must come to, once migrated.
pub(crate) fn wanted(world: &World) -> Database {
    let file = "examples/polaris/supabase/migrations/20260302090000_reactions.sql";
    let migration = std::fs::read_to_string(crate::world::root().join(file)).unwrap();
    let note = format!("insert into {MIGRATIONS} (version, name) values ('20260302090000', 'reactions')");
    world.sql(&world.live(), &format!("begin; set role postgres; {migration}; {note}; commit"));
    world.database(&world.live())
}

/// What a run of Path B has come to.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Its project.
    pub(crate) project: String,
    /// What is in it.
    pub(crate) database: Database,
}

/// Demands everything that Path B promises of a run that has ended, and gives what is in its database.
#[track_caller]
pub(crate) fn reached(world: &World, run: &str, before: &Value) -> Reached {
    let records = world.records(run);
    let finish = records.last().unwrap();
    assert_eq!((&finish["kind"], &finish["outcome"]), (&json!("run_finished"), &json!("succeeded")));
    let made = outputs(&records, "database");
    let after = world.inspect();

    project_is_made_once(&made, before, &after);
    variables_point_at(world, &made, &after);
    are_deployed_once(run, before, &after);
    nothing_is_frozen(&after);
    assert_eq!(told(&after, &made).len(), 1, "the team is told once: {}", after["hooks"]);
    assert_eq!(grown(before, &after, "hooks POST /hooks/chat"), 2, "at the beginning and at the end");
    assert_eq!(grown(before, &after, "hooks POST /hooks/users"), 2, "and so are users");
    in_force_is_what_must_be(world, run, &made);
    world.runbook(&["verify", run]).ended(0);
    for (step, times) in count(&records, "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }

    let project = made["ref"].as_str().unwrap().to_owned();
    let database = world.database(&project);
    let ids = world.sql(&project, &format!("select version || '_' || name from {MIGRATIONS} order by 1"));
    assert_eq!(ids.lines().map(str::to_owned).collect::<Vec<_>>(), migrations(), "each migration once");
    assert_eq!(world.sql(&project, "select to_regclass('_runbook.chunks')"), "", "no chunk markers stay");
    nobody_is_left(world);
    serves(world, &project, &database);
    Reached { project, database }
}

/// Compares two databases and names what differs; the rows of the migrations by version and name alone.
#[track_caller]
pub(crate) fn assert_same(found: &Database, wanted: &Database) {
    let rows = |database: &Database| -> BTreeMap<String, String> {
        database
            .tables
            .iter()
            .filter(|(t, _)| *t != MIGRATIONS)
            .map(|(t, r)| (t.clone(), r.clone()))
            .collect()
    };
    assert_eq!(rows(found), rows(wanted));
    let names = |database: &Database| database.sequences.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(wanted));
    for (name, value) in &wanted.sequences {
        // The tests of row-level security draw from them and roll back.
        assert!(
            found.sequences[name] >= *value,
            "{name} is at {:?}, wanted {value:?}",
            found.sequences[name]
        );
    }
    let differs = found.schema.lines().zip(wanted.schema.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "the first lines of the schemas that differ");
    assert_eq!(found.schema, wanted.schema);
}

/// The outputs of a step.
#[track_caller]
pub(crate) fn outputs(records: &[Value], step: &str) -> Value {
    let done = records.iter().find(|r| r["kind"] == "step_done" && r["step"] == step);
    done.unwrap_or_else(|| panic!("step {step} is not done"))["outcome"]["outputs"].clone()
}

/// How many records of a kind each step has.
pub(crate) fn count(records: &[Value], kind: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for step in records.iter().filter(|r| r["kind"] == kind).filter_map(|r| r["step"].as_str()) {
        *found.entry(step.to_owned()).or_default() += 1;
    }
    found
}

/// The messages about a run's project that the team has received.
pub(crate) fn told(state: &Value, made: &Value) -> Vec<Value> {
    let name = made["name"].as_str().unwrap();
    let names = |post: &&Value| post["body"]["text"].as_str().is_some_and(|text| text.contains(name));
    list(&state["hooks"]).iter().filter(names).cloned().collect()
}

/// Waits until no session of any run is left: the server takes a moment to notice that a client went.
#[track_caller]
pub(crate) fn nobody_is_left(world: &World) {
    let sql = "select application_name from pg_stat_activity where application_name like 'runbook/%'";
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let left = world.sql("postgres", sql);
        if left.is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < until, "sessions are left: {left}");
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What is in one state and not in the other, told apart by a field.
fn new<'a>(before: &Value, after: &'a Value, field: &str) -> Vec<&'a Value> {
    let known: Vec<_> = list(before).iter().map(|old| &old[field]).collect();
    list(after).iter().filter(|one| !known.contains(&&one[field])).collect()
}

/// How often a changing request succeeded in between.
fn grown(before: &Value, after: &Value, request: &str) -> u64 {
    let times = |state: &Value| state["effects"][request].as_u64().unwrap_or(0);
    times(after) - times(before)
}

#[track_caller]
fn project_is_made_once(made: &Value, before: &Value, after: &Value) {
    let projects = new(&before["projects"], &after["projects"], "ref");
    assert_eq!(projects.len(), 1, "one project is created: {projects:?}");
    assert_eq!(grown(before, after, "supabase POST /v1/projects"), 1);
    let project = projects[0];
    assert_eq!((&project["ref"], &project["name"]), (&made["ref"], &made["name"]));
    assert_eq!(project["status"], "ACTIVE_HEALTHY");
    let mut keys: Vec<String> = list(&project["signing_keys"])
        .iter()
        .map(|key| format!("{} {}", key["algorithm"].as_str().unwrap(), key["status"].as_str().unwrap()))
        .collect();
    keys.sort();
    assert_eq!(
        keys,
        ["ES256 in_use", "ES256 previously_used", "HS256 previously_used"],
        "one new key is in use"
    );
}

#[track_caller]
fn variables_point_at(world: &World, made: &Value, after: &Value) {
    let env = list(&after["vercel"]["env"]);
    let mut keys: Vec<&str> = env.iter().map(|v| v["key"].as_str().unwrap()).collect();
    keys.sort_unstable();
    assert_eq!(keys, VARIABLES);
    let digest =
        |key: &str| env.iter().find(|v| v["key"] == key).unwrap()["sha256"].as_str().unwrap().to_owned();
    for variable in env {
        assert_eq!(variable["target"], json!(["production"]), "{}", variable["key"]);
    }
    let project = list(&after["projects"]).iter().find(|p| p["ref"] == made["ref"]).unwrap();
    let key =
        |name: &str| list(&project["api_keys"]).iter().find(|k| k["name"] == name).unwrap()["sha256"].clone();
    let url = made["api_url"].as_str().unwrap();
    let url = world.sql("postgres", &format!("select encode(sha256('{url}'), 'hex')"));
    assert_eq!(digest("NEXT_PUBLIC_SUPABASE_URL"), url);
    assert_eq!(json!(digest("NEXT_PUBLIC_SUPABASE_ANON_KEY")), key("anon"));
    assert_eq!(json!(digest("SUPABASE_SERVICE_ROLE_KEY")), key("service_role"));
}

#[track_caller]
fn are_deployed_once(run: &str, before: &Value, after: &Value) {
    let (was, is) = (&before["vercel"], &after["vercel"]);
    let deployments = new(&was["deployments"], &is["deployments"], "id");
    assert_eq!(deployments.len(), 2, "one with the new database, one with payments: {deployments:?}");
    assert_eq!(grown(before, after, "vercel POST /v13/deployments"), 2);
    for deployment in &deployments {
        assert_eq!((&deployment["target"], &deployment["state"]), (&json!("production"), &json!("READY")));
        assert_eq!(deployment["meta"]["runbookRun"], run);
    }
    assert_eq!(is["production"], deployments[1]["id"]);
}

#[track_caller]
fn nothing_is_frozen(after: &Value) {
    let vercel = &after["vercel"];
    assert_eq!(vercel["flags"], json!({ "read_only": false }));
    assert_eq!((&vercel["crons_enabled"], &vercel["paused"]), (&json!(true), &json!(false)));
    payments_arrive(after);
}

/// Both payment providers send their events to the application.
#[track_caller]
pub(crate) fn payments_arrive(state: &Value) {
    let providers = &state["providers"];
    let url = |webhook: &Value| webhook["url"].as_str().unwrap().to_owned();
    let [paypal] = list(&providers["paypal"]["webhooks"]) else { panic!("one webhook: {providers}") };
    assert!(url(paypal).ends_with("/api/webhooks/paypal"), "{paypal}");
    let paymongo: Vec<&Value> =
        list(&providers["paymongo"]["webhooks"]).iter().filter(|w| w["status"] == "enabled").collect();
    assert_eq!(paymongo.len(), 1, "one webhook is on: {providers}");
    assert!(url(paymongo[0]).ends_with("/api/webhooks/paymongo"), "{paymongo:?}");
}

#[track_caller]
fn in_force_is_what_must_be(world: &World, run: &str, made: &Value) {
    let status = world.status(run);
    let keys: Vec<&str> = list(&status["in_force"]).iter().map(|f| f["key"].as_str().unwrap()).collect();
    let project = made["ref"].as_str().unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert_eq!(keys[0], format!("supabase.project/{project}"));
    assert!(keys[1].starts_with(&format!("supabase.jwt/{project}/")), "{keys:?}");
}

/// Versions and names of all migrations of the sample application.
fn migrations() -> Vec<String> {
    let folder = crate::world::root().join("examples/polaris/supabase/migrations");
    let names =
        std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.map(|name| name.trim_end_matches(".sql").to_owned()).collect();
    names.sort();
    names
}

#[track_caller]
fn serves(world: &World, project: &str, database: &Database) {
    let app = world.application();
    assert_eq!((&app["ok"], &app["read_only"]), (&json!(true), &json!(false)), "{app}");
    assert_eq!(app["database"], project);
    let messages: u64 = database.tables["public.messages"].split(' ').next().unwrap().parse().unwrap();
    assert!(messages > 0);
    assert_eq!((&app["messages"], &app["messages_distinct"]), (&json!(messages), &json!(messages)));
}

/// Resumes a run that was killed, and kills it again after a few records, until it has succeeded; how often. Where it
/// asks whether its message was sent, looks and answers, as a person would.
#[track_caller]
pub(crate) fn killed_to_the_end(world: &World, run: &str) -> u32 {
    // A sitting begins with the proof that the old attempt is dead, and a restore writes several records before its
    // outcome: short sittings cut, long ones get on.
    let lengths = [2, 9, 3, 12, 5, 8];
    for (sitting, length) in (1..400).zip(lengths.into_iter().cycle()) {
        let at = (world.records(run).len() + length).to_string();
        let resume = ["--json", "resume", run, "--yes", "--no-wait", "--die-after", &at];
        let output = world.command(&resume).output().unwrap();
        match output.status.code() {
            None => {}
            Some(0) => return sitting,
            Some(6) => crate::turns::settle(world, run),
            Some(_) => drop(crate::world::Said::of(output).ended(0)),
        }
    }
    panic!("run {run} does not come to its end")
}
