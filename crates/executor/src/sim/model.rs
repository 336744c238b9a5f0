//! What a run must never do, told from the outside: from the durable records and from what the actions did
//! in the world. Knows nothing of the machine.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use runbook_core::action::{Aftermath, Effect};
use runbook_core::workflow::{Phase, StepPath};

use crate::machine::{Bone, Skeleton};
use crate::record::{AttemptStarted, Found, Record, Then, Verdict};

/// One attempt that may still do something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Work {
    pub(crate) path: StepPath,
    pub(crate) attempt: u32,
    pub(crate) key: String,
    /// The process that started it is gone, or has given it up.
    pub(crate) orphan: bool,
    pub(crate) acted: bool,
}

#[derive(Default, Clone)]
struct Question {
    digest: String,
    min: u32,
    yes: BTreeSet<String>,
    expires_at: Option<Timestamp>,
    open: bool,
    used: bool,
}

/// The world, and the rules.
#[derive(Default)]
pub(crate) struct Model {
    bones: HashMap<StepPath, Bone>,
    index: Vec<Bone>,
    satisfied: BTreeSet<StepPath>,
    done: BTreeSet<StepPath>,
    items: HashMap<StepPath, Vec<StepPath>>,
    tolerated: BTreeSet<StepPath>,
    /// Failed for the last time in this sitting, in a way that has to be looked into first.
    exhausted: BTreeSet<StepPath>,
    questions: HashMap<StepPath, Question>,
    given_up: bool,
    cancelled: bool,
    rolled_back: bool,
    paused: bool,
    finished: bool,
    starter: String,
    undone: BTreeSet<StepPath>,
    pub(crate) alive: Vec<Work>,
    /// How often the effect of a step happened, by the rules of its class.
    pub(crate) effects: BTreeMap<StepPath, u32>,
    keys: BTreeSet<(StepPath, String)>,
    /// How often it may have happened more than once, on a person's word.
    allowed: BTreeMap<StepPath, u32>,
}

impl Model {
    pub(crate) fn new(skeleton: &Skeleton) -> Self {
        let bones = skeleton.steps.iter().map(|b| (b.path.clone(), b.clone())).collect();
        Self { bones, index: skeleton.steps.clone(), ..Self::default() }
    }

    fn bone(&self, path: &StepPath) -> &Bone {
        self.bones.get(path).unwrap_or_else(|| {
            let plain = path.as_str().split('[').next().unwrap_or_default();
            &self.bones[&StepPath::new(plain)]
        })
    }

    fn satisfy(&mut self, path: &StepPath) {
        let step = self.bone(path).path.clone();
        let whole = self
            .items
            .get(&step)
            .is_none_or(|items| items.iter().all(|i| self.done.contains(i) || self.tolerated.contains(i)));
        if whole && (self.bones[&step].each.is_none() || self.items.contains_key(&step)) {
            self.satisfied.insert(step);
        }
    }

    /// A record became durable.
    pub(crate) fn durable(&mut self, now: Timestamp, record: &Record) {
        assert!(
            !self.finished || matches!(record, Record::Noted { .. } | Record::RollbackRequested { .. }),
            "something after the end: {record:?}"
        );
        match record {
            Record::RunStarted(first) => self.starter.clone_from(&first.actor),
            Record::Opened { .. } => {
                self.paused = false;
                self.exhausted.clear();
            }
            Record::PauseRequested { .. } => self.paused = true,
            Record::CancelRequested { .. } => self.cancelled = true,
            Record::RollbackRequested { .. } => (self.rolled_back, self.finished) = (true, false),
            Record::AttemptStarted(start) => {
                if let Some(question) = self.questions.get_mut(&start.step) {
                    let fresh = question.expires_at.is_some_and(|at| now < at);
                    assert!(question.used || fresh, "{} started on an answer that went stale", start.step);
                    question.used = true;
                }
            }
            Record::StepSkipped { step, .. } => {
                self.satisfied.insert(step.clone());
            }
            Record::Expanded { step, items } => {
                let paths = items.iter().map(|i| step.item(&i.key)).collect();
                self.items.insert(step.clone(), paths);
                self.satisfy(step);
            }
            Record::StepDone(done) => {
                assert!(self.done.insert(done.step.clone()), "{} was done already", done.step);
                self.satisfy(&done.step);
            }
            Record::AttemptFailed(failed) if failed.then == Then::GiveUp => {
                if failed.aftermath == Aftermath::Unknown {
                    self.exhausted.insert(failed.step.clone());
                } else {
                    self.failed(&failed.step.clone());
                }
            }
            Record::StepFailed { step, .. } => self.failed(&step.clone()),
            Record::Fenced { step, .. } => {
                self.alive.retain(|w| &w.path != step);
                if self.bone(step).effect != Effect::Once && self.exhausted.remove(step) {
                    self.failed(&step.clone());
                }
            }
            Record::Probed { step, found: Found::Absent, .. } if self.exhausted.remove(step) => {
                self.failed(&step.clone());
            }
            Record::Undone { step, .. } => {
                assert!(self.undone.insert(step.clone()), "{step} was taken back already");
            }
            Record::RunFinished { .. } => self.finished = true,
            _ => self.durable_answer(record),
        }
    }

    fn durable_answer(&mut self, record: &Record) {
        match record {
            Record::ApprovalRequested(asked) => {
                let question = Question {
                    digest: asked.digest.clone(),
                    min: asked.min,
                    open: true,
                    expires_at: Some(asked.expires_at),
                    ..Question::default()
                };
                self.questions.insert(asked.step.clone(), question);
            }
            Record::ApprovalGiven { step, digest, by, .. } => {
                let question = self.questions.get_mut(step).expect("asked before it was answered");
                assert!(question.open && &question.digest == digest, "an answer to another question");
                assert_ne!(by, &self.starter, "four eyes");
                assert!(question.yes.insert(by.clone()), "{by} counts once");
            }
            Record::ApprovalDenied { step, .. }
            | Record::ApprovalExpired { step }
            | Record::ApprovalVoided { step, .. } => {
                self.questions.remove(step);
            }
            Record::Resolved { step, verdict, .. } => match verdict {
                Verdict::Done => {
                    self.done.insert(step.clone());
                    self.satisfy(step);
                }
                Verdict::Again => *self.allowed.entry(step.clone()).or_default() += 1,
            },
            Record::Rerun { step, .. } => {
                self.done.remove(step);
                self.questions.remove(step);
                let plain = self.bone(step).path.clone();
                self.satisfied.remove(&plain);
                *self.allowed.entry(step.clone()).or_default() += 1;
            }
            _ => {}
        }
    }

    fn failed(&mut self, step: &StepPath) {
        let bone = self.bone(step).clone();
        if bone.continue_on_error && !self.alive.iter().any(|w| &w.path == step) {
            self.tolerated.insert(step.clone());
            if bone.each.is_some() && !self.items.contains_key(&bone.path) {
                self.satisfied.insert(bone.path.clone());
            }
            self.satisfy(step);
        } else if bone.phase == Phase::Main && bone.on_exhausted == runbook_core::workflow::OnExhausted::Fail
        {
            self.given_up = true;
        }
    }

    /// An action is called: the moment at which everything before it must be durable.
    pub(crate) fn call(&mut self, path: &StepPath, started: &AttemptStarted, digest: &str) {
        let bone = self.bone(path).clone();
        assert!(!self.finished && !self.paused, "{path} started in a run that is over or paused");
        if bone.phase == Phase::Main {
            let stopped = self.cancelled || self.rolled_back || self.given_up;
            assert!(!stopped, "{path} started in a run that is given up");
        }
        for &need in &bone.needs {
            let need = &self.index[need].path;
            assert!(self.satisfied.contains(need), "{path} started before {need}");
        }
        assert!(!self.done.contains(path), "{path} is done and started again");
        assert!(!self.alive.iter().any(|w| &w.path == path), "{path} runs twice at once");
        if bone.asks {
            let question = &self.questions[path];
            assert!(question.yes.len() >= question.min as usize, "{path} started unapproved");
            assert_eq!(question.digest, digest, "{path} started with other parameters than approved");
        }
        if let Some(most) = bone.each {
            let others =
                self.alive.iter().filter(|w| !w.orphan && self.bone(&w.path).path == bone.path).count();
            assert!(others < most as usize, "{path} is one item too many");
        }
        let (path, attempt, key) = (path.clone(), started.attempt, started.key.clone());
        self.alive.push(Work { path, attempt, key, orphan: false, acted: false });
    }

    /// A piece of work has its effect now.
    pub(crate) fn act(&mut self, at: usize) {
        let work = &mut self.alive[at];
        if std::mem::replace(&mut work.acted, true) {
            return;
        }
        let (path, key) = (work.path.clone(), work.key.clone());
        let new_key = self.keys.insert((path.clone(), key));
        let counts = match self.bone(&path).effect {
            Effect::Read => false,
            // Twice is once, and the key decides: only a new key is a new effect.
            Effect::Idempotent | Effect::Transactional | Effect::Keyed => new_key,
            Effect::Once => true,
        };
        if !counts {
            return;
        }
        let times = self.effects.entry(path.clone()).or_default();
        *times += 1;
        let most = 1 + self.allowed.get(&path).copied().unwrap_or(0);
        assert!(*times <= most, "the effect of {path} happened {times} times");
    }

    /// The effect of the last attempt is there.
    pub(crate) fn happened(&self, path: &StepPath, key: &str) -> bool {
        self.keys.contains(&(path.clone(), key.to_owned()))
    }

    /// A probe, which tells the truth or that it cannot tell.
    pub(crate) fn probe(&self, path: &StepPath, key: &str, clear: bool) -> Found {
        assert!(!self.alive.iter().any(|w| &w.path == path), "{path} is probed while it may still act");
        match (clear, self.happened(path, key)) {
            (false, _) => Found::Unclear,
            (true, true) => Found::Happened,
            (true, false) => Found::Absent,
        }
    }

    /// Newest first: nothing that was done after it is left.
    pub(crate) fn undo(&self, path: &StepPath) {
        assert!(self.rolled_back, "{path} is taken back without a rollback");
        assert!(!self.undone.contains(path), "{path} is taken back twice");
        assert!(!self.alive.iter().any(|w| !w.orphan), "{path} is taken back while a step runs");
    }

    /// The whole run is over.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }
}
