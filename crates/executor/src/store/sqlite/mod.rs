//! One SQLite file for all runs of a state directory, read and written by several processes at once.
//!
//! WAL with `synchronous=FULL`: a transaction that returned survives a power cut, and readers never wait for a
//! writer. Every change is one `BEGIN IMMEDIATE` transaction, so what it checked is still so when it commits.

mod claims;
mod leases;
mod open;
mod records;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use serde_json::Value;

use super::error::{AppendError, JournalError, LeaseError};
use super::journal::{Journal, KeyClaim, Lease, LeaseInfo, RunRow, Stored, Verified};
use crate::holder::Holder;

pub(crate) use open::private_directory;

/// The journal of one state directory.
#[derive(Debug)]
pub struct SqliteJournal {
    path: PathBuf,
    store: Mutex<Store>,
}

/// The one connection. It keeps its prepared statements.
#[derive(Debug)]
struct Store {
    connection: Connection,
    /// What SQLite said last: it counts commits by others only.
    data_version: i64,
    /// What we say: it counts our own commits too.
    changes: u64,
}

impl SqliteJournal {
    /// The file's name in a state directory.
    pub const FILE: &str = "journal.db";

    /// Opens, or makes, the journal of a state directory (which is made too, private to the user).
    pub fn open(state_directory: &Path) -> Result<Self, JournalError> {
        private_directory(state_directory)?;
        let path = state_directory.join(Self::FILE);
        let connection = open::open(state_directory, &path)?;
        Ok(Self { path, store: Mutex::new(Store { connection, data_version: 0, changes: 0 }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A panic elsewhere cannot leave half a change: a transaction that is dropped is rolled back.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one durable transaction; an error of any kind undoes all of it.
    fn write<T, E: From<JournalError>>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Where<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let at = Where { path: &self.path, doing };
        let mut store = self.store();
        let transaction = store
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|source| at.error(source))?;
        let done = work(&transaction, &at)?;
        transaction.commit().map_err(|source| at.error(source))?;
        store.changes += 1;
        Ok(done)
    }

    /// Runs `work` on one unchanging view of the file.
    fn look<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>, &Where<'_>) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let at = Where { path: &self.path, doing };
        let mut store = self.store();
        let transaction = store
            .connection
            .transaction_with_behavior(TransactionBehavior::Deferred)
            .map_err(|source| at.error(source))?;
        work(&transaction, &at)
    }
}

/// Which file, and what is being done, for errors.
struct Where<'a> {
    path: &'a Path,
    doing: &'static str,
}

impl Where<'_> {
    fn error(&self, source: rusqlite::Error) -> JournalError {
        use rusqlite::ErrorCode;
        let path = self.path.to_owned();
        match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => JournalError::Full { path, source },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                JournalError::Damaged { path, source }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Busy { path, source },
            _ => JournalError::Sqlite { doing: self.doing, path, source },
        }
    }
}

/// SQLite's integers are signed; ours count from 0 and never come near the end.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A negative number is never written; read as one, it is the oldest of all, and no check passes with it.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn timestamp(run: &str, text: &str) -> Result<Timestamp, JournalError> {
    text.parse().map_err(|_| unreadable("a time", run, text))
}

fn holder(run: &str, text: &str) -> Result<Holder, JournalError> {
    serde_json::from_str(text).map_err(|_| unreadable("a lease's holder", run, text))
}

fn unreadable(what: &'static str, run: &str, found: &str) -> JournalError {
    JournalError::Unreadable { what, run: run.to_owned(), found: found.chars().take(80).collect() }
}

impl Journal for SqliteJournal {
    fn create(&self, run: &RunRow, first: &[u8], at: Timestamp) -> Result<Stored, JournalError> {
        self.write("make a run", |tx, place| records::create(tx, place, run, first, at))
    }

    fn adopt(&self, run: &RunRow, records: &[Stored], epoch: u64) -> Result<Verified, JournalError> {
        self.write("take in a run", |tx, place| {
            let verified = records::adopt(tx, place, run, records)?;
            leases::begin_after(tx, place, run, epoch)?;
            Ok(verified)
        })
    }

    fn append(
        &self,
        run: &str,
        after_seq: u64,
        records: &[(Timestamp, Vec<u8>)],
        fence: Option<u64>,
    ) -> Result<Vec<Stored>, AppendError> {
        self.write("append records", |tx, place| {
            leases::check_fence(tx, place, run, fence)?;
            records::append(tx, place, run, after_seq, records)
        })
    }

    fn read(&self, run: &str, after_seq: u64) -> Result<Vec<Stored>, JournalError> {
        self.look("read records", |tx, place| records::read(tx, place, run, after_seq))
    }

    fn changed(&self) -> Result<u64, JournalError> {
        let place = Where { path: &self.path, doing: "look for changes" };
        let mut store = self.store();
        let version = store.connection.prepare_cached("PRAGMA data_version");
        let version = version.and_then(|mut query| query.query_row([], |row| row.get(0)));
        let version: i64 = version.map_err(|source| place.error(source))?;
        if version != store.data_version {
            store.data_version = version;
            store.changes += 1;
        }
        Ok(store.changes)
    }

    fn run(&self, run: &str) -> Result<RunRow, JournalError> {
        self.look("read a run", |tx, place| Ok(records::head(tx, place, run)?.row))
    }

    fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        self.look("list runs", records::runs)
    }

    fn verify(&self, run: &str) -> Result<Verified, JournalError> {
        self.look("prove a run", |tx, place| records::verify(tx, place, run))
    }

    fn take_lease(
        &self,
        run: &str,
        environment: &str,
        holder: &Holder,
        writes: bool,
        now: Timestamp,
    ) -> Result<Lease, LeaseError> {
        self.write("take a run", |tx, place| {
            let lease = leases::take(tx, place, run, holder, now)?;
            if writes {
                leases::take_environment(tx, place, (environment, run), holder, now)?;
            }
            Ok(lease)
        })
    }

    fn renew(&self, run: &str, epoch: u64, now: Timestamp) -> Result<(), LeaseError> {
        self.write("renew a lease", |tx, place| leases::renew(tx, place, run, epoch, now))
    }

    fn release(&self, run: &str, epoch: u64, close_environment: bool) -> Result<(), JournalError> {
        self.write("release a run", |tx, place| leases::release(tx, place, run, epoch, close_environment))
    }

    fn lease(&self, run: &str) -> Result<Option<LeaseInfo>, JournalError> {
        self.look("look at a lease", |tx, place| leases::held(tx, place, run))
    }

    fn environment_run(&self, environment: &str) -> Result<Option<String>, JournalError> {
        self.look("look at an environment", |tx, place| leases::environment_run(tx, place, environment))
    }

    fn claim_key(
        &self,
        environment: &str,
        key: &str,
        params_digest: &str,
        run: &str,
        step: &str,
    ) -> Result<KeyClaim, JournalError> {
        self.write("claim a key", |tx, place| {
            claims::claim(tx, place, (environment, key), params_digest, (run, step))
        })
    }

    fn finish_key(
        &self,
        environment: &str,
        key: &str,
        run: &str,
        outputs: &Value,
    ) -> Result<(), JournalError> {
        self.write("finish a key", |tx, place| claims::finish(tx, place, (environment, key), run, outputs))
    }

    fn drop_key(&self, environment: &str, key: &str, run: &str) -> Result<(), JournalError> {
        self.write("drop a key", |tx, place| claims::drop(tx, place, (environment, key), run))
    }
}
