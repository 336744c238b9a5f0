//! The parts of a context, in memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use runbook_core::action::{
    ActionError, BoxFuture, Checkpoints, Context, Progress, ProgressSink, StopSignal,
};
use runbook_core::environment::{Backups, DataKind, Environment, EnvironmentKind};
use runbook_core::secret::{Piece, Revealed, SecretError, SecretText, Secrets};
use serde_json::Value;

/// Secrets, checkpoints, progress and the wish to stop, all in memory.
pub(crate) struct World {
    pub(crate) stop: Arc<Stop>,
    context: Context,
}

impl World {
    /// A world in which relative paths start at `base`.
    pub(crate) fn new(base: &Path, backups: Option<Backups>) -> Self {
        let stop = Arc::new(Stop::default());
        let environment =
            Environment { backups, ..Environment::new("local", EnvironmentKind::Local, DataKind::Synthetic) };
        let context = Context {
            run: "0000aaaabbbbcccc".into(),
            run_short: "0000aaaa".into(),
            step: serde_json::from_value(Value::String("restore".into())).expect("a step path is text"),
            attempt: 1,
            epoch: 1,
            key: "k1".into(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            actor: "tester".into(),
            environment: Arc::new(environment),
            base: base.into(),
            artifacts: base.join("artifacts"),
            secrets: Arc::new(Plain),
            progress: stop.clone(),
            checkpoints: Arc::new(Kept::default()),
            stop: stop.clone(),
        };
        Self { stop, context }
    }

    /// The context of an attempt under an epoch and a key.
    pub(crate) fn at(&self, epoch: u64, key: &str) -> Context {
        Context { epoch, key: key.into(), ..self.context.clone() }
    }
}

/// Gives every secret its own name as its value.
struct Plain;

impl Secrets for Plain {
    fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError> {
        let clear: String = text
            .pieces()
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) | Piece::Secret(text) => *text,
            })
            .collect();
        Ok(Revealed::new(clear))
    }
    fn keep(&self, field: &str, _: &str) -> Result<SecretText, SecretError> {
        Ok(SecretText::reference(field))
    }
    fn kept(&self, _: &str) -> Result<Option<Revealed>, SecretError> {
        Ok(None)
    }
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, Value>>);

impl Checkpoints for Kept {
    fn get(&self, name: &str) -> Option<Value> {
        self.0.lock().expect("no holder panics").get(name).cloned()
    }
    fn save<'a>(&'a self, name: &'a str, value: Value) -> BoxFuture<'a, Result<(), ActionError>> {
        self.0.lock().expect("no holder panics").insert(name.into(), value);
        Box::pin(async { Ok(()) })
    }
}

/// Asks for a stop, at once or after so many reports of rows; lets a test wait for them.
#[derive(Default)]
pub(crate) struct Stop {
    wanted: AtomicBool,
    reports: AtomicU64,
    after: AtomicU64,
    reported: tokio::sync::Notify,
}

impl Stop {
    /// Asks for a stop after so many reports of rows from now on.
    pub(crate) fn after_reports(&self, count: u64) {
        self.reports.store(0, Ordering::SeqCst);
        self.after.store(count, Ordering::SeqCst);
    }
    /// Asks for a stop now.
    pub(crate) fn ask(&self) {
        self.wanted.store(true, Ordering::SeqCst);
        self.reported.notify_waiters();
    }
    /// Takes the wish back.
    pub(crate) fn calm(&self) {
        self.after.store(0, Ordering::SeqCst);
        self.wanted.store(false, Ordering::SeqCst);
    }
    /// Ready after the next report of rows.
    pub(crate) async fn reported(&self) {
        self.reported.notified().await;
    }
}

impl ProgressSink for Stop {
    fn report(&self, progress: Progress) {
        if progress.unit != "rows" {
            return;
        }
        let seen = self.reports.fetch_add(1, Ordering::SeqCst) + 1;
        if seen == self.after.load(Ordering::SeqCst) {
            self.wanted.store(true, Ordering::SeqCst);
        }
        self.reported.notify_waiters();
    }
}

impl StopSignal for Stop {
    fn requested(&self) -> bool {
        self.wanted.load(Ordering::SeqCst)
    }
    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            while !self.requested() {
                self.reported.notified().await;
            }
        })
    }
}
