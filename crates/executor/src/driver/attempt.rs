//! Calling an action: its context, its timeout, its end. Runs as a task of its own and decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use runbook_core::action::{
    ActionError, Aftermath, BoxFuture, Checkpoints, Context, Outcome, Probed, Progress, ProgressSink,
    StopSignal,
};
use runbook_core::key::default_key;
use runbook_core::scope::with_probe;
use runbook_core::template::evaluate;
use runbook_core::workflow::{Expression, StepPath};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::rehearsal::{Rehearsal, rehearsed};
use super::sitting::Shared;
use super::stop::Stop;

/// How long an attempt that ran out of time may take to stop by itself before it is dropped.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The epoch under which remains are looked for: no engine has it, so sessions of every epoch count as old,
/// also those of this engine whose attempt was cut off.
const FENCE_EPOCH: u64 = 999_999_999;

/// What a task is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TaskKind {
    Attempt,
    Fence,
    Probe,
    Undo,
}

/// How a task ended.
pub(super) enum TaskEnd {
    Attempt(Result<Outcome, ActionError>, Duration),
    Fence(Result<u32, ActionError>),
    Probe(Result<Probed, ActionError>),
    Undo(Result<Outcome, ActionError>),
}

/// What to call.
pub(super) struct Call {
    pub(super) kind: TaskKind,
    pub(super) action: String,
    pub(super) params: Value,
    pub(super) ctx: Context,
    /// For an undo: what the step gave.
    pub(super) outputs: Value,
    pub(super) timeout: Option<Duration>,
    pub(super) stop: Stop,
    /// For an author's probe: the scope, and what decides.
    pub(super) happened: Option<(Value, Expression)>,
    /// What goes wrong with it on purpose.
    pub(super) rehearsal: Option<Rehearsal>,
}

/// Does the call. Dropping the future drops the action's own.
pub(super) async fn perform(shared: Arc<Shared>, call: Call) -> TaskEnd {
    let Some(action) = shared.registry.get(&call.action) else {
        let error =
            ActionError::refused(format!("call `{}`: this program has no action of that name", call.action));
        return match call.kind {
            TaskKind::Attempt => TaskEnd::Attempt(Err(error), Duration::ZERO),
            TaskKind::Fence => TaskEnd::Fence(Err(error)),
            TaskKind::Probe => TaskEnd::Probe(Err(error)),
            TaskKind::Undo => TaskEnd::Undo(Err(error)),
        };
    };
    let started = Instant::now();
    let (ctx, params) = (&call.ctx, call.params);
    match call.kind {
        TaskKind::Attempt => {
            let attempt = within(call.timeout, &call.stop, action.run(ctx, params));
            let result = rehearsed(call.rehearsal, ctx.attempt, attempt).await;
            TaskEnd::Attempt(result, started.elapsed())
        }
        TaskKind::Fence => TaskEnd::Fence(action.fence(ctx, params).await),
        TaskKind::Undo => {
            TaskEnd::Undo(within(call.timeout, &call.stop, action.undo(ctx, params, call.outputs)).await)
        }
        TaskKind::Probe => match call.happened {
            None => TaskEnd::Probe(within(call.timeout, &call.stop, action.probe(ctx, params)).await),
            Some((scope, happened)) => {
                let looked = within(call.timeout, &call.stop, action.run(ctx, params)).await;
                TaskEnd::Probe(looked.map(|outcome| judged(scope, &happened, &outcome)))
            }
        },
    }
}

/// What an author's probe says.
fn judged(scope: Value, happened: &Expression, looked: &Outcome) -> Probed {
    match evaluate(happened, &with_probe(scope, &looked.outputs)) {
        Ok(true) => {
            Probed::Happened(Outcome { summary: "found done by its probe".to_owned(), ..Outcome::default() })
        }
        Ok(false) => Probed::Absent,
        Err(error) => Probed::Unclear(error.to_string()),
    }
}

/// The call, with a wish to stop when its time is up, and an end when it does not heed that.
async fn within<T>(
    timeout: Option<Duration>,
    stop: &Stop,
    mut call: BoxFuture<'_, Result<T, ActionError>>,
) -> Result<T, ActionError> {
    let Some(timeout) = timeout else { return call.await };
    if let Ok(result) = tokio::time::timeout(timeout, &mut call).await {
        return result;
    }
    stop.gentle();
    let late = |aftermath| {
        let attempted = format!("finish within the timeout of {} s", timeout.as_secs_f64());
        ActionError::new(attempted, aftermath).code("timeout")
    };
    match tokio::time::timeout(STOP_GRACE, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(late(error.aftermath)),
        Err(_) => Err(late(Aftermath::Unknown)),
    }
}

/// A checkpoint that waits to become durable.
pub(super) struct Save {
    pub(super) step: StepPath,
    pub(super) name: String,
    pub(super) value: Value,
    pub(super) reply: oneshot::Sender<Result<(), ActionError>>,
}

struct StepCheckpoints {
    step: StepPath,
    saved: Mutex<BTreeMap<String, Value>>,
    saves: mpsc::Sender<Save>,
}

impl Checkpoints for StepCheckpoints {
    fn get(&self, name: &str) -> Option<Value> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn save<'a>(&'a self, name: &'a str, value: Value) -> BoxFuture<'a, Result<(), ActionError>> {
        Box::pin(async move {
            let (reply, durable) = oneshot::channel();
            let save = Save { step: self.step.clone(), name: name.to_owned(), value: value.clone(), reply };
            let gone = || {
                ActionError::unchanged(format!("save the checkpoint `{name}`: the engine has stopped"))
                    .code("stopped")
            };
            self.saves.send(save).await.map_err(|_| gone())?;
            durable.await.map_err(|_| gone())??;
            self.saved.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), value);
            Ok(())
        })
    }
}

/// The latest word of each step; older ones are overwritten, so an action may talk as much as it likes.
#[derive(Default)]
pub(super) struct ProgressHub(Mutex<HashMap<StepPath, Progress>>);

impl ProgressHub {
    pub(super) fn take(&self) -> Vec<(StepPath, Progress)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }
}

struct StepProgress {
    step: StepPath,
    hub: Arc<ProgressHub>,
}

impl ProgressSink for StepProgress {
    fn report(&self, progress: Progress) {
        self.hub.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.step.clone(), progress);
    }
}

/// What is particular about one call.
pub(super) struct Occasion {
    pub(super) step: StepPath,
    pub(super) attempt: u32,
    pub(super) epoch: u64,
    pub(super) key: String,
    pub(super) checkpoints: BTreeMap<String, Value>,
    pub(super) stop: Stop,
}

impl Occasion {
    /// For a fence: see [`FENCE_EPOCH`].
    pub(super) fn of_fence(mut self) -> Self {
        self.epoch = FENCE_EPOCH;
        self
    }

    /// For an undo, which is another request than the step's own.
    pub(super) fn of_undo(mut self, run: &str) -> Self {
        self.key = default_key(run, &StepPath::new(format!("{}#undo", self.step)));
        self
    }
}

impl Shared {
    pub(super) fn context(&self, occasion: Occasion) -> Context {
        let stop: Arc<dyn StopSignal> = Arc::new(occasion.stop);
        Context {
            run: self.run.clone(),
            run_short: self.facts.short_id.clone(),
            attempt: occasion.attempt,
            epoch: occasion.epoch,
            key: occasion.key,
            started_at: self.facts.started_at,
            actor: self.actor.clone(),
            environment: self.environment.clone(),
            base: self.base.clone(),
            artifacts: self.artifacts.join(folder_name(occasion.step.as_str())),
            secrets: Arc::new(self.secrets.for_step(occasion.step.as_str())),
            progress: Arc::new(StepProgress { step: occasion.step.clone(), hub: self.progress.clone() }),
            checkpoints: Arc::new(StepCheckpoints {
                step: occasion.step.clone(),
                saved: Mutex::new(occasion.checkpoints),
                saves: self.saves.clone(),
            }),
            stop,
            step: occasion.step,
        }
    }
}

/// A step path as one folder name: two paths never share one.
fn folder_name(path: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let plain: String = path.chars().take(80).map(|c| if is_plain(c) { c } else { '_' }).collect();
    if plain == path && !path.starts_with('.') {
        return plain;
    }
    use sha2::Digest as _;
    format!("{plain}~{}", hex::encode(&sha2::Sha256::digest(path.as_bytes())[..4]))
}
