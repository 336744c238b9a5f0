//! What `shell.run` is told, and what it says.

use std::collections::BTreeMap;

use runbook_core::secret::{MaybeSecret, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Parameters of `shell.run`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Script file, relative to the runbook. Run as it is when it may be executed, else by `sh`. This or `run`.
    #[serde(default)]
    pub script: Option<String>,
    /// The script itself, for `sh -eu`. This or `script`.
    #[serde(default)]
    pub run: Option<String>,
    /// What the script reads as one JSON object from its standard input. No secrets.
    #[serde(default)]
    pub inputs: BTreeMap<String, Value>,
    /// Environment variables beside `PATH`, `HOME` and the like; those of `runbook` itself are not handed on. A
    /// value may be or hold a secret: there is no other way for one.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, MaybeSecret>")]
    pub env: BTreeMap<String, SecretText>,
    /// The author declares that running it twice is the same as once. Then an attempt that was cut off is repeated
    /// by itself; otherwise a person, or the step's `probe`, says whether it happened.
    #[serde(default)]
    pub idempotent: bool,
}

/// Outputs of `shell.run`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// What the script wrote to the file named by `RUNBOOK_OUTPUT`, else its last line of standard output when
    /// that is JSON; null otherwise.
    pub outputs: Value,
    /// The last lines of its standard output, at most 4 KiB, without secrets.
    pub tail: String,
    /// Folder with `stdout.txt` and `stderr.txt`, each without secrets and cut in the middle when it is long.
    pub artifacts: String,
}
