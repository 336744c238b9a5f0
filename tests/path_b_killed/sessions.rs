//! The sessions of runs as the server sees them, asked by a superuser over one connection. Looks, and holds a
//! lock where a test wants one held; never ends a session.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::world::World;

/// Between two looks: the server is to work for the runs, too.
const PAUSE: Duration = Duration::from_millis(10);

/// A session of a run's step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) pid: i32,
    /// `runbook/RUN8/STEP`.
    pub(super) step: String,
    pub(super) epoch: u64,
    /// Whether it waits for a lock.
    pub(super) waits: bool,
}

/// A superuser's connection.
pub(super) struct Superuser {
    runtime: Runtime,
    client: Client,
    /// All sessions of steps.
    steps: Statement,
}

impl Superuser {
    pub(super) fn connect((port, password): (u16, String), database: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user("supabase_admin").password(password).dbname(database);
        let (client, connection) = runtime.block_on(config.application_name("test").connect(NoTls)).unwrap();
        runtime.spawn(connection);
        let sql = "select pid, application_name, wait_event_type is not distinct from 'Lock' \
                   from pg_stat_activity where application_name like 'runbook/%/%'";
        let steps = runtime.block_on(client.prepare(sql)).unwrap();
        Self { runtime, client, steps }
    }

    pub(super) fn execute(&self, sql: &str) {
        self.runtime.block_on(self.client.batch_execute(sql)).unwrap();
    }

    /// All sessions of steps at one moment.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let rows = self.runtime.block_on(self.client.query(&self.steps, &[])).unwrap();
        let session = |row: &tokio_postgres::Row| {
            let name: String = row.get(1);
            let (step, epoch) = name.rsplit_once('/')?;
            let epoch = epoch.parse().ok()?;
            Some(Session { pid: row.get(0), step: step.to_owned(), epoch, waits: row.get(2) })
        };
        rows.iter().filter_map(session).collect()
    }
}

/// Steps that have sessions of more than one epoch among these, with the epochs.
pub(super) fn overlaps(sessions: &[Session]) -> BTreeMap<&str, BTreeSet<u64>> {
    let mut epochs: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for session in sessions {
        epochs.entry(&session.step).or_default().insert(session.epoch);
    }
    epochs.retain(|_, epochs| epochs.len() > 1);
    epochs
}

/// What was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Looks that met a session.
    pub(super) met: u64,
    /// The newest epoch of a session.
    pub(super) newest: u64,
    /// Sessions of two epochs of one step at one moment.
    pub(super) overlaps: BTreeSet<String>,
}

/// Looks again and again on a thread of its own.
pub(super) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    pub(super) fn start(world: &World) -> Self {
        let (stop, stopped) = channel();
        let superuser = world.superuser();
        let thread = std::thread::spawn(move || look(&Superuser::connect(superuser, "postgres"), &stopped));
        Self { stop, thread }
    }

    pub(super) fn end(self) -> Seen {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

fn look(superuser: &Superuser, stopped: &Receiver<()>) -> Seen {
    let mut seen = Seen::default();
    while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
        let sessions = superuser.sessions();
        seen.met += u64::from(!sessions.is_empty());
        seen.newest = sessions.iter().map(|s| s.epoch).max().unwrap_or(0).max(seen.newest);
        seen.overlaps.extend(overlaps(&sessions).iter().map(|(step, epochs)| format!("{step}: {epochs:?}")));
    }
    seen
}
