//! Ends each database session of a run once, as a server that restarts would: whatever it was about to answer is
//! lost. By a superuser over one connection, on a thread of its own.

use std::collections::BTreeSet;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_postgres::{Config, NoTls};

use crate::world::World;

/// Between two looks: the server is to work for the run, too.
const PAUSE: Duration = Duration::from_millis(2);

/// Looks for sessions until it is told to end.
pub(super) struct Ender {
    stop: Sender<()>,
    thread: JoinHandle<usize>,
}

impl Ender {
    pub(super) fn start(world: &World) -> Self {
        let (port, password) = world.superuser();
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let mut config = Config::new();
            config.host("127.0.0.1").port(port).user("supabase_admin").password(password).dbname("postgres");
            let (client, connection) =
                runtime.block_on(config.application_name("test").connect(NoTls)).unwrap();
            runtime.spawn(connection);
            // One session of a step at a time, and none of a step that has lost one.
            let sql = "select step, pg_terminate_backend(pid) from (\
                         select distinct on (1) regexp_replace(application_name, '/[0-9]+$', '') as step, pid \
                         from pg_stat_activity where application_name like 'runbook/%/%') s \
                       where step <> all ($1)";
            let end_one = runtime.block_on(client.prepare(sql)).unwrap();
            let mut ended = BTreeSet::new();
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                let met: Vec<&str> = ended.iter().map(String::as_str).collect();
                let rows = runtime.block_on(client.query(&end_one, &[&met])).unwrap();
                ended.extend(rows.iter().map(|row| row.get::<_, String>(0)));
            }
            ended.len()
        });
        Self { stop, thread }
    }

    /// How many steps lost a session.
    pub(super) fn end(self) -> usize {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}
