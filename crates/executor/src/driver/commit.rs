//! Group commit: what was taken in becomes durable in one transaction, and only then shown and begun. Foreign
//! records are folded in here; a fenced engine ends here.

use jiff::Timestamp;
use runbook_core::action::ActionError;
use runbook_core::workflow::StepPath;
use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::attempt::{Call, perform};
use super::engine::EngineError;
use super::pinned::{decode, fold};
use super::sitting::{Shared, Sitting};
use crate::event::News;
use crate::machine::Machine;
use crate::record::Record;
use crate::store::{AppendError, Journal, JournalError, LeaseError};

/// A record that is taken in and not yet durable.
pub(super) struct Pending {
    at: Timestamp,
    record: Record,
    after: After,
}

/// What follows once a record is durable.
pub(super) enum After {
    Nothing,
    /// The effect may begin.
    Call(Box<Call>),
    /// An action waits for its checkpoint.
    Reply(oneshot::Sender<Result<(), ActionError>>),
    /// What was done under an author's key is told to other runs.
    FinishKey {
        key: String,
        outputs: Value,
    },
    /// Nothing was done under it.
    DropKey {
        key: String,
    },
}

impl Sitting {
    /// Takes a record in, and says whether it fits. It does, unless this engine has a bug.
    pub(super) fn push(&mut self, record: Record, after: After) -> bool {
        let at = self.now();
        match self.machine.apply(at, &record) {
            Ok(()) => {
                self.pending.push(Pending { at, record, after });
                true
            }
            Err(error) => {
                // A checkpoint may come too late; nothing else may.
                if !matches!(after, After::Reply(_)) {
                    self.misfit = Some(error);
                }
                self.give_back(&record, after);
                false
            }
        }
    }

    /// Undoes what was promised for a record that will not be appended.
    fn give_back(&mut self, record: &Record, after: After) {
        if let Some(step) = record.step() {
            self.busy.remove(step);
            self.tokens.remove(step);
        }
        if let After::Reply(reply) = after {
            let error = ActionError::unchanged("save a checkpoint: the attempt is over").code("stopped");
            // Nobody waits any more when the action is gone.
            let _nobody = reply.send(Err(error));
        }
    }

    pub(super) async fn commit(&mut self) -> Result<(), EngineError> {
        while !self.pending.is_empty() {
            let mut bodies = Vec::with_capacity(self.pending.len());
            for pending in &self.pending {
                let seq = self.machine.seq();
                let run = self.shared.run.clone();
                let body =
                    pending.record.encode().map_err(|source| EngineError::Record { run, seq, source })?;
                bodies.push((pending.at, body));
            }
            let after_seq = self.machine.seq() - self.pending.len() as u64;
            let (run, epoch) = (self.shared.run.clone(), self.epoch);
            let appended =
                self.on_journal(move |journal| journal.append(&run, after_seq, &bodies, Some(epoch))).await?;
            match appended {
                Ok(_) => return self.follow_up(after_seq).await,
                Err(AppendError::Moved { .. }) => self.rebase(after_seq).await?,
                Err(error @ AppendError::Fenced { .. }) => return Err(EngineError::Fenced(error)),
                Err(AppendError::Store(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What was taken in is durable: tell it, and begin what it announces.
    async fn follow_up(&mut self, mut seq: u64) -> Result<(), EngineError> {
        let mut keys = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            seq += 1;
            self.tell(News::Record { seq, record: &pending.record });
            match pending.after {
                After::Nothing => {}
                After::Call(call) => self.call(*call),
                After::Reply(reply) => {
                    // The action may have been dropped while it waited.
                    let _nobody = reply.send(Ok(()));
                }
                After::FinishKey { key, outputs } => keys.push((key, Some(outputs))),
                After::DropKey { key } => keys.push((key, None)),
            }
        }
        self.settle_keys(keys).await
    }

    pub(super) fn call(&mut self, call: Call) {
        let (step, kind, stop) = (call.ctx.step.clone(), call.kind, call.stop.clone());
        let handle = self.tasks.spawn(perform(self.shared.clone(), call));
        self.about.insert(handle.id(), (step.clone(), kind));
        self.tokens.insert(step.clone(), stop);
        self.busy.insert(step);
    }

    async fn settle_keys(&mut self, keys: Vec<(String, Option<Value>)>) -> Result<(), EngineError> {
        for (key, outputs) in keys {
            let (run, environment) = (self.shared.run.clone(), self.shared.environment.name.clone());
            self.on_journal(move |journal| match outputs {
                Some(outputs) => journal.finish_key(&environment, &key, &run, &outputs),
                None => journal.drop_key(&environment, &key, &run),
            })
            .await??;
        }
        Ok(())
    }

    /// Keys of steps that are done, in case the process died between the record and the key.
    pub(super) async fn finish_keys_left_open(&mut self) -> Result<(), EngineError> {
        let mut keys = Vec::new();
        for node in self.machine.nodes() {
            let is_shared = self.shared.step(&node.bone.path).is_some_and(|s| s.idempotency_key.is_some());
            for i in node.instances.iter().filter(|i| is_shared && i.by_key_of.is_none()) {
                if let (Some(outcome), Some(last)) = (&i.outcome, &i.last) {
                    keys.push((last.key.clone(), Some(outcome.outputs.clone())));
                }
            }
        }
        self.settle_keys(keys).await
    }

    /// Folds in what others appended since.
    pub(super) async fn take_in_foreign(&mut self) -> Result<(), EngineError> {
        let changed = self.on_journal(|journal| journal.changed()).await??;
        if changed == self.seen || !self.pending.is_empty() {
            return Ok(());
        }
        self.seen = changed;
        let from = self.machine.seq();
        for (at, record) in self.read_after(from).await? {
            fold(&self.shared.run, &mut self.machine, &[(at, record.clone())])?;
            let seq = self.machine.seq();
            self.tell(News::Record { seq, record: &record });
        }
        self.still_holds()
    }

    /// A record of a newer sitting says that the run was taken over, before the fence would.
    fn still_holds(&self) -> Result<(), EngineError> {
        match self.machine.epoch() {
            // Its own `opened` may not be durable yet.
            current if current <= self.epoch => Ok(()),
            current => Err(LeaseError::Lost { epoch: self.epoch, current }.into()),
        }
    }

    async fn read_after(&self, seq: u64) -> Result<Vec<(Timestamp, Record)>, EngineError> {
        let run = self.shared.run.clone();
        let stored = self.on_journal(move |journal| journal.read(&run, seq)).await??;
        decode(&self.shared.run, stored)
    }

    /// Somebody appended first: start over from what is durable, and keep of the rest what still fits. A start
    /// that a cancel overtook does not.
    async fn rebase(&mut self, durable: u64) -> Result<(), EngineError> {
        let records = self.read_after(0).await?;
        let mut machine = Machine::new(self.machine.skeleton());
        fold(&self.shared.run, &mut machine, &records)?;
        self.machine = machine;
        self.still_holds()?;
        let mut keys = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            if self.machine.apply(pending.at, &pending.record).is_ok() {
                self.pending.push(pending);
                continue;
            }
            let step = pending.record.step().cloned();
            let key = step.and_then(|step| self.shared_keys.remove(&step));
            keys.extend(key.map(|key| (key, None)));
            self.is_over &= !matches!(pending.record, Record::RunFinished { .. } | Record::Closed { .. });
            self.give_back(&pending.record, pending.after);
        }
        let foreign = records.iter().skip(usize::try_from(durable).unwrap_or(usize::MAX));
        for (seq, (_, record)) in (durable + 1..).zip(foreign) {
            self.tell(News::Record { seq, record });
        }
        self.settle_keys(keys).await
    }

    /// A call of the journal, which may wait for a disk, off the async threads.
    pub(super) async fn on_journal<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Journal) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        on_journal(&self.shared, call).await
    }
}

async fn on_journal<T: Send + 'static>(
    shared: &Shared,
    call: impl FnOnce(&dyn Journal) -> T + Send + 'static,
) -> Result<T, EngineError> {
    // Where that can be done, on this very thread: a hand-over to another and back costs more than the disk does
    // on a machine with other work. Steps in flight have threads of their own, and the engine has to wait anyway.
    if Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread {
        return Ok(tokio::task::block_in_place(|| call(shared.journal.as_ref())));
    }
    let journal = shared.journal.clone();
    tokio::task::spawn_blocking(move || call(journal.as_ref())).await.map_err(|_| EngineError::Shutdown)
}

/// The claim of an author's key for one step.
pub(super) async fn claim_key(
    shared: &Shared,
    key: &str,
    params_digest: &str,
    step: &StepPath,
) -> Result<Result<crate::store::KeyClaim, JournalError>, EngineError> {
    let (environment, run) = (shared.environment.name.clone(), shared.run.clone());
    let (key, digest, step) = (key.to_owned(), params_digest.to_owned(), step.as_str().to_owned());
    on_journal(shared, move |journal| journal.claim_key(&environment, &key, &digest, &run, &step)).await
}
