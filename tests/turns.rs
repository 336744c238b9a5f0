//! One run killed over and over: each process of it dies a few records after it began, and a record later than the one
//! before when that one finished no step, until one comes to the end. So every place between two records is met. For runbooks whose notifications cannot be asked back: where a run asks, the world is looked at.

use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::world::{Said, World};

/// Processes that one run may need; more means that it does not come on.
const PROCESSES_MAX: usize = 400;

/// A resume begins with a record of its own; a process that is killed after it has done nothing yet.
const FIRST: usize = 2;

/// What a person would do when the run asks.
pub(crate) struct Turns<'a> {
    /// A step that may be asked about.
    pub(crate) asked: &'a str,
    /// Whether its effect is there.
    pub(crate) was_done: &'a dyn Fn(&World) -> bool,
}

/// Runs it so; gives the run.
#[track_caller]
pub(crate) fn killed_after_every_record(world: &World, arguments: &[&str], turns: &Turns<'_>) -> String {
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
            Some(6) => answer(world, &run, &said, turns),
            _ => drop(said.ended(0)),
        }
    }
    panic!("the run does not come to its end: {:?}", world.records(&run).last());
}

#[track_caller]
fn answer(world: &World, run: &str, said: &Said, turns: &Turns<'_>) {
    let problem = said.last()["problems"][0].clone();
    let step = problem["step"].as_str().unwrap();
    // Only messages cannot be asked back; of the others the first one in doubt is looked up as given.
    assert!(step == turns.asked || step == "notice", "{problem}");
    let done = if step == turns.asked { (turns.was_done)(world) } else { world.effects("hooks POST") > 1 };
    let verdict = if done { "--done" } else { "--again" };
    world.runbook(&["resolve", run, step, verdict, "--reason", "looked into the channel"]).ended(0);
}
