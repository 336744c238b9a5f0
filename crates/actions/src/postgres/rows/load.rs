//! `postgres.restore_table`: one table of a dump, with its types and rows and nothing else, in a scratch database: for
//! asking there what the text of a dump cannot answer.

use bytes::Bytes;
use futures_util::SinkExt as _;
use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use runbook_core::types::{Backup, Connection};
use runbook_dump::{QualifiedName, push_copy_field};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::{CsvReader, RowsFile};
use super::keys::Wanted;
use super::pick::{Want, shown};
use super::source::{Source, table_name};
use crate::postgres::session::{Session, connect, failed, fence, timed};
use crate::postgres::sql::{literal, qualified, quoted};
use crate::typed::{About, Done, Typed};

/// Bytes of rows that are sent at once.
const PIECE_BYTES: usize = 256 << 10;
/// What the comment of a table begins with that this action made.
const MARK: &str = "made by runbook";

/// Parameters of `postgres.restore_table`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreTableParams {
    /// The dump, as `backup.select` gives it. One without a recorded sha256 is refused (G04).
    pub backup: Backup,
    /// The table: `schema.table`. A partitioned table gets the rows of its partitions.
    pub table: String,
    /// The scratch database to load it into. A table of that name that something else made is left alone, and the step
    /// fails.
    pub into: Connection,
}

/// Outputs of `postgres.restore_table`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RestoreTableOutputs {
    /// The database that it is in.
    pub connection: Connection,
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Columns whose type the database does not know: they hold the text of the dump.
    pub as_text: Vec<String>,
    /// What proved the bytes before they were loaded: `store` or `whole`, as in `postgres.extract_rows`.
    pub verified_by: String,
    /// Bytes read of the backup.
    pub bytes_read: u64,
}

/// `postgres.restore_table`.
#[derive(Debug)]
pub struct RestoreTable;

impl Typed for RestoreTable {
    type Params = RestoreTableParams;
    type Outputs = RestoreTableOutputs;
    const ABOUT: About = About {
        targets: &[("into", Access::Restore)],
        permissions: &["CREATE on the database", "s3:GetObject"],
        has_plan: true,
        ..About::new(
            "postgres.restore_table",
            "Loads one table of a verified dump into a scratch database: types and rows, no constraints.",
            Effect::Idempotent,
            "- id: table\n  uses: postgres.restore_table\n  with:\n    backup: \"{{ steps.backup }}\"\n    \
             table: public.profiles\n    into: \"{{ steps.database.connection }}\"\n",
        )
    };

    async fn run(
        &self,
        ctx: &Context,
        params: RestoreTableParams,
    ) -> Result<Done<RestoreTableOutputs>, ActionError> {
        let outputs = load(ctx, params).await?;
        let summary = format!("{} rows of {}", outputs.rows, outputs.table);
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: RestoreTableParams) -> Result<Preview, ActionError> {
        let source = Source::find(ctx, &params.backup).await?;
        let what = format!("loads {} into {}", params.table, params.into.label());
        Ok(Preview::Changes { lines: vec![source.proof(), what], destroys: None })
    }

    async fn fence(&self, ctx: &Context, params: RestoreTableParams) -> Result<u32, ActionError> {
        fence(ctx, &params.into).await
    }
}

async fn load(ctx: &Context, params: RestoreTableParams) -> Result<RestoreTableOutputs, ActionError> {
    let table = table_name(&params.table)?;
    let session = connect(ctx, &params.into).await?;
    let mut source = Source::find(ctx, &params.backup).await?;
    // The rows pass through a private file: none of them reaches the database before the bytes are proven.
    let want = Want {
        table: table.clone(),
        wanted: Wanted::default(),
        all: true,
        columns: None,
        unique: false,
        max_rows: u64::MAX,
        exact: false,
        optional: false,
        folder: ctx.artifacts.clone(),
        file: "table.csv".into(),
    };
    // The types stand in front of the rows in every dump; nothing behind them is needed.
    let proven = source.pick(vec![want], false).await?;
    let Some(picked) = proven.picked.into_iter().next() else {
        return Err(ActionError::refused("load a table: nothing was asked for"));
    };
    let file = picked.file;
    let facts = proven.schema.table(&table).cloned().unwrap_or_default();
    let types: Vec<Option<&str>> = file.columns.iter().map(|name| facts.type_of(name)).collect();
    let loaded = fill(&session, &table, &file, &types).await;
    let removed = std::fs::remove_file(&file.path);
    let (rows, as_text) = loaded?;
    removed.map_err(|error| ActionError::unchanged(format!("remove `{}`", file.path)).because(error))?;
    Ok(RestoreTableOutputs {
        connection: params.into,
        table: file.table,
        rows,
        as_text,
        verified_by: proven.verified_by.into(),
        bytes_read: source.bytes_read,
    })
}

/// Makes the table anew and fills it, in one transaction.
async fn fill(
    session: &Session,
    table: &QualifiedName,
    file: &RowsFile,
    types: &[Option<&str>],
) -> Result<(u64, Vec<String>), ActionError> {
    let attempted = || format!("load `{}` into `{}`", shown(table), session.label);
    let schema = table.schema.as_deref().unwrap_or("public");
    let name = qualified(schema, &table.name);
    timed(session.client.batch_execute("begin"), attempted).await?;
    let asked: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&name];
    let there = session.client.query_one(
        "select pg_catalog.to_regclass($1::text) is not null, \
         coalesce(pg_catalog.obj_description(pg_catalog.to_regclass($1::text), 'pg_class'), '')",
        &asked,
    );
    let there = timed(there, attempted).await?;
    if there.get::<_, bool>(0) && !there.get::<_, String>(1).starts_with(MARK) {
        return Err(ActionError::refused(format!("{}: a table of that name is there", attempted()))
            .code("target-not-empty")
            .hint("Load it into a scratch database, such as `postgres.create_database` makes."));
    }
    let (mut columns, mut as_text) = (Vec::new(), Vec::new());
    for (column, type_name) in file.columns.iter().zip(types) {
        let known = match type_name {
            Some(type_name) => {
                let sql = "select pg_catalog.to_regtype($1::text) is not null";
                timed(session.client.query_one(sql, &[type_name]), attempted).await?.get(0)
            }
            None => false,
        };
        let type_name = type_name.filter(|_| known).unwrap_or_else(|| {
            as_text.push(column.clone());
            "text"
        });
        columns.push(format!("{} {type_name}", quoted(column)));
    }
    let make = format!(
        "create schema if not exists {}; drop table if exists {name}; create table {name} ({}); \
         comment on table {name} is {}",
        quoted(schema),
        columns.join(", "),
        literal(&format!("{MARK} from a backup"))
    );
    timed(session.client.batch_execute(&make), attempted).await?;
    let names: Vec<_> = file.columns.iter().map(|column| quoted(column)).collect();
    let copy = format!("copy {name} ({}) from stdin", names.join(", "));
    let rows = send(session, &copy, file).await?;
    session.client.batch_execute("commit").await.map_err(|error| failed(attempted(), error))?;
    Ok((rows, as_text))
}

async fn send(session: &Session, copy: &str, file: &RowsFile) -> Result<u64, ActionError> {
    let failed = |error| {
        crate::postgres::upsert::quiet(format!("load `{}` into `{}`", file.table, session.label), error)
    };
    let sink = session.client.copy_in(copy).await.map_err(failed)?;
    futures_util::pin_mut!(sink);
    let mut reader = CsvReader::open(file)?;
    let mut piece = Vec::new();
    while let Some(row) = reader.next_row()? {
        for (n, value) in row.iter().enumerate() {
            if n > 0 {
                piece.push(b'\t');
            }
            push_copy_field(value.as_deref(), &mut piece);
        }
        piece.push(b'\n');
        if piece.len() >= PIECE_BYTES {
            sink.send(Bytes::from(std::mem::take(&mut piece))).await.map_err(failed)?;
        }
    }
    if !piece.is_empty() {
        sink.send(Bytes::from(piece)).await.map_err(failed)?;
    }
    sink.finish().await.map_err(failed)
}
