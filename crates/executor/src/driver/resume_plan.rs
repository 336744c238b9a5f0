//! What a resume would do, step by step, without doing it.

use runbook_core::action::Effect;
use runbook_core::workflow::StepPath;
use serde::Serialize;

use super::engine::{Engine, EngineError};
use crate::machine::{Bone, Instance, Machine, State};

/// What would happen to a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResumeWhat {
    /// It is done, skipped or tolerated, and stays so.
    Keep,
    /// Remains of its last attempt are proven dead, then it is repeated with the same key.
    ProveDeadAndRepeat,
    /// Remains of its last attempt are proven dead, then its probe decides.
    ProveDeadAndProbe,
    /// It is tried again.
    Repeat,
    /// People are asked.
    Ask,
    /// A person has to say whether its effect happened.
    Resolve,
    /// It starts when what it needs is done.
    Start,
    /// The run is given up: it does not start.
    Leave,
}

/// One step of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResumeLine {
    /// The step instance, or the step when its items are not known.
    pub step: StepPath,
    /// What would happen.
    pub what: ResumeWhat,
    /// Why, in a phrase.
    pub why: String,
}

impl Engine {
    /// What a resume would keep, prove dead, probe, repeat or ask. Does nothing.
    pub fn resume_plan(&self, run: &str) -> Result<Vec<ResumeLine>, EngineError> {
        let loaded = self.load(run)?;
        let machine = &loaded.machine;
        let mut lines = Vec::new();
        for node in machine.nodes() {
            for instance in node.instances {
                let (what, why) = fate(machine, node.bone, instance, node.settled);
                lines.push(ResumeLine { step: instance.path.clone(), what, why: why.to_owned() });
            }
            if node.instances.is_empty() {
                let (what, why) = match node.settled {
                    true => (ResumeWhat::Keep, "it has no items, or does not apply"),
                    false => (ResumeWhat::Start, "its items are not known yet"),
                };
                lines.push(ResumeLine { step: node.bone.path.clone(), what, why: why.to_owned() });
            }
        }
        Ok(lines)
    }
}

fn fate(machine: &Machine, bone: &Bone, i: &Instance, settled: bool) -> (ResumeWhat, &'static str) {
    let leaves = machine.finished().is_some()
        || (machine.gives_up() && bone.phase == runbook_core::workflow::Phase::Main);
    match i.state {
        State::Done => (ResumeWhat::Keep, "it is done"),
        State::Skipped => (ResumeWhat::Keep, "it does not apply"),
        State::Failed if settled => (ResumeWhat::Keep, "it failed, and the run goes on without it"),
        State::Running | State::Interrupted { .. } => interrupted(bone),
        State::InDoubt => (ResumeWhat::Resolve, "nobody but a person can tell whether its effect happened"),
        State::Failed if i.unproven => interrupted(bone),
        _ if leaves => (ResumeWhat::Leave, "the run is given up"),
        State::Failed => (ResumeWhat::Repeat, "it failed"),
        State::Refused => (ResumeWhat::Repeat, "it was refused; its conditions are checked again"),
        State::Retrying { .. } => (ResumeWhat::Repeat, "its last attempt failed"),
        State::Asked => (ResumeWhat::Ask, "its approval is open"),
        State::Waiting
            if bone.asks && !i.approval.as_ref().is_some_and(crate::machine::Approval::granted) =>
        {
            (ResumeWhat::Ask, "it wants an approval first")
        }
        State::Waiting => (ResumeWhat::Start, "it has not started"),
    }
}

fn interrupted(bone: &Bone) -> (ResumeWhat, &'static str) {
    match (bone.probe, bone.effect) {
        (true, _) => (ResumeWhat::ProveDeadAndProbe, "it was in flight; its probe tells whether it happened"),
        (false, Effect::Once) => {
            (ResumeWhat::Resolve, "it was in flight, must not happen twice, and has no probe")
        }
        (false, _) => (ResumeWhat::ProveDeadAndRepeat, "it was in flight; repeating it is safe"),
    }
}
