//! Parameters and outputs of `postgres.dump`. Their comments are its help.

use jiff::Timestamp;
use runbook_core::action::ActionError;
use runbook_core::types::{Backup, Connection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::backup::writing::fits_in_a_key;
use crate::period::Period;

/// Parameters of `postgres.dump`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DumpParams {
    /// The database to dump. It is only read.
    pub connection: Connection,
    /// What the dump is called: the object is `PREFIX/YYYY/MM/DD/NAME-YYYYMMDDTHHMMSSZ.dump`, its moment that of the
    /// data by the server's clock. `database` when left out.
    #[serde(default = "database")]
    pub name: String,
    /// Only these schemas; all when left out.
    #[serde(default)]
    pub schemas: Vec<String>,
    /// Not these schemas.
    #[serde(default)]
    pub exclude_schemas: Vec<String>,
    /// Of these tables (`schema.table`, patterns as pg_dump has them) the definition only, without rows.
    #[serde(default)]
    pub exclude_rows: Vec<String>,
    /// Dump who may do what (GRANT, REVOKE) too. Left out by default, as the procedure asks: what is restored then gets
    /// the default privileges of where it is restored.
    #[serde(default)]
    pub privileges: bool,
    /// How hard to compress, from 0 (not at all) to 9.
    #[serde(default = "six")]
    #[schemars(range(min = 0, max = 9))]
    pub compress: u8,
    /// How long to wait for a table that somebody has locked, such as a migration.
    #[serde(default = "a_minute")]
    pub lock_wait: Period,
    /// Size of the parts of the upload in MiB, from 5 to 1024. A dump that fits into one is sent whole, and the store
    /// keeps its sha256. Larger databases get larger parts by themselves.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 5, max = 1024))]
    pub part_mib: u64,
}

fn database() -> String {
    "database".into()
}

fn six() -> u8 {
    6
}

fn sixteen() -> u64 {
    16
}

fn a_minute() -> Period {
    Period::seconds(60)
}

impl DumpParams {
    /// Refuses what the schema cannot.
    pub(super) fn check(&self) -> Result<(), ActionError> {
        fits_in_a_key(&self.name)?;
        if self.compress > 9 || !(5..=1024).contains(&self.part_mib) {
            return Err(ActionError::refused(
                "use `compress` and `part_mib`: the one is from 0 to 9, the other from 5 to 1024",
            ));
        }
        let mut names = self.schemas.iter().chain(&self.exclude_schemas).chain(&self.exclude_rows);
        match names.find(|name| name.is_empty() || name.contains('\0')) {
            Some(name) => {
                Err(ActionError::refused(format!("use `{}` as a name or a pattern", name.escape_debug())))
            }
            None => Ok(()),
        }
    }
}

/// Outputs of `postgres.dump`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DumpOutputs {
    /// The dump, as `backup.verify` and `postgres.restore` take it.
    pub backup: Backup,
    /// Where it is: `s3://bucket/key`.
    pub url: String,
    /// Its key in the bucket.
    pub key: String,
    /// sha256 of the object, hashed on the way and compared with what the store gives back.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The moment whose data it holds, by the server's clock: the restore point.
    pub taken_at: Timestamp,
    /// How many tables have rows in it.
    pub tables: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// Where its index is.
    pub index: String,
    /// The server's version.
    pub server_version: String,
    /// Version of the pg_dump that made it.
    pub pg_dump_version: String,
    /// Whether the store refuses to write an object twice. Where it does not, only the looking before protects it.
    pub write_once: bool,
    /// What pg_dump warned of.
    pub warnings: Vec<String>,
}
