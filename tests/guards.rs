//! The golden rules: for each one a runbook that it refuses and the nearest one that it lets through, what
//! waiving does, and the check at run time, which sees what only a template knew.

use crate::world::{World, binary, root};

/// Each guard that this version checks, and the environment that its two runbooks are for.
const GUARDS: [(&str, &str); 9] = [
    ("G01", "staging"),
    ("G02", "staging"),
    ("G03", "staging"),
    ("G04", "staging"),
    ("G05", "production"),
    ("G06", "staging"),
    ("G07", "staging"),
    ("G08", "staging"),
    ("G09", "staging"),
];

fn file(guard: &str, kind: &str) -> String {
    root().join(format!("tests/guards/{guard}-{kind}.yaml")).to_string_lossy().into_owned()
}

#[test]
fn each_guard_refuses_a_runbook_and_lets_the_nearest_one_through() {
    for (guard, environment) in GUARDS {
        let refused = binary()
            .args(["--json", "check", &file(guard, "refused"), "--env", environment])
            .output()
            .unwrap();
        let said = String::from_utf8(refused.stdout).unwrap();
        assert_eq!(refused.status.code(), Some(3), "{guard}: {said}");
        let lines: Vec<serde_json::Value> =
            said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(!lines.is_empty() && lines.iter().all(|line| line["code"] == guard), "{guard}: {said}");
        assert!(
            lines.iter().all(|line| line["help"].is_string() && line["place"].is_object()),
            "{guard} names no place or no mend: {said}"
        );

        let allowed =
            binary().args(["check", &file(guard, "allowed"), "--env", environment]).output().unwrap();
        let said = String::from_utf8(allowed.stdout).unwrap();
        assert!(allowed.status.success() && said.is_empty(), "{guard}: {said}");
    }
}

#[test]
fn a_refused_runbook_starts_nothing() {
    let world = World::bare();
    for (guard, environment) in GUARDS {
        let said = world.runbook(&["run", &file(guard, "refused"), "--env", environment, "--yes"]).ended(3);
        assert!(said.stdout.contains(&format!("error[{guard}]")), "{}", said.stdout);
    }
    assert!(world.runbook(&["--json", "list"]).ended(0).lines().is_empty());
}

#[test]
fn the_two_runbooks_of_a_guard_differ_by_a_line_or_two() {
    for (guard, _) in GUARDS {
        let read = |kind| std::fs::read_to_string(file(guard, kind)).unwrap();
        let (refused, allowed) = (read("refused"), read("allowed"));
        // The first line is the comment that says what differs.
        let missing = |one: &str, other: &str| {
            one.lines().skip(1).filter(|line| !other.lines().any(|known| known == *line)).count()
        };
        let differ = missing(&refused, &allowed) + missing(&allowed, &refused);
        assert!((1..=2).contains(&differ), "{guard}: {differ} lines differ");
    }
}

#[test]
fn a_waived_guard_lets_the_run_through_and_is_named_for_ever() {
    let world = World::bare();
    let refused = file("G08", "refused");
    let run = ["--json", "run", refused.as_str(), "--env", "staging", "--waive", "G08"];
    let bare = world.runbook(&run).ended(2);
    assert!(bare.stderr.contains("--reason"), "{}", bare.stderr);
    assert!(world.runbook(&["--json", "list"]).ended(0).lines().is_empty());

    let said = world.runbook(&[&run[..], &["--reason", "only a status page"]].concat()).ended(0);
    assert_eq!(said.lines()[0]["kind"], "run", "a program reads the run's id first: {}", said.stdout);
    assert!(said.stderr.contains("G08"), "{}", said.stderr);
    let waived = serde_json::json!([{ "guard": "G08", "by": "tester", "reason": "only a status page" }]);
    assert_eq!(world.records(&said.run())[0]["waivers"], waived);
    assert_eq!(world.status(&said.run())["waived"], waived);
    let screen = world.runbook(&["status"]).ended(0).stdout;
    assert!(screen.contains("guard G08 is waived by tester: only a status page"), "{screen}");
}

#[test]
fn a_guard_that_does_not_exist_cannot_be_waived_nor_another_one_with_it() {
    let world = World::bare();
    let refused = file("G08", "refused");
    for other in ["G8", "G01"] {
        let run = ["run", refused.as_str(), "--env", "staging", "--waive", other, "--reason", "x"];
        let said = world.runbook(&run).ended(3);
        assert!(said.stdout.contains("error[G08]"), "{}", said.stdout);
    }
    assert!(world.runbook(&["--json", "list"]).ended(0).lines().is_empty());
}

/// A live database that no check can see: its address is only put together when the step starts.
const HIDDEN: &str = r#"
name: hidden
title: Write to the live database by another name
kind: maintenance
steps:
  - id: write
    uses: postgres.execute
    with:
      connection:
        host: "{{ vars.host }}"
        port: "{{ vars.port }}"
        user: "{{ vars.user }}"
        database: "{{ vars.database }}"
        password: "{{ secrets.live_password }}"
        tls: disable
      sql: create table public.pwned (n integer)
"#;

#[test]
fn a_live_database_written_out_by_hand_is_refused_when_the_step_starts() {
    let world = World::with_data();
    let endpoints = world.endpoints();
    let live = endpoints["live_project"].as_str().unwrap();
    let hidden = world.write("hidden.yaml", HIDDEN);
    // The same server under its other name.
    world.write(
        "environments/local.yaml",
        &format!(
            "name: local\nextends: sandbox\nvars: {{ host: localhost, port: {}, user: {}, database: {live} }}\n",
            endpoints["postgres_port"], endpoints["live_user"]
        ),
    );
    let before = world.database(live);
    let hidden = hidden.to_string_lossy().into_owned();
    world.runbook(&["check", &hidden, "--env", "local"]).ended(0);
    let said = world.runbook(&["--json", "run", &hidden, "--env", "local", "--yes"]).ended(4);
    let records = world.records(&said.run());
    let refused = records.iter().find(|record| record["kind"] == "step_refused").unwrap();
    assert_eq!(refused["why"], "guard");
    assert!(refused["message"].as_str().unwrap().contains("G01"), "{refused}");
    assert!(!records.iter().any(|record| record["kind"] == "attempt_started"));
    assert_eq!(world.database(live), before);
}

/// A drill that writes to what the environment calls `scratch`.
const DRILL: &str = r#"
name: rehearse
title: Write to a scratch database
kind: drill
steps:
  - id: write
    uses: postgres.execute
    with: { connection: "{{ connections.scratch }}", sql: create table public.rehearsed (n integer) }
"#;

/// A world with a project beside the live one, and a drill; the scratch connection leads to the database that is
/// given, by a name of the host that no comparison of texts knows.
fn drill(world: &World, database: &str, more: &str) -> String {
    let endpoints = world.endpoints();
    let path = world.write("runbooks/drill.yaml", DRILL);
    world.write(
        "runbooks/environments/local.yaml",
        &format!(
            "name: local\nextends: sandbox\nsecrets: {{ admin: {{ file: {} }} }}\nconnections:\n  scratch: {{ host: \"127.1\", port: {}, user: supabase_admin, database: {database}, password: \"{{{{ secrets.admin }}}}\", tls: disable }}\n",
            world.state().join("sandbox/secrets/admin_password").display(),
            endpoints["postgres_port"],
        ),
    );
    world.write("runbooks/environments/elsewhere.yaml", more);
    path.to_string_lossy().into_owned()
}

fn elsewhere(identity: &str) -> String {
    format!(
        "name: elsewhere\nkind: production\ndata: production\nsecrets: {{ password: {{ env: GUARDS_DATABASE_PASSWORD }} }}\nconnections:\n  live: {{ host: live.invalid, user: postgres, database: postgres, password: \"{{{{ secrets.password }}}}\", live: true{identity} }}\n"
    )
}

#[test]
fn a_drill_whose_scratch_database_is_the_live_one_is_refused_and_a_real_scratch_is_written_to() {
    let world = World::with_data();
    let live = world.live();
    world.sql("postgres", "create database rehearsal");
    let known = elsewhere(", identity: 7000000000000000001/postgres");

    let file = drill(&world, &live, &known);
    world.runbook(&["check", &file, "--env", "local"]).ended(0);
    let said = world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(4);
    let failed = world.records(&said.run()).into_iter().find(|r| r["kind"] == "attempt_failed").unwrap();
    let text = failed.to_string();
    assert!(text.contains("live-target") && text.contains("local/live") && text.contains("G02"), "{text}");
    let there = "select to_regclass('public.rehearsed') is not null";
    assert_eq!(world.sql(&live, there), "f");
    let guarded = &world.records(&said.run())[0]["guarded"];
    assert_eq!(guarded[0]["environment"], "elsewhere", "{guarded}");
    assert_eq!(guarded[1]["environment"], "local", "{guarded}");
    world.runbook(&["cancel", &said.run()]).ended(0);

    let file = drill(&world, "rehearsal", &known);
    world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(0);
    assert_eq!(world.sql("rehearsal", there), "t");
}

#[test]
fn a_drill_waits_until_every_live_database_is_known() {
    let world = World::with_data();
    world.sql("postgres", "create database rehearsal");
    let file = drill(&world, "rehearsal", &elsewhere(""));
    let said = world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(4);
    let refused = world.records(&said.run()).into_iter().find(|r| r["kind"] == "step_refused").unwrap();
    let text = refused.to_string();
    assert!(text.contains("elsewhere/live") && text.contains("identity"), "{text}");
    world.runbook(&["cancel", &said.run()]).ended(0);
    let waive = ["--waive", "G02", "--reason", "the other one is gone"];
    let run = ["--json", "run", file.as_str(), "--env", "local", "--yes"];
    world.runbook(&[&run[..], &waive[..]].concat()).ended(0);
}
