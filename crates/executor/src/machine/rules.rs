//! Which record is legal now. The driver and every request ask before they append, so that the journal
//! never holds what a replay would refuse.

use jiff::Timestamp;
use runbook_core::action::{Aftermath, Effect};
use runbook_core::key::params_digest;
use runbook_core::workflow::{Phase, StepPath};
use sha2::{Digest as _, Sha256};

use super::next::Stage;
use super::skeleton::Bone;
use super::state::{Instance, Machine, Node, State, UndoState};
use crate::record::{
    ApprovalRequested, AttemptFailed, AttemptStarted, Final, Found, Record, SkippedWhy, StepDone, Then,
};

/// A record that does not fit the state; a lower-case fragment that can follow "could not".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("accept `{kind}`{}: {why}", step.as_ref().map(|s| format!(" for step `{s}`")).unwrap_or_default())]
pub struct IllegalRecord {
    /// Its kind.
    pub kind: &'static str,
    /// The step that it is about.
    pub step: Option<StepPath>,
    /// What stands against it.
    pub why: String,
}

type Rule = Result<(), String>;

/// What an approval is bound to: the plan and the rendered parameters.
pub fn approval_digest(plan: &str, step: &StepPath, params_digest: &str) -> String {
    let mut hash = Sha256::new();
    for part in [plan, step.as_str(), params_digest] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

fn ensure(holds: bool, why: impl Into<String>) -> Rule {
    if holds { Ok(()) } else { Err(why.into()) }
}

impl Machine {
    /// Whether a record may be appended now. `at` is the record's own time.
    pub fn check(&self, at: Timestamp, record: &Record) -> Result<(), IllegalRecord> {
        self.rule(at, record).map_err(|why| IllegalRecord {
            kind: record.kind(),
            step: record.step().cloned(),
            why,
        })
    }

    fn rule(&self, at: Timestamp, record: &Record) -> Rule {
        if let Record::RunStarted(_) = record {
            return ensure(self.started.is_none(), "the run is started already");
        }
        ensure(self.started.is_some(), "the run is not started")?;
        if let Some(finished) = self.finished {
            return self.rule_when_finished(finished, record);
        }
        match record {
            Record::RunStarted(_) | Record::Noted { .. } | Record::GuardWaived { .. } => Ok(()),
            Record::PauseRequested { .. } => ensure(self.paused.is_none(), "the run is paused already"),
            Record::CancelRequested { .. } => ensure(self.cancels < 2, "the run is cancelled already"),
            Record::RollbackRequested { .. } => self.rollback_requested(),
            Record::Opened { epoch, .. } => {
                ensure(*epoch > self.epoch, format!("epoch {epoch} is not newer than {}", self.epoch))
            }
            Record::Resolved { step, .. } => self.resolved(self.find(step)?.2),
            Record::Rerun { step, .. } => self.rerun(self.find(step)?),
            Record::ApprovalGiven { step, digest, by, choice, .. } => {
                self.answer(at, self.find(step)?, digest, by)?;
                self.choice(step, choice.as_deref())
            }
            Record::ApprovalDenied { step, digest, by, .. } => self.answer(at, self.find(step)?, digest, by),
            _ => {
                ensure(self.sitting.is_some(), "no engine works on the run")?;
                self.engine_rule(at, record)
            }
        }
    }

    fn rule_when_finished(&self, finished: Final, record: &Record) -> Rule {
        match record {
            Record::Noted { .. } => Ok(()),
            Record::RollbackRequested { .. } => match finished {
                Final::Succeeded => Err("the run succeeded, and what a rollback needs is destroyed".into()),
                Final::RolledBack => Err("the run is rolled back already".into()),
                Final::Failed | Final::Cancelled => self.rollback_requested(),
            },
            _ => Err("the run is finished".into()),
        }
    }

    fn engine_rule(&self, at: Timestamp, record: &Record) -> Rule {
        match record {
            Record::Closed { epoch, .. } => self.same_epoch(*epoch),
            Record::RunFinished { outcome } => self.run_finished(*outcome),
            Record::Condition { step, .. } => self.condition(step),
            Record::Expanded { step, items } => {
                let keys: std::collections::HashSet<_> = items.iter().map(|i| i.key.as_str()).collect();
                ensure(keys.len() == items.len(), "two items have the same key")?;
                self.expanded(step)
            }
            Record::StepSkipped { step, why } => self.step_skipped(step, *why),
            Record::ApprovalRequested(asked) => self.approval_requested(asked),
            Record::ApprovalExpired { step } => self.approval_expired(at, self.find(step)?.2),
            Record::ApprovalVoided { step, .. } => {
                let instance = self.find(step)?.2;
                ensure(instance.approval.is_some() && !is_running(instance), "nothing is asked about it")
            }
            Record::AttemptStarted(start) => self.attempt_started(at, start),
            Record::Checkpoint { step, .. } => {
                ensure(is_running(self.find(step)?.2), "no attempt of it runs")
            }
            Record::AttemptFailed(failed) => self.attempt_failed(failed),
            Record::Fenced { step, epoch, .. } => {
                self.same_epoch(*epoch)?;
                ensure(needs_fence(self.find(step)?.2), "nothing of it is to be proven dead")
            }
            Record::Probed { step, .. } => self.probed(self.find(step)?),
            Record::StepInDoubt { step, .. } => self.step_in_doubt(self.find(step)?),
            Record::StepDone(done) => self.step_done(at, done),
            Record::StepRefused { step, .. } => self.at_rest(self.find(step)?),
            Record::StepFailed { step, .. } => self.step_failed(step),
            Record::UndoStarted { step, epoch } => self.undo_started(self.find(step)?.2, *epoch),
            Record::Undone { step, .. } | Record::UndoFailed { step, .. } => {
                let undo = &self.find(step)?.2.undo;
                ensure(matches!(undo, Some(UndoState::Started(_))), "no undo of it runs")
            }
            Record::UndoSkipped { step, .. } => self.next_to_undo(self.find(step)?.2),
            _ => Err("an engine does not write it".into()),
        }
    }

    fn find(&self, step: &StepPath) -> Result<(&Bone, &Node, &Instance), String> {
        let &(node, at) = self.index.get(step).ok_or("the run has no such step")?;
        Ok((&self.skeleton.steps[node], &self.nodes[node], &self.nodes[node].instances[at]))
    }

    fn live(&self, step: &StepPath) -> Result<(&Bone, &Node), String> {
        let &node = self.paths.get(step).ok_or("the run has no such step")?;
        ensure(!self.nodes[node].settled, "it is settled")?;
        ensure(self.nodes[node].open_needs == 0, "a step that it needs is not done")?;
        Ok((&self.skeleton.steps[node], &self.nodes[node]))
    }

    fn same_epoch(&self, epoch: u64) -> Rule {
        ensure(
            self.sitting.as_ref().is_some_and(|s| s.epoch == epoch),
            format!("epoch {epoch} does not hold the run"),
        )
    }

    fn rollback_requested(&self) -> Rule {
        ensure(self.rollback.is_none(), "the rollback was asked for already")?;
        let passed =
            self.instances().find(|(at, i)| self.bone_at(*at).point_of_no_return && i.may_have_effect());
        match passed {
            Some((_, i)) => Err(format!("step `{}` is a point of no return, and is or may be done", i.path)),
            None => Ok(()),
        }
    }

    fn resolved(&self, instance: &Instance) -> Rule {
        let fits = match instance.state {
            State::InDoubt => true,
            State::Failed => instance.attempts > 0 && !instance.unproven,
            _ => false,
        };
        ensure(fits, format!("it is neither in doubt nor failed, but {}", instance.state.word()))
    }

    fn rerun(&self, (bone, _, instance): (&Bone, &Node, &Instance)) -> Rule {
        ensure(bone.calls && bone.phase == Phase::Main, "only a step of the main phase can be done again")?;
        ensure(!self.gives_up(), "the run is being given up")?;
        ensure(self.stage() == Stage::Main, "the main phase is over")?;
        ensure(instance.state == State::Done, "it is not done")
    }

    fn answer(&self, at: Timestamp, (bone, _, i): (&Bone, &Node, &Instance), digest: &str, by: &str) -> Rule {
        let asked = match &i.approval {
            Some(a) if i.state == State::Asked => a,
            _ => return Err("nothing is asked about it now".into()),
        };
        let request = &asked.request;
        ensure(bone.phase != Phase::Main || !self.gives_up(), "the run is being given up")?;
        ensure(request.digest == digest, "the answer is to another question: what is asked about changed")?;
        ensure(at < request.expires_at, "the question has expired")?;
        let named = request.approvers.is_empty() || request.approvers.iter().any(|a| a == by);
        ensure(named, format!("`{by}` may not answer; {} may", request.approvers.join(", ")))?;
        let starter = self.started.as_ref().is_some_and(|s| s.actor == by);
        ensure(
            !(request.four_eyes && starter),
            format!("`{by}` started the run, and somebody else must answer"),
        )?;
        ensure(asked.given.iter().all(|g| g.by != by), format!("`{by}` has answered already"))
    }

    /// A question with options is answered by one of them, any other by yes.
    fn choice(&self, step: &StepPath, choice: Option<&str>) -> Rule {
        let (_, _, instance) = self.find(step)?;
        let options = instance.approval.as_ref().map_or(&[][..], |asked| asked.request.options.as_slice());
        let names = || options.iter().map(|option| option.name.as_str()).collect::<Vec<_>>().join(", ");
        match choice {
            None => ensure(options.is_empty(), format!("it asks which: {}", names())),
            Some(chosen) => {
                ensure(!options.is_empty(), "it asks for yes or no, and has no options")?;
                let known = options.iter().any(|option| option.name == chosen);
                ensure(known, format!("`{chosen}` is none of its options: {}", names()))
            }
        }
    }

    fn condition(&self, step: &StepPath) -> Rule {
        let (bone, node) = self.live(step)?;
        ensure(bone.conditional && node.condition.is_none(), "its `if` is decided, or it has none")
    }

    fn expanded(&self, step: &StepPath) -> Rule {
        let (bone, node) = self.live(step)?;
        ensure(bone.each.is_some() && node.items.is_none(), "its items are known, or it has none")?;
        ensure(!bone.conditional || node.condition == Some(true), "its `if` is not true")
    }

    fn step_skipped(&self, step: &StepPath, why: SkippedWhy) -> Rule {
        let (bone, node) = self.live(step)?;
        let fits = match why {
            SkippedWhy::Condition => node.condition == Some(false),
            SkippedWhy::Within => self.stage() == Stage::of(bone.phase) && self.is_outside(bone),
        };
        ensure(fits && node.instances.iter().all(|i| i.attempts == 0), "it applies")
    }

    /// The instance may be asked about, refused or started: nothing runs, everything before it is decided.
    fn at_rest(&self, (bone, node, i): (&Bone, &Node, &Instance)) -> Rule {
        ensure(
            matches!(i.state, State::Waiting | State::Retrying { .. }),
            format!("it is {}", i.state.word()),
        )?;
        ensure(node.open_needs == 0, "a step that it needs is not done")?;
        ensure(!bone.conditional || node.condition == Some(true), "its `if` is not true")?;
        ensure(bone.each.is_none() || node.items.is_some(), "its items are not known")?;
        ensure(!self.is_outside(bone), "the runbook that it belongs to is skipped")
    }

    fn approval_requested(&self, asked: &ApprovalRequested) -> Rule {
        let found = self.find(&asked.step)?;
        self.at_rest(found)?;
        ensure(
            found.0.asks && found.2.approval.is_none(),
            "it is asked about already, or needs no approval",
        )?;
        ensure(asked.min > 0, "nobody would have to say yes")?;
        ensure(self.may_start(found.0.phase), "the run is paused or being given up")
    }

    fn approval_expired(&self, at: Timestamp, instance: &Instance) -> Rule {
        let asked = instance.approval.as_ref().ok_or("nothing is asked about it")?;
        ensure(!asked.used && !is_running(instance), "it started on that approval")?;
        ensure(at >= asked.request.expires_at, "the question still stands")
    }

    fn attempt_started(&self, at: Timestamp, start: &AttemptStarted) -> Rule {
        let found = self.find(&start.step)?;
        let (bone, node, i) = found;
        self.at_rest(found)?;
        self.same_epoch(start.epoch)?;
        ensure(bone.calls, "it calls no action")?;
        ensure(self.stage() == Stage::of(bone.phase), "its phase has not begun, or is over")?;
        ensure(self.may_start(bone.phase), "the run is paused or being given up")?;
        ensure(start.attempt == i.attempts + 1, format!("attempt {} comes next", i.attempts + 1))?;
        ensure(i.tries < bone.attempts_max, "its attempts are used up")?;
        ensure(!i.unproven, "an earlier attempt may still be alive")?;
        if let State::Retrying { at: due } = i.state {
            ensure(at >= due, "its next attempt is not due")?;
        }
        if let Some(most) = bone.each {
            let running = node.instances.iter().filter(|i| is_running(i)).count();
            ensure(running < most as usize, "as many items as allowed are in flight")?;
        }
        if let Some(last) = i.last.as_ref().filter(|l| l.rerun == i.reruns) {
            ensure(last.key == start.key, "its idempotency key must not change")?;
            let same = last.params_digest == start.params_digest;
            ensure(same, "its parameters changed under the same idempotency key")?;
        }
        self.approved(at, bone, i, &start.params_digest)
    }

    /// What needs an approval has one, for exactly these parameters, that has not gone stale.
    fn approved(&self, at: Timestamp, bone: &Bone, i: &Instance, params_digest: &str) -> Rule {
        if !bone.asks {
            return Ok(());
        }
        let plan = self.started.as_ref().map_or("", |s| s.digest.as_str());
        let approval = i.approval.as_ref().filter(|a| a.granted()).ok_or("it is not approved")?;
        let bound = approval.request.digest == approval_digest(plan, &i.path, params_digest);
        ensure(bound, "the approval is for other parameters")?;
        ensure(approval.used || at < approval.request.expires_at, "the approval has expired")
    }

    fn attempt_failed(&self, failed: &AttemptFailed) -> Rule {
        let (bone, _, i) = self.find(&failed.step)?;
        ensure(is_running(i) && i.attempts == failed.attempt, "that attempt does not run")?;
        if let Then::Retry(_) = failed.then {
            ensure(i.tries < bone.attempts_max, "its attempts are used up")?;
            ensure(failed.aftermath != Aftermath::Refused, "trying again cannot help")?;
        }
        Ok(())
    }

    fn probed(&self, (bone, _, i): (&Bone, &Node, &Instance)) -> Rule {
        ensure(bone.probe, "it has no probe")?;
        ensure(
            matches!(i.state, State::Interrupted { fenced: true, .. }),
            "it is not in doubt, or not fenced",
        )
    }

    fn step_in_doubt(&self, (bone, _, i): (&Bone, &Node, &Instance)) -> Rule {
        let fits = match i.state {
            State::Interrupted { fenced, .. } => fenced,
            State::Running => bone.effect == Effect::Once,
            _ => false,
        };
        ensure(fits, "its outcome is known, or can be found out")
    }

    fn step_done(&self, at: Timestamp, done: &StepDone) -> Rule {
        let found = self.find(&done.step)?;
        let (bone, _, i) = found;
        if !bone.calls {
            self.at_rest(found)?;
            ensure(self.may_start(bone.phase), "the run is paused or being given up")?;
            // What a used runbook is entered with are its outputs.
            return self.approved(at, bone, i, &params_digest(&done.outcome.outputs));
        }
        if done.by_key_of.is_some() {
            self.at_rest(found)?;
            ensure(self.stage() == Stage::of(bone.phase), "its phase has not begun, or is over")?;
            ensure(self.may_start(bone.phase), "the run is paused or being given up")?;
            let granted = i.approval.as_ref().is_some_and(super::state::Approval::granted);
            return ensure(!bone.asks || granted, "it is not approved");
        }
        let fits = matches!(i.state, State::Running | State::Interrupted { happened: true, .. });
        ensure(fits, "no attempt of it runs")
    }

    fn step_failed(&self, step: &StepPath) -> Rule {
        // About a step as a whole when its `if` or its items cannot be worked out.
        let Ok((_, node, i)) = self.find(step) else {
            return self.live(step).and_then(|(bone, node)| {
                ensure(bone.each.is_some() && node.items.is_none(), "its items are known")
            });
        };
        if let State::Interrupted { .. } = i.state {
            return Ok(());
        }
        ensure(node.open_needs == 0, "a step that it needs is not done")?;
        let open = matches!(i.state, State::Waiting | State::Retrying { .. });
        ensure(open, format!("it is {}", i.state.word()))
    }

    fn next_to_undo(&self, instance: &Instance) -> Rule {
        ensure(self.rollback.is_some(), "no rollback was asked for")?;
        ensure(self.stage() == Stage::Undo, "a step still runs")?;
        let first = self.undo_order().first().is_some_and(|(_, i)| i.path == instance.path);
        ensure(first, "another step is taken back before it")
    }

    fn undo_started(&self, instance: &Instance, epoch: u64) -> Rule {
        self.same_epoch(epoch)?;
        self.next_to_undo(instance)?;
        ensure(self.paused.is_none() && self.cancels < 2, "the run is paused")?;
        ensure(!instance.unproven, "earlier work of it may still be alive")?;
        ensure(instance.undo.is_none(), "it is being taken back already")
    }

    fn run_finished(&self, outcome: Final) -> Rule {
        ensure(self.stage() == Stage::Over, "steps are left to do")?;
        ensure(outcome == self.outcome(), "that is not how it ended")
    }
}

fn is_running(instance: &Instance) -> bool {
    instance.state == State::Running
}

/// Something of an earlier attempt, or of an undo that was cut off, has to be proven dead first.
pub(super) fn needs_fence(i: &Instance) -> bool {
    let undoing = matches!(i.undo, Some(UndoState::Started(_)));
    i.unproven && !is_running(i) && !undoing
}

impl State {
    /// The state in one or two words.
    pub fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Asked => "waiting for approval",
            Self::Running => "running",
            Self::Retrying { .. } => "waiting for its next attempt",
            Self::Interrupted { .. } => "interrupted",
            Self::InDoubt => "in doubt",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Found {
    /// The answer in one word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Happened => "happened",
            Self::Absent => "absent",
            Self::Unclear => "unclear",
        }
    }
}
