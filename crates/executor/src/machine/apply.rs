//! What each record changes: one small function per kind. Nothing here refuses; `rules` has done that.

use jiff::Timestamp;
use runbook_core::action::{Aftermath, InForce, Outcome};
use runbook_core::workflow::{OnExhausted, Phase, StepPath};
use serde_json::Value;

use super::rules::IllegalRecord;
use super::state::{
    Answer, Approval, Attempt, Closed, Failure, Force, Instance, Machine, Sitting, Started, State, UndoState,
};
use crate::record::{
    AttemptFailed, AttemptStarted, Ended, Found, Item, Record, SkippedWhy, StepDone, Then, Verdict, Waived,
};

impl Machine {
    /// Takes a record in. An illegal one changes nothing.
    pub fn apply(&mut self, at: Timestamp, record: &Record) -> Result<(), IllegalRecord> {
        self.check(at, record)?;
        self.seq += 1;
        match record {
            Record::RunStarted(first) => {
                self.started = Some(Started { at, actor: first.actor.clone(), digest: first.digest.clone() });
                self.waived.clone_from(&first.waivers);
            }
            Record::Opened { epoch, actor, host, pid } => {
                let (actor, host) = (actor.clone(), host.clone());
                self.opened(Sitting { epoch: *epoch, actor, host, pid: *pid, since: at });
            }
            Record::Closed { why, .. } => {
                self.sitting = None;
                self.closed = Some(Closed { at, why: *why });
            }
            Record::PauseRequested { by, .. } => self.paused = Some(by.clone()),
            Record::CancelRequested { by, .. } => {
                self.cancels += 1;
                self.cancelled.get_or_insert_with(|| by.clone());
            }
            Record::RollbackRequested { by, .. } => {
                self.rollback = Some(by.clone());
                self.finished = None;
            }
            Record::GuardWaived { guard, by, reason } => {
                let (guard, by, reason) = (guard.clone(), by.clone(), reason.clone());
                self.waived.push(Waived { guard, by, reason });
            }
            Record::Noted { .. } => {}
            Record::RunFinished { outcome } => {
                self.finished = Some(*outcome);
                self.sitting = None;
            }
            _ => self.apply_to_step(at, record),
        }
        Ok(())
    }

    fn apply_to_step(&mut self, at: Timestamp, record: &Record) {
        match record {
            Record::Condition { step, result } => {
                if let Some(&node) = self.paths.get(step) {
                    self.nodes[node].condition = Some(*result);
                }
            }
            Record::Expanded { step, items } => self.expanded_into(step, items),
            Record::StepSkipped { step, why } => self.skipped(at, step, *why),
            Record::StepDone(done) => self.done(at, done),
            Record::StepFailed { step, message, hint } => {
                self.step_failed_now(at, step, Failure::new(message.clone(), hint.clone()));
            }
            Record::Resolved { step, verdict, outputs, .. } => {
                self.resolved_as(at, step, *verdict, outputs.as_ref());
            }
            Record::Rerun { step, .. } => self.open_again(step),
            Record::AttemptFailed(failed) => self.failed_attempt(at, failed),
            Record::Undone { step, outcome } => self.undone(step, outcome),
            _ => {
                let seq = self.seq;
                let Some(i) = record.step().and_then(|s| self.instance_mut(s)) else { return };
                i.take(at, seq, record);
                self.after_probe(at, record);
            }
        }
    }

    fn instance_mut(&mut self, step: &StepPath) -> Option<&mut Instance> {
        let &(node, at) = self.index.get(step)?;
        self.nodes[node].instances.get_mut(at)
    }

    /// A new sitting: whatever ran is interrupted, whatever stuck gets another try.
    fn opened(&mut self, sitting: Sitting) {
        let resumed = self.closed.take();
        self.deadline_waived |= resumed.is_some_and(|c| c.why == Ended::Deadline);
        self.epoch = sitting.epoch;
        self.sitting = Some(sitting);
        self.paused = None;
        let gives_up = self.gives_up();
        for (node, bone) in self.nodes.iter_mut().zip(&self.skeleton.steps) {
            if node.settled && self.rollback.is_none() {
                continue;
            }
            let again = match bone.phase {
                Phase::Main => !gives_up,
                Phase::OnFailure => false,
                Phase::Finally => true,
            };
            for i in &mut node.instances {
                i.reopen(again && !node.settled);
            }
        }
    }

    fn expanded_into(&mut self, step: &StepPath, items: &[Item]) {
        let Some(&node) = self.paths.get(step) else { return };
        // What carried the failure to work the items out, if that came first.
        self.nodes[node].instances.clear();
        self.index.remove(step);
        for (at, item) in items.iter().enumerate() {
            let path = step.item(&item.key);
            self.index.insert(path.clone(), (node, at));
            self.nodes[node].instances.push(Instance::new(path));
        }
        self.nodes[node].items = Some(items.to_vec());
        self.settle(node);
    }

    fn skipped(&mut self, at: Timestamp, step: &StepPath, why: SkippedWhy) {
        let Some(&node) = self.paths.get(step) else { return };
        self.nodes[node].skipped = Some(why);
        let seq = self.seq;
        for i in &mut self.nodes[node].instances {
            i.end(State::Skipped, at, seq);
        }
        self.settle(node);
    }

    fn done(&mut self, at: Timestamp, done: &StepDone) {
        self.bring_into_force(at, &done.step, &done.outcome.in_force, &done.outcome.released);
        let (seq, step) = (self.seq, &done.step);
        let Some(i) = self.instance_mut(step) else { return };
        i.outcome = Some(done.outcome.clone());
        i.by_key_of.clone_from(&done.by_key_of);
        i.unproven = false;
        i.maybe = false;
        i.failure = None;
        i.end(State::Done, at, seq);
        self.settle_of(step);
    }

    fn bring_into_force(&mut self, at: Timestamp, step: &StepPath, new: &[InForce], gone: &[String]) {
        self.forces.retain(|f| !gone.contains(&f.what.key));
        for what in new {
            self.forces.retain(|f| f.what.key != what.key);
            self.forces.push(Force { what: what.clone(), step: step.clone(), since: at });
        }
    }

    fn step_failed_now(&mut self, at: Timestamp, step: &StepPath, failure: Failure) {
        let seq = self.seq;
        if let Some(i) = self.instance_mut(step) {
            i.failure = Some(failure);
            i.end(State::Failed, at, seq);
        } else if let Some(&node) = self.paths.get(step) {
            // The items could not be worked out: one instance under the step's own path carries that.
            let mut i = Instance::new(step.clone());
            i.failure = Some(failure);
            i.end(State::Failed, at, seq);
            self.index.insert(step.clone(), (node, 0));
            self.nodes[node].instances = vec![i];
        }
        self.after_failure(step);
    }

    fn failed_attempt(&mut self, at: Timestamp, failed: &AttemptFailed) {
        let (seq, step) = (self.seq, &failed.step);
        let Some(&(node, item)) = self.index.get(step) else { return };
        let i = &mut self.nodes[node].instances[item];
        let failure = Failure {
            message: failed.message.clone(),
            hint: failed.hint.clone(),
            code: failed.code.clone(),
            refused: None,
        };
        i.unproven = failed.aftermath == Aftermath::Unknown;
        i.maybe = i.unproven;
        i.failure = Some(failure);
        let (not_before, exhausted) = match failed.then {
            Then::Retry(due) => (Some(due), false),
            Then::Stopped => (None, false),
            Then::GiveUp => (None, true),
        };
        if failed.then == Then::Stopped {
            i.tries = i.tries.saturating_sub(1);
        }
        if i.unproven {
            i.state = State::Interrupted { fenced: false, happened: false, not_before, exhausted };
        } else if exhausted {
            i.end(State::Failed, at, seq);
            self.after_failure(step);
        } else {
            i.state = State::Retrying { at: not_before.unwrap_or(at) };
        }
    }

    /// Where a fence or a probe leaves an instance that may not start again in this sitting.
    fn after_probe(&mut self, at: Timestamp, record: &Record) {
        let (step, asks_world) = match record {
            Record::Fenced { step, .. } => (step, false),
            Record::Probed { step, found: Found::Absent, .. } => (step, true),
            _ => return,
        };
        let seq = self.seq;
        let Some(&(node, item)) = self.index.get(step) else { return };
        let probe_first = Self::wants_probe(&self.skeleton.steps[node]) && !asks_world;
        let i = &mut self.nodes[node].instances[item];
        let State::Interrupted { not_before, exhausted, .. } = i.state else { return };
        if probe_first {
            return;
        }
        if asks_world {
            i.maybe = false;
        }
        if exhausted {
            i.end(State::Failed, at, seq);
            self.after_failure(step);
        } else {
            i.state = not_before.map_or(State::Waiting, |at| State::Retrying { at });
        }
    }

    fn after_failure(&mut self, step: &StepPath) {
        let Some(&(node, _)) = self.index.get(step) else { return };
        let bone = &self.skeleton.steps[node];
        if bone.phase == Phase::Main && bone.on_exhausted == OnExhausted::Fail && !bone.continue_on_error {
            self.given_up = true;
        }
        self.settle(node);
    }

    fn resolved_as(&mut self, at: Timestamp, step: &StepPath, verdict: Verdict, outputs: Option<&Value>) {
        let seq = self.seq;
        let Some(i) = self.instance_mut(step) else { return };
        match verdict {
            Verdict::Done => {
                let outputs = outputs.cloned().unwrap_or(Value::Null);
                i.outcome = Some(Outcome { outputs, ..Outcome::default() });
                i.failure = None;
                i.maybe = false;
                i.end(State::Done, at, seq);
            }
            Verdict::Again => {
                i.state = State::Waiting;
                i.tries = 0;
                i.maybe = false;
                i.ended_at = None;
            }
        }
        self.settle_of(step);
    }

    fn open_again(&mut self, step: &StepPath) {
        let Some(&(node, item)) = self.index.get(step) else { return };
        let i = &mut self.nodes[node].instances[item];
        i.state = State::Waiting;
        i.reruns += 1;
        i.tries = 0;
        i.approval = None;
        i.checkpoints.clear();
        i.ended_at = None;
        if self.nodes[node].settled {
            self.nodes[node].settled = false;
            self.frontier.insert(node);
            for &dependent in &self.dependents[node] {
                self.nodes[dependent].open_needs += 1;
            }
        }
    }

    fn undone(&mut self, step: &StepPath, outcome: &Outcome) {
        self.forces.retain(|f| &f.step != step && !outcome.released.contains(&f.what.key));
        if let Some(i) = self.instance_mut(step) {
            i.undo = Some(UndoState::Done);
            i.unproven = false;
        }
    }

    fn settle_of(&mut self, step: &StepPath) {
        if let Some(&(node, _)) = self.index.get(step) {
            self.settle(node);
        }
    }

    /// Settles a step when all its instances are, and lets what depends on it go on.
    fn settle(&mut self, node: usize) {
        let bone = &self.skeleton.steps[node];
        let known =
            bone.each.is_none() || self.nodes[node].items.is_some() || self.nodes[node].skipped.is_some();
        let all = self.nodes[node].instances.iter().all(|i| match i.state {
            State::Done | State::Skipped => true,
            State::Failed => bone.continue_on_error && !i.unproven,
            _ => false,
        });
        let tolerated = bone.continue_on_error && !self.nodes[node].instances.is_empty();
        if self.nodes[node].settled || !all || !(known || tolerated) {
            return;
        }
        self.nodes[node].settled = true;
        self.frontier.remove(&node);
        for &dependent in &self.dependents[node] {
            self.nodes[dependent].open_needs -= 1;
            if self.nodes[dependent].open_needs == 0 && !self.nodes[dependent].settled {
                self.frontier.insert(dependent);
            }
        }
    }
}

impl Instance {
    fn end(&mut self, state: State, at: Timestamp, seq: u64) {
        self.state = state;
        self.ended_at = Some(at);
        self.settled_seq = seq;
    }

    /// The kinds that change nothing but the instance.
    fn take(&mut self, at: Timestamp, seq: u64, record: &Record) {
        match record {
            Record::ApprovalRequested(request) => {
                self.state = State::Asked;
                let request = request.as_ref().clone();
                self.approval = Some(Approval { request, asked_at: at, given: Vec::new(), used: false });
            }
            Record::ApprovalGiven { by, reason, choice, .. } => {
                self.answered(Answer { by: by.clone(), at, reason: reason.clone(), choice: choice.clone() });
            }
            Record::ApprovalDenied { by, reason, .. } => {
                let why = reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default();
                self.failure = Some(Failure::new(format!("{by} said no{why}"), None));
                self.approval = None;
                self.end(State::Refused, at, seq);
            }
            Record::ApprovalExpired { .. } => self.expired(at, seq),
            Record::ApprovalVoided { .. } => {
                self.approval = None;
                if self.state == State::Asked {
                    self.state = State::Waiting;
                }
            }
            Record::AttemptStarted(start) => self.started(at, seq, start),
            Record::Checkpoint { name, value, .. } => {
                self.checkpoints.insert(name.clone(), value.clone());
            }
            Record::Fenced { .. } => {
                self.unproven = false;
                if let State::Interrupted { fenced, .. } = &mut self.state {
                    *fenced = true;
                }
            }
            Record::Probed { found, why, .. } => self.probed(at, seq, *found, why.as_ref()),
            Record::StepInDoubt { why, .. } => {
                self.failure = Some(Failure::new(why.clone(), None));
                self.end(State::InDoubt, at, seq);
            }
            Record::StepRefused { why, message, hint, .. } => {
                let failure = Failure::new(message.clone(), hint.clone());
                self.failure = Some(Failure { refused: Some(*why), ..failure });
                self.end(State::Refused, at, seq);
            }
            Record::UndoStarted { epoch, .. } => {
                self.undo = Some(UndoState::Started(*epoch));
                self.unproven = true;
            }
            Record::UndoFailed { message, .. } => self.undo = Some(UndoState::Failed(message.clone())),
            Record::UndoSkipped { why, .. } => self.undo = Some(UndoState::Skipped(why.clone())),
            _ => {}
        }
    }

    fn started(&mut self, at: Timestamp, seq: u64, start: &AttemptStarted) {
        self.state = State::Running;
        self.attempts = start.attempt;
        self.tries += 1;
        self.unproven = true;
        self.maybe = true;
        self.failure = None;
        self.ended_at = None;
        self.settled_seq = seq;
        self.first_started_at.get_or_insert(at);
        if let Some(approval) = &mut self.approval {
            approval.used = true;
        }
        self.last = Some(Attempt {
            number: start.attempt,
            epoch: start.epoch,
            at,
            key: start.key.clone(),
            params: start.params.clone(),
            params_digest: start.params_digest.clone(),
            rerun: self.reruns,
        });
    }

    fn answered(&mut self, answer: Answer) {
        let Some(approval) = &mut self.approval else { return };
        approval.given.push(answer);
        if approval.granted() {
            self.state = State::Waiting;
        }
    }

    /// An open question that nobody answered is a refusal; an answer that went stale is asked for anew.
    fn expired(&mut self, at: Timestamp, seq: u64) {
        if self.state == State::Asked {
            self.failure = Some(Failure::new("nobody answered in time", None));
            self.end(State::Refused, at, seq);
        }
        self.approval = None;
    }

    fn probed(&mut self, at: Timestamp, seq: u64, found: Found, why: Option<&String>) {
        match found {
            Found::Happened => {
                if let State::Interrupted { happened, .. } = &mut self.state {
                    *happened = true;
                }
            }
            Found::Absent => {}
            Found::Unclear => {
                let why = why.cloned().unwrap_or_else(|| "the probe could not tell".to_owned());
                self.failure = Some(Failure::new(why, None));
                self.end(State::InDoubt, at, seq);
            }
        }
    }

    fn reopen(&mut self, again: bool) {
        if let Some(UndoState::Started(_) | UndoState::Failed(_)) = self.undo {
            // `unproven` stands, so it is fenced before it is done again.
            self.undo = None;
        }
        match self.state {
            State::Running => {
                self.state =
                    State::Interrupted { fenced: false, happened: false, not_before: None, exhausted: false };
            }
            State::Interrupted { fenced, .. } => {
                self.state =
                    State::Interrupted { fenced, happened: false, not_before: None, exhausted: false };
            }
            State::Retrying { .. } if again => self.state = State::Waiting,
            State::Failed if again && self.unproven => {
                self.state =
                    State::Interrupted { fenced: false, happened: false, not_before: None, exhausted: false };
            }
            State::Failed | State::Refused if again => {
                self.state = State::Waiting;
                self.ended_at = None;
            }
            _ => {}
        }
        self.tries = 0;
    }
}
