//! What a store of records promises. Says nothing about how; `contract` holds every store to it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{AppendError, JournalError, LeaseError};
use crate::holder::{Holder, Liveness};

/// How long a lease lives without renewal when nobody can tell whether its holder does. Six renewals: a
/// slow disk or a paused virtual machine does not lose a run, and nobody waits long for a dead host.
pub const LEASE_TTL: Duration = Duration::from_secs(30);

/// How often a driver renews its lease.
pub const LEASE_RENEW_EVERY: Duration = Duration::from_secs(5);

/// The longest record. The first record of a run holds the texts of all its files, which are small; anything
/// beyond this is a runaway output, and would be read again at every replay.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// One durable record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its place in the run's chain, from 1.
    pub seq: u64,
    /// When it was appended, by the appender's clock.
    pub at: Timestamp,
    /// SHA-256 that covers this record and, through its predecessor's hash, all before it.
    pub hash: [u8; 32],
    /// The record as it was given.
    pub body: Vec<u8>,
}

/// What a list of runs shows. Covered by the chain: the first record's hash follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRow {
    /// The run's id.
    pub id: String,
    /// The runbook's name.
    pub runbook: String,
    /// The environment's name.
    pub environment: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether any step may change something, so that it needs the environment for itself.
    pub writes: bool,
}

/// What a proof of a whole chain found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many records.
    pub records: u64,
    /// The last record's hash. Whoever keeps it elsewhere (a ticket, a printed report) can prove later that
    /// not even the whole chain was written anew.
    pub head: [u8; 32],
}

/// A lease that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The fencing epoch: one higher than at any take before, of this run.
    pub epoch: u64,
    /// The engine that was found dead or silent, when the lease was taken over from one.
    pub taken_from: Option<Holder>,
}

/// Who works on a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The engine.
    pub holder: Holder,
    /// Its fencing epoch.
    pub epoch: u64,
    /// When it took the lease.
    pub since: Timestamp,
    /// Its last sign of life.
    pub renewed_at: Timestamp,
    /// Whether it lives, as far as this machine can tell.
    pub alive: Liveness,
}

/// What is known about an idempotency key in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyClaim {
    /// Nobody used it; it is this step's now.
    New,
    /// This step of this run claimed it before, with no outcome yet.
    Mine,
    /// What it names is done, by that step (also when that is the asking one).
    DoneBy {
        /// Which run.
        run: String,
        /// Which step.
        step: String,
        /// What the step gave.
        outputs: Value,
    },
    /// Another step claimed it and has no outcome yet.
    InFlightBy {
        /// Which run.
        run: String,
        /// Which step.
        step: String,
    },
    /// It was claimed for other parameters.
    Mismatch {
        /// Which run.
        run: String,
        /// Which step.
        step: String,
    },
}

/// What a search by the beginning of an id found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No run.
    None,
    /// Exactly one.
    One(RunRow),
    /// Several, newest first.
    Ambiguous(Vec<RunRow>),
}

/// A durable, append-only store of runs. Every call is atomic and durable when it returns; calls come from
/// several threads and several processes at once.
pub trait Journal: Send + Sync {
    /// Makes a run with its first record.
    fn create(&self, run: &RunRow, first: &[u8], at: Timestamp) -> Result<Stored, JournalError>;

    /// Takes in a whole run from elsewhere, after proving that its records form its chain. All or nothing; a
    /// run that is already here is refused. `epoch` is the highest that its records name, 0 for none: the next
    /// lease must be newer.
    fn adopt(&self, run: &RunRow, records: &[Stored], epoch: u64) -> Result<Verified, JournalError>;

    /// Appends records in one durable transaction, if the run's last record is still `after_seq`. With a
    /// `fence`, only while that epoch holds the lease.
    fn append(
        &self,
        run: &str,
        after_seq: u64,
        records: &[(Timestamp, Vec<u8>)],
        fence: Option<u64>,
    ) -> Result<Vec<Stored>, AppendError>;

    /// The records after `after_seq`, in order, each proven to follow from the one before.
    fn read(&self, run: &str, after_seq: u64) -> Result<Vec<Stored>, JournalError>;

    /// A number that is another one whenever anything may have been written since the last call, by whomever.
    /// Cheap enough to ask many times a second.
    fn changed(&self) -> Result<u64, JournalError>;

    /// One run's row.
    fn run(&self, run: &str) -> Result<RunRow, JournalError>;

    /// All runs, newest first.
    fn runs(&self) -> Result<Vec<RunRow>, JournalError>;

    /// The run whose id is, or begins with, `prefix`.
    fn find_run(&self, prefix: &str) -> Result<Found, JournalError> {
        let mut rows = self.runs()?;
        rows.retain(|row| row.id.starts_with(prefix));
        if let Some(exact) = rows.iter().position(|row| row.id == prefix) {
            return Ok(Found::One(rows.swap_remove(exact)));
        }
        Ok(match rows.len() {
            0 => Found::None,
            1 => Found::One(rows.swap_remove(0)),
            _ => Found::Ambiguous(rows),
        })
    }

    /// Proves the whole chain, from the run's row to its last record. [`JournalError::Broken`] names the first
    /// record that does not fit.
    fn verify(&self, run: &str) -> Result<Verified, JournalError>;

    /// Takes the run for `holder`, and the environment for the run when it `writes`.
    fn take_lease(
        &self,
        run: &str,
        environment: &str,
        holder: &Holder,
        writes: bool,
        now: Timestamp,
    ) -> Result<Lease, LeaseError>;

    /// A sign of life.
    fn renew(&self, run: &str, epoch: u64, now: Timestamp) -> Result<(), LeaseError>;

    /// Gives the run back. The environment stays with the run, so that nothing comes between a stop and its
    /// resume, unless `close_environment` says that the run is over. An epoch that no longer holds the lease
    /// changes nothing: [`JournalError::NotHeld`].
    fn release(&self, run: &str, epoch: u64, close_environment: bool) -> Result<(), JournalError>;

    /// Who works on the run now.
    fn lease(&self, run: &str) -> Result<Option<LeaseInfo>, JournalError>;

    /// The run that has an environment for itself now, whether anybody works on it or not.
    fn environment_run(&self, environment: &str) -> Result<Option<String>, JournalError>;

    /// Claims an idempotency key in an environment for a step.
    fn claim_key(
        &self,
        environment: &str,
        key: &str,
        params_digest: &str,
        run: &str,
        step: &str,
    ) -> Result<KeyClaim, JournalError>;

    /// Remembers what was done under a key that `run` claimed. The same call again changes nothing.
    fn finish_key(
        &self,
        environment: &str,
        key: &str,
        run: &str,
        outputs: &Value,
    ) -> Result<(), JournalError>;

    /// Gives up a key that `run` claimed and under which nothing was done, so that others may use it. A key
    /// that is finished stays.
    fn drop_key(&self, environment: &str, key: &str, run: &str) -> Result<(), JournalError>;
}

/// Refuses a record beyond [`RECORD_BYTES_MAX`].
pub(super) fn too_long(run: &str, body: &[u8]) -> Result<(), JournalError> {
    if body.len() <= RECORD_BYTES_MAX {
        return Ok(());
    }
    Err(JournalError::TooLong { run: run.to_owned(), bytes: body.len(), max: RECORD_BYTES_MAX })
}
