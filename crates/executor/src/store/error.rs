//! What can go wrong with a store, by name. The texts about held leases say who, where, since when, whether
//! it lives, and the next command: they are read at 3 a.m.

use std::path::PathBuf;

use jiff::Timestamp;

use super::journal::LEASE_TTL;
use crate::holder::{Holder, Liveness};

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The state directory or a file in it could not be made or opened.
    #[error("open the journal `{}`", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others may look into the state directory, and it holds files that are not ours to lock away.
    #[error(
        "use `{}` for the journal: other users may look into it; give a directory of its own, or `chmod 700` it",
        path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
    },
    /// A newer version of this program wrote it.
    #[error(
        "open the journal `{}`: it has format {found}, this program knows {known}; use the newer program",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format that this program reads.
        known: i64,
    },
    /// No such run.
    #[error("find run `{run}`: the journal has no run of that id")]
    NoRun {
        /// The id.
        run: String,
    },
    /// There is one already.
    #[error("make run `{run}`: the journal already has a run of that id")]
    Exists {
        /// The id.
        run: String,
    },
    /// A record does not follow from the one before, or is missing.
    #[error("read record {seq} of run `{run}`: {why}; the journal was changed or damaged")]
    Broken {
        /// The run.
        run: String,
        /// The first record that does not fit.
        seq: u64,
        /// In what way.
        why: &'static str,
    },
    /// A record beyond [`RECORD_BYTES_MAX`](super::RECORD_BYTES_MAX).
    #[error("append a record of {bytes} bytes to run `{run}`: the limit is {max}")]
    TooLong {
        /// The run.
        run: String,
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The caller does not hold the lease that it wants to give back.
    #[error("release run `{run}`: epoch {epoch} does not hold it any more")]
    NotHeld {
        /// The run.
        run: String,
        /// The caller's epoch.
        epoch: u64,
    },
    /// The run did not claim that key.
    #[error("close idempotency key `{key}` in environment `{environment}`: run `{run}` has not claimed it")]
    NotClaimed {
        /// The environment.
        environment: String,
        /// The key.
        key: String,
        /// The run.
        run: String,
    },
    /// No room, by the disk or by quota. Nothing of this call was written; all before it is whole.
    #[error("write the journal `{}`: the disk is full; make room, then resume", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The file is not one that SQLite can trust.
    #[error(
        "read the journal `{}`: the file is damaged; keep a copy of it and of the files beside it before \
         anything else",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Another process kept the file locked beyond all patience.
    #[error("write the journal `{}`: another process has it locked", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// Anything else from SQLite.
    #[error("{doing} in the journal `{}`", path.display())]
    Sqlite {
        /// What was attempted.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// A column holds what this program never writes.
    #[error("read {what} of run `{run}`: `{found}` is not one")]
    Unreadable {
        /// What it should be.
        what: &'static str,
        /// The run.
        run: String,
        /// What stands there.
        found: String,
    },
}

/// Why records were not appended. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody appended in between: fold in what is new, check the record again, try again.
    #[error("append to the run: its last record is {head} by now")]
    Moved {
        /// The last record's number.
        head: u64,
    },
    /// The epoch does not hold the lease any more.
    #[error("append to the run: {}", fenced(*current, holder.as_deref()))]
    Fenced {
        /// The newest epoch.
        current: u64,
        /// Who holds it, if anybody.
        holder: Option<Box<Holder>>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] JournalError),
}

/// Why a lease was not had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another engine works on the run.
    #[error("take run `{run}`: {}", run_held(run, holder, *since, *renewed_at, *alive))]
    RunHeld {
        /// The run.
        run: String,
        /// Who.
        holder: Box<Holder>,
        /// Since when.
        since: Timestamp,
        /// Its last sign of life.
        renewed_at: Timestamp,
        /// Whether it lives.
        alive: Liveness,
    },
    /// Another run that writes has the environment.
    #[error("take environment `{environment}`: {}", environment_held(run, holder, *since, *alive))]
    EnvironmentHeld {
        /// The environment.
        environment: String,
        /// The run that has it.
        run: String,
        /// Its engine, or the last one it had.
        holder: Box<Holder>,
        /// Since when the environment belongs to that run.
        since: Timestamp,
        /// Whether that engine lives; `Dead` also when it gave the run back.
        alive: Liveness,
    },
    /// The caller held it once.
    #[error("keep the run: epoch {epoch} lost it, the newest is {current}")]
    Lost {
        /// The caller's.
        epoch: u64,
        /// The newest.
        current: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] JournalError),
}

fn fenced(current: u64, holder: Option<&Holder>) -> String {
    match holder {
        Some(holder) => format!("{holder} took it over (epoch {current})"),
        None => format!("this engine does not hold it any more (epoch {current} is the newest)"),
    }
}

fn run_held(run: &str, holder: &Holder, since: Timestamp, seen: Timestamp, alive: Liveness) -> String {
    let since = format!("{since:.0}");
    match alive {
        Liveness::Alive => format!(
            "{holder} has worked on it since {since} and is alive; watch it with `runbook status {run}`, or stop \
             it with `runbook pause {run}`"
        ),
        Liveness::Dead | Liveness::Unknown => format!(
            "{holder} has worked on it since {since}; whether it lives cannot be seen from here, its last sign of \
             life was at {seen:.0}; `runbook resume {run}` takes over {} s after the last one",
            LEASE_TTL.as_secs()
        ),
    }
}

fn environment_held(run: &str, holder: &Holder, since: Timestamp, alive: Liveness) -> String {
    let since = format!("{since:.0}");
    match alive {
        Liveness::Alive => format!(
            "run `{run}` has it since {since}, and {holder} is working on it; watch it with `runbook status \
             {run}`, or end it with `runbook cancel {run}`"
        ),
        Liveness::Dead => format!(
            "run `{run}` has it since {since} and is not finished, and nobody works on it ({holder} did last); \
             go on with `runbook resume {run}`, or end it with `runbook cancel {run}`"
        ),
        Liveness::Unknown => format!(
            "run `{run}` has it since {since}; whether {holder} still works on it cannot be seen from here; go \
             on with `runbook resume {run}`, or end it with `runbook cancel {run}`"
        ),
    }
}

impl JournalError {
    pub(super) fn not_claimed(environment: &str, key: &str, run: &str) -> Self {
        Self::NotClaimed { environment: environment.to_owned(), key: key.to_owned(), run: run.to_owned() }
    }
}
