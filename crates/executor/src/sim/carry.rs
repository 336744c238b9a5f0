//! How the simulator carries out the commands of the machine: mostly well.

use runbook_core::action::Outcome;
use runbook_core::workflow::StepPath;
use serde_json::json;

use super::plan::at;
use super::runs::{Append, Sim, done, engine_of};
use crate::machine::{Command, State, approval_digest};
use crate::record::{ApprovalRequested, AttemptStarted, Found, Item, Record, RefusedWhy};

impl Sim {
    /// What an engine would render now: it changes while nobody has started on it.
    fn params_digest(&mut self, step: &StepPath) -> String {
        let engine = engine_of(&self.engine).expect("an engine lives");
        let instance = engine.machine.instance(step).expect("it exists");
        if let Some(last) = instance.last.as_ref().filter(|l| l.rerun == instance.reruns) {
            return last.params_digest.clone();
        }
        let moved = !self.calm && self.dice.percent(10);
        format!("{step}:{}:{}", instance.reruns, if moved { self.now } else { 0 })
    }

    pub(super) fn carry_out(&mut self, command: &Command) {
        let refuse = !self.calm && self.dice.percent(5);
        match command {
            Command::Decide(step) => {
                let result = self.dice.percent(70);
                self.append(Record::Condition { step: step.clone(), result });
            }
            Command::Expand(step) if refuse => {
                let (message, hint) = ("work out the items".to_owned(), None);
                self.append(Record::StepFailed { step: step.clone(), message, hint });
            }
            Command::Expand(step) => {
                let items = (0..self.dice.below(4)).map(|n| Item { key: format!("k{n}"), value: json!(n) });
                let items = items.collect();
                self.append(Record::Expanded { step: step.clone(), items });
            }
            Command::Skip(step, why) => {
                self.append(Record::StepSkipped { step: step.clone(), why: *why });
            }
            Command::Evaluate(step) => {
                self.append(done(step));
            }
            Command::Ask(step) | Command::Start(step) if refuse => {
                let (why, message) = (RefusedWhy::Precondition, "the world moved".to_owned());
                self.append(Record::StepRefused { step: step.clone(), why, message, hint: None });
            }
            Command::Ask(step) => self.ask(step),
            Command::Expire(step) => {
                self.append(Record::ApprovalExpired { step: step.clone() });
            }
            Command::Start(step) => self.start(step),
            Command::Doubt(step) => {
                self.append(Record::StepInDoubt { step: step.clone(), why: "no probe".into() });
            }
            Command::KeepEffect(step, why) => {
                self.append(Record::UndoSkipped { step: step.clone(), why: why.clone() });
            }
            Command::Finish(outcome) => {
                self.append(Record::RunFinished { outcome: *outcome });
                self.engine = None;
            }
            Command::Stop(why) => {
                let epoch = self.epoch;
                self.append(Record::Closed { epoch, why: *why });
                self.engine = None;
            }
            Command::Fence(step) => self.fence(step),
            Command::Probe(step) => self.probe(step),
            Command::Undo(step) => self.undo(step),
        }
    }

    fn ask(&mut self, step: &StepPath) {
        let params = self.params_digest(step);
        let asked = ApprovalRequested {
            step: step.clone(),
            digest: approval_digest("plan", step, &params),
            prompt: "Sure?".into(),
            min: if self.dice.percent(20) { 2 } else { 1 },
            approvers: Vec::new(),
            four_eyes: true,
            expires_at: at(self.now + if self.calm { 10_000 } else { 30 }),
            options: Vec::new(),
        };
        self.append(Record::ApprovalRequested(Box::new(asked)));
    }

    /// Wants to start whatever comes to its mind: the rules alone must keep it from harm.
    pub(super) fn unruly(&mut self) {
        let engine = engine_of(&self.engine).expect("an engine lives");
        let paths: Vec<_> =
            engine.machine.nodes().flat_map(|n| n.instances).map(|i| i.path.clone()).collect();
        if paths.is_empty() {
            return;
        }
        let step = self.dice.pick(&paths).clone();
        let (started, digest) = self.attempt(&step);
        let engine = engine_of(&self.engine).expect("an engine lives");
        let record = Record::AttemptStarted(Box::new(started.clone()));
        if engine.machine.check(at(self.now), &record).is_ok() && self.append(record) == Append::Stored {
            self.model.call(&step, &started, &digest);
        }
    }

    fn attempt(&mut self, step: &StepPath) -> (AttemptStarted, String) {
        let params_digest = self.params_digest(step);
        let digest = approval_digest("plan", step, &params_digest);
        let engine = engine_of(&self.engine).expect("an engine lives");
        let instance = engine.machine.instance(step).expect("it exists");
        let started = AttemptStarted {
            step: step.clone(),
            attempt: instance.attempts + 1,
            epoch: self.epoch,
            key: format!("{step}#{}", instance.reruns),
            params: json!(null),
            params_digest,
        };
        (started, digest)
    }

    fn start(&mut self, step: &StepPath) {
        let (started, digest) = self.attempt(step);
        let engine = engine_of(&self.engine).expect("an engine lives");
        let instance = engine.machine.instance(step).expect("it exists").clone();
        if instance.approval.as_ref().is_some_and(|a| a.request.digest != digest) {
            self.append(Record::ApprovalVoided { step: step.clone(), why: "it changed".into() });
            return;
        }
        if self.append(Record::AttemptStarted(Box::new(started.clone()))) == Append::Stored {
            self.model.call(step, &started, &digest);
        }
    }

    fn fence(&mut self, step: &StepPath) {
        // What can no longer be stopped acts before it is proven dead.
        for at in 0..self.model.alive.len() {
            if &self.model.alive[at].path == step && self.dice.percent(30) {
                self.model.act(at);
            }
        }
        self.model.alive.retain(|w| &w.path != step);
        if !self.calm && self.dice.percent(10) {
            let rolling = engine_of(&self.engine).is_some_and(|e| {
                e.machine.instance(step).is_some_and(|i| !matches!(i.state, State::Interrupted { .. }))
            });
            if !rolling {
                let message = "prove the earlier attempt dead".to_owned();
                self.append(Record::StepFailed { step: step.clone(), message, hint: None });
                return;
            }
        }
        let epoch = self.epoch;
        self.append(Record::Fenced { step: step.clone(), epoch, ended: 0 });
    }

    fn probe(&mut self, step: &StepPath) {
        let engine = engine_of(&self.engine).expect("an engine lives");
        let key = engine.machine.instance(step).and_then(|i| i.last.clone()).map_or(String::new(), |l| l.key);
        let clear = self.calm || self.dice.percent(80);
        let found = self.model.probe(step, &key, clear);
        if self.append(Record::Probed { step: step.clone(), found, why: None }) == Append::Stored
            && found == Found::Happened
        {
            self.append(done(step));
        }
    }

    fn undo(&mut self, step: &StepPath) {
        let epoch = self.epoch;
        if self.append(Record::UndoStarted { step: step.clone(), epoch }) != Append::Stored {
            return;
        }
        self.model.undo(step);
        if !self.calm && self.dice.percent(15) {
            let message = "take it back".to_owned();
            self.append(Record::UndoFailed { step: step.clone(), message, hint: None });
        } else {
            self.append(Record::Undone { step: step.clone(), outcome: Outcome::default() });
        }
    }
}
