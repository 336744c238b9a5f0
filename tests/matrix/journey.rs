//! A run brought to its end through whatever happens to it, as a person would: resumed after a crash or a failure,
//! answered where it asks, looked after where it is in doubt.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use serde_json::Value;

use super::{Case, Doubt};
use crate::world::{Said, World};

/// A run that needs more sittings than this does not get on.
const SITTINGS_MAX: usize = 200;
/// The record after which two processes fight for the run.
const CONTESTED_AFTER: &str = "3";

pub(super) struct Journey<'a> {
    case: &'a Case,
    world: &'a World,
    rehearse: Option<&'static str>,
    /// Sittings that ended with status 5.
    pub(super) failed: usize,
}

impl<'a> Journey<'a> {
    pub(super) fn of(case: &'a Case, world: &'a World) -> Self {
        Self { case, world, rehearse: None, failed: 0 }
    }

    pub(super) fn rehearse(mut self, what: &'static str) -> Self {
        self.rehearse = Some(what);
        self
    }

    /// One sitting, unless people are asked which.
    pub(super) fn unbroken(&mut self) -> String {
        let run = self.arrive();
        assert_eq!(self.failed, 0, "an unbroken run does not fail");
        run
    }

    /// From the start to the end; gives the run's id.
    pub(super) fn arrive(&mut self) -> String {
        let first = self.sit(&self.start());
        let run = run_of(&first);
        self.go_on(&run, first);
        run
    }

    /// Each run ends where something fails for good, until one gets through; gives its id. Only the first one is
    /// rehearsed: every other one meets what is left of the world's faults.
    pub(super) fn anew(&mut self) -> String {
        for given_up in 0..SITTINGS_MAX {
            let first = self.sit(&self.start());
            let run = run_of(&first);
            // A step may pause the run as well, and goes on when somebody resumes.
            self.go_on(&run, first);
            let last = self.world.records(&run).pop().unwrap();
            if last["outcome"] == "succeeded" {
                assert!(given_up > 0, "the first run was refused");
                return run;
            }
            assert_eq!(
                self.world.status(&run)["in_force"],
                serde_json::json!([]),
                "it leaves nothing in force"
            );
            self.rehearse = Some("hurry");
        }
        panic!("no run gets through")
    }

    /// Two processes resume a run that was killed early; one of them holds it.
    pub(super) fn contested(&mut self) -> String {
        let mut start = self.start();
        start.extend(["--die-after", CONTESTED_AFTER].map(str::to_owned));
        let run = run_of(&self.sit(&start));
        loop {
            let held = self.fight(&run);
            if held.status.code() != Some(7) {
                self.go_on(&run, held);
                return run;
            }
            // It only came as far as a question: there was nothing to fight for yet.
            self.answer(&run);
        }
    }

    /// Two processes at once; how the one that held the run ended.
    fn fight(&self, run: &str) -> Output {
        let resume = self.resume(run);
        let both: Vec<_> = (0..2)
            .map(|_| {
                let mut command = self.world.command(&texts(&resume));
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        let mut ends: Vec<Output> = both.into_iter().map(|one| one.wait_with_output().unwrap()).collect();
        ends.sort_by_key(|end| end.status.code() == Some(8));
        assert_ne!(ends[0].status.code(), Some(8), "somebody goes on: {ends:?}");
        let late = &ends[1];
        assert!(matches!(late.status.code(), Some(0 | 7 | 8)), "the other is told, or comes later: {late:?}");
        ends.remove(0)
    }

    fn start(&self) -> Vec<String> {
        let Case { file, environment, inputs, .. } = self.case;
        let mut arguments = ["--json", "run", file, "--env", environment, "--yes", "--no-wait"].to_vec();
        let own = (self.case.with)(self.world);
        arguments.extend(
            inputs.iter().copied().chain(own.iter().map(String::as_str)).flat_map(|i| ["--input", i]),
        );
        arguments.extend(self.case.waived.iter().flat_map(|guard| ["--waive", guard]));
        if !self.case.waived.is_empty() {
            arguments.extend(["--reason", "it is run alone"]);
        }
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn resume(&self, run: &str) -> Vec<String> {
        ["--json", "resume", run, "--yes", "--no-wait"].map(str::to_owned).to_vec()
    }

    fn sit(&self, arguments: &[String]) -> Output {
        let mut command = self.world.command(&texts(arguments));
        if let Some(what) = self.rehearse {
            command.args(["--rehearse", what]);
        }
        command.output().unwrap()
    }

    fn go_on(&mut self, run: &str, mut last: Output) {
        for _ in 0..SITTINGS_MAX {
            match last.status.code() {
                Some(0) => return,
                // Killed.
                None if self.is_over(run) => return,
                None => {}
                Some(4 | 5) if self.case.gives_up && self.is_over(run) => return,
                Some(5) => self.failed += 1,
                Some(6) => self.settle(run),
                Some(7) => self.answer(run),
                _ => {
                    Said::of(last).ended(0);
                    return;
                }
            }
            last = self.sit(&self.resume(run));
        }
        panic!("the run does not get on: {:?}", Said::of(last));
    }

    fn is_over(&self, run: &str) -> bool {
        self.world.records(run).last().is_some_and(|record| record["kind"] == "run_finished")
    }

    fn problems(&self, run: &str) -> Vec<(String, Value)> {
        let status = self.world.status(run);
        let steps = status["steps"].as_array().cloned().unwrap_or_default();
        steps.into_iter().map(|step| (step["step"].as_str().unwrap().to_owned(), step)).collect()
    }

    /// A person looks whether the effect is there, and says so.
    fn settle(&self, run: &str) {
        let records = self.world.records(run);
        let mut settled = 0;
        for (step, seen) in self.problems(run) {
            if seen["state"] != "in doubt" {
                continue;
            }
            let started =
                records.iter().rev().find(|r| r["kind"] == "attempt_started" && r["step"] == step.as_str());
            let params = &started.unwrap()["params"];
            let doubt = Doubt { world: self.world, params, records: &records };
            let verdict = if (self.case.look)(&doubt) { "--done" } else { "--again" };
            println!("in doubt: {step}; the person who looked says {verdict}");
            self.world.runbook(&["resolve", run, &step, verdict, "--reason", "looked"]).ended(0);
            settled += 1;
        }
        assert!(settled > 0, "a run in doubt names its steps: {}", self.world.status(run));
    }

    /// A person answers what the case has an answer for.
    fn answer(&self, run: &str) {
        let asked: Vec<_> = self
            .problems(run)
            .into_iter()
            .filter(|(_, seen)| seen["state"] == "waiting for approval")
            .collect();
        assert!(!asked.is_empty(), "a run that waits asks something: {}", self.world.status(run));
        for (step, seen) in asked {
            let answer = self.case.answers.iter().find(|(wanted, _)| *wanted == step);
            let (_, arguments) = answer.unwrap_or_else(|| panic!("the case has no answer to {seen}"));
            self.world.runbook(&[&["approve", run, step.as_str()], *arguments].concat()).ended(0);
        }
    }
}

/// Whether a chat message is there: more are there than the run knows of.
pub(super) fn was_told(doubt: &Doubt<'_>) -> bool {
    let Some(channel) = doubt.params["to"].as_str() else {
        panic!("the case cannot look after a step with {}", doubt.params)
    };
    let state = doubt.world.inspect();
    let moment = |value: &Value| value["at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let begun = moment(&doubt.records[0]);
    let posts = state["hooks"].as_array().unwrap().iter();
    let posts = posts.filter(|post| post["hook"] == channel && moment(post) >= begun).count();
    let is_told = |record: &&Value| {
        let outputs = &record["outcome"]["outputs"];
        record["kind"] == "step_done" && outputs["sent"] == true && outputs["to"] == channel
    };
    let channel_of = |step: &Value| {
        let started =
            doubt.records.iter().rev().find(|r| r["kind"] == "attempt_started" && r["step"] == *step);
        started.and_then(|record| record["params"]["to"].as_str())
    };
    let settled = |r: &&Value| {
        r["kind"] == "resolved" && r["verdict"] == "done" && channel_of(&r["step"]) == Some(channel)
    };
    let resolved = doubt.records.iter().filter(settled).count();
    posts > doubt.records.iter().filter(is_told).count() + resolved
}

/// How many steps called their action at least once, but for some.
pub(super) fn attempted(records: &[Value], but: &[&str]) -> usize {
    let started = records.iter().filter(|record| record["kind"] == "attempt_started");
    let mut steps: BTreeSet<&str> = started.map(|record| record["step"].as_str().unwrap()).collect();
    steps.retain(|step| !but.contains(step));
    steps.len()
}

fn run_of(output: &Output) -> String {
    let mut lines = output.stdout.split(|byte| *byte == b'\n');
    // A waived guard is told first.
    let run =
        lines.find_map(|line| Some(serde_json::from_slice::<Value>(line).ok()?["run"].as_str()?.to_owned()));
    run.unwrap_or_else(|| panic!("it says which run it is: {}", String::from_utf8_lossy(&output.stderr)))
}

fn texts(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}
