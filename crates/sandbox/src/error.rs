//! Why the sandbox could not do something. Each text can follow "could not".

use std::path::PathBuf;

/// What went wrong in the sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A file or folder of the sandbox.
    #[error("{what} `{}`", path.display())]
    Disk {
        /// What was attempted, as a verb.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A state file that this version cannot read.
    #[error("read the sandbox's own file `{}`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it stopped making sense.
        #[source]
        source: serde_json::Error,
    },
    /// No PostgreSQL server on this machine.
    #[error(
        "find the PostgreSQL server programs (`initdb`, `postgres`, `pg_ctl`, `pg_dump`; version 14 or later): looked in {looked}. \
         Install them (Debian and Ubuntu: `apt-get install postgresql`; macOS: `brew install postgresql@17`), or set RUNBOOK_PG_BIN to their folder"
    )]
    NoPostgres {
        /// The places that were tried.
        looked: String,
    },
    /// PostgreSQL refuses root, and there is nobody else to be.
    #[error(
        "start PostgreSQL: it refuses to run as root, and this machine has neither a `postgres` nor a `nobody` account"
    )]
    NoAccount,
    /// A program ended badly.
    #[error("run `{program}` ({status}): {stderr}")]
    Program {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The end of what it said.
        stderr: String,
    },
    /// PostgreSQL ended while it was being started.
    #[error("start PostgreSQL; its log ends with: {log}")]
    PostgresDied {
        /// The last lines.
        log: String,
    },
    /// A statement or a connection failed.
    #[error("{what} in database `{database}`: {reason}")]
    Database {
        /// What was attempted.
        what: &'static str,
        /// Where.
        database: String,
        /// The server's words, with detail where it gave one.
        reason: String,
        /// The driver's error.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A remembered port is in use.
    #[error(
        "listen on port {port}, which the sandbox has used before: end the program that holds it, or begin anew with `runbook sandbox reset`"
    )]
    PortTaken {
        /// The port.
        port: u16,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Another daemon serves this state directory.
    #[error("start the sandbox in `{}`: another process serves it already", path.display())]
    Held {
        /// The sandbox's folder.
        path: PathBuf,
    },
    /// The daemon ended before it was ready.
    #[error("start the sandbox: it ended with {status}. {log}")]
    DaemonDied {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// Nothing answers.
    #[error("reach the sandbox at `{address}`: it is not running; start it with `runbook sandbox start`")]
    NotRunning {
        /// The control address.
        address: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The daemon was asked and said no.
    #[error("{message}")]
    Refused {
        /// Its words.
        message: String,
    },
    /// The object store refused its own sandbox.
    #[error("put `{key}` into the bucket: {reason}")]
    Store {
        /// The object.
        key: String,
        /// The answer.
        reason: String,
    },
}

impl SandboxError {
    /// For `map_err` on file work.
    pub(crate) fn disk(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { what, path, source }
    }

    /// For `map_err` on database work.
    pub(crate) fn database(what: &'static str, database: &str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let database = database.to_owned();
        move |source| {
            let reason = match source.as_db_error() {
                Some(said) => match said.detail() {
                    Some(detail) => format!("{} ({detail})", said.message()),
                    None => said.message().to_owned(),
                },
                None => source.to_string(),
            };
            Self::Database { what, database, reason, source }
        }
    }
}
