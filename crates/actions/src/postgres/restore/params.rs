//! Parameters and outputs of `postgres.restore`. Their comments are its help.

use jiff::Timestamp;
use runbook_core::secret::SecretText;
use runbook_core::types::{Backup, Connection};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::PhaseTimes;
use super::platform::Profile;
use crate::postgres::mask::Masked;

/// Parameters of `postgres.restore`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreParams {
    /// The dump, as `backup.select` gives it. One without a recorded sha256 is refused (G04).
    pub backup: Backup,
    /// The database to fill.
    pub into: Connection,
    /// Who owns parts of the target: `supabase`, or `plain` for nobody.
    #[serde(default)]
    pub profile: Profile,
    /// Empty a target that holds data first. All that it holds is lost.
    #[serde(default)]
    pub overwrite: bool,
    /// When the checksum is computed: `auto` reads the object once where that is safe, `first` always reads it
    /// once before anything is touched.
    #[serde(default)]
    pub verify: Verify,
    /// Connections that load at once, from 1 to 16. By itself 2, or up to 4 (no more than the server's
    /// `max_parallel_workers`) where rows go in faster over more.
    #[serde(default)]
    pub jobs: Option<u64>,
    /// Tables that come first, in this order: `[public.orders]`. Their indexes are built and their foreign keys checked before
    /// others', and out of an archive that was not written through a pipe their rows are loaded first.
    #[serde(default)]
    pub priority: Vec<String>,
    /// How much of a table commits at a time, in MiB, from 1 to 256: a killed restore repeats that much a connection. By
    /// itself 1 to 16, as the dump is large.
    #[serde(default)]
    pub chunk_mib: Option<u64>,
    /// Rules by which rows are masked on their way in, a YAML file beside the runbook: the target never sees
    /// the real values. A column that could hold personal text and has no rule stops the restore.
    #[serde(default)]
    pub mask: Option<String>,
    /// The key of the pseudonyms, a secret of 16 bytes or more: the same key gives the same ones.
    #[serde(default)]
    pub mask_key: Option<SecretText>,
}

/// When the checksum is computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// While loading, where nothing can be harmed by that; else before.
    #[default]
    Auto,
    /// Before anything is touched.
    First,
}

/// Something of the dump that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// What: `table auth.users`.
    pub object: String,
    /// Why.
    pub reason: String,
}

/// Outputs of `postgres.restore`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct RestoreOutputs {
    /// The database that was filled.
    pub connection: Connection,
    /// Tables that the dump holds.
    pub tables: u64,
    /// Rows that are in them now.
    pub rows: u64,
    /// Size of the dump in bytes.
    pub bytes: u64,
    /// Statements carried out.
    pub statements: u64,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
    /// The state of the list by which it was left out.
    pub profile_version: String,
    /// The moment whose data it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// How long the attempt took that ended it, in seconds.
    pub seconds: f64,
    /// When its phases were over, in seconds after that attempt began.
    #[serde(default)]
    pub phases: PhaseTimes,
    /// What proved the bytes before anything relied on them: `store` (its checksum), `first` (a reading before),
    /// `stream` (the reading that loaded them). The loaded bytes were hashed in each case.
    pub verified_by: String,
    /// How it was masked; nothing when it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masked: Option<Masked>,
}
