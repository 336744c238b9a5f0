//! Where every step of a run stands. Changed by `apply` alone; read by anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use runbook_core::action::{Effect, InForce, Outcome};
use runbook_core::workflow::{Phase, StepPath};
use serde::Serialize;
use serde_json::Value;

use super::skeleton::{Bone, Skeleton, UndoPlan};
use crate::record::{ApprovalRequested, Ended, Final, Item, RefusedWhy, SkippedWhy, Waived};

/// The state of a run: the fold of its records over a skeleton.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    pub(super) skeleton: Arc<Skeleton>,
    pub(super) nodes: Vec<Node>,
    /// Where each instance is.
    pub(super) index: HashMap<StepPath, (usize, usize)>,
    /// Where each step is.
    pub(super) paths: HashMap<StepPath, usize>,
    pub(super) dependents: Vec<Vec<usize>>,
    /// Steps whose needs are satisfied and that are not settled; all that `next` has to look at.
    pub(super) frontier: BTreeSet<usize>,
    /// Records applied so far.
    pub(super) seq: u64,
    pub(super) started: Option<Started>,
    pub(super) sitting: Option<Sitting>,
    pub(super) closed: Option<Closed>,
    pub(super) epoch: u64,
    pub(super) paused: Option<String>,
    pub(super) cancels: u32,
    pub(super) cancelled: Option<String>,
    pub(super) rollback: Option<String>,
    /// A step failed whose author does not want a pause.
    pub(super) given_up: bool,
    /// The deadline stopped the run once and a person resumed it.
    pub(super) deadline_waived: bool,
    pub(super) finished: Option<Final>,
    pub(super) forces: Vec<Force>,
    pub(super) waived: Vec<Waived>,
}

/// One step with its instances: one, or one per item.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) open_needs: usize,
    pub(super) condition: Option<bool>,
    pub(super) items: Option<Vec<Item>>,
    pub(super) instances: Vec<Instance>,
    pub(super) settled: bool,
    pub(super) skipped: Option<SkippedWhy>,
}

/// The first record.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// Plan digest.
    pub digest: String,
}

/// The process that works on the run, as far as the journal knows.
#[derive(Debug, Clone, PartialEq)]
pub struct Sitting {
    /// Its fencing epoch.
    pub epoch: u64,
    /// Who runs it.
    pub actor: String,
    /// Host that it runs on.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
}

/// Why the last process stopped.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Closed {
    /// When.
    pub at: Timestamp,
    /// Why.
    pub why: Ended,
}

/// One instance of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Its path, item key included.
    pub path: StepPath,
    /// Where it stands.
    pub state: State,
    /// Attempts in all.
    pub attempts: u32,
    /// Attempts since the run was last opened.
    pub tries: u32,
    /// Work of an earlier attempt may still be alive.
    pub unproven: bool,
    /// The last attempt may have had its effect.
    pub maybe: bool,
    /// The last attempt.
    pub last: Option<Attempt>,
    /// The question to people, with the answers so far.
    pub approval: Option<Approval>,
    /// Progress that survived.
    pub checkpoints: BTreeMap<String, Value>,
    /// What it gave.
    pub outcome: Option<Outcome>,
    /// `RUN/STEP` that did it under the same key.
    pub by_key_of: Option<String>,
    /// Why it failed, is refused or in doubt.
    pub failure: Option<Failure>,
    /// How often a person wanted it done once more.
    pub reruns: u32,
    /// Number of the record that settled it; the order of a rollback.
    pub settled_seq: u64,
    /// When its first attempt started.
    pub first_started_at: Option<Timestamp>,
    /// When it was settled.
    pub ended_at: Option<Timestamp>,
    /// Where a rollback stands with it.
    pub undo: Option<UndoState>,
}

/// Where an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum State {
    /// Not started, or to be started again.
    Waiting,
    /// People are asked.
    Asked,
    /// An attempt runs.
    Running,
    /// The next attempt waits for its time.
    Retrying {
        /// That time.
        at: Timestamp,
    },
    /// An attempt has no outcome, or an unknown one.
    Interrupted {
        /// Its remains are proven dead.
        fenced: bool,
        /// A probe found the effect; `step_done` follows.
        happened: bool,
        /// The next attempt must not start before.
        not_before: Option<Timestamp>,
        /// There is no attempt left in this sitting.
        exhausted: bool,
    },
    /// A person must say whether the effect happened.
    InDoubt,
    /// It succeeded.
    Done,
    /// It does not apply.
    Skipped,
    /// It must not start as things stand.
    Refused,
    /// It did not succeed.
    Failed,
}

/// An attempt, as it was started.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Its number.
    pub number: u32,
    /// Epoch of its engine.
    pub epoch: u64,
    /// When.
    pub at: Timestamp,
    /// Idempotency key.
    pub key: String,
    /// Rendered parameters.
    pub params: Value,
    /// Their digest.
    pub params_digest: String,
    /// Which round of the step it belongs to; a person's wish for another opens a new one.
    pub rerun: u32,
}

/// A question and its answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// The question.
    pub request: ApprovalRequested,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// Who said yes.
    pub given: Vec<Answer>,
    /// An attempt started on it.
    pub used: bool,
}

impl Approval {
    /// Enough people said yes.
    pub fn granted(&self) -> bool {
        self.given.len() >= self.request.min as usize
    }
}

/// One yes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why, in their words.
    pub reason: Option<String>,
    /// Which of the options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
}

/// Why an instance does not go on.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Could not …
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Stable code.
    pub code: Option<String>,
    /// Why it was refused.
    pub refused: Option<RefusedWhy>,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint, code: None, refused: None }
    }
}

/// Where a rollback stands with an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoState {
    /// It runs, in the engine of this epoch.
    Started(u64),
    /// The effect is taken back.
    Done,
    /// It did not succeed.
    Failed(String),
    /// The effect stays.
    Skipped(String),
}

/// Something in force, and the step that brought it.
#[derive(Debug, Clone, PartialEq)]
pub struct Force {
    /// What.
    pub what: InForce,
    /// By which step instance.
    pub step: StepPath,
    /// Since when.
    pub since: Timestamp,
}

/// One step with its instances, for those who show it.
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    /// What it is.
    pub bone: &'a Bone,
    /// All of what it needs is satisfied.
    pub ready: bool,
    /// Nothing more happens to it.
    pub settled: bool,
    /// Why it does not apply.
    pub skipped: Option<SkippedWhy>,
    /// One, or one per item once the items are known.
    pub instances: &'a [Instance],
}

impl Instance {
    pub(super) fn new(path: StepPath) -> Self {
        Self {
            path,
            state: State::Waiting,
            attempts: 0,
            tries: 0,
            unproven: false,
            maybe: false,
            last: None,
            approval: None,
            checkpoints: BTreeMap::new(),
            outcome: None,
            by_key_of: None,
            failure: None,
            reruns: 0,
            settled_seq: 0,
            first_started_at: None,
            ended_at: None,
            undo: None,
        }
    }

    /// A rollback has to look at it: it is done, or its effect or a part of it may be there.
    pub fn may_have_effect(&self) -> bool {
        match self.state {
            State::Done => self.by_key_of.is_none(),
            State::Running | State::Interrupted { .. } | State::InDoubt => true,
            _ => self.maybe || !self.checkpoints.is_empty(),
        }
    }
}

impl Machine {
    /// A run with nothing done.
    pub fn new(skeleton: Arc<Skeleton>) -> Self {
        let mut dependents = vec![Vec::new(); skeleton.steps.len()];
        let mut index = HashMap::with_capacity(skeleton.steps.len());
        let paths = skeleton.steps.iter().enumerate().map(|(at, b)| (b.path.clone(), at)).collect();
        let mut nodes = Vec::with_capacity(skeleton.steps.len());
        let mut frontier = BTreeSet::new();
        for (at, bone) in skeleton.steps.iter().enumerate() {
            let needs: BTreeSet<usize> = bone.needs.iter().copied().filter(|&n| n < at).collect();
            for &need in &needs {
                dependents[need].push(at);
            }
            if needs.is_empty() {
                frontier.insert(at);
            }
            let single = bone.each.is_none().then(|| Instance::new(bone.path.clone()));
            if single.is_some() {
                index.insert(bone.path.clone(), (at, 0));
            }
            nodes.push(Node {
                open_needs: needs.len(),
                condition: None,
                items: None,
                instances: single.into_iter().collect(),
                settled: false,
                skipped: None,
            });
        }
        Self {
            skeleton,
            nodes,
            index,
            paths,
            dependents,
            frontier,
            seq: 0,
            started: None,
            sitting: None,
            closed: None,
            epoch: 0,
            paused: None,
            cancels: 0,
            cancelled: None,
            rollback: None,
            given_up: false,
            deadline_waived: false,
            finished: None,
            forces: Vec::new(),
            waived: Vec::new(),
        }
    }

    /// Records applied so far: the number of the last one.
    pub fn seq(&self) -> u64 {
        self.seq
    }
    /// All instances with the number of their step.
    pub(super) fn instances(&self) -> impl Iterator<Item = (usize, &Instance)> {
        self.nodes.iter().enumerate().flat_map(|(at, node)| node.instances.iter().map(move |i| (at, i)))
    }

    pub(super) fn bone_at(&self, node: usize) -> &Bone {
        &self.skeleton.steps[node]
    }

    /// The main phase is given up: nothing of it may start.
    pub fn gives_up(&self) -> bool {
        self.given_up || self.cancelled.is_some() || self.rollback.is_some()
    }

    /// A step of this phase may start, as far as requests of people go.
    pub(super) fn may_start(&self, phase: Phase) -> bool {
        let held = match phase {
            Phase::Main => self.gives_up(),
            Phase::OnFailure | Phase::Finally => self.has_to_undo(),
        };
        self.paused.is_none() && self.cancels < 2 && !held
    }

    /// A rollback was asked for and not abandoned, and something is left to take back.
    pub(super) fn has_to_undo(&self) -> bool {
        if self.rollback.is_none() {
            return false;
        }
        let order = self.undo_order();
        let runs = order.first().is_some_and(|(_, i)| matches!(i.undo, Some(UndoState::Started(_))));
        !order.is_empty() && (self.cancels < 2 || runs)
    }

    /// A step in doubt of this kind is probed, or asked about, before it is repeated.
    pub(super) fn wants_probe(bone: &Bone) -> bool {
        bone.probe || bone.effect == Effect::Once
    }

    /// What is left to be taken back, newest first.
    pub(super) fn undo_order(&self) -> Vec<(usize, &Instance)> {
        let mut order: Vec<_> = self
            .instances()
            .filter(|(at, i)| {
                let bone = self.bone_at(*at);
                bone.phase == Phase::Main && bone.undo != UndoPlan::Nothing && i.may_have_effect()
            })
            .filter(|(_, i)| !matches!(i.undo, Some(UndoState::Done | UndoState::Skipped(_))))
            .collect();
        order.sort_by_key(|(_, i)| std::cmp::Reverse(i.settled_seq));
        order
    }
}
