//! Reads a whole dump and says what it holds: tables with rows and a hash of their COPY text, and where each table's
//! block stands in an archive. Memory is bounded by one row, and by one entry for each table.

use std::collections::HashMap;
use std::io::Read;

use sha2::{Digest as _, Sha256};

use crate::archive::{ArchiveReader, Block};
use crate::cuts::{Cuts, Cutter};
use crate::error::DumpError;
use crate::limits::Limits;
use crate::open::{Dump, open};
use crate::schema::Schema;
use crate::sql::{Event, Meta, QualifiedName, SqlReader};

/// What a dump holds. Made only by reading it to its end: a dump that is cut off has no contents, only an error.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Tables with rows in the dump, in the order of the dump.
    pub tables: Vec<TableContents>,
    /// How many large objects.
    pub large_objects: u64,
    /// How many blocks of data were found; none for a plain dump.
    pub blocks: Option<usize>,
}

/// One table of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableContents {
    /// Its schema.
    pub schema: Option<String>,
    /// Its name.
    pub name: String,
    /// The columns in the order of the rows' fields; none for rows that are INSERT statements.
    pub columns: Option<Vec<String>>,
    /// How many rows (for `--inserts`: statements).
    pub rows: u64,
    /// Length of their text in bytes.
    pub text_bytes: u64,
    /// sha256 of the COPY text: every row with its LF, without the end mark; lower-case hex. For `--inserts` of the
    /// statements, each with a LF.
    pub sha256: String,
    /// Where the table's block begins in an archive, and its length.
    pub span: Option<(u64, u64)>,
    /// Parts that can be read one without the other; only an index asks for them.
    pub cuts: Option<Cuts>,
}

impl Contents {
    /// Rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

/// Opens whatever it is and reads it to its end.
///
/// # Errors
/// What cannot be read, is cut off or is damaged.
pub fn contents<R: Read + Send + 'static>(input: R, limits: Limits) -> Result<Contents, DumpError> {
    match open(input, limits)? {
        Dump::Plain(reader) => of_plain(*reader),
        Dump::Archive(reader) => of_archive(*reader, false),
    }
}

/// Counts and hashes rows.
struct Tally {
    rows: u64,
    text_bytes: u64,
    hash: Sha256,
}

impl Tally {
    fn new() -> Self {
        Self { rows: 0, text_bytes: 0, hash: Sha256::new() }
    }

    fn lines(&mut self, lines: &[u8]) {
        self.rows += memchr::memchr_iter(b'\n', lines).count() as u64;
        self.text_bytes += lines.len() as u64;
        self.hash.update(lines);
    }

    fn statement(&mut self, sql: &str) {
        self.rows += 1;
        self.text_bytes += sql.len() as u64 + 1;
        self.hash.update(sql.as_bytes());
        self.hash.update(b"\n");
    }

    fn table(self, schema: Option<String>, name: String, columns: Option<Vec<String>>) -> TableContents {
        let Self { rows, text_bytes, hash } = self;
        let sha256 = hex(&hash.finalize());
        TableContents { schema, name, columns, rows, text_bytes, sha256, span: None, cuts: None }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Of tables by schema and name: columns that each name a row by themselves.
type Unique = HashMap<(Option<String>, String), Vec<String>>;

fn unique_columns<R: Read>(reader: &ArchiveReader<R>) -> Unique {
    let mut schema = Schema::new();
    let tables = reader.toc().iter().filter(|entry| entry.is_table_data());
    let tables: Vec<_> = tables.map(|entry| (entry.namespace.clone(), entry.tag.clone())).collect();
    for entry in reader.toc().iter().filter(|entry| entry.desc == "CONSTRAINT") {
        // More than anybody keeps: an index without these keys is one all the same.
        if schema.learn(&entry.defn).is_err() {
            break;
        }
    }
    let keys = tables.into_iter().map(|(namespace, name)| {
        let facts = schema.table(&QualifiedName { schema: namespace.clone(), name: name.clone() });
        let keys = facts.into_iter().flat_map(|table| &table.unique);
        let single = keys.filter_map(|key| if let [one] = key.as_slice() { Some(one.clone()) } else { None });
        ((namespace, name), single.collect())
    });
    keys.collect()
}

/// What an archive holds, read to its end; with parts of its tables where they are wanted.
pub(crate) fn of_archive<R: Read>(reader: ArchiveReader<R>, with_cuts: bool) -> Result<Contents, DumpError> {
    let mut reader = if with_cuts { reader.with_landmarks() } else { reader };
    let unique = if with_cuts { unique_columns(&reader) } else { Unique::new() };
    let mut contents = Contents::default();
    // Which block each table came from: spans are complete only when the next block begins.
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block()? {
        let dump_id = block.entry().dump_id;
        let (schema, name) = (block.entry().namespace.clone(), block.entry().tag.clone());
        let (mut tally, mut cut) = (Tally::new(), None);
        let columns = match block {
            Block::Table { entry, mut rows } => {
                let columns = entry.copy().and_then(|copy| copy.columns).unwrap_or_default();
                let keys = unique.get(&(schema.clone(), name.clone())).into_iter().flatten().cloned();
                let mut cutter = with_cuts.then(|| Cutter::new(&columns, keys));
                while let Some(lines) = rows.next_rows()? {
                    tally.lines(lines);
                    if let Some(cutter) = &mut cutter {
                        cutter.rows(lines);
                        cutter.passed(rows.landmarks(), rows.archive_offset());
                    }
                }
                cut = cutter.and_then(Cutter::finish);
                Some(columns)
            }
            Block::Inserts { mut statements, .. } => {
                while let Some(statement) = statements.next_statement()? {
                    tally.statement(statement.sql);
                }
                None
            }
            Block::LargeObjects { mut objects, .. } => {
                while let Some(event) = objects.next_event()? {
                    contents.large_objects +=
                        u64::from(matches!(event, crate::archive::LargeObjectEvent::Start { .. }));
                }
                continue;
            }
        };
        contents.tables.push(TableContents { cuts: cut, ..tally.table(schema, name, columns) });
        blocks.push(dump_id);
    }
    for (table, dump_id) in contents.tables.iter_mut().zip(blocks) {
        let span = reader.spans().iter().find(|span| span.dump_id == dump_id);
        table.span = span.and_then(|span| Some((span.offset, span.length?)));
    }
    contents.blocks = Some(reader.spans().len());
    Ok(contents)
}

fn of_plain<R: Read>(mut reader: SqlReader<R>) -> Result<Contents, DumpError> {
    let mut contents = Contents::default();
    let mut open = None;
    while let Some(event) = reader.next_event()? {
        match event {
            Event::CopyStart(copy) => open = Some((copy, Tally::new())),
            Event::CopyRows(lines) => {
                if let Some((_, tally)) = &mut open {
                    tally.lines(lines);
                }
            }
            Event::CopyEnd => {
                if let Some((copy, tally)) = open.take() {
                    contents.tables.push(tally.table(copy.table.schema, copy.table.name, copy.columns));
                }
            }
            Event::Statement(statement) => {
                contents.large_objects += u64::from(statement.sql.contains("pg_catalog.lo_create("));
            }
            Event::Meta(Meta::Connect { .. } | Meta::Restrict | Meta::Unrestrict) | Event::Complete => {}
        }
    }
    Ok(contents)
}
