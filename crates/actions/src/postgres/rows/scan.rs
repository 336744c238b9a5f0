//! Goes through a dump from front to back, or through one block of an archive, and shows pickers what passes. Blocks:
//! belongs on a thread of its own.

use std::io::Read;

use runbook_dump::{
    ArchiveReader, Block, CutPart, Dump, DumpError, Event, Insert, Kind, Limits, QualifiedName, RowStream,
    Schema, SqlReader,
};
use sha2::{Digest as _, Sha256};

use super::pick::{Halt, Picker};
use crate::postgres::split::statements;

/// What a scan has learned.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) schema: Schema,
    /// It was read to its own end, not only until all keys were found.
    pub(super) whole: bool,
}

/// Reads a dump. Stops early only when `may_stop` and nothing more can come.
pub(super) fn scan<R: Read + Send + 'static>(
    input: R,
    pickers: &mut [Picker],
    may_stop: bool,
) -> Result<Seen, Halt> {
    match runbook_dump::open(input, Limits::default())? {
        Dump::Plain(reader) => plain(*reader, pickers, may_stop),
        Dump::Archive(reader) => archive(*reader, pickers, may_stop),
    }
}

fn over(pickers: &[Picker], may_stop: bool) -> bool {
    may_stop && pickers.iter().all(Picker::is_done)
}

fn utf8(encoding: Option<&str>) -> Result<(), Halt> {
    match encoding {
        None => Ok(()),
        Some(name) => {
            let what = format!("a dump in the encoding {name} (make it with --encoding=UTF8)");
            Err(DumpError::Unsupported { what }.into())
        }
    }
}

fn plain<R: Read>(mut reader: SqlReader<R>, pickers: &mut [Picker], may_stop: bool) -> Result<Seen, Halt> {
    let mut seen = Seen::default();
    let mut interested: Vec<usize> = Vec::new();
    loop {
        let encoding = reader.encoding().map(str::to_owned);
        let mut skip = false;
        match reader.next_event()? {
            None => {
                seen.whole = true;
                return Ok(seen);
            }
            Some(Event::Statement(statement)) => {
                if statement.kind == Kind::Insert {
                    utf8(encoding.as_deref())?;
                    insert(statement.sql, pickers, &seen.schema)?;
                } else if sets_backslashes(statement.sql) {
                    let what = "a dump with standard_conforming_strings off".into();
                    return Err(DumpError::Unsupported { what }.into());
                } else {
                    seen.schema.learn(statement.sql)?;
                }
            }
            Some(Event::CopyStart(copy)) => {
                interested =
                    (0..pickers.len()).filter(|n| pickers[*n].wants(&copy.table, &seen.schema)).collect();
                if !interested.is_empty() {
                    utf8(encoding.as_deref())?;
                }
                let facts = seen.schema.table(&copy.table);
                let columns = copy.columns.clone().unwrap_or_else(|| {
                    let known = facts.map(|t| t.columns.iter().filter(|c| !c.generated));
                    known.into_iter().flatten().map(|c| c.name.clone()).collect()
                });
                for n in &interested {
                    pickers[*n].begin(&columns, facts)?;
                }
                skip = interested.is_empty();
            }
            Some(Event::CopyRows(rows)) => {
                for n in &interested {
                    pickers[*n].rows(rows)?;
                }
            }
            Some(Event::CopyEnd | Event::Meta(_) | Event::Complete) => {}
        }
        if skip {
            reader.skip_copy()?;
        }
        if over(pickers, may_stop) {
            return Ok(seen);
        }
    }
}

fn sets_backslashes(sql: &str) -> bool {
    let words: Vec<&str> = sql
        .split(|c: char| c.is_whitespace() || "=;'".contains(c))
        .filter(|w| !w.is_empty())
        .take(4)
        .collect();
    matches!(words.as_slice(), [set, name, value]
        if set.eq_ignore_ascii_case("set") && name.eq_ignore_ascii_case("standard_conforming_strings")
            && value.eq_ignore_ascii_case("off"))
}

fn insert(sql: &str, pickers: &mut [Picker], schema: &Schema) -> Result<(), Halt> {
    let Some(table) = Insert::table_of(sql) else { return Ok(()) };
    for picker in pickers.iter_mut().filter(|picker| picker.wants(&table, schema)) {
        picker.insert(sql, schema)?;
    }
    Ok(())
}

/// What an archive's table of contents says of its tables.
pub(super) fn learn<R: Read>(reader: &ArchiveReader<R>) -> Result<Schema, Halt> {
    utf8(reader.encoding())?;
    let mut schema = Schema::new();
    for entry in reader.toc() {
        if matches!(
            entry.desc.as_str(),
            "TABLE" | "TABLE ATTACH" | "CONSTRAINT" | "FK CONSTRAINT" | "FOREIGN TABLE"
        ) {
            for statement in statements(&entry.defn)? {
                schema.learn(&statement.sql)?;
            }
        }
        if entry.desc == "STDSTRINGS" && sets_backslashes(entry.defn.trim()) {
            let what = "an archive with standard_conforming_strings off".into();
            return Err(DumpError::Unsupported { what }.into());
        }
    }
    Ok(schema)
}

/// The table that an entry's rows belong to.
pub(super) fn table_of(entry: &runbook_dump::Entry) -> QualifiedName {
    match entry.copy() {
        Some(copy) => {
            QualifiedName { schema: copy.table.schema.or(entry.namespace.clone()), name: copy.table.name }
        }
        None => QualifiedName { schema: entry.namespace.clone(), name: entry.tag.clone() },
    }
}

fn archive<R: Read>(
    mut reader: ArchiveReader<R>,
    pickers: &mut [Picker],
    may_stop: bool,
) -> Result<Seen, Halt> {
    let mut seen = Seen { schema: learn(&reader)?, whole: false };
    while block(&mut reader, pickers, &seen.schema, false)?.is_some() {
        if over(pickers, may_stop) {
            return Ok(seen);
        }
    }
    seen.whole = true;
    Ok(seen)
}

/// Shows a picker, which has begun, the rows of one part of a table whose block begins at that byte; false when they are not what the index says.
pub(super) fn part_of_block<R: Read, H: Read>(
    head: ArchiveReader<H>,
    input: R,
    block: u64,
    part: &CutPart,
    picker: &mut Picker,
) -> Result<bool, Halt> {
    match &part.begin {
        Some(landmark) => {
            let mut resumed = head.at_landmark(input, landmark)?;
            let skip = part.text.checked_sub(landmark.text);
            skip.map_or(Ok(false), |skip| part_of_rows(resumed.rows(), skip, part, picker))
        }
        None => {
            let mut reader = head.at_block(input, block);
            match reader.next_block()? {
                Some(Block::Table { rows, .. }) => part_of_rows(rows, part.text, part, picker),
                _ => Ok(false),
            }
        }
    }
}

/// `skip` bytes of the text stand before the part.
fn part_of_rows<R: Read>(
    mut rows: RowStream<'_, R>,
    mut skip: u64,
    part: &CutPart,
    picker: &mut Picker,
) -> Result<bool, Halt> {
    let mut left = part.text_bytes;
    let mut sum = Sha256::new();
    while left > 0 {
        let Some(lines) = rows.next_rows()? else { return Ok(false) };
        let passed = usize::try_from(skip).unwrap_or(usize::MAX).min(lines.len());
        skip -= passed as u64;
        let lines = &lines[passed..];
        let own = usize::try_from(left).unwrap_or(usize::MAX).min(lines.len());
        left -= own as u64;
        sum.update(&lines[..own]);
        picker.rows(&lines[..own])?;
    }
    Ok(hex::encode(sum.finalize()).eq_ignore_ascii_case(&part.sha256))
}

/// A block that was read.
#[derive(Debug)]
pub(super) struct BlockRead {
    pub(super) dump_id: u32,
    /// sha256 of its rows, each with its line end, without the end mark; none for INSERT statements, and when nobody
    /// wanted it.
    pub(super) sha256: Option<String>,
}

/// Reads the next block and shows its rows to whoever wants them; none at the archive's end. Their sha256 is worked
/// out only when somebody will ask for it.
pub(super) fn block<R: Read>(
    reader: &mut ArchiveReader<R>,
    pickers: &mut [Picker],
    schema: &Schema,
    hashed: bool,
) -> Result<Option<BlockRead>, Halt> {
    match reader.next_block()? {
        None => Ok(None),
        Some(Block::LargeObjects { entry, .. }) => {
            Ok(Some(BlockRead { dump_id: entry.dump_id, sha256: None }))
        }
        Some(Block::Table { entry, mut rows }) => {
            let dump_id = entry.dump_id;
            let table = table_of(entry);
            let interested: Vec<usize> =
                (0..pickers.len()).filter(|n| pickers[*n].wants(&table, schema)).collect();
            if interested.is_empty() {
                return Ok(Some(BlockRead { dump_id, sha256: None }));
            }
            let columns = entry.copy().and_then(|copy| copy.columns).ok_or_else(|| {
                DumpError::Unsupported { what: "a COPY statement that pg_dump would not write".into() }
            })?;
            for n in &interested {
                pickers[*n].begin(&columns, schema.table(&table))?;
            }
            let mut sum = hashed.then(Sha256::new);
            while let Some(piece) = rows.next_rows()? {
                if let Some(sum) = &mut sum {
                    sum.update(piece);
                }
                for n in &interested {
                    pickers[*n].rows(piece)?;
                }
                // What is left of the block is passed over by whoever goes on; nobody does when all is found.
                if pickers.iter().all(Picker::is_done) {
                    return Ok(Some(BlockRead { dump_id, sha256: None }));
                }
            }
            Ok(Some(BlockRead { dump_id, sha256: sum.map(|sum| hex::encode(sum.finalize())) }))
        }
        Some(Block::Inserts { entry, mut statements }) => {
            let dump_id = entry.dump_id;
            let table = table_of(entry);
            if pickers.iter().any(|picker| picker.wants(&table, schema)) {
                while let Some(statement) = statements.next_statement()? {
                    insert(statement.sql, pickers, schema)?;
                    if pickers.iter().all(Picker::is_done) {
                        break;
                    }
                }
            }
            Ok(Some(BlockRead { dump_id, sha256: None }))
        }
    }
}
