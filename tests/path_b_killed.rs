//! Path B killed by SIGKILL: once after each record of its journal, and at random moments inside the restore.
//! Whatever was cut, `resume` comes to the end of an unbroken run, and nothing happens twice.

#![expect(clippy::print_stdout, reason = "a turn that fails is to say which one it was")]

pub(crate) mod restore;
mod sessions;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use serde_json::Value;

use crate::path_b::{assert_same, count, reached, wanted};
use crate::world::{Database, Said, World};
use sessions::Watch;

/// The records are dealt out to so many tests, which run side by side.
const SHARDS: u64 = 4;
/// Each run of a shard whose turn is a multiple of this is killed once more while it resumes.
const TWICE_EVERY: u64 = 3;

#[test]
fn path_b_killed_after_each_record_comes_to_the_same_end_first_quarter() {
    shard(1);
}

#[test]
fn path_b_killed_after_each_record_comes_to_the_same_end_second_quarter() {
    shard(2);
}

#[test]
fn path_b_killed_after_each_record_comes_to_the_same_end_third_quarter() {
    shard(3);
}

#[test]
fn path_b_killed_after_each_record_comes_to_the_same_end_fourth_quarter() {
    shard(0);
}

#[track_caller]
fn shard(which: u64) {
    let world = World::with_backup();
    world.hurry();
    let wanted = wanted(&world);
    world.runbook(&["sandbox", "break"]).ended(0);
    let before = world.inspect();
    let run = world.path_b().ended(0).run();
    let unbroken = reached(&world, &run, &before).database;
    assert_same(&unbroken, &wanted);
    let records = world.records(&run).len() as u64;

    let watch = Watch::start(&world);
    let turns = (1..=records).filter(|record| record % SHARDS == which);
    for (turn, record) in (1..).zip(turns) {
        let twice = turn % TWICE_EVERY == 0;
        println!("killed after record {record} of {records}{}", if twice { ", and again" } else { "" });
        killed_after(&world, record, twice, &unbroken);
    }
    let seen = watch.end();
    assert!(seen.overlaps.is_empty(), "sessions of two epochs lived side by side: {:?}", seen.overlaps);
    assert!(seen.met > 0 && seen.newest > 1, "the sessions of resumed runs were looked at: {seen:?}");
}

#[track_caller]
fn killed_after(world: &World, record: u64, twice: bool, unbroken: &Database) {
    let before = world.inspect();
    let at = record.to_string();
    let arguments = ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes", "--die-after", &at];
    let run = run_of(&dies(world.command(&arguments)));
    let killed = world.records(&run);
    assert!(killed.len() as u64 >= record, "record {record} is durable");
    if twice {
        dies_again(world, &run, killed.len() + 3);
    }

    resume_to_the_end(world, &run);

    let ended = world.records(&run);
    assert_eq!(ended[..killed.len()], killed[..], "the journal only grows");
    for step in count(&killed, "step_done").keys() {
        let attempts = |records| count(records, "attempt_started").get(step).copied();
        assert_eq!(attempts(&ended), attempts(&killed), "step {step} was done and is not attempted again");
    }
    let reached = reached(world, &run, &before).database;
    assert_eq!(reached.tables, unbroken.tables);
    assert_same(&reached, unbroken);
}

/// Runs a command that must be killed by SIGKILL, not end.
#[track_caller]
fn dies(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    output
}

/// Resumes until a record, and is killed there, unless the run ends before.
#[track_caller]
fn dies_again(world: &World, run: &str, record: usize) {
    let at = record.to_string();
    let output = world.command(&["--json", "resume", run, "--yes", "--die-after", &at]).output().unwrap();
    if output.status.signal() != Some(9) {
        Said::of(output).ended(0);
        assert!(world.records(run).len() < record, "the run ended before record {record}");
    }
}

/// The run that a killed command was about.
fn run_of(output: &Output) -> String {
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned()
}

/// Resumes; where the run asks whether a message was sent, looks and answers, as a person would.
#[track_caller]
fn resume_to_the_end(world: &World, run: &str) {
    let said = world.runbook(&["--json", "resume", run, "--yes"]);
    if said.status != Some(6) {
        said.ended(0);
        return;
    }
    crate::turns::settle(world, run);
    world.runbook(&["--json", "resume", run, "--yes"]).ended(0);
}
