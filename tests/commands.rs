//! The command line: every exit status, what people say to a live run from another process, stopping, going
//! back, carrying a run over, and what the smaller commands print.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::{Said, Watched, World, binary, root};

/// An environment that needs no sandbox.
fn office(kind: &str) -> World {
    let world = World::bare();
    world.write("environments/office.yaml", &format!("name: office\nkind: {kind}\ndata: synthetic\n"));
    world
}

fn file(world: &World, name: &str, text: &str) -> String {
    world.write(name, text).to_string_lossy().into_owned()
}

const ASK: &str = "
name: ask
title: What only a person can decide or do
kind: maintenance
steps:
  - id: call
    uses: manual
    with: { prompt: Has the customer been told?, instructions: Call them., evidence: who answered }
  - id: proceed
    uses: flow.noop
    approval: { prompt: \"Go on, now that {{ steps.call.done_by }} has called?\" }
";

/// A live run of [`ASK`] whose first question is open, and its id.
fn asking(world: &World) -> (Watched, String) {
    let ask = file(world, "ask.yaml", ASK);
    let mut live = Watched::start(world.command(&["--json", "run", &ask, "--env", "office"]));
    let asked = live.until(|line| line["kind"] == "approval_requested");
    (live, asked["run"].as_str().unwrap().to_owned())
}

fn signal(live: &Watched, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(live.pid()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_live_run_hears_answers_and_notes_from_another_process() {
    let world = office("staging");
    let (mut live, run) = asking(&world);
    world.runbook(&["note", &run, "the customer is in a meeting"]).ended(0);
    live.until(|line| line["kind"] == "noted" && line["text"] == "the customer is in a meeting");

    let wrong = world.runbook(&["approve", &run, "nobody"]).ended(4);
    assert!(wrong.stderr.contains("nobody") && wrong.stderr.contains("runbook status"), "{}", wrong.stderr);
    let early = world.runbook(&["approve", &run, "proceed"]).ended(4);
    assert!(early.stderr.contains("nothing is asked"), "{}", early.stderr);

    // Without a name the only open question is meant.
    world.runbook(&["--actor", "ana", "approve", &run, "--reason", "the owner, at noon"]).ended(0);
    let asked = live.until(|line| line["kind"] == "approval_requested");
    assert_eq!(asked["prompt"], "Go on, now that ana has called?");
    let status = world.runbook(&["status", &run]).ended(0).stdout;
    assert!(
        status.contains("running") && status.contains(&format!("runbook approve {} proceed", &run[..8])),
        "{status}"
    );
    world.runbook(&["approve", &run, "proceed"]).ended(0);
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(0));
    assert_eq!(rest.last().unwrap()["outcome"], "succeeded");
    world.runbook(&["approve", &run, "proceed"]).ended(4);
    world.runbook(&["approve", &run]).ended(2);
    let evidence = &world.status(&run)["steps"][0]["outputs"];
    assert_eq!((&evidence["done_by"], &evidence["evidence"]), (&json!("ana"), &json!("the owner, at noon")));
}

#[test]
fn a_no_ends_a_live_run_and_nothing_behind_it_starts() {
    let world = office("staging");
    let (live, run) = asking(&world);
    world.runbook(&["deny", &run, "--reason", "it is Friday"]).ended(0);
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(4));
    assert_eq!(rest.last().unwrap()["outcome"], "refused");
    assert!(!rest.iter().any(|line| line["kind"] == "attempt_started"));
    let status = world.runbook(&["status", &run]).ended(0).stdout;
    assert!(status.contains("it is Friday"), "{status}");
}

#[test]
fn a_question_that_nobody_answers_in_time_starts_nothing() {
    let world = office("staging");
    let text = ASK.replace("has called?\" }", "has called?\", timeout: 1s }");
    let ask = file(&world, "ask.yaml", &text);
    let mut live = Watched::start(world.command(&["--json", "run", &ask, "--env", "office"]));
    let run = live.until(|line| line["kind"] == "approval_requested")["run"].as_str().unwrap().to_owned();
    world.runbook(&["approve", &run, "call", "--reason", "me"]).ended(0);
    live.until(|line| line["kind"] == "approval_expired" && line["step"] == "proceed");
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(4), "{rest:?}");
    assert_eq!(rest.last().unwrap()["problems"][0]["message"], "nobody answered in time");
    // Who comes too late is told so; a resume asks anew.
    world.runbook(&["approve", &run, "proceed"]).ended(4);
    let again = world.runbook(&["--json", "resume", &run, "--no-wait"]);
    let asked = again.lines().iter().filter(|line| line["kind"] == "approval_requested").count();
    assert_eq!(asked, 1, "{}", again.stdout);
    let started = |line: &Value| line["kind"] == "attempt_started" && line["step"] == "proceed";
    assert!(!world.records(&run).iter().any(started));
}

#[test]
fn a_pause_stops_a_live_run_and_a_resume_goes_on() {
    let world = office("staging");
    let (live, run) = asking(&world);
    world.runbook(&["pause", &run, "--reason", "lunch"]).ended(0);
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(7));
    assert_eq!(rest.last().unwrap()["outcome"], "paused");
    // People may answer while nobody works on it.
    world.runbook(&["approve", &run, "call", "--reason", "me"]).ended(0);
    let said = world.runbook(&["--json", "resume", &run, "--yes"]).ended(0);
    assert_eq!(said.last()["outcome"], "succeeded");
}

#[test]
fn a_cancelled_run_is_over() {
    let world = office("staging");
    let (live, run) = asking(&world);
    world.runbook(&["cancel", &run, "--reason", "false alarm"]).ended(0);
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(7));
    assert_eq!(rest.last().unwrap()["outcome"], "cancelled");
    world.runbook(&["approve", &run, "call", "--reason", "me"]).ended(4);
    assert_eq!(world.runbook(&["--json", "resume", &run]).ended(7).last()["outcome"], "cancelled");
}

#[test]
fn a_second_writing_run_is_told_who_holds_the_environment() {
    let world = office("staging");
    let (live, run) = asking(&world);
    let ask = file(&world, "ask.yaml", ASK);
    let said = world.runbook(&["run", &ask, "--env", "office"]).ended(8);
    let pid = live.pid().to_string();
    for words in [run.as_str(), pid.as_str(), "tester"] {
        assert!(said.stderr.contains(words), "`{words}` is not in:\n{}", said.stderr);
    }
    let said = world.runbook(&["resume", &run]).ended(8);
    assert!(said.stderr.contains(&live.pid().to_string()), "{}", said.stderr);
    // One that only looks does no harm.
    let hello = root().join("examples/hello.yaml");
    let look = file(&world, "hello.yaml", &std::fs::read_to_string(hello).unwrap());
    world.runbook(&["run", &look, "--env", "office"]).ended(0);
    live.kill();
    // The dead run still has the environment: half of its work may stand there.
    let said = world.runbook(&["run", &ask, "--env", "office"]).ended(8);
    assert!(said.stderr.contains(&format!("runbook resume {run}")), "{}", said.stderr);
    world.runbook(&["cancel", &run]).ended(0);
    world.runbook(&["resume", &run]).ended(7);
    let said = world.runbook(&["--json", "run", &ask, "--env", "office", "--no-wait"]).ended(7);
    assert_eq!(said.last()["outcome"], "waiting");
}

#[test]
fn yes_never_answers_in_production() {
    let run = |world: &World| {
        let ask = file(world, "ask.yaml", ASK);
        world.runbook(&["--json", "run", &ask, "--env", "office", "--yes", "--no-wait"])
    };
    let production = office("production");
    let said = run(&production).ended(7);
    assert_eq!(said.last()["outcome"], "waiting");
    let given = |line: &Value| line["kind"] == "approval_given";
    assert!(!production.records(&said.run()).iter().any(given));
    assert!(
        production.runbook(&["resume", &said.run(), "--help"]).ended(0).stdout.contains("never an approval")
    );

    // What only a person can have done is not answered anywhere.
    let staging = office("staging");
    let ask =
        ASK.replace("manual", "approval").replace(", instructions: Call them., evidence: who answered", "");
    let ask = ask.replace("now that {{ steps.call.done_by }} has called", "they said");
    let ask = file(&staging, "ask.yaml", &ask);
    let said = staging.runbook(&["--json", "run", &ask, "--env", "office", "--yes"]).ended(0);
    assert_eq!(staging.records(&said.run()).iter().filter(|line| given(line)).count(), 2);
}

/// A server that answers one request when it is told to.
struct Slow {
    listener: TcpListener,
}

impl Slow {
    fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    fn runbook(&self) -> String {
        format!(
            "name: slow\ntitle: Wait for an answer\nkind: maintenance\nsteps:\n  - id: ask\n    uses: http.check\n    \
             with: {{ checks: [{{ url: \"http://{}/\", expect: {{ status: 200 }} }}] }}\n  - id: after\n    uses: flow.noop\n",
            self.listener.local_addr().unwrap()
        )
    }

    /// The connection whose request has come, of a run whose attempt has started.
    fn asked(&self, live: &mut Watched) -> TcpStream {
        live.until(|line| line["kind"] == "attempt_started");
        let (mut stream, _) = self.listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        stream
    }
}

fn answer(mut stream: TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").unwrap();
}

#[test]
fn ctrl_c_once_stops_after_the_running_step() {
    let world = office("staging");
    let slow = Slow::start();
    let path = file(&world, "slow.yaml", &slow.runbook());
    let mut live = Watched::start(world.command(&["--json", "run", &path, "--env", "office"]));
    let asked = slow.asked(&mut live);
    signal(&live, Signal::INT);
    let stopping = live.until(|line| line["kind"] == "stopping");
    answer(asked);
    let run = stopping["run"].as_str().unwrap().to_owned();
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(7), "{rest:?}");
    assert_eq!(rest.last().unwrap()["outcome"], "stopped");
    let started = |step: &str| {
        let records = world.records(&run);
        records.iter().filter(|line| line["kind"] == "attempt_started" && line["step"] == step).count()
    };
    assert_eq!((started("ask"), started("after")), (1, 0));
    let mut resumed = Watched::start(world.command(&["--json", "resume", &run]));
    let done = world.records(&run).iter().any(|line| line["kind"] == "step_done" && line["step"] == "ask");
    if !done {
        answer(slow.asked(&mut resumed));
    }
    let (rest, ended) = resumed.end();
    assert_eq!(ended.code(), Some(0), "{rest:?}");
}

#[test]
fn ctrl_c_twice_stops_now() {
    let world = office("staging");
    let slow = Slow::start();
    let path = file(&world, "slow.yaml", &slow.runbook());
    let mut live = Watched::start(world.command(&["--json", "run", &path, "--env", "office"]));
    let unanswered = slow.asked(&mut live);
    signal(&live, Signal::INT);
    let run = live.until(|line| line["kind"] == "stopping")["run"].as_str().unwrap().to_owned();
    signal(&live, Signal::INT);
    let (rest, ended) = live.end();
    assert_eq!(ended.code(), Some(7), "{rest:?}");
    drop(unanswered);
    let status = world.runbook(&["status", &run]).ended(0).stdout;
    assert!(status.contains("stopped, can be resumed"), "{status}");
    let mut resumed = Watched::start(world.command(&["--json", "resume", &run]));
    answer(slow.asked(&mut resumed));
    let (rest, ended) = resumed.end();
    assert_eq!(ended.code(), Some(0), "{rest:?}");
}

/// What a rollback of Path B must put back.
fn settings(world: &World) -> Value {
    let vercel = &world.inspect()["vercel"];
    let variables: Vec<Value> = vercel["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| json!([variable["key"], variable["target"], variable["sha256"]]))
        .collect();
    let read_only = vercel["flags"]["read_only"] == true;
    json!({ "variables": variables, "crons": vercel["crons_enabled"], "read_only": read_only })
}

#[test]
fn a_rollback_puts_everything_back_and_keeps_the_restored_database() {
    let world = World::with_backup();
    world.hurry();
    let before = settings(&world);
    world.fault(&["hooks", "--status", "400", "--times", "10"]);
    let said = world.path_b().ended(5);
    let run = said.run();
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
    assert_eq!(said.stdout.lines().filter(|line| line.contains('✓')).count(), 7, "{}", said.stdout);
    for status in ["401", "500"] {
        world.fault(&["supabase", "--status", status, "--times", "1000"]);
        let said = world.runbook(&["doctor", "--env", "local"]).ended(4);
        let bad: Vec<&str> = said.stdout.lines().filter(|line| line.contains('✗')).collect();
        assert_eq!(bad.len(), 1, "{}", said.stdout);
        assert!(bad[0].contains("Supabase") && bad[0].contains(status), "{}", bad[0]);
        world.clear_faults();
    }
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
            assert_eq!(piped.stdout, plain.stdout, "{arguments:?} in a pipe is as without colour");
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
