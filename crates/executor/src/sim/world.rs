//! Scripted actions and a world that remembers what was done to it, for whole runs under the real driver.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use runbook_core::action::{
    Action, ActionError, BoxFuture, Context, Description, Effect, InForce, Outcome, Preview, Probed, Registry,
};
use runbook_core::secret::SecretText;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::holder::Holder;
use crate::record::Record;
use crate::store::{
    AppendError, Journal, JournalError, KeyClaim, Lease, LeaseError, LeaseInfo, MemoryJournal, RunRow,
    Stored, Verified,
};

/// What the next call of a step does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Act {
    Unchanged,
    Refused,
    /// It acts, and the answer is lost.
    Unknown,
    Panic,
    /// Waits for the wish to stop, and heeds it.
    UntilStopped,
    /// Hangs, whatever is wished.
    Hang,
    /// Saves a checkpoint, then waits like `UntilStopped`; with the checkpoint there, it succeeds.
    InTwoParts,
    /// Puts a secret where everybody sees it.
    Spill,
    Force(&'static str),
    Release(&'static str),
}

#[derive(Default)]
pub(crate) struct World {
    acts: Mutex<HashMap<String, VecDeque<Act>>>,
    /// Calls of `run`, in order: `step#attempt`.
    pub(crate) calls: Mutex<Vec<String>>,
    /// How often each effect happened, by the rules of its class.
    pub(crate) effects: Mutex<BTreeMap<String, u32>>,
    pub(crate) undone: Mutex<Vec<String>>,
    pub(crate) fenced: Mutex<Vec<(String, u64)>>,
    pub(crate) params: Mutex<HashMap<String, Value>>,
    called: Notify,
    /// Where a call looks whether its start is durable.
    pub(crate) journal: OnceLock<Arc<MemoryJournal>>,
    /// Calls that were made before that.
    pub(crate) early: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn script(&self, step: &str, acts: impl IntoIterator<Item = Act>) {
        self.acts.lock().unwrap().insert(step.to_owned(), acts.into_iter().collect());
    }
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
    pub(crate) fn effects(&self) -> BTreeMap<String, u32> {
        self.effects.lock().unwrap().clone()
    }
    /// Ready when a step was called so many times.
    pub(crate) async fn was_called(&self, step: &str) {
        loop {
            let notified = self.called.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.calls().iter().any(|c| c.starts_with(&format!("{step}#"))) {
                return;
            }
            notified.await;
        }
    }

    fn look(&self, ctx: &Context) {
        let Some(journal) = self.journal.get() else { return };
        let is_start = |stored: &Stored| match Record::decode(&stored.body) {
            Ok(Record::AttemptStarted(start)) => start.step == ctx.step && start.attempt == ctx.attempt,
            _ => false,
        };
        if !journal.read(&ctx.run, 0).unwrap().iter().any(is_start) {
            self.early.lock().unwrap().push(format!("{}#{}", ctx.step, ctx.attempt));
        }
    }

    fn act(&self, effect: Effect, ctx: &Context) {
        let name = match effect {
            Effect::Read => return,
            Effect::Once => format!("{}", ctx.step),
            _ => format!("{} {}", ctx.step, ctx.key),
        };
        let mut effects = self.effects.lock().unwrap();
        let times = effects.entry(name).or_default();
        *times = if effect == Effect::Once { *times + 1 } else { 1 };
    }
}

struct Scripted {
    description: Description,
    world: Arc<World>,
}

impl Scripted {
    async fn do_it(&self, ctx: &Context, params: Value) -> Result<Outcome, ActionError> {
        let step = ctx.step.as_str().to_owned();
        self.world.look(ctx);
        let act = self.world.acts.lock().unwrap().get_mut(&step).and_then(VecDeque::pop_front);
        self.world.calls.lock().unwrap().push(format!("{step}#{}", ctx.attempt));
        self.world.params.lock().unwrap().insert(step.clone(), params.clone());
        self.world.called.notify_waiters();
        let stopped = || ActionError::unchanged("finish").code("stopped");
        let mut outcome = Outcome {
            outputs: json!({ "value": params.get("value").cloned().unwrap_or(json!(step)) }),
            summary: format!("{step} is done"),
            ..Outcome::default()
        };
        match act {
            None => {}
            Some(Act::Unchanged) => return Err(ActionError::unchanged("reach it").because("it is away")),
            Some(Act::Refused) => return Err(ActionError::refused("do it").hint("Do something else.")),
            Some(Act::Unknown) => {
                self.world.act(self.description.effect, ctx);
                return Err(ActionError::unknown("hear the answer"));
            }
            Some(Act::Panic) => panic!("a bug"),
            Some(Act::UntilStopped) => {
                ctx.stop.wait().await;
                return Err(stopped());
            }
            Some(Act::Hang) => std::future::pending::<()>().await,
            Some(Act::InTwoParts) if ctx.checkpoints.get("half").is_none() => {
                ctx.checkpoints.save("half", json!(1)).await?;
                ctx.stop.wait().await;
                return Err(stopped());
            }
            Some(Act::InTwoParts) => {}
            Some(Act::Spill) => outcome.outputs = json!({ "value": SecretText::reference("token").marked() }),
            Some(Act::Force(key)) => {
                outcome.in_force.push(InForce { key: key.to_owned(), text: format!("{key} holds") });
            }
            Some(Act::Release(key)) => outcome.released.push(key.to_owned()),
        }
        self.world.act(self.description.effect, ctx);
        Ok(outcome)
    }
}

impl Action for Scripted {
    fn description(&self) -> &Description {
        &self.description
    }
    fn plan<'a>(&'a self, _: &'a Context, _: Value) -> BoxFuture<'a, Result<Preview, ActionError>> {
        Box::pin(async { Ok(Preview::Unknown("scripted".into())) })
    }
    fn run<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(self.do_it(ctx, params))
    }
    fn probe<'a>(&'a self, ctx: &'a Context, _: Value) -> BoxFuture<'a, Result<Probed, ActionError>> {
        Box::pin(async move {
            if self.world.effects().contains_key(ctx.step.as_str()) {
                let outputs = json!({ "value": "found" });
                return Ok(Probed::Happened(Outcome { outputs, ..Outcome::default() }));
            }
            Ok(Probed::Absent)
        })
    }
    fn undo<'a>(
        &'a self,
        ctx: &'a Context,
        _: Value,
        outputs: Value,
    ) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(async move {
            let name = format!("undo {}", ctx.step);
            let act = self.world.acts.lock().unwrap().get_mut(&name).and_then(VecDeque::pop_front);
            if act == Some(Act::Unchanged) {
                return Err(ActionError::unchanged("take it back"));
            }
            self.world.undone.lock().unwrap().push(format!("{} {}", ctx.step, outputs["value"]));
            Ok(Outcome::default())
        })
    }
    fn fence<'a>(&'a self, ctx: &'a Context, _: Value) -> BoxFuture<'a, Result<u32, ActionError>> {
        self.world.fenced.lock().unwrap().push((ctx.step.as_str().to_owned(), ctx.epoch));
        Box::pin(async { Ok(0) })
    }
}

pub(crate) struct Actions(Vec<Scripted>);

impl Actions {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        let kinds = [
            ("t.ask", Effect::Read),
            ("t.idempotent", Effect::Idempotent),
            ("t.keyed", Effect::Keyed),
            ("t.once", Effect::Once),
            ("t.probed", Effect::Once),
            ("t.read", Effect::Read),
        ];
        let open = json!({ "type": "object", "properties": { "value": {}, "prompt": { "type": "string" } } });
        let actions = kinds.into_iter().map(|(name, effect)| Scripted {
            description: Description {
                name,
                summary: "Does what the test says.",
                effect,
                params: open.clone(),
                outputs: json!({ "type": "object", "properties": { "value": {} } }),
                targets: Vec::new(),
                exposes: false,
                asks: name == "t.ask",
                chooses: false,
                permissions: &[],
                example: "",
                has_probe: name == "t.probed",
                has_undo: effect != Effect::Read,
                has_plan: false,
            },
            world: world.clone(),
        });
        Self(actions.collect())
    }
}

impl Registry for Actions {
    fn get(&self, name: &str) -> Option<&dyn Action> {
        self.0.iter().find(|a| a.description.name == name).map(|a| a as &dyn Action)
    }
    fn descriptions(&self) -> Vec<&Description> {
        self.0.iter().map(|a| &a.description).collect()
    }
}

/// A journal whose process dies at one append: before it is durable, or right after.
pub(crate) struct Dying {
    pub(crate) inner: Arc<MemoryJournal>,
    pub(crate) appends_left: AtomicI64,
    pub(crate) after: bool,
    pub(crate) appends: AtomicI64,
    /// A cancel gets in right before the start of this step.
    pub(crate) overtaken_at: Option<&'static str>,
}

impl Dying {
    pub(crate) fn never(inner: &Arc<MemoryJournal>) -> Self {
        Self::at(inner, i64::MAX, false)
    }
    pub(crate) fn at(inner: &Arc<MemoryJournal>, appends: i64, after: bool) -> Self {
        let (appends_left, count) = (AtomicI64::new(appends), AtomicI64::new(0));
        Self { inner: inner.clone(), appends_left, after, appends: count, overtaken_at: None }
    }
    fn is_dead(&self) -> bool {
        self.appends_left.load(Ordering::SeqCst) < 0
    }
    fn dead() -> JournalError {
        JournalError::NoRun { run: "the process is dead".to_owned() }
    }
    fn alive(&self) -> Result<(), JournalError> {
        if self.is_dead() { Err(Self::dead()) } else { Ok(()) }
    }
}

impl Journal for Dying {
    fn create(&self, run: &RunRow, first: &[u8], at: Timestamp) -> Result<Stored, JournalError> {
        self.inner.create(run, first, at)
    }
    fn adopt(&self, run: &RunRow, records: &[Stored], epoch: u64) -> Result<Verified, JournalError> {
        self.inner.adopt(run, records, epoch)
    }
    fn append(
        &self,
        run: &str,
        after_seq: u64,
        records: &[(Timestamp, Vec<u8>)],
        fence: Option<u64>,
    ) -> Result<Vec<Stored>, AppendError> {
        self.appends.fetch_add(1, Ordering::SeqCst);
        let starts = |body: &[u8]| match Record::decode(body) {
            Ok(Record::AttemptStarted(start)) => Some(start.step.as_str()) == self.overtaken_at,
            _ => false,
        };
        if records.iter().any(|(_, body)| starts(body)) {
            let cancel = Record::CancelRequested { by: "bob".to_owned(), reason: None }.encode().unwrap();
            let _already_there = self.inner.append(run, after_seq, &[(records[0].0, cancel)], None);
        }
        if fence.is_some() && self.appends_left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.appends_left.store(-1, Ordering::SeqCst);
            if self.after {
                self.inner.append(run, after_seq, records, fence)?;
            }
            return Err(Self::dead().into());
        }
        self.inner.append(run, after_seq, records, fence)
    }
    fn read(&self, run: &str, after_seq: u64) -> Result<Vec<Stored>, JournalError> {
        self.alive()?;
        self.inner.read(run, after_seq)
    }
    fn changed(&self) -> Result<u64, JournalError> {
        self.alive()?;
        self.inner.changed()
    }
    fn run(&self, run: &str) -> Result<RunRow, JournalError> {
        self.inner.run(run)
    }
    fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        self.inner.runs()
    }
    fn verify(&self, run: &str) -> Result<Verified, JournalError> {
        self.inner.verify(run)
    }
    fn take_lease(
        &self,
        run: &str,
        environment: &str,
        holder: &Holder,
        writes: bool,
        now: Timestamp,
    ) -> Result<Lease, LeaseError> {
        // Of an earlier boot, so that it is proven dead when the next one asks.
        let holder = Holder { boot_id: "an earlier boot".to_owned(), ..holder.clone() };
        self.inner.take_lease(run, environment, &holder, writes, now)
    }
    fn renew(&self, run: &str, epoch: u64, now: Timestamp) -> Result<(), LeaseError> {
        self.inner.renew(run, epoch, now)
    }
    fn release(&self, run: &str, epoch: u64, close_environment: bool) -> Result<(), JournalError> {
        self.alive()?;
        self.inner.release(run, epoch, close_environment)
    }
    fn lease(&self, run: &str) -> Result<Option<LeaseInfo>, JournalError> {
        self.inner.lease(run)
    }
    fn environment_run(&self, environment: &str) -> Result<Option<String>, JournalError> {
        self.inner.environment_run(environment)
    }
    fn claim_key(
        &self,
        environment: &str,
        key: &str,
        params_digest: &str,
        run: &str,
        step: &str,
    ) -> Result<KeyClaim, JournalError> {
        self.alive()?;
        self.inner.claim_key(environment, key, params_digest, run, step)
    }
    fn finish_key(
        &self,
        environment: &str,
        key: &str,
        run: &str,
        outputs: &Value,
    ) -> Result<(), JournalError> {
        self.alive()?;
        self.inner.finish_key(environment, key, run, outputs)
    }
    fn drop_key(&self, environment: &str, key: &str, run: &str) -> Result<(), JournalError> {
        self.alive()?;
        self.inner.drop_key(environment, key, run)
    }
}
