//! What people say to a live run from another process, who may work beside it, and how it is stopped.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::world::{Watched, World, root};

/// An environment that needs no sandbox.
pub(crate) fn office(kind: &str) -> World {
    let world = World::bare();
    world.write("environments/office.yaml", &format!("name: office\nkind: {kind}\ndata: synthetic\n"));
    world
}

pub(crate) fn file(world: &World, name: &str, text: &str) -> String {
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
pub(crate) fn asking(world: &World) -> (Watched, String) {
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
