//! What may be done now. Commands are offers, computed from the state alone: the same ones come again until
//! a record changes the state, so whoever carries them out remembers what is under way.

use jiff::Timestamp;
use runbook_core::workflow::{OnExhausted, Phase, StepPath};

use super::rules::needs_fence;
use super::skeleton::{Bone, UndoPlan};
use super::state::{Instance, Machine, Node, State, UndoState};
use crate::record::{Ended, Final, SkippedWhy};

/// One thing to do, and the records that follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Command {
    /// Work out `if`: `condition` or `step_failed`.
    Decide(StepPath),
    /// Work out the items: `expanded` or `step_failed`.
    Expand(StepPath),
    /// `step_skipped`.
    Skip(StepPath, SkippedWhy),
    /// Enter or leave a runbook used as a step: `step_done` or `step_failed`.
    Evaluate(StepPath),
    /// Check, render, ask: `approval_requested`, `step_refused` or `step_failed`.
    Ask(StepPath),
    /// `approval_expired`.
    Expire(StepPath),
    /// Check, render, start: `attempt_started`, or `approval_voided`, `step_refused`, `step_failed`,
    /// `step_done` under a key that was used before.
    Start(StepPath),
    /// Prove earlier attempts dead: `fenced` or `step_failed` (`undo_failed` in a rollback).
    Fence(StepPath),
    /// Ask the world: `probed` (with `step_done`).
    Probe(StepPath),
    /// Nobody can tell: `step_in_doubt`.
    Doubt(StepPath),
    /// Take the effect back: `undo_started`, then `undone` or `undo_failed`.
    Undo(StepPath),
    /// `undo_skipped`.
    KeepEffect(StepPath, String),
    /// `run_finished`.
    Finish(Final),
    /// `closed`: nothing can go on in this sitting.
    Stop(Ended),
}

impl Command {
    /// The step that it is about.
    pub fn step(&self) -> Option<&StepPath> {
        match self {
            Self::Decide(s)
            | Self::Expand(s)
            | Self::Skip(s, _)
            | Self::Evaluate(s)
            | Self::Ask(s)
            | Self::Expire(s)
            | Self::Start(s)
            | Self::Fence(s)
            | Self::Probe(s)
            | Self::Doubt(s)
            | Self::Undo(s)
            | Self::KeepEffect(s, _) => Some(s),
            Self::Finish(_) | Self::Stop(_) => None,
        }
    }
}

/// What may be done, and what is waited for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Next {
    /// What may be done now, in the order of the workflow.
    pub commands: Vec<Command>,
    /// When to ask again, if nothing happens before.
    pub wake_at: Option<Timestamp>,
    /// Attempts and undos in flight.
    pub running: usize,
    /// Questions that people have not answered.
    pub asked: usize,
}

impl Next {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }

    /// Only people can move the run on, or time can take the question back.
    pub fn is_waiting_for_people(&self) -> bool {
        self.commands.is_empty() && self.running == 0 && self.asked > 0
    }
}

/// Which part of the run it is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Main,
    Undo,
    OnFailure,
    Finally,
    Over,
}

impl Stage {
    pub(super) fn of(phase: Phase) -> Self {
        match phase {
            Phase::Main => Self::Main,
            Phase::OnFailure => Self::OnFailure,
            Phase::Finally => Self::Finally,
        }
    }
}

impl Machine {
    /// What may be done at this moment.
    pub fn next(&self, now: Timestamp) -> Next {
        let mut next = Next::default();
        if self.started.is_none() || self.sitting.is_none() || self.finished.is_some() {
            return next;
        }
        match self.stage() {
            Stage::Main => self.phase_commands(Phase::Main, now, &mut next),
            Stage::OnFailure => self.phase_commands(Phase::OnFailure, now, &mut next),
            Stage::Finally => self.phase_commands(Phase::Finally, now, &mut next),
            Stage::Undo => self.undo_commands(&mut next),
            Stage::Over => next.commands.push(Command::Finish(self.outcome())),
        }
        if next.commands.is_empty() && next.running == 0 {
            if self.paused.is_some() {
                next.commands.push(Command::Stop(Ended::Paused));
            } else if self.is_late(now) && self.stage() == Stage::Main && !self.gives_up() {
                next.commands.push(Command::Stop(Ended::Deadline));
            } else if next.wake_at.is_none() && next.asked == 0 {
                next.commands.push(Command::Stop(self.stuck_on()));
            }
        }
        next
    }

    fn is_late(&self, now: Timestamp) -> bool {
        let (Some(deadline), Some(started)) = (self.skeleton.deadline, &self.started) else { return false };
        !self.deadline_waived && now.duration_since(started.at).unsigned_abs() >= deadline && now > started.at
    }

    fn phase_commands(&self, phase: Phase, now: Timestamp, next: &mut Next) {
        let may = self.may_start(phase) && !(phase == Phase::Main && self.is_late(now));
        for &at in &self.frontier {
            if self.bone_at(at).phase == phase {
                self.node_commands(at, may, now, next);
            }
        }
    }

    fn node_commands(&self, at: usize, may: bool, now: Timestamp, next: &mut Next) {
        let (bone, node) = (self.bone_at(at), &self.nodes[at]);
        let may = may && node.open_needs == 0;
        let stuck = node.instances.iter().any(|i| matches!(i.state, State::Failed | State::Refused));
        if may && self.is_outside(bone) {
            return next.commands.push(Command::Skip(bone.path.clone(), SkippedWhy::Within));
        }
        if may && bone.conditional && node.condition != Some(true) && !stuck {
            return next.commands.push(match node.condition {
                None => Command::Decide(bone.path.clone()),
                Some(_) => Command::Skip(bone.path.clone(), SkippedWhy::Condition),
            });
        }
        if may && bone.each.is_some() && node.items.is_none() && !stuck {
            return next.commands.push(Command::Expand(bone.path.clone()));
        }
        let mut slots = bone.each.map_or(usize::MAX, |most| {
            let taken = node.instances.iter().filter(|i| matches!(i.state, State::Running)).count();
            (most as usize).saturating_sub(taken)
        });
        for instance in &node.instances {
            if may && matches!(instance.state, State::Waiting | State::Retrying { .. }) {
                Self::start_commands(bone, instance, now, &mut slots, next);
            } else {
                Self::open_commands(bone, instance, may, now, next);
            }
        }
    }

    /// For an instance that something is under way with, or has to be found out about.
    fn open_commands(bone: &Bone, i: &Instance, may: bool, now: Timestamp, next: &mut Next) {
        let path = || i.path.clone();
        match i.state {
            State::Running => next.running += 1,
            State::Interrupted { fenced: false, .. } => next.commands.push(Command::Fence(path())),
            State::Interrupted { .. } if bone.probe => next.commands.push(Command::Probe(path())),
            State::Interrupted { .. } => next.commands.push(Command::Doubt(path())),
            State::Asked => Self::asked_commands(i, may, now, next),
            _ => {}
        }
    }

    /// For an instance that may start: what comes first.
    fn start_commands(bone: &Bone, i: &Instance, now: Timestamp, slots: &mut usize, next: &mut Next) {
        let stale = i.approval.as_ref().is_some_and(|a| !a.used && now >= a.request.expires_at);
        if stale {
            next.commands.push(Command::Expire(i.path.clone()));
        } else if bone.asks && i.approval.is_none() {
            next.commands.push(Command::Ask(i.path.clone()));
        } else if !bone.calls {
            next.commands.push(Command::Evaluate(i.path.clone()));
        } else if let State::Retrying { at } = i.state
            && at > now
        {
            next.wake(at);
        } else if *slots > 0 {
            *slots -= 1;
            next.commands.push(Command::Start(i.path.clone()));
        }
    }

    fn asked_commands(i: &Instance, may: bool, now: Timestamp, next: &mut Next) {
        let Some(approval) = i.approval.as_ref().filter(|_| may) else { return };
        if now >= approval.request.expires_at {
            next.commands.push(Command::Expire(i.path.clone()));
        } else {
            next.asked += 1;
            next.wake(approval.request.expires_at);
        }
    }

    fn undo_commands(&self, next: &mut Next) {
        let order = self.undo_order();
        let Some((at, first)) = order.first() else { return };
        match &first.undo {
            Some(UndoState::Started(_)) => next.running += 1,
            Some(UndoState::Failed(_)) => {}
            _ if self.paused.is_some() || self.cancels >= 2 => {}
            _ if needs_fence(first) => next.commands.push(Command::Fence(first.path.clone())),
            _ => next.commands.push(match &self.bone_at(*at).undo {
                UndoPlan::Keep(why) => Command::KeepEffect(first.path.clone(), why.clone()),
                _ => Command::Undo(first.path.clone()),
            }),
        }
    }

    /// The runbook that the step belongs to was skipped or, for a later phase, never entered.
    pub(super) fn is_outside(&self, bone: &Bone) -> bool {
        bone.within.is_some_and(|begin| {
            let begin = &self.nodes[begin];
            begin.skipped.is_some() || (bone.phase != Phase::Main && !begin.settled)
        })
    }

    /// Nothing of a phase runs or has to be found out.
    fn phase_is_quiet(&self, phase: Phase) -> bool {
        self.frontier.iter().filter(|&&at| self.bone_at(at).phase == phase).all(|&at| {
            let states = self.nodes[at].instances.iter().map(|i| i.state);
            states.into_iter().all(|s| !matches!(s, State::Running | State::Interrupted { .. }))
        })
    }

    pub(super) fn stage(&self) -> Stage {
        let main_left = self.frontier.iter().any(|&at| self.bone_at(at).phase == Phase::Main);
        if self.gives_up() {
            if !self.phase_is_quiet(Phase::Main) {
                return Stage::Main;
            }
            if self.has_to_undo() {
                // A handler that runs already comes to its end first.
                let handlers = [Phase::OnFailure, Phase::Finally];
                let busy = handlers.into_iter().find(|&phase| !self.phase_is_quiet(phase));
                return busy.map_or(Stage::Undo, Stage::of);
            }
            if self.rollback.is_none() && main_left && !self.is_over(Phase::OnFailure) {
                return Stage::OnFailure;
            }
        } else if main_left {
            return Stage::Main;
        }
        if self.is_over(Phase::Finally) { Stage::Over } else { Stage::Finally }
    }

    /// Nothing more is to happen in one of the last two phases. A failure in `on_failure` does not keep
    /// `finally` from running; one in `finally` keeps the run open unless its author says `fail`.
    fn is_over(&self, phase: Phase) -> bool {
        if self.cancels >= 2 {
            return self.phase_is_quiet(phase);
        }
        self.frontier.iter().filter(|&&at| self.bone_at(at).phase == phase).all(|&at| {
            let (bone, node) = (self.bone_at(at), &self.nodes[at]);
            if node.open_needs > 0 {
                return true;
            }
            let stuck = Self::is_stuck(bone, node);
            let for_good = node.instances.iter().all(|i| match i.state {
                State::Failed => bone.on_exhausted == OnExhausted::Fail,
                State::Refused | State::InDoubt => false,
                _ => true,
            });
            stuck && (phase == Phase::OnFailure || for_good)
        })
    }

    /// Every instance came to an end, and at least one not to a good one.
    fn is_stuck(bone: &Bone, node: &Node) -> bool {
        let bad = |i: &Instance| matches!(i.state, State::Failed | State::Refused | State::InDoubt);
        let ended = |i: &Instance| bad(i) || matches!(i.state, State::Done | State::Skipped);
        let known = bone.each.is_none() || node.items.is_some() || node.instances.iter().any(bad);
        known && node.instances.iter().all(ended) && node.instances.iter().any(bad)
    }

    fn stuck_on(&self) -> Ended {
        let state_is = |wanted: State| {
            let mut nodes = self.frontier.iter().map(|&at| &self.nodes[at]);
            nodes.any(|n| n.instances.iter().any(|i| i.state == wanted))
        };
        if state_is(State::InDoubt) {
            Ended::InDoubt
        } else if state_is(State::Failed) || self.stage() == Stage::Undo {
            Ended::Failed
        } else if state_is(State::Refused) {
            Ended::Refused
        } else {
            Ended::Failed
        }
    }

    pub(super) fn outcome(&self) -> Final {
        let failed_for_good = self.frontier.iter().any(|&at| self.bone_at(at).phase == Phase::Finally);
        if self.rollback.is_some() && self.undo_order().is_empty() {
            Final::RolledBack
        } else if self.cancelled.is_some() || self.rollback.is_some() {
            Final::Cancelled
        } else if self.given_up || failed_for_good {
            Final::Failed
        } else {
            Final::Succeeded
        }
    }
}
