//! The command line: every exit status, going back, carrying a run over, and what the smaller commands print.

use serde_json::{Value, json};

use crate::live_runs::{asking, file, office};
use crate::plan::without_moments;
use crate::world::{Said, World, binary};

/// What a rollback of Path B must put back.
fn settings(world: &World) -> Value {
    let vercel = &world.inspect()["vercel"];
    // One that was deleted and is there again stands last; the order means nothing.
    let mut variables: Vec<Value> = vercel["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| json!([variable["key"], variable["target"], variable["sha256"]]))
        .collect();
    variables.sort_by_key(Value::to_string);
    let read_only = vercel["flags"]["read_only"] == true;
    json!({ "variables": variables, "crons": vercel["crons_enabled"], "read_only": read_only })
}

#[test]
fn a_rollback_puts_everything_back_and_keeps_the_restored_database() {
    let world = World::with_backup();
    world.hurry();
    let before = settings(&world);
    let start = ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--no-wait"];
    let run = world.runbook(&start).ended(7).run();
    // Traffic moves, and then nobody can be told.
    world.fault(&["hooks", "--status", "400", "--times", "10"]);
    world.runbook(&["approve", &run]).ended(0);
    world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(5);
    assert_ne!(settings(&world), before);

    let unasked = world.runbook(&["rollback", &run]).ended(4);
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    let back = world.runbook(&["rollback", &run, "--yes", "--reason", "the data is too old"]).ended(0);
    assert_eq!(settings(&world), before, "{}", back.stdout);
    let application = world.application();
    assert_eq!((&application["ok"], &application["database"]), (&json!(true), &json!(world.live())));

    let state = world.inspect();
    let restored = state["projects"].as_array().unwrap().iter().find(|p| p["live"] == false).unwrap();
    let restored = restored["ref"].as_str().unwrap();
    assert_ne!(world.sql(restored, "select count(*) from public.messages"), "0");
    assert!(back.stdout.contains(restored), "what is still there is not said:\n{}", back.stdout);
    assert_eq!(world.status(&run)["state"], "rolled back");

    let effects = world.effects("");
    world.runbook(&["rollback", &run, "--yes"]).ended(0);
    assert_eq!((world.effects(""), settings(&world)), (effects, before));
    // There is nothing to go on with.
    world.runbook(&["resume", &run]).ended(7);
    assert_eq!(world.effects(""), effects);
}

#[test]
fn a_run_carried_to_another_machine_is_finished_there() {
    let world = World::with_backup();
    world.hurry();
    let unbroken = world.path_b().ended(0);
    let after_backup = world
        .records(&unbroken.run())
        .iter()
        .find(|line| line["kind"] == "step_done" && line["step"] == "backup")
        .and_then(|line| line["seq"].as_u64())
        .unwrap()
        .to_string();
    let run =
        ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes", "--die-after", &after_backup];
    let killed = Said::of(world.command(&run).output().unwrap());
    let run = killed.run();
    let carried = world.folder().join("run.jsonl").to_string_lossy().into_owned();
    world.runbook(&["export", &run, "--to", &carried]).ended(0);
    world.runbook(&["export", &run, "--to", &carried]).ended(1);

    let elsewhere = World::bare();
    elsewhere.runbook(&["import", &carried]).ended(0);
    elsewhere.runbook(&["import", &carried]).ended(1);
    let heads = [&world, &elsewhere].map(|world| world.runbook(&["verify", &run]).ended(0).stdout);
    assert_eq!(heads[0], heads[1]);
    let plan = elsewhere.runbook(&["resume", &run, "--plan"]).ended(0).stdout;
    assert!(plan.contains("password"), "{plan}");
    let said = elsewhere.runbook(&["--json", "resume", &run, "--yes"]).ended(0);
    let started = |line: &&Value| line["kind"] == "attempt_started";
    assert!(said.lines().iter().filter(started).all(|line| line["step"] != "backup"));
    assert_eq!(world.application()["database"], said.last()["outputs"]["project"]);

    let damaged = elsewhere.folder().join("damaged.jsonl");
    let text = std::fs::read_to_string(&carried).unwrap();
    std::fs::write(&damaged, text.replacen("vercel.flag", "vercel.flog", 1)).unwrap();
    let third = World::bare();
    third.runbook(&["import", &damaged.to_string_lossy()]).ended(1);
    assert!(third.runbook(&["--json", "list"]).ended(0).lines().is_empty());
}

#[test]
fn a_record_changed_by_hand_is_found() {
    let world = office("staging");
    let (live, run) = asking(&world);
    world.runbook(&["note", &run, "nobody-touched-the-till"]).ended(0);
    world.runbook(&["deny", &run]).ended(0);
    live.end();
    let good = world.runbook(&["verify", &run]).ended(0).stdout;
    assert!(good.contains("the chain holds"), "{good}");

    // The last process that closed the journal moved everything out of the write-ahead log.
    let path = world.state().join("journal.db");
    assert!(!world.state().join("journal.db-wal").exists());
    let mut bytes = std::fs::read(&path).unwrap();
    let (old, new) = (b"nobody-touched-the-till", b"nobody_touched-the-till");
    let at = bytes.windows(old.len()).position(|window| window == old).unwrap();
    bytes[at..at + new.len()].copy_from_slice(new);
    std::fs::write(&path, bytes).unwrap();
    let found = world.runbook(&["verify", &run]).ended(1);
    assert!(found.stderr.contains("record"), "{}", found.stderr);
}

#[test]
fn the_first_own_runbook_of_the_readme_works() {
    let world = World::with_data();
    let folder = world.folder().join("my-runbooks").to_string_lossy().into_owned();
    world.runbook(&["new", "count-profiles", "--dir", &folder]).ended(0);
    world.runbook(&["new", "count-profiles", "--dir", &folder]).ended(2);
    let path = format!("{folder}/count-profiles.yaml");
    let on = |command: &str| world.runbook(&[command, &path, "--env", "local"]);
    on("check").ended(0);
    let plan = on("plan").ended(0).stdout;
    assert!(plan.contains("Nothing was changed"), "{plan}");
    let said = on("run").ended(0);
    assert!(said.stdout.contains("profiles: "), "{}", said.stdout);
    let refused = world.runbook(&["run", &path, "--env", "local", "--input", "at_least=1000000"]).ended(4);
    assert!(refused.stdout.contains("profiles are there"), "{}", refused.stdout);
    for command in ["status", "logs", "verify"] {
        world.runbook(&[command]).ended(0);
    }
}

#[test]
fn the_doctor_says_what_is_missing() {
    let world = World::with_backup();
    let said = world.runbook(&["doctor", "--env", "local"]).ended(0);
    for wanted in
        ["database live: PostgreSQL", "; identity ", "backups: dumps: 1", "Vercel: the token", "pg_dump for"]
    {
        assert!(said.stdout.contains(wanted), "{wanted} is not in\n{}", said.stdout);
    }
    assert!(said.stdout.contains("· unproven  notify chat") && !said.stdout.contains('✗'), "{}", said.stdout);
    for status in ["401", "500"] {
        world.fault(&["supabase", "--status", status, "--times", "1000"]);
        let said = world.runbook(&["doctor", "--env", "local"]).ended(4);
        let bad: Vec<&str> = said.stdout.lines().filter(|line| line.contains('✗')).collect();
        assert_eq!(bad.len(), 1, "{}", said.stdout);
        assert!(bad[0].contains("Supabase") && bad[0].contains(status), "{}", bad[0]);
        world.clear_faults();
    }
    let own = "name: local\nextends: sandbox\nreadiness: { rpo: 1s, drill_every: 31d }\n";
    world.write("strict/environments/local.yaml", own);
    world.write("strict/page.yaml", "name: page\ntitle: P\nkind: incident\nsteps:\n  - id: a\n    uses: notify\n    with: { to: nobody, text: x }\n");
    let folder = world.folder().join("strict");
    let strict =
        world.runbook(&["--json", "doctor", "--env", "local", "--dir", folder.to_str().unwrap()]).ended(4);
    let bad: Vec<String> = strict
        .lines()
        .iter()
        .filter(|line| line["ok"] == false)
        .map(|line| line["what"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        bad.contains(&"age of the newest backup".into()) && bad.contains(&"last passing drill".into()),
        "{bad:?}"
    );
    assert!(bad.iter().any(|what| what == "notify nobody" || what == "runbooks"), "{bad:?}");
    let staging = world.runbook(&["doctor", "--env", "staging"]).ended(4);
    assert!(staging.stdout.contains("SUPABASE_ACCESS_TOKEN"), "{}", staging.stdout);
}

#[test]
fn every_exit_status_but_the_ones_above_has_its_command() {
    let world = office("staging");
    // 0, and nothing else than the result on stdout.
    assert_eq!(world.runbook(&["--json", "list"]).ended(0).stdout, "");
    // 1: the state directory cannot be one.
    let file_there = file(&world, "not-a-folder", "x");
    let said = world.runbook(&["--state-dir", &file_there, "list"]).ended(1);
    assert!(said.stderr.contains("not-a-folder"), "{}", said.stderr);
    world.runbook(&["sandbox", "seed"]).ended(1);
    // 2: the command line.
    for wrong in [&["fly"][..], &["run", "x.yaml"], &["status", "no-such-run"], &["run", "--input"]] {
        world.runbook(wrong).ended(2);
    }
    let input = file(
        &world,
        "hello.yaml",
        "name: h\ntitle: H\nkind: maintenance\nsteps: [{ id: a, uses: flow.noop }]\n",
    );
    world.runbook(&["run", &input, "--env", "office", "--input", "no-equals-sign"]).ended(2);
    // 3: the runbook, its environment, its inputs.
    world.runbook(&["run", &input, "--env", "office", "--input", "who=me"]).ended(3);
    world.runbook(&["run", &input, "--env", "nowhere"]).ended(3);
    world.runbook(&["check", "no-such-file.yaml"]).ended(3);
    // 5: a step that fails.
    let fail = "name: f\ntitle: F\nkind: maintenance\nsteps: [{ id: a, uses: flow.fail, with: { message: as told } }]\n";
    let fail = file(&world, "fail.yaml", fail);
    let said = world.runbook(&["run", &fail, "--env", "office"]).ended(5);
    assert!(said.stdout.contains("as told") && said.stdout.contains("runbook resume"), "{}", said.stdout);
}

#[test]
fn guards_diagnostics_and_statuses_are_explained() {
    for code in ["G01", "G02", "G03", "G04", "G05", "G06", "G07", "G08", "G09", "unknown-key", "8"] {
        let said = Said::of(binary().args(["explain", code]).output().unwrap()).ended(0);
        assert!(said.stdout.contains(code) && said.stdout.lines().count() >= 2, "{code}: {}", said.stdout);
    }
    Said::of(binary().args(["explain", "G99"]).output().unwrap()).ended(2);
}

#[test]
fn every_action_has_its_page() {
    let list = Said::of(binary().args(["--json", "actions"]).output().unwrap()).ended(0).lines();
    assert!(list.len() >= 20);
    for line in list {
        let name = line["action"]["name"].as_str().or_else(|| line["name"].as_str()).unwrap().to_owned();
        let page = Said::of(binary().env("COLUMNS", "80").args(["actions", &name]).output().unwrap())
            .ended(0)
            .stdout;
        for part in ["effect class", "with", "example"] {
            assert!(page.contains(part), "{name} lacks `{part}`:\n{page}");
        }
    }
}

#[test]
fn completions_are_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let said = Said::of(binary().args(["completions", shell]).output().unwrap()).ended(0);
        assert!(said.stdout.contains("runbook") && said.stdout.lines().count() > 50, "{shell}");
    }
}

#[test]
fn every_json_line_is_as_the_schema_says() {
    let schema = Said::of(binary().args(["schema", "events"]).output().unwrap()).ended(0).stdout;
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    let world = World::with_backup();
    world.hurry();
    let valid = |said: Said| {
        assert!(!said.stdout.is_empty());
        for line in said.lines() {
            let errors: Vec<String> = schema.iter_errors(&line).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{line}\n{errors:#?}");
        }
    };
    valid(world.runbook(&["--json", "plan", "runbooks/path-b.yaml", "--env", "local"]).ended(0));
    valid(world.path_b().ended(0));
    let commands: [&[&str]; 8] = [
        &["status"],
        &["logs"],
        &["list"],
        &["verify"],
        &["note", "last", "seen"],
        &["doctor", "--env", "local"],
        &["sandbox", "status", "--all"],
        &["actions"],
    ];
    for command in commands {
        valid(world.runbook(&[&["--json"], command].concat()).ended(0));
    }
    valid(world.runbook(&["--json", "check", "tests/guards/G08-refused.yaml"]).ended(3));
    valid(world.runbook(&["--json", "status", "nothing"]).ended(2));
}

#[test]
fn what_is_printed_suits_pipes_and_narrow_screens() {
    let world = World::with_backup();
    world.hurry();
    let shown = |columns: &str, arguments: &[&str]| {
        let mut command = world.command(arguments);
        command.env("COLUMNS", columns).env_remove("NO_COLOR");
        let piped = Said::of(command.output().unwrap());
        let plain = Said::of(command.env("NO_COLOR", "1").output().unwrap());
        if arguments[0] != "run" {
            let [piped, plain] = [&piped.stdout, &plain.stdout].map(|text| without_moments(text));
            assert_eq!(piped, plain, "{arguments:?} in a pipe is as without colour");
        }
        for text in [&piped.stdout, &piped.stderr, &plain.stdout, &plain.stderr] {
            assert!(!text.contains('\u{1b}'), "{arguments:?} writes escape codes:\n{text}");
            // The help is laid out by its library.
            let loose = text.lines().find(|line| line.ends_with(' ') && !arguments.contains(&"--help"));
            assert_eq!(loose, None, "{arguments:?} ends a line with a space");
        }
        plain
    };
    for columns in ["80", "160"] {
        let run = shown(columns, &["run", "runbooks/path-b.yaml", "--env", "local", "--yes"]);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        for command in [
            &["plan", "runbooks/path-b.yaml", "--env", "local"][..],
            &["status"],
            &["list"],
            &["check", "tests/guards/G08-refused.yaml"],
        ] {
            shown(columns, command);
        }
        let wide = |line: &str| line.chars().count() > columns.parse().unwrap();
        for command in [
            &["--help"][..],
            &["run", "--help"],
            &["actions"],
            &["actions", "postgres.restore"],
            &["explain", "unknown-key"],
            &["list"],
        ] {
            let said = shown(columns, command);
            let line = said.stdout.lines().find(|line| wide(line));
            assert_eq!(line, None, "{command:?} is wider than {columns}");
        }
    }
}
