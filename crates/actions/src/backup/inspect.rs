//! A look inside a backup without a database: what made it, its objects, its tables with rows and sizes, its schema as
//! SQL. Of an archive only the table of contents is read; a plain dump has none and is read to its end.

use std::collections::BTreeMap;
use std::io::Read;

use runbook_core::action::{ActionError, Context};
use runbook_core::types::Backup;
use runbook_dump::order::{Part, Plan};
use runbook_dump::script::Script;
use runbook_dump::{
    ArchiveReader, Contents, Dump, DumpError, Entry, Event, Index, Insert, Kind, Limits, QualifiedName,
    Source, SqlReader, block_ranges, open,
};
use serde::Serialize;

use super::catalog::{INDEX_BYTES_MAX, INDEX_ENDING};
use super::reading::{Depth, read_whole};
use crate::s3::{Location, ObjectInfo, Store, Tap, inspect as look, read, read_range};

/// A table of contents is read in pieces that grow from this.
const HEAD_BYTES: u64 = 256 << 10;
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
    /// Length of its data when known: in an archive as it is stored there, in a plain dump that of the text.
    pub bytes: Option<u64>,
}

/// Looks inside.
///
/// # Errors
/// When it cannot be read, or is no dump.
pub async fn inspect(ctx: &Context, backup: Backup, wanted: Wanted) -> Result<Inspection, ActionError> {
    let at = Location::parse(&backup.url)?;
    let info = look(ctx, None, &at).await?;
    let attempted = || format!("look inside `{at}`");
    let mut inside = match head(ctx, &at, &info, wanted).await? {
        Some(inside) => inside,
        None => {
            let tap = read(ctx, None, &at, &info).await?;
            looked(&at, tap, move |tap| glance(tap, wanted)).await?
        }
    };
    if inside.rows_from == RowsFrom::Unknown
        && let Some(index) = index(ctx, &at, &backup, info.size_bytes).await?
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

/// Looks at an archive by its first bytes alone, as many as its table of contents has; none for anything else, and for
/// an archive that is packed as a whole.
async fn head(
    ctx: &Context,
    at: &Location,
    info: &ObjectInfo,
    wanted: Wanted,
) -> Result<Option<Inside>, ActionError> {
    let size = info.size_bytes;
    let mut end = HEAD_BYTES.min(size);
    loop {
        let tap = read_range(ctx, None, at, info, 0..end).await?;
        let look = move |mut tap: Tap| {
            let mut bytes = Vec::new();
            tap.read_to_end(&mut bytes).map_err(|source| DumpError::Read { source })?;
            if !bytes.starts_with(b"PGDMP") {
                return Ok(Head::Other);
            }
            match ArchiveReader::new(&bytes[..], Limits::default()) {
                Ok(reader) => archive(&reader, wanted, size).map(|inside| Head::Archive(Box::new(inside))),
                Err(DumpError::CutOff { .. }) => Ok(Head::Longer),
                Err(error) => Err(error),
            }
        };
        match looked(at, tap, look).await? {
            Head::Archive(inside) => return Ok(Some(*inside)),
            Head::Longer if end < info.size_bytes => end = (end * 4).min(info.size_bytes),
            // One that is cut off is told so by whoever reads it whole.
            Head::Longer | Head::Other => return Ok(None),
        }
    }
}

/// What the first bytes are.
enum Head {
    Archive(Box<Inside>),
    /// An archive whose table of contents goes on.
    Longer,
    Other,
}

/// Lets a thread that may block look through a tap, and ends the fetching.
async fn looked<T: Send + 'static>(
    at: &Location,
    tap: Tap,
    look: impl FnOnce(Tap) -> Result<T, DumpError> + Send + 'static,
) -> Result<T, ActionError> {
    let attempted = || format!("look inside `{at}`");
    let reader = tap.clone();
    let looked = tokio::task::spawn_blocking(move || look(reader)).await;
    tap.cancel();
    let looked = looked.map_err(|error| ActionError::unchanged(attempted()).because(error))?;
    looked.map_err(|error| match (&error, tap.failure()) {
        (DumpError::Read { .. }, Some(failure)) => ActionError::unchanged(attempted()).because(failure),
        _ => ActionError::refused(attempted()).because(error),
    })
}

/// The index beside a dump, unless it is about other bytes.
async fn index(
    ctx: &Context,
    at: &Location,
    backup: &Backup,
    size_bytes: u64,
) -> Result<Option<Index>, ActionError> {
    let Location::S3 { bucket, key } = at else { return Ok(None) };
    let store = Store::bucket(ctx, bucket).await?;
    let text = store.text(&format!("{key}{INDEX_ENDING}"), INDEX_BYTES_MAX).await?;
    let index: Option<Index> = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(index.filter(|index| {
        let is_of = |sum: &String| sum.eq_ignore_ascii_case(&index.dump.sha256);
        index.dump.size_bytes == size_bytes && backup.sha256.as_ref().is_none_or(is_of)
    }))
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
                (table.rows, table.bytes) = (Some(*rows), bytes.or(table.bytes));
            }
        }
    }
}

fn glance(tap: Tap, wanted: Wanted) -> Result<Inside, DumpError> {
    let size = tap.size_bytes();
    match open(tap, Limits::default())? {
        Dump::Archive(reader) => archive(&reader, wanted, size),
        Dump::Plain(reader) => plain(*reader, wanted),
    }
}

/// Of an archive of `size` bytes.
fn archive<R: Read>(reader: &ArchiveReader<R>, wanted: Wanted, size: u64) -> Result<Inside, DumpError> {
    let toc = reader.toc();
    let mut objects = BTreeMap::new();
    for entry in toc.iter().filter(|entry| !entry.is_setting() && !entry.had_dumper) {
        *objects.entry(entry.desc.to_lowercase()).or_default() += 1;
    }
    let name = |entry: &Entry| format!("{}.{}", entry.namespace.as_deref().unwrap_or("public"), entry.tag);
    let ranges = block_ranges(toc, size);
    let rows = toc.iter().filter(|entry| entry.is_table_data()).map(|entry| {
        let bytes = ranges.get(&entry.dump_id).map(|range| range.end - range.start);
        InspectedTable { name: name(entry), rows: None, bytes }
    });
    let tables: Vec<_> = rows.collect();
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
    let header = Some(reader.header().clone());
    let rows_from = RowsFrom::Unknown;
    Ok(Inside { format: "custom", header, objects, tables, rows_from, schema })
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
    let (mut tables, mut schema) = (Vec::<InspectedTable>::new(), wanted.schema.then(String::new));
    while let Some(event) = reader.next_event()? {
        match event {
            Event::CopyStart(copy) => {
                tables.push(InspectedTable { name: name(&copy.table), rows: Some(0), bytes: Some(0) });
            }
            Event::CopyRows(lines) => {
                let rows = memchr::memchr_iter(b'\n', lines).count();
                grow(tables.last_mut(), rows, lines.len());
            }
            Event::Statement(statement) => {
                if statement.kind == Kind::Insert
                    && let Some(table) = Insert::table_of(statement.sql)
                {
                    let name = name(&table);
                    if tables.last().is_none_or(|last| last.name != name) {
                        tables.push(InspectedTable { name, rows: Some(0), bytes: Some(0) });
                    }
                    // One statement may hold several rows.
                    let rows = Insert::parse(statement.sql).map_or(1, |insert| insert.rows.len());
                    grow(tables.last_mut(), rows, statement.sql.len());
                }
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

fn grow(table: Option<&mut InspectedTable>, rows: usize, bytes: usize) {
    if let Some(InspectedTable { rows: Some(all), bytes: Some(size), .. }) = table {
        (*all, *size) = (*all + rows as u64, *size + bytes as u64);
    }
}

fn name(table: &QualifiedName) -> String {
    format!("{}.{}", table.schema.as_deref().unwrap_or("public"), table.name)
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
