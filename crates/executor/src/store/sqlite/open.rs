//! Making and opening the file: private to the user, in the right mode, of a format that we know.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};

use super::Where;
use crate::store::JournalError;

/// What the file looks like today; `PRAGMA user_version` holds it.
const FORMAT: i64 = 1;

/// How long a write waits for other processes. They hold the lock for one commit, milliseconds; a disk that
/// stalls may take seconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// What may stand in a state directory. One with anything else in it is not ours alone.
const OURS: [&str; 5] = ["journal.db", "vault", "artifacts", "sandbox", "logs"];

const TABLES: &str = "
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    runbook TEXT NOT NULL,
    environment TEXT NOT NULL,
    created_at TEXT NOT NULL,
    writes INTEGER NOT NULL,
    -- The last record, so that one that is cut off the end is missed.
    head_seq INTEGER NOT NULL,
    head BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE records (
    run TEXT NOT NULL REFERENCES runs (id),
    seq INTEGER NOT NULL,
    at TEXT NOT NULL,
    hash BLOB NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    run TEXT PRIMARY KEY REFERENCES runs (id),
    -- Stays when the lease is given back: the next epoch must be higher.
    epoch INTEGER NOT NULL,
    held INTEGER NOT NULL,
    holder TEXT NOT NULL,
    since TEXT NOT NULL,
    renewed_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE environments (
    environment TEXT PRIMARY KEY,
    run TEXT NOT NULL REFERENCES runs (id),
    holder TEXT NOT NULL,
    since TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
    environment TEXT NOT NULL,
    key TEXT NOT NULL,
    params_digest TEXT NOT NULL,
    run TEXT NOT NULL,
    step TEXT NOT NULL,
    outputs TEXT,
    PRIMARY KEY (environment, key)
) STRICT, WITHOUT ROWID;
";

/// Makes a directory that only its owner may enter, or sees to it that an existing one is.
///
/// One that is open to others is closed when nothing but our own files is in it. Otherwise (`/tmp`, a home
/// directory) it is refused: closing it would lock others out of what is theirs.
pub(crate) fn private_directory(path: &Path) -> Result<(), JournalError> {
    let wrap = |source| JournalError::Open { path: path.to_owned(), source };
    match DirBuilder::new().recursive(true).mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(wrap(error)),
        _ => {}
    }
    let mode = fs::metadata(path).map_err(wrap)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(path).map_err(wrap)? {
        let name = entry.map_err(wrap)?.file_name();
        if !OURS.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            return Err(JournalError::Shared { path: path.to_owned() });
        }
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(wrap)
}

pub(super) fn open(directory: &Path, path: &Path) -> Result<Connection, JournalError> {
    let wrap = |source| JournalError::Open { path: path.to_owned(), source };
    // Two processes that make the file at once would meet half-way, where SQLite's own waiting does not reach:
    // the switch to WAL. The lock goes with the handle, also when this process dies.
    let guard = File::open(directory).map_err(wrap)?;
    flock(&guard, FlockOperation::LockExclusive).map_err(|errno| wrap(errno.into()))?;
    // SQLite gives the files beside it the mode of this one.
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(wrap)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(wrap)?;
    drop(file);
    guard.sync_all().map_err(wrap)?;
    let place = Where { path, doing: "open" };
    let connection = connect(path).map_err(|source| place.error(source))?;
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| place.error(source))?;
    match found {
        FORMAT => {}
        0 => make(&connection).map_err(|source| place.error(source))?,
        _ => return Err(JournalError::Newer { path: path.to_owned(), found, known: FORMAT }),
    }
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A file that was made to do harm must not run code through its schema.
    connection.pragma_update(None, "trusted_schema", false)?;
    Ok(connection)
}

/// Tables and format appear together or not at all.
fn make(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT;"))
}
