//! A production dump into staging: masked before the database sees it, searched, and only then served. Killed
//! after every record it comes to the same end.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::world::{Database, Said, World};

const RUNBOOK: &str = "runbooks/staging-refresh.yaml";

/// Of the source, and nowhere in the target: an address, a person, a handle, a line of a message, a note, an order,
/// a password hash.
const SOURCE: [&str; 7] = [
    "pilot00001@example.test",
    "@example.test",
    "Günther",
    "pilot00007",
    "the pump is steady",
    "Tiếng Việt",
    "$2a$10$",
];

fn refresh(world: &World) -> Said {
    world.runbook(&["--json", "run", RUNBOOK, "--env", "local", "--yes"])
}

/// The database that a run made.
fn made(world: &World, run: &str) -> String {
    let done = world.records(run).into_iter().find(|r| r["kind"] == "step_done" && r["step"] == "database");
    done.unwrap()["outcome"]["outputs"]["connection"]["database"].as_str().unwrap().to_owned()
}

/// Every row as text, also of what `pg_dump` would leave out.
#[track_caller]
fn assert_masked(world: &World, database: &str) {
    let dump = world.dump(database);
    assert!(dump.contains("COPY public.messages"), "the dump has rows");
    for secret in SOURCE {
        assert!(!dump.contains(secret), "`{secret}` is in the refreshed database");
    }
    let joins = "select count(*), count(distinct p.id), \
           count(*) filter (where p.handle = u.raw_user_meta_data ->> 'handle' and p.display_name = u.raw_user_meta_data ->> 'name'), \
           count(*) filter (where i.email = u.email and u.email ~ '^u[0-9a-f]{20}@masked.invalid$'), \
           (select count(distinct author_id) from public.messages), (select count(*) from public.messages where body = '[redacted]'), \
           (select count(*) from auth.sessions) \
         from public.profiles p join auth.users u using (id) join auth.identities i on i.user_id = u.id";
    assert_eq!(world.sql(database, joins), "40|40|40|40|40|600|0");
}

/// What is the same whenever the same dump is masked with the same key: all but what each project has of its own.
fn rows(database: &Database) -> Vec<(&String, &String)> {
    database.tables.iter().filter(|(name, _)| !name.starts_with("vault.")).collect()
}

#[test]
fn staging_gets_productions_data_masked_and_serves_it() {
    let world = World::with_backup();
    world.hurry();
    let live = world.live();
    assert!(SOURCE.iter().all(|secret| world.dump(&live).contains(secret)), "the source has them all");
    let said = refresh(&world).ended(0);
    let database = made(&world, &said.run());
    assert_masked(&world, &database);
    let app = world.application();
    assert!(app.to_string().contains(&database), "the application is on the new project: {app}");

    let records = world.records(&said.run());
    let done = |step: &str| {
        let found = records.iter().find(|r| r["kind"] == "step_done" && r["step"] == step);
        found.unwrap()["outcome"]["outputs"].clone()
    };
    assert_eq!(done("backup")["source"], "production");
    assert_eq!(done("backup")["data"], "production");
    let masked = &done("restore")["masked"];
    assert_eq!(masked["key_id"], "polaris-1");
    assert!(masked["columns"].as_array().unwrap().contains(&Value::from("public.messages.body")), "{masked}");
    assert!(done("leaks")["rows"].as_u64().unwrap() > 900, "{}", done("leaks"));
    // Nothing that the run wrote holds what was masked.
    let journal: String = records.iter().map(Value::to_string).collect();
    assert!(SOURCE.iter().all(|secret| !journal.contains(secret)));
    let taint = std::fs::read(masked["taint"]["path"].as_str().unwrap()).unwrap();
    assert!(!taint.windows(8).any(|bytes| bytes == b"pilot000"));
}

#[test]
fn a_column_that_is_kept_and_holds_an_address_fails_by_table_column_and_number() {
    let world = World::with_data();
    world.hurry();
    let live = world.live();
    world.sql(&live, "update public.drills set body = 'ask pilot00003@example.test' where id <= 3");
    world.runbook(&["sandbox", "backup"]).ended(0);
    let before = world.application();
    let said = refresh(&world).ended(4);
    let failed = world.records(&said.run()).into_iter().find(|r| r["kind"] == "attempt_failed").unwrap();
    let text = failed.to_string();
    assert_eq!(failed["step"], "leaks", "{text}");
    assert!(text.contains("public.drills.body: 3 values with source data of masked columns"), "{text}");
    assert!(text.contains("public.drills.body: 3 values shaped like an e-mail address"), "{text}");
    assert!(!text.contains("pilot00003") && !text.contains("example.test"), "{text}");
    assert_eq!(world.application(), before, "nothing was exposed");
}

#[test]
fn a_column_without_a_rule_stops_the_refresh_before_a_row_is_loaded() {
    let world = World::with_data();
    world.hurry();
    world.sql(
        &world.live(),
        "alter table public.profiles add column nickname text; alter table public.tags add column note text",
    );
    world.runbook(&["sandbox", "backup"]).ended(0);
    let said = refresh(&world).ended(4);
    let failed = world.records(&said.run()).into_iter().find(|r| r["kind"] == "attempt_failed").unwrap();
    let text = failed.to_string();
    assert!(
        text.contains("public.profiles.nickname (text)") && text.contains("public.tags.note (text)"),
        "{text}"
    );
    assert!(text.contains("nickname: { pseudonym: name }"), "{text}");
    assert_eq!(world.sql(&made(&world, &said.run()), "select to_regclass('public.profiles') is null"), "t");
}

#[test]
fn production_data_is_refused_without_a_mask_also_where_only_the_run_knows_it() {
    let world = World::with_backup();
    world.hurry();
    let text = std::fs::read_to_string(crate::world::root().join(RUNBOOK)).unwrap();
    let plain = text.replace("      mask: \"{{ vars.masking_rules }}\"\n", "");
    let plain = plain.replace("      mask_key: \"{{ secrets.masking_key }}\"\n", "");
    let own = |text: &str| {
        let file = world.runbook_file(text);
        let vars = "name: local\nextends: sandbox\nvars: { nothing: null, min_rows: {} }\n";
        world.write("runbooks/environments/local.yaml", vars);
        file
    };
    let file = own(&plain);
    let said = world.runbook(&["check", &file, "--env", "local"]).ended(3);
    assert!(said.stdout.contains("error[G03]") && said.stdout.contains("unmasked"), "{}", said.stdout);

    // The file says that it masks; what it masks by turns out to be nothing.
    let hidden = text
        .replace("\"{{ vars.masking_rules }}\"\n      mask_key", "\"{{ vars.nothing }}\"\n      mask_key");
    let file = own(&hidden);
    std::fs::create_dir_all(world.folder().join("runbooks/templates")).unwrap();
    let template = crate::world::root().join("runbooks/templates/refreshed.txt");
    std::fs::copy(template, world.folder().join("runbooks/templates/refreshed.txt")).unwrap();
    let said = world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(4);
    let refused = world.records(&said.run()).into_iter().find(|r| r["kind"] == "step_refused").unwrap();
    assert!(refused["message"].as_str().unwrap().contains("G03"), "{refused}");
}

#[test]
fn killed_after_every_record_a_refresh_comes_to_the_same_end() {
    let world = World::with_backup();
    world.hurry();
    let unbroken = made(&world, &refresh(&world).ended(0).run());
    let before = world.effects("");
    let started = ["--json", "run", RUNBOOK, "--env", "local", "--yes", "--die-after", "1"];
    let output = world.command(&started).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    let done = |run: &str| world.records(run).iter().filter(|r| r["kind"] == "step_done").count();
    // A resume opens the run, proves the old attempt dead and starts one before a step can be done: it is killed after
    // the start, then after what follows, until a step is done.
    let (mut deaths, mut further) = (1, 3);
    loop {
        let (records, before) = (world.records(&run).len(), done(&run));
        let at = (records + further).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &at]).output().unwrap();
        if output.status.signal() != Some(9) {
            let said = Said::of(output);
            if said.status != Some(6) {
                said.ended(0);
                break;
            }
            let again = ["resolve", run.as_str(), "tell", "--again", "--reason", "looked into the channel"];
            world.runbook(&again).ended(0);
        }
        further = if done(&run) > before { 3 } else { further + 1 };
        deaths += 1;
        assert!(deaths < 150, "it gets nowhere: {:?}", world.records(&run).last());
    }
    assert!(deaths > 20, "killed {deaths} times");
    let again = made(&world, &run);
    assert_masked(&world, &again);
    let (one, other) = (world.database(&unbroken), world.database(&again));
    assert_eq!(rows(&one), rows(&other));
    assert_eq!(one.schema, other.schema);
    let projects = world.effects("supabase POST /v1/projects");
    assert!(projects <= 2, "{projects} projects for two runs");
    assert!(world.effects("") > before);
}
