//! Random runs: a fake store with a fence, engines that crash and engines that do not notice that they
//! lost the lease, people who answer, and work that goes on after its process died.

use std::sync::Arc;

use jiff::Timestamp;
use runbook_core::action::{Aftermath, Effect, Outcome};
use runbook_core::workflow::StepPath;
use serde_json::json;

use super::model::Model;
use super::plan::{Dice, at, skeleton};
use super::samples::run_started;
use crate::machine::{Machine, Skeleton, State};
use crate::record::{AttemptFailed, Record, StepDone, Then, Verdict};

/// Most steps of the simulator in one run; a run that needs more is stuck.
const TURNS_WILD: usize = 100;
const TURNS_CALM: usize = 800;

#[derive(Debug, PartialEq)]
pub(super) enum Append {
    Stored,
    Fenced,
    Crashed,
}

pub(super) struct Engine {
    pub(super) machine: Machine,
    epoch: u64,
}

pub(super) struct Sim {
    pub(super) dice: Dice,
    skeleton: Arc<Skeleton>,
    pub(super) now: i64,
    /// Bytes, as a store keeps them: whatever is not written down is lost in a crash.
    log: Vec<(Timestamp, Vec<u8>)>,
    /// The fold of the log, kept up as it grows; held against a real replay now and then.
    mirror: Machine,
    pub(super) epoch: u64,
    /// The one that holds the lease, when one is alive.
    pub(super) engine: Option<Engine>,
    /// Those that lost it and do not know.
    stale: Vec<Engine>,
    pub(super) model: Model,
    /// Nothing goes wrong any more, and people say yes.
    pub(super) calm: bool,
    crashes: usize,
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let skeleton = Arc::new(skeleton(&mut dice));
        let model = Model::new(&skeleton);
        let mut sim = Self {
            dice,
            mirror: Machine::new(skeleton.clone()),
            skeleton,
            now: 0,
            log: Vec::new(),
            epoch: 0,
            engine: None,
            stale: Vec::new(),
            model,
            calm: false,
            crashes: 0,
        };
        sim.store(None, run_started("starter"));
        sim
    }

    fn time(&self) -> Timestamp {
        at(self.now)
    }

    fn replay(&self) -> Machine {
        let mut machine = Machine::new(self.skeleton.clone());
        for (at, bytes) in &self.log {
            let record = Record::decode(bytes).expect("what was written is read");
            machine.apply(*at, &record).expect("what was accepted is replayed");
        }
        machine
    }

    /// The store: checks the fence, keeps bytes.
    fn store(&mut self, fence: Option<u64>, record: Record) -> Append {
        if fence.is_some_and(|epoch| epoch != self.epoch) {
            return Append::Fenced;
        }
        self.log.push((self.time(), record.encode().expect("it can be written")));
        let read = Record::decode(&self.log[self.log.len() - 1].1).expect("what was written is read");
        self.mirror.apply(self.time(), &read).expect("what was checked is taken in");
        self.model.durable(at(self.now), &record);
        Append::Stored
    }

    /// An engine appends: check, make durable, take in. It may die before or after.
    pub(super) fn append(&mut self, record: Record) -> Append {
        let engine = self.engine.as_mut().expect("an engine appends");
        let now = at(self.now);
        if let Err(refused) = engine.machine.check(now, &record) {
            panic!("an engine wanted what is illegal: {refused}\n{record:?}");
        }
        if !self.calm && self.dice.percent(4) {
            self.crash();
            return Append::Crashed;
        }
        let epoch = engine.epoch;
        let stored = self.store(Some(epoch), record.clone());
        assert_eq!(stored, Append::Stored, "the holder of the lease is not fenced");
        let engine = self.engine.as_mut().expect("it is alive");
        engine.machine.apply(now, &record).expect("checked");
        if !self.calm && self.dice.percent(4) {
            self.crash();
            return Append::Crashed;
        }
        Append::Stored
    }

    /// The process dies; its work at the servers may go on.
    fn crash(&mut self) {
        self.crashes += 1;
        self.engine = None;
        let dice = &mut self.dice;
        self.model.alive.retain_mut(|w| {
            w.orphan = true;
            dice.percent(60)
        });
    }

    /// A new engine takes the lease: because the old one died, or because it seemed dead.
    fn open(&mut self) {
        if let Some(old) = self.engine.take() {
            self.stale.push(old);
            self.model.alive.iter_mut().for_each(|w| w.orphan = true);
        }
        self.epoch += 1;
        let machine = self.replay();
        let epoch = self.epoch;
        let opened = Record::Opened { epoch, actor: "engine".into(), host: "h".into(), pid: 1 };
        if machine.check(self.time(), &opened).is_err() {
            return;
        }
        self.engine = Some(Engine { machine, epoch });
        self.append(opened);
    }

    /// A request of a person, from any process: fold, check, append without a fence.
    fn request(&mut self, record: Record) -> bool {
        let now = self.time();
        if self.mirror.check(now, &record).is_err() {
            return false;
        }
        assert_eq!(self.store(None, record.clone()), Append::Stored);
        if let Some(engine) = &mut self.engine {
            engine.machine.apply(now, &record).expect("the live state agrees with the replay");
        }
        true
    }

    fn person(&mut self) {
        let instances: Vec<_> = self.mirror.nodes().flat_map(|n| n.instances.to_vec()).collect();
        let by = (*self.dice.pick(&["ada", "bob", "starter"])).to_owned();
        for i in &instances {
            let asked = i.approval.as_ref().filter(|_| i.state == State::Asked);
            let (step, reason) = (i.path.clone(), None);
            if let Some(asked) = asked.filter(|_| self.calm || self.dice.percent(50)) {
                let digest = asked.request.digest.clone();
                if !self.calm && self.dice.percent(20) {
                    self.request(Record::ApprovalDenied { step, digest, by: by.clone(), reason });
                } else {
                    self.request(Record::ApprovalGiven {
                        step,
                        digest,
                        by: by.clone(),
                        reason,
                        choice: None,
                    });
                }
            } else if i.state == State::InDoubt && self.dice.percent(60) {
                let key = i.last.as_ref().map_or(String::new(), |l| l.key.clone());
                let verdict = if self.model.happened(&i.path, &key) { Verdict::Done } else { Verdict::Again };
                let reason = "looked".to_owned();
                self.request(Record::Resolved { step, verdict, by: by.clone(), reason, outputs: None });
            } else if i.state == State::Done && !self.calm && self.dice.percent(2) {
                self.request(Record::Rerun { step, by: by.clone(), reason: "wanted".into() });
            }
        }
        if self.calm {
            return;
        }
        match self.dice.below(40) {
            0 => drop(self.request(Record::CancelRequested { by, reason: None })),
            1 => drop(self.request(Record::PauseRequested { by, reason: None })),
            2 => drop(self.request(Record::RollbackRequested { by, reason: None })),
            3 => drop(self.request(Record::Noted { by, text: "hm".into() })),
            _ => {}
        }
    }

    fn turn(&mut self) {
        self.now += i64::try_from(self.dice.below(4)).unwrap_or(0);
        match self.dice.below(10) {
            0 | 1 => return self.person(),
            2 if !self.calm && self.dice.percent(10) => return self.open(),
            3 => self.orphans_act(),
            4 => self.stale_tries(),
            _ => {}
        }
        if self.engine.is_none() {
            return self.open();
        }
        if self.dice.percent(45) && self.work_ends() {
            return;
        }
        if !self.calm && self.dice.percent(10) {
            return self.unruly();
        }
        let Some(engine) = engine_of(&self.engine) else { return };
        let next = engine.machine.next(self.time());
        if next.commands.is_empty() {
            // Time passes until something is due.
            self.now += 3;
            return;
        }
        let command = self.dice.pick(&next.commands).clone();
        self.carry_out(&command);
    }

    /// Work whose process is gone has its effect late; work that runs has it some time before its end.
    fn orphans_act(&mut self) {
        if !self.model.alive.is_empty() {
            let at = self.dice.below(self.model.alive.len());
            self.model.act(at);
        }
    }

    /// A laptop wakes up: whatever it wants to write is refused.
    fn stale_tries(&mut self) {
        if let Some(engine) = self.stale.pop() {
            let length = self.log.len();
            let wanted = Record::Closed { epoch: engine.epoch, why: crate::record::Ended::Stopped };
            assert_eq!(self.store(Some(engine.epoch), wanted), Append::Fenced);
            assert_eq!(length, self.log.len(), "a stale engine appended");
        }
    }

    /// One attempt that the living engine runs comes to an end.
    fn work_ends(&mut self) -> bool {
        let running: Vec<usize> =
            (0..self.model.alive.len()).filter(|&n| !self.model.alive[n].orphan).collect();
        if running.is_empty() {
            return false;
        }
        let at = *self.dice.pick(&running);
        let work = self.model.alive[at].clone();
        let (step, attempt) = (work.path.clone(), work.attempt);
        if self.calm || self.dice.percent(55) {
            self.model.act(at);
            self.model.alive.remove(at);
            self.append(done(&step));
            return true;
        }
        if self.dice.percent(20) {
            self.append(Record::Checkpoint { step, name: "at".into(), value: json!(attempt) });
            return true;
        }
        self.attempt_fails(at, &step, attempt);
        true
    }

    fn attempt_fails(&mut self, at: usize, step: &StepPath, attempt: u32) {
        let acted = self.model.alive[at].acted;
        let aftermath = match self.dice.below(3) {
            // An action that acted does not say that nothing changed.
            _ if acted => Aftermath::Unknown,
            0 => Aftermath::Unchanged { retry_after: None },
            1 => Aftermath::Refused,
            _ => Aftermath::Unknown,
        };
        if aftermath == Aftermath::Unknown {
            // A timeout: the future is dropped, the server may go on.
            self.model.alive[at].orphan = true;
        } else {
            self.model.alive.remove(at);
        }
        let engine = engine_of(&self.engine).expect("an engine lives");
        let (tries, max) = (
            engine.machine.instance(step).map_or(0, |i| i.tries),
            engine.machine.bone(step).map_or(0, |b| b.attempts_max),
        );
        let then = if aftermath == Aftermath::Refused || tries >= max {
            Then::GiveUp
        } else {
            Then::Retry(super::plan::at(self.now + 5))
        };
        self.append(Record::AttemptFailed(Box::new(AttemptFailed {
            step: step.clone(),
            attempt,
            message: "reach it".into(),
            hint: None,
            code: None,
            aftermath,
            then,
            duration_ms: 1,
        })));
    }

    fn run(&mut self) -> usize {
        for _ in 0..TURNS_WILD {
            if self.model.is_finished() && self.dice.percent(50) {
                break;
            }
            self.turn();
        }
        let replayed = self.replay();
        assert!(self.mirror == replayed, "the live state is not the fold of the records");
        assert!(self.engine.as_ref().is_none_or(|e| e.machine == replayed), "the engine sees another state");
        // From here on all goes well: the run must come to an end.
        self.calm = true;
        for turn in 0..TURNS_CALM {
            if self.model.is_finished() {
                return turn;
            }
            self.turn();
        }
        let machine = self.replay();
        panic!(
            "the run does not end: {:?}\nnext: {:?}",
            machine
                .nodes()
                .map(|n| (
                    n.bone.path.as_str(),
                    n.ready,
                    n.settled,
                    n.instances.iter().map(|i| i.state).collect::<Vec<_>>()
                ))
                .collect::<Vec<_>>(),
            self.engine.as_ref().map(|e| e.machine.next(self.time()))
        );
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for bone in &self.skeleton.steps {
                eprintln!("{bone:?}");
            }
            for (n, (at, bytes)) in self.log.iter().enumerate() {
                eprintln!("{} {at} {}", n + 1, String::from_utf8_lossy(bytes));
            }
        }
    }
}

pub(super) fn engine_of(engine: &Option<Engine>) -> Option<&Engine> {
    engine.as_ref()
}

pub(super) fn done(step: &StepPath) -> Record {
    let outcome = Outcome { outputs: json!({}), ..Outcome::default() };
    Record::StepDone(Box::new(StepDone { step: step.clone(), outcome, duration_ms: 1, by_key_of: None }))
}

/// Runs seeds on all cores and names the one that broke a rule.
fn seeds(range: std::ops::Range<u64>) -> usize {
    let halves = 4;
    let per = (range.end - range.start) / halves;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..halves)
            .map(|part| {
                let first = range.start + part * per;
                scope.spawn(move || {
                    let mut crashes = 0;
                    for seed in first..first + per {
                        let ran = std::panic::catch_unwind(|| {
                            let mut sim = Sim::new(seed);
                            sim.run();
                            sim.crashes
                        });
                        crashes += ran.unwrap_or_else(|_| panic!("seed {seed} broke a rule; see above"));
                    }
                    crashes
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().expect("a seed broke a rule; see above")).sum()
    })
}

#[test]
fn ten_thousand_random_runs_keep_every_promise_and_come_to_an_end() {
    let crashes = seeds(0..10_000);
    assert!(crashes > 10_000, "the schedules are wild enough: {crashes} crashes");
}

#[test]
fn a_once_effect_is_the_only_one_that_is_probed_by_default() {
    let mut dice = Dice::new(1);
    for _ in 0..200 {
        for bone in skeleton(&mut dice).steps {
            assert!(!bone.probe || bone.effect == Effect::Once);
        }
    }
}
