//! One run killed over and over: each process of it dies a few records after it began, and a record later than the
//! one before when that one finished no step, until one comes to the end. So every place between two records is met.
//! Notifications cannot be asked back: where a run asks, the world is looked at.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::world::{Said, World};

/// Processes that one run may need; more means that it does not come on.
const PROCESSES_MAX: usize = 400;

/// A resume begins with a record of its own; a process that is killed after it has done nothing yet.
const FIRST: usize = 2;

/// Runs it so; gives the run.
#[track_caller]
pub(crate) fn killed_after_every_record(world: &World, arguments: &[&str]) -> String {
    let first = world.command(&[arguments, &["--die-after", "1"]].concat()).output().unwrap();
    assert_eq!(first.status.signal(), Some(9), "{first:?}");
    let line = first.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    let (mut done_before, mut more) = (0, FIRST);
    for _ in 0..PROCESSES_MAX {
        let records = world.records(&run);
        let done = records.iter().filter(|record| record["kind"] == "step_done").count();
        more = if done > done_before { FIRST } else { more + 1 };
        done_before = done;
        let next = (records.len() + more).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &next]).output().unwrap();
        if output.status.signal() == Some(9) {
            continue;
        }
        let said = Said::of(output);
        match said.status {
            Some(0) => return run,
            Some(6) => settle(world, &run),
            _ => drop(said.ended(0)),
        }
    }
    panic!("the run does not come to its end: {:?}", world.records(&run).last());
}

/// Answers for every message in doubt whether it was posted, as a person would who looks into its channel: a post of this
/// run's time that no step is known to have sent.
#[track_caller]
pub(crate) fn settle(world: &World, run: &str) {
    let records = world.records(run);
    let begun = records[0]["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let channel = |step: &Value| {
        let started = records.iter().rev().find(|r| r["kind"] == "attempt_started" && r["step"] == *step);
        started.and_then(|record| record["params"]["to"].as_str())
    };
    let in_this_run =
        |post: &&Value| post["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() >= begun;
    let steps = world.status(run)["steps"].as_array().cloned().unwrap();
    let doubts: Vec<&Value> = steps.iter().filter(|step| step["state"] == "in doubt").collect();
    assert!(!doubts.is_empty(), "a run in doubt names its steps: {steps:?}");
    for step in doubts.into_iter().map(|doubt| &doubt["step"]) {
        let to =
            channel(step).unwrap_or_else(|| panic!("only messages cannot be asked back, and {step} is none"));
        let posts = world.inspect()["hooks"].as_array().cloned().unwrap();
        let posted = posts.iter().filter(in_this_run).filter(|post| post["hook"] == to).count();
        let known = |r: &&Value| {
            let said_done =
                r["kind"] == "resolved" && r["verdict"] == "done" && channel(&r["step"]) == Some(to);
            let outputs = &r["outcome"]["outputs"];
            said_done || (r["kind"] == "step_done" && outputs["sent"] == true && outputs["to"] == to)
        };
        let verdict = if posted > records.iter().filter(known).count() { "--done" } else { "--again" };
        let step = step.as_str().unwrap();
        world.runbook(&["resolve", run, step, verdict, "--reason", "looked into the channel"]).ended(0);
    }
}
