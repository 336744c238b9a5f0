//! Rows by key out of a database: the server compares the keys, by their types.

use futures_util::TryStreamExt as _;
use runbook_core::action::{ActionError, Context};
use runbook_core::types::Connection;
use runbook_dump::{QualifiedName, copy_fields};

use super::file::{CsvWriter, RowsFile};
use super::keys::Wanted;
use super::pick::shown;
use crate::postgres::session::{Session, connect, timed};
use crate::postgres::sql::{literal, qualified, quoted};

/// Keys of one question.
const KEYS_AT_A_TIME: usize = 500;

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) table: &'a QualifiedName,
    pub(super) wanted: &'a Wanted,
    pub(super) columns: Option<&'a [String]>,
    pub(super) max_rows: u64,
}

/// Extracts the rows; also the places of the keys that were not found.
pub(super) async fn extract(
    ctx: &Context,
    connection: &Connection,
    ask: &Ask<'_>,
) -> Result<(RowsFile, Vec<usize>), ActionError> {
    let session = connect(ctx, connection).await?;
    let attempted = || format!("extract rows of `{}` from `{}`", shown(ask.table), session.label);
    let begin = "begin isolation level repeatable read read only; set local row_security = off";
    timed(session.client.batch_execute(begin), attempted).await?;
    let known = columns(&session, ask.table).await?;
    if known.is_empty() {
        return Err(
            ActionError::refused(format!("{}: there is no such table", attempted())).code("no-such-table")
        );
    }
    let type_of = |name: &String| known.iter().find(|(column, _)| column == name).map(|(_, t)| t.clone());
    let write: Vec<String> = match ask.columns {
        Some(columns) => columns.to_vec(),
        None => known.iter().map(|(name, _)| name.clone()).collect(),
    };
    let mut types = Vec::new();
    for name in write.iter().chain(&ask.wanted.columns) {
        let found = type_of(name).ok_or_else(|| {
            ActionError::refused(format!("{}: it has no column `{name}`", attempted())).code("no-such-column")
        })?;
        types.push(found);
    }
    let key_types = types.split_off(write.len());
    let mut out = CsvWriter::create(&ctx.artifacts, "rows.csv", &shown(ask.table), &write)?;
    let mut missing = Vec::new();
    for (at, keys) in ask.wanted.values.chunks(KEYS_AT_A_TIME).enumerate() {
        if ctx.stop.requested() {
            return Err(
                ActionError::unchanged(format!("{}: a stop was asked for", attempted())).code("stopped")
            );
        }
        let query = Query { ask, keys, key_types: &key_types };
        query.rows(&session, &mut out).await?;
        missing.extend(query.missing(&session).await?.into_iter().map(|n| at * KEYS_AT_A_TIME + n));
    }
    timed(session.client.batch_execute("rollback"), attempted).await?;
    Ok((out.finish()?, missing))
}

/// Columns that rows have, with their types.
async fn columns(session: &Session, table: &QualifiedName) -> Result<Vec<(String, String)>, ActionError> {
    let sql = "select a.attname::text, pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a \
               join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') and a.attnum > 0 \
               and not a.attisdropped and a.attgenerated = '' order by a.attnum";
    let schema = table.schema.as_deref().unwrap_or("public");
    let rows = timed(session.client.query(sql, &[&schema, &table.name]), || {
        format!("look at `{}` in `{}`", shown(table), session.label)
    })
    .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

struct Query<'a> {
    ask: &'a Ask<'a>,
    keys: &'a [Vec<String>],
    key_types: &'a [String],
}

impl Query<'_> {
    /// `values (0, 'a'::uuid), (1, …)` as `k (n, c0, …)`.
    fn keys(&self) -> String {
        let row = |(n, key): (usize, &Vec<String>)| {
            let values =
                key.iter().zip(self.key_types).map(|(value, ty)| format!("{}::{ty}", literal(value)));
            format!("({n}, {})", values.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<_> = self.keys.iter().enumerate().map(row).collect();
        let names: Vec<_> = (0..self.key_types.len()).map(|n| format!("c{n}")).collect();
        format!("(values {}) k (n, {})", rows.join(", "), names.join(", "))
    }

    fn table(&self) -> String {
        qualified(self.ask.table.schema.as_deref().unwrap_or("public"), &self.ask.table.name)
    }

    fn same(&self) -> String {
        let pairs = self.ask.wanted.columns.iter().enumerate();
        pairs.map(|(n, column)| format!("t.{} = k.c{n}", quoted(column))).collect::<Vec<_>>().join(" and ")
    }

    async fn rows(&self, session: &Session, out: &mut CsvWriter) -> Result<(), ActionError> {
        let attempted = || format!("extract rows of `{}` from `{}`", shown(self.ask.table), session.label);
        let columns: Vec<_> = out.columns().iter().map(|name| format!("t.{}", quoted(name))).collect();
        let (columns, fields) = (columns.join(", "), out.columns().len());
        let (table, keys, same) = (self.table(), self.keys(), self.same());
        let sql = format!(
            "copy (select {columns} from {table} t where exists (select 1 from {keys} where {same})) to stdout"
        );
        let stream = timed(session.client.copy_out(&sql), attempted).await?;
        futures_util::pin_mut!(stream);
        let mut held = Vec::new();
        while let Some(piece) = timed(stream.try_next(), attempted).await? {
            held.extend_from_slice(&piece);
            let mut start = 0;
            while let Some(end) = memchr::memchr(b'\n', &held[start..]) {
                if out.rows() >= self.ask.max_rows {
                    return Err(ActionError::refused(format!(
                        "{}: the keys name more than {} rows",
                        attempted(),
                        self.ask.max_rows
                    ))
                    .code("too-many-rows"));
                }
                let row = copy_fields(&held[start..start + end], fields)
                    .map_err(|error| ActionError::refused(attempted()).because(error))?;
                out.row(&row.iter().map(Option::as_deref).collect::<Vec<_>>())?;
                start += end + 1;
            }
            held.drain(..start);
        }
        Ok(())
    }

    async fn missing(&self, session: &Session) -> Result<Vec<usize>, ActionError> {
        let (table, keys, same) = (self.table(), self.keys(), self.same());
        let sql = format!(
            "select k.n from {keys} where not exists (select 1 from {table} t where {same}) order by 1"
        );
        let attempted = || format!("look for keys in `{}` of `{}`", shown(self.ask.table), session.label);
        let rows = timed(session.client.query(&sql, &[]), attempted).await?;
        Ok(rows.iter().filter_map(|row| usize::try_from(row.get::<_, i32>(0)).ok()).collect())
    }
}
