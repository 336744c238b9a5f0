//! `postgres.extract_rows`: rows by key straight out of a dump, or out of a database that it was loaded into.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use runbook_core::types::{Backup, Connection};
use runbook_dump::{ForeignKey, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::database;
use super::file::{CsvReader, Durable, RowsFile};
use super::keys::{Columns, Wanted};
use super::pick::{Picked, Want};
use super::source::{Source, table_name, text_of};
use crate::typed::{About, Done, Typed};

/// Where the rows come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The dump itself.
    #[default]
    Dump,
    /// A database that the dump's table was loaded into, named as `connection`.
    Database,
}

/// Parameters of `postgres.extract_rows`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtractParams {
    /// The dump, as `backup.select` gives it. One without a recorded sha256 is refused (G04).
    pub backup: Backup,
    /// The table: `schema.table`. A partitioned table has the rows of its partitions.
    pub table: String,
    /// The column, or the columns, by which rows are named. They need not be unique.
    pub key: Columns,
    /// The keys: a list of values; for several columns a list of maps by column. NULL is the key of no row. Values are
    /// compared as the text that the dump has: uuid without case, braces and hyphens; numbers without `+`, leading
    /// zeros and zeros at the end of a fraction; `boolean` in any spelling; `citext` without case; anything else,
    /// dates too, byte by byte. With `via: database` the server compares.
    pub keys: Vec<Value>,
    /// The columns to extract; all when left out.
    #[serde(default)]
    pub columns: Option<Vec<String>>,
    /// `dump` (no database), or `database` (see `connection`).
    #[serde(default)]
    pub via: Via,
    /// For `via: database`: the database that `postgres.restore_table` loaded the table into.
    #[serde(default)]
    pub connection: Option<Connection>,
    /// A key names one row at most: reading may stop when all are found. An archive says so itself, by its primary key
    /// and unique constraints; in a plain dump these stand behind the rows, so there only this decides.
    #[serde(default)]
    pub unique: bool,
    /// Most rows that are extracted; more is an error.
    #[serde(default = "max_rows")]
    pub max_rows: u64,
    /// Also extract the rows that foreign keys of the extracted rows point at, each table to a file of its own.
    #[serde(default)]
    pub with_parents: bool,
}

fn max_rows() -> u64 {
    10_000
}

/// Outputs of `postgres.extract_rows`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExtractOutputs {
    /// The table.
    pub table: String,
    /// The CSV file, in the run's artifacts. Its first line names the columns; NULL is an empty field, the empty text `""`.
    pub path: String,
    /// sha256 of the file.
    pub sha256: String,
    /// The columns of the file.
    pub columns: Vec<String>,
    /// Rows found.
    pub rows: u64,
    /// Keys that name no row of the dump.
    pub missing: u64,
    /// Where those keys are listed, as JSON.
    pub missing_file: Option<String>,
    /// Bytes read of the backup and what lies beside it.
    pub bytes_read: u64,
    /// What proved the bytes: `store` (the store's own checksum of the object equals the recorded one), `index` (a
    /// checksum of this table or of the parts that were read, in an index that has a recorded checksum), `whole` (all was read and hashed), `load`
    /// (they were when the database was loaded).
    pub verified_by: String,
    /// The moment whose data it is, as well as it is known.
    pub restore_point: Option<Timestamp>,
    /// Rows that foreign keys point at.
    pub parents: Vec<ParentRows>,
}

/// Rows that one foreign key points at.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct ParentRows {
    /// Name of the foreign key.
    pub foreign_key: String,
    /// References that the dump has no row for.
    pub missing: u64,
    /// The rows.
    #[serde(flatten)]
    pub file: RowsFile,
}

/// `postgres.extract_rows`.
#[derive(Debug)]
pub struct ExtractRows;

impl Typed for ExtractRows {
    type Params = ExtractParams;
    type Outputs = ExtractOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &["s3:GetObject"],
        has_plan: true,
        ..About::new(
            "postgres.extract_rows",
            "Extracts rows by key from a verified dump to a CSV file, without a database.",
            Effect::Read,
            "- id: rows\n  uses: postgres.extract_rows\n  with:\n    backup: \"{{ steps.backup }}\"\n    \
             table: public.profiles\n    key: id\n    keys: [00000000-0000-4000-8000-000000000001]\n",
        )
    };

    async fn run(&self, ctx: &Context, params: ExtractParams) -> Result<Done<ExtractOutputs>, ActionError> {
        let wanted = Wanted::new(&params.key, &params.keys)?;
        let outputs = match params.via {
            Via::Dump => from_dump(ctx, &params, wanted).await?,
            Via::Database => from_database(ctx, &params, &wanted).await?,
        };
        let missing =
            if outputs.missing > 0 { format!(", {} keys not found", outputs.missing) } else { String::new() };
        let summary =
            format!("{} rows of {}{missing}, proven by {}", outputs.rows, outputs.table, outputs.verified_by);
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: ExtractParams) -> Result<Preview, ActionError> {
        let wanted = Wanted::new(&params.key, &params.keys)?;
        let what = format!("extracts rows of {} for {} keys", params.table, wanted.values.len());
        let how = match params.via {
            Via::Dump => Source::find(ctx, &params.backup).await?.proof(),
            Via::Database => "asks the database that the table was loaded into".to_owned(),
        };
        Ok(Preview::Changes { lines: vec![what, how], destroys: None })
    }
}

async fn from_dump(
    ctx: &Context,
    params: &ExtractParams,
    wanted: Wanted,
) -> Result<ExtractOutputs, ActionError> {
    let table = table_name(&params.table)?;
    let mut source = Source::find(ctx, &params.backup).await?;
    let keys = wanted.values.clone();
    let want = Want {
        table: table.clone(),
        wanted,
        all: false,
        columns: params.columns.clone(),
        unique: params.unique,
        max_rows: params.max_rows,
        exact: false,
        optional: false,
        folder: ctx.artifacts.clone(),
        file: "rows.csv".into(),
    };
    let proven = source.pick(vec![want], params.with_parents).await?;
    let Some(Picked { file, missing }) = proven.picked.into_iter().next() else {
        return Err(ActionError::refused("extract rows: nothing was asked for"));
    };
    let parents = if params.with_parents {
        let references = references(&proven.schema, &table, &file)?;
        parents(ctx, &mut source, references, params.max_rows).await?
    } else {
        Vec::new()
    };
    let missing_file = list_missing(ctx, params, &keys, &missing)?;
    Ok(ExtractOutputs {
        table: file.table,
        path: file.path,
        sha256: file.sha256,
        columns: file.columns,
        rows: file.rows,
        missing: missing.len() as u64,
        missing_file,
        bytes_read: source.bytes_read,
        verified_by: proven.verified_by.into(),
        restore_point: params.backup.taken_at,
        parents,
    })
}

async fn from_database(
    ctx: &Context,
    params: &ExtractParams,
    wanted: &Wanted,
) -> Result<ExtractOutputs, ActionError> {
    let Some(connection) = &params.connection else {
        return Err(ActionError::refused("extract rows via a database: `connection` names none"));
    };
    if params.with_parents {
        return Err(ActionError::refused(
            "extract parents via a database: `with_parents` reads the dump itself",
        )
        .hint("Leave `via` out, or leave `with_parents` out."));
    }
    let table = table_name(&params.table)?;
    let ask = database::Ask {
        table: &table,
        wanted,
        columns: params.columns.as_deref(),
        max_rows: params.max_rows,
    };
    let (file, missing) = database::extract(ctx, connection, &ask).await?;
    let missing_file = list_missing(ctx, params, &wanted.values, &missing)?;
    Ok(ExtractOutputs {
        table: file.table,
        path: file.path,
        sha256: file.sha256,
        columns: file.columns,
        rows: file.rows,
        missing: missing.len() as u64,
        missing_file,
        bytes_read: 0,
        verified_by: "load".into(),
        restore_point: params.backup.taken_at,
        parents: Vec::new(),
    })
}

/// Writes down the keys that were not found.
fn list_missing(
    ctx: &Context,
    params: &ExtractParams,
    keys: &[Vec<String>],
    missing: &[usize],
) -> Result<Option<String>, ActionError> {
    if missing.is_empty() {
        return Ok(None);
    }
    let names = params.key.names();
    let list: Vec<Value> = missing
        .iter()
        .map(|n| {
            names
                .iter()
                .cloned()
                .zip(keys[*n].iter().cloned().map(Value::from))
                .collect::<serde_json::Map<_, _>>()
        })
        .map(Value::Object)
        .collect();
    let mut file = Durable::create(&ctx.artifacts, "missing.json")?;
    file.write(json!({ "table": params.table, "missing": list }).to_string().as_bytes())?;
    Ok(Some(file.finish()?.0))
}

/// For each foreign key the parents that the extracted rows refer to.
fn references(
    schema: &Schema,
    table: &runbook_dump::QualifiedName,
    file: &RowsFile,
) -> Result<Vec<(ForeignKey, Wanted)>, ActionError> {
    let facts = schema.table(table).cloned().unwrap_or_default();
    let mut found: Vec<(ForeignKey, Vec<usize>, BTreeSet<Vec<String>>)> = Vec::new();
    for key in facts.foreign_keys {
        let place = |name: &String| file.columns.iter().position(|column| column == name);
        let places: Option<Vec<usize>> = key.columns.iter().map(place).collect();
        let places = places.ok_or_else(|| {
            ActionError::refused(format!(
                "extract the parents of `{}`: `columns` leaves out a column of the foreign key `{}`",
                file.table, key.name
            ))
        })?;
        found.push((key, places, BTreeSet::new()));
    }
    let mut rows = CsvReader::open(file)?;
    while let Some(row) = rows.next_row()? {
        for (_, places, parents) in &mut found {
            let values: Option<Vec<String>> = places
                .iter()
                .map(|at| row[*at].as_ref().map(|value| String::from_utf8_lossy(value).into_owned()))
                .collect();
            // A reference with a NULL in it points at nothing.
            parents.extend(values);
        }
    }
    let mut wanted = Vec::new();
    for (mut key, _, parents) in found {
        if key.parent_columns.is_empty() {
            let primary = schema.table(&key.parent).and_then(|parent| parent.primary_key.clone());
            key.parent_columns = primary.unwrap_or_default();
        }
        if !parents.is_empty() {
            let columns = key.parent_columns.clone();
            wanted.push((key, Wanted::of_texts(columns, parents.into_iter().collect())));
        }
    }
    Ok(wanted)
}

async fn parents(
    ctx: &Context,
    source: &mut Source<'_>,
    references: Vec<(ForeignKey, Wanted)>,
    max_rows: u64,
) -> Result<Vec<ParentRows>, ActionError> {
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let mut wants = Vec::new();
    for (n, (key, wanted)) in references.iter().enumerate() {
        wants.push(Want {
            table: key.parent.clone(),
            wanted: wanted.clone(),
            all: false,
            columns: None,
            // What is referred to is unique, or it could not be.
            unique: true,
            max_rows,
            exact: false,
            optional: true,
            folder: ctx.artifacts.clone(),
            file: format!("parents-{}-{}.csv", n + 1, file_name(&text_of(&key.parent))),
        });
    }
    let proven = source.pick(wants, true).await?;
    let names = references.into_iter().map(|(key, _)| key.name);
    let made = names.zip(proven.picked).map(|(foreign_key, picked)| ParentRows {
        foreign_key,
        missing: picked.missing.len() as u64,
        file: picked.file,
    });
    Ok(made.collect())
}

/// A table's name as part of a file's.
fn file_name(table: &str) -> String {
    let kept = |c: char| if c.is_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    table.chars().map(kept).take(80).collect()
}
