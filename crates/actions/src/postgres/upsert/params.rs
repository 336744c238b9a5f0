//! Parameters and outputs of `postgres.difference` and `postgres.upsert`. Their comments are the help.

use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::postgres::rows::{Columns, RowsFile};

/// Which columns of a row that is there are changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Update {
    /// `all` or `none`.
    Word(UpdateWord),
    /// These.
    Columns(Vec<String>),
}

/// Every column, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpdateWord {
    /// Every column but the key and what the database computes.
    All,
    /// None: rows are only inserted.
    None,
}

/// Parameters of `postgres.difference`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DifferenceParams {
    /// The database that the rows would go into.
    pub connection: Connection,
    /// The rows: the outputs of `postgres.extract_rows`.
    pub rows: RowsFile,
    /// The table, when it is another one than the rows came from: `schema.table`.
    #[serde(default)]
    pub table: Option<String>,
    /// The column, or the columns, by which a row is the same row. The table must have a unique constraint on them.
    pub conflict: Columns,
    /// Columns to change where the row is there: a list, `all`, or `none` to insert missing rows only.
    pub update: Update,
    /// Columns of the rows that are left out, such as those that the table no longer has.
    #[serde(default)]
    pub skip_columns: Vec<String>,
}

/// Parameters of `postgres.upsert`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpsertParams {
    /// The database to change.
    pub connection: Connection,
    /// The rows: the outputs of `postgres.extract_rows`.
    pub rows: RowsFile,
    /// The table, when it is another one than the rows came from: `schema.table`.
    #[serde(default)]
    pub table: Option<String>,
    /// The column, or the columns, by which a row is the same row. The table must have a unique constraint on them.
    pub conflict: Columns,
    /// Columns to change where the row is there: a list, `all`, or `none` to insert missing rows only.
    pub update: Update,
    /// Columns of the rows that are left out, such as those that the table no longer has.
    #[serde(default)]
    pub skip_columns: Vec<String>,
    /// The `digest` of the `postgres.difference` that somebody approved. When the difference is another one by now,
    /// nothing is written.
    #[serde(default)]
    pub expected: Option<String>,
    /// Name of the undo files in the step's artifacts, without ending.
    #[serde(default = "undo_file")]
    pub undo_file: String,
    /// Turn triggers and foreign keys off while writing (`session_replication_role = replica`). Wants `approved_by`.
    #[serde(default)]
    pub as_replica: bool,
    /// Who approved `as_replica`: the output `approved_by` of an `approval` step.
    #[serde(default)]
    pub approved_by: Option<String>,
    /// How long the transaction may take, in seconds.
    #[serde(default = "minutes")]
    pub timeout_seconds: u32,
}

fn undo_file() -> String {
    "undo".into()
}

fn minutes() -> u32 {
    600
}

impl UpsertParams {
    /// What it has in common with a difference.
    pub(super) fn difference(&self) -> DifferenceParams {
        DifferenceParams {
            connection: self.connection.clone(),
            rows: self.rows.clone(),
            table: self.table.clone(),
            conflict: self.conflict.clone(),
            update: self.update.clone(),
            skip_columns: self.skip_columns.clone(),
        }
    }
}

/// Outputs of `postgres.difference`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct DifferenceOutputs {
    /// The table.
    pub table: String,
    /// Rows that are not there.
    pub inserted: u64,
    /// Rows that are there with other values.
    pub changed: u64,
    /// Rows that are there as they are, or differ only in columns that are not to be changed.
    pub unchanged: u64,
    /// The columns that would change, each with the number of rows.
    pub columns: Vec<ChangedColumn>,
    /// All of it in a sentence, without any value.
    pub text: String,
    /// Names exactly this difference: `expected` of `postgres.upsert`.
    pub digest: String,
    /// The file with every key and the old and new values; in the run's private artifacts.
    pub file: String,
    /// Triggers of the table that would run.
    pub triggers: Vec<String>,
}

/// A column that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangedColumn {
    /// The column.
    pub name: String,
    /// In how many rows.
    pub rows: u64,
}

/// Outputs of `postgres.upsert`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct UpsertOutputs {
    /// The table.
    pub table: String,
    /// Rows inserted.
    pub inserted: u64,
    /// Rows changed.
    pub changed: u64,
    /// Rows left as they were.
    pub unchanged: u64,
    /// The difference that was carried out, with values; in the run's private artifacts.
    pub difference_file: String,
    /// Columns that the table's triggers set to something else than the rows say.
    pub by_triggers: Vec<String>,
    /// The changed rows as they were, as CSV.
    pub before: RowsFile,
    /// All written rows as they were when they were committed, as CSV.
    pub after: RowsFile,
    /// Statements that put the rows back by hand.
    pub undo_sql: String,
    /// It had been done before under the same key, and was not done again.
    pub repeated: bool,
}
