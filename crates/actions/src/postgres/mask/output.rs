//! What masking tells a later step: with which key and rules, which columns, and where the source values' hashes
//! are. Holds no value of any row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How data was masked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-runbook-type" = "masked"))]
pub struct Masked {
    /// Name of the key, as the rules give it. The same key gives the same pseudonyms.
    pub key_id: String,
    /// A fingerprint of the key itself: tells two keys of one name apart.
    pub key_check: String,
    /// sha256 of the rule file.
    pub rules_sha256: String,
    /// Version of the shipped rules for the platform's schemas; `none` when they were not used.
    pub defaults: String,
    /// Columns whose values were replaced, as `schema.table.column`.
    pub columns: Vec<String>,
    /// Tables whose rows were left out.
    pub dropped: Vec<String>,
    /// Keyed hashes of the source values.
    pub taint: TaintFile,
}

/// The file with keyed hashes of the source values of masked columns, which the leak check searches for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaintFile {
    /// Where it is, on the machine that ran the step.
    pub path: String,
    /// sha256 of the file, lower-case hex.
    pub sha256: String,
    /// Hashes that were put in; a value that stands in two rows counts twice.
    pub values: u64,
    /// How often a value that is not in it would be taken for one that is.
    pub false_positive_rate: f64,
}
