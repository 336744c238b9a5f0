//! One process at work on one run, from the lease to the last record: the loop. It owns the state and every
//! task; nothing else appends in its name.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::Registry;
use runbook_core::environment::Environment;
use runbook_core::scope::RunFacts;
use runbook_core::workflow::{Step, StepPath, Workflow};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{Id, JoinError, JoinSet};

use super::attempt::{ProgressHub, Save, TaskEnd, TaskKind};
use super::commit::{After, Pending};
use super::engine::{Clock, DriveOptions, EngineError};
use super::stop::Stop;
use crate::event::{Event, News, Reporter};
use crate::machine::{Command, IllegalRecord, Machine};
use crate::record::{Ended, Record};
use crate::redact::Redactor;
use crate::secrets::RunSecrets;
use crate::store::Journal;

/// How often foreign records are looked for and progress is passed on.
const WATCH_EVERY: Duration = Duration::from_millis(100);
/// Most records in one commit; a longer batch would keep watchers waiting.
const BATCH_RECORDS_MAX: usize = 128;
/// Checkpoints that may wait for a commit.
pub(super) const SAVES_WAITING_MAX: usize = 1024;

/// What does not change while a process works on a run; shared with its tasks.
pub(super) struct Shared {
    pub(super) run: String,
    pub(super) facts: RunFacts,
    pub(super) actor: String,
    pub(super) workflow: Arc<Workflow>,
    pub(super) steps: HashMap<StepPath, usize>,
    pub(super) environment: Arc<Environment>,
    pub(super) registry: Arc<dyn Registry>,
    pub(super) journal: Arc<dyn Journal>,
    pub(super) base: PathBuf,
    pub(super) artifacts: PathBuf,
    pub(super) secrets: RunSecrets,
    pub(super) redactor: Redactor,
    pub(super) progress: Arc<ProgressHub>,
    pub(super) saves: mpsc::Sender<Save>,
    pub(super) clock: Clock,
}

impl Shared {
    pub(super) fn step(&self, path: &StepPath) -> Option<&Step> {
        self.steps.get(path).map(|&at| &self.workflow.steps[at])
    }
}

pub(super) struct Sitting {
    pub(super) shared: Arc<Shared>,
    pub(super) machine: Machine,
    pub(super) epoch: u64,
    pub(super) options: DriveOptions,
    pub(super) reporters: Vec<Box<dyn Reporter>>,
    /// Taken in and not yet durable.
    pub(super) pending: Vec<Pending>,
    /// Steps that something is under way for.
    pub(super) busy: HashSet<StepPath>,
    pub(super) tasks: JoinSet<TaskEnd>,
    pub(super) about: HashMap<Id, (StepPath, TaskKind)>,
    /// The wish to stop of each attempt.
    pub(super) tokens: HashMap<StepPath, Stop>,
    /// Keys of authors under which something is being done.
    pub(super) shared_keys: HashMap<StepPath, String>,
    pub(super) saves: mpsc::Receiver<Save>,
    /// Set when the lease is lost.
    pub(super) lost: oneshot::Receiver<EngineError>,
    pub(super) seen: u64,
    pub(super) wake_at: Option<Timestamp>,
    pub(super) is_over: bool,
    pub(super) said_stopping: bool,
    /// A record that this engine wanted and the machine refused: a bug, and better an error than a standstill.
    pub(super) misfit: Option<IllegalRecord>,
}

impl Sitting {
    pub(super) fn now(&self) -> Timestamp {
        (self.shared.clock)()
    }

    /// Works until nothing more can be done here. Every task is gone when it returns, in whatever way.
    pub(super) async fn work(&mut self) -> Result<(), EngineError> {
        let result = self.work_on().await;
        self.tasks.shutdown().await;
        result
    }

    async fn work_on(&mut self) -> Result<(), EngineError> {
        self.finish_keys_left_open().await?;
        let mut stop = self.options.stop.watch();
        let mut tick = tokio::time::interval(WATCH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.pass_on_stop();
            if self.options.stop.is_wanted_now() {
                self.tasks.shutdown().await;
                self.busy.clear();
            }
            self.offer().await?;
            if let Some(misfit) = self.misfit.take() {
                return Err(misfit.into());
            }
            if !self.pending.is_empty() {
                self.commit().await?;
                if self.is_over {
                    return Ok(());
                }
                continue;
            }
            self.wait(&mut stop, &mut tick).await?;
        }
    }

    /// Carries out what the machine offers until it offers nothing new.
    async fn offer(&mut self) -> Result<(), EngineError> {
        loop {
            let next = self.machine.next(self.now());
            self.wake_at = next.wake_at;
            let (holds, idle) =
                (self.options.stop.is_wanted(), self.pending.is_empty() && self.tasks.is_empty());
            if idle && self.machine.finished().is_none() {
                let waits = !self.options.waits_for_people && next.is_waiting_for_people();
                // Stopping is not a reason to hide that there is nothing left to stop.
                let ends = next.commands.iter().any(|c| matches!(c, Command::Finish(_) | Command::Stop(_)));
                if holds && !ends {
                    return self.close(Ended::Stopped);
                }
                if waits {
                    return self.close(Ended::Waiting);
                }
            }
            let mut moved = false;
            for command in next.commands {
                if self.pending.len() >= BATCH_RECORDS_MAX {
                    return Ok(());
                }
                moved |= match &command {
                    // The end is a commit of its own: whatever has to follow a step's success has followed.
                    Command::Finish(_) | Command::Stop(_) if !idle => false,
                    Command::Finish(outcome) => {
                        self.is_over = self.push(Record::RunFinished { outcome: *outcome }, After::Nothing);
                        return Ok(());
                    }
                    Command::Stop(why) => return self.close(*why),
                    _ if holds => false,
                    _ if command.step().is_some_and(|step| self.busy.contains(step)) => false,
                    _ => self.carry_out(&command).await?,
                };
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn close(&mut self, why: Ended) -> Result<(), EngineError> {
        let epoch = self.epoch;
        self.is_over = self.push(Record::Closed { epoch, why }, After::Nothing);
        Ok(())
    }

    /// Waits for whatever comes first, and takes along what else is there: one commit for all of it.
    async fn wait(
        &mut self,
        stop: &mut watch::Receiver<u8>,
        tick: &mut tokio::time::Interval,
    ) -> Result<(), EngineError> {
        let wait = self.wake_at.map_or(WATCH_EVERY, |at| {
            let left = at.duration_since(self.now());
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        });
        tokio::select! {
            biased;
            lost = &mut self.lost => return Err(lost.unwrap_or(EngineError::LeaseEnded)),
            Some(ended) = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => self.ended(ended),
            Some(save) = self.saves.recv() => self.checkpoint(save),
            _ = stop.changed() => {}
            _ = tick.tick() => self.look_around().await?,
            () = tokio::time::sleep(wait), if self.wake_at.is_some() => {}
        }
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            self.ended(ended);
        }
        while let Ok(save) = self.saves.try_recv() {
            self.checkpoint(save);
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<(Id, TaskEnd), JoinError>) {
        let (id, end) = match ended {
            Ok((id, end)) => (id, Ok(end)),
            Err(error) => (error.id(), Err(error)),
        };
        let Some((step, kind)) = self.about.remove(&id) else { return };
        let end = end.unwrap_or_else(|error| panicked(kind, error));
        self.settle(&step, end);
        self.tokens.remove(&step);
    }

    fn checkpoint(&mut self, save: Save) {
        let mut value = save.value;
        self.shared.redactor.redact_value(&mut value);
        let record = Record::Checkpoint { step: save.step, name: save.name, value };
        self.push(record, After::Reply(save.reply));
    }

    async fn look_around(&mut self) -> Result<(), EngineError> {
        for (step, mut progress) in self.shared.progress.take() {
            progress.message = self.clean(&progress.message);
            self.tell(News::Progress { step: &step, progress: &progress });
        }
        self.tell(News::Tick);
        self.take_in_foreign().await
    }

    /// A stop of the run, a pause and a cancel become the wish of every attempt that they concern.
    fn pass_on_stop(&mut self) {
        let stops = self.options.stop.is_wanted() || self.machine.paused().is_some();
        if self.options.stop.is_wanted() && !std::mem::replace(&mut self.said_stopping, true) {
            self.tell(News::Stopping);
        }
        let gives_up = self.machine.gives_up();
        for (step, token) in &self.tokens {
            let is_main =
                self.machine.bone(step).is_some_and(|b| b.phase == runbook_core::workflow::Phase::Main);
            let undoing = self.machine.instance(step).is_some_and(|i| i.undo.is_some());
            if stops || (gives_up && is_main && !undoing) {
                token.gentle();
            }
        }
    }

    pub(super) fn tell(&mut self, news: News<'_>) {
        let at = (self.shared.clock)();
        let event = Event {
            run: &self.shared.run,
            at,
            elapsed: at.duration_since(self.shared.facts.started_at).try_into().unwrap_or_default(),
            workflow: &self.shared.workflow,
            machine: &self.machine,
            news,
        };
        for reporter in &mut self.reporters {
            reporter.event(&event);
        }
    }
}

/// A panic inside an action is a bug in it; what it did before is not known.
fn panicked(kind: TaskKind, error: JoinError) -> TaskEnd {
    use runbook_core::action::ActionError;
    let text = match error.try_into_panic() {
        Ok(panic) => {
            let said = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
            said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
        }
        Err(_) => "it was dropped".to_owned(),
    };
    let bug = ActionError::unknown(format!("finish: the action panicked, which is a bug in it: {text}"))
        .code("panic");
    match kind {
        TaskKind::Attempt => TaskEnd::Attempt(Err(bug), Duration::ZERO),
        TaskKind::Fence => TaskEnd::Fence(Err(bug)),
        TaskKind::Probe => TaskEnd::Probe(Err(bug)),
        TaskKind::Undo => TaskEnd::Undo(Err(bug)),
    }
}
