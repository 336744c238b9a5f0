//! A look inside a backup without a database: what made it, its objects, its tables with rows and sizes, its schema as
//! SQL. Of an archive only the table of contents is read; a plain dump has none and is read to its end.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Context};
use runbook_core::types::Backup;
use runbook_dump::order::{Part, Plan};
use runbook_dump::script::Script;
use runbook_dump::{
    ArchiveReader, Contents, Copy, Dump, DumpError, Event, Index, Kind, Limits, Source, SqlReader, open,
};
use serde::Serialize;

use super::catalog::{INDEX_BYTES_MAX, INDEX_ENDING};
use super::reading::{Depth, read_whole};
use crate::s3::{Location, Store, Tap, inspect as look, read};

/// A schema longer than this is data that pretends.
const SCHEMA_BYTES_MAX: usize = 256 << 20;

/// What is asked for beside the table of contents.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// The schema as SQL.
    pub schema: bool,
    /// Row counts, also where everything must be read for them.
    pub rows: bool,
}

/// Where row counts come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RowsFrom {
    /// The index beside the dump.
    Index,
    /// The dump, read to its end.
    Reading,
    /// Nowhere: nobody asked, and there is no index.
    Unknown,
}

/// What is inside a backup.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// The backup.
    pub backup: Backup,
    /// `custom` or `plain`.
    pub format: &'static str,
    /// The database it was made from, by an archive's header.
    pub database: Option<String>,
    /// The server's version, by an archive's header.
    pub server_version: Option<String>,
    /// pg_dump's version, by an archive's header.
    pub pg_dump_version: Option<String>,
    /// How its data is compressed, by an archive's header.
    pub compression: Option<String>,
    /// How many objects of each type it makes.
    pub objects: BTreeMap<String, u64>,
    /// Its tables.
    pub tables: Vec<InspectedTable>,
    /// Where the row counts come from.
    pub rows_from: RowsFrom,
    /// The schema, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// One table of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InspectedTable {
    /// `schema.table`
    pub name: String,
    /// Rows, when known.
    pub rows: Option<u64>,
    /// Length of its data in the archive, compressed as it is, when known.
    pub bytes: Option<u64>,
}

/// Looks inside.
///
/// # Errors
/// When it cannot be read, or is no dump.
pub async fn inspect(ctx: &Context, backup: Backup, wanted: Wanted) -> Result<Inspection, ActionError> {
    let at = Location::parse(&backup.url)?;
    let info = look(ctx, &at).await?;
    let tap = read(ctx, &at, &info).await?;
    let attempted = || format!("look inside `{at}`");
    let reader = tap.clone();
    let looked = tokio::task::spawn_blocking(move || glance(reader, wanted)).await;
    tap.cancel();
    let looked = looked.map_err(|error| ActionError::unchanged(attempted()).because(error))?;
    let mut inside = looked.map_err(|error| match (&error, tap.failure()) {
        (DumpError::Read { .. }, Some(failure)) => ActionError::unchanged(attempted()).because(failure),
        _ => ActionError::refused(attempted()).because(error),
    })?;
    if inside.rows_from == RowsFrom::Unknown
        && let Some(index) = index(ctx, &at).await?
    {
        inside.counted(
            index
                .tables
                .into_iter()
                .map(|table| (format!("{}.{}", table.schema, table.name), (table.rows, Some(table.length)))),
        );
        inside.rows_from = RowsFrom::Index;
    }
    if inside.rows_from == RowsFrom::Unknown && wanted.rows {
        let seen = read_whole(ctx, &at, &info, Depth::Contents).await?;
        let contents = seen.contents.unwrap_or_else(|| Ok(Contents::default()));
        let contents = contents.map_err(|error| ActionError::refused(attempted()).because(error))?;
        inside.counted(contents.tables.into_iter().map(|table| {
            let name = format!("{}.{}", table.schema.as_deref().unwrap_or("public"), table.name);
            (name, (table.rows, table.span.map(|(_, length)| length)))
        }));
        inside.rows_from = RowsFrom::Reading;
    }
    Ok(Inspection {
        backup,
        format: inside.format,
        database: inside.header.as_ref().map(|header| header.database.clone()),
        server_version: inside.header.as_ref().map(|header| header.server_version.clone()),
        pg_dump_version: inside.header.as_ref().map(|header| header.dump_version.clone()),
        compression: inside.header.as_ref().map(|header| format!("{:?}", header.compression).to_lowercase()),
        objects: inside.objects,
        tables: inside.tables,
        rows_from: inside.rows_from,
        schema: inside.schema,
    })
}

/// The index beside a dump, unless it is about other bytes.
async fn index(ctx: &Context, at: &Location) -> Result<Option<Index>, ActionError> {
    let Location::S3 { bucket, key } = at else { return Ok(None) };
    let store = Store::bucket(ctx, bucket).await?;
    let text = store.text(&format!("{key}{INDEX_ENDING}"), INDEX_BYTES_MAX).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

struct Inside {
    format: &'static str,
    header: Option<runbook_dump::Header>,
    objects: BTreeMap<String, u64>,
    tables: Vec<InspectedTable>,
    rows_from: RowsFrom,
    schema: Option<String>,
}

impl Inside {
    fn counted(&mut self, known: impl Iterator<Item = (String, (u64, Option<u64>))>) {
        let known: BTreeMap<_, _> = known.collect();
        for table in &mut self.tables {
            if let Some((rows, bytes)) = known.get(&table.name) {
                (table.rows, table.bytes) = (Some(*rows), *bytes);
            }
        }
    }
}

fn glance(tap: Tap, wanted: Wanted) -> Result<Inside, DumpError> {
    match open(tap, Limits::default())? {
        Dump::Archive(reader) => archive(&reader, wanted),
        Dump::Plain(reader) => plain(*reader, wanted),
    }
}

fn archive(reader: &ArchiveReader<Source>, wanted: Wanted) -> Result<Inside, DumpError> {
    let toc = reader.toc();
    let mut objects = BTreeMap::new();
    for entry in toc.iter().filter(|entry| !entry.is_setting() && !entry.had_dumper) {
        *objects.entry(entry.desc.to_lowercase()).or_default() += 1;
    }
    let tables = toc.iter().filter(|entry| entry.is_table_data()).map(|entry| InspectedTable {
        name: format!("{}.{}", entry.namespace.as_deref().unwrap_or("public"), entry.tag),
        rows: None,
        bytes: None,
    });
    let mut schema = None;
    if wanted.schema {
        let plan = Plan::new(toc, false);
        let mut script = Script::new(toc);
        let mut sql = Script::preamble(toc);
        for part in [Part::PreData, Part::PostData, Part::Acl, Part::Refresh] {
            for entry in plan.part(part) {
                add(&mut sql, &script.entry(entry))?;
            }
        }
        schema = Some(sql);
    }
    let tables = tables.collect();
    let header = Some(reader.header().clone());
    Ok(Inside { format: "custom", header, objects, tables, rows_from: RowsFrom::Unknown, schema })
}

fn add(sql: &mut String, more: &str) -> Result<(), DumpError> {
    if sql.len() + more.len() > SCHEMA_BYTES_MAX {
        return Err(DumpError::Unsupported {
            what: format!("a schema of more than {SCHEMA_BYTES_MAX} bytes"),
        });
    }
    sql.push_str(more);
    Ok(())
}

fn plain(mut reader: SqlReader<Source>, wanted: Wanted) -> Result<Inside, DumpError> {
    let mut objects = BTreeMap::new();
    let (mut tables, mut schema) = (Vec::new(), wanted.schema.then(String::new));
    while let Some(event) = reader.next_event()? {
        match event {
            Event::CopyStart(copy) => {
                tables.push(InspectedTable { name: name(&copy), rows: Some(0), bytes: None })
            }
            Event::CopyRows(lines) => {
                if let Some(rows) = tables.last_mut().and_then(|table| table.rows.as_mut()) {
                    *rows += memchr::memchr_iter(b'\n', lines).count() as u64;
                }
            }
            Event::Statement(statement) => {
                if let Some(made) = made(statement.kind) {
                    *objects.entry(made.to_owned()).or_default() += 1;
                }
                let is_data = matches!(
                    statement.kind,
                    Kind::Insert | Kind::SetSequence | Kind::LargeObject | Kind::Transaction
                );
                if let Some(sql) = schema.as_mut().filter(|_| !is_data) {
                    add(sql, statement.sql)?;
                    add(sql, "\n\n")?;
                }
            }
            Event::CopyEnd | Event::Meta(_) | Event::Complete => {}
        }
    }
    Ok(Inside { format: "plain", header: None, objects, tables, rows_from: RowsFrom::Reading, schema })
}

fn name(copy: &Copy) -> String {
    format!("{}.{}", copy.table.schema.as_deref().unwrap_or("public"), copy.table.name)
}

/// What a statement makes, in the words of an archive.
fn made(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::CreateSchema => "schema",
        Kind::CreateExtension => "extension",
        Kind::CreateTable => "table",
        Kind::CreateSequence => "sequence",
        Kind::CreateFunction => "function",
        Kind::CreateView => "view",
        Kind::CreateIndex => "index",
        Kind::CreateTrigger => "trigger",
        Kind::CreateEventTrigger => "event trigger",
        Kind::CreatePolicy => "policy",
        Kind::CreateReplication => "publication",
        Kind::CreateOther => "other",
        Kind::ForeignKey => "fk constraint",
        Kind::Constraint => "constraint",
        Kind::RowSecurity => "row security",
        Kind::Grant => "acl",
        Kind::Comment => "comment",
        _ => return None,
    })
}
