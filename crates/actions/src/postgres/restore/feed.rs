//! The thread that reads a dump: takes plain text and archives to the same chunks. Touches no database.

use std::sync::Arc;

use runbook_dump::{ArchiveReader, Dump, DumpError, Event, Limits, Meta, QualifiedName, Source, SqlReader};
use tokio::sync::{Semaphore, mpsc};

use crate::postgres::sql::qualified;

use super::archive::Archived;
use super::batch::{Batcher, Halt, Item};
use super::reading::Reading;

/// Reads the dump to its end or to its first fault, and hands everything over. Blocks.
pub(super) fn feed(
    dump: Reading,
    chunk_bytes: usize,
    to: mpsc::Sender<Result<Item, DumpError>>,
    memory: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
) {
    let mut batcher = Batcher::new(to.clone(), memory, runtime, chunk_bytes);
    if let Err(Halt::Dump(error)) = read(dump, chunk_bytes, &mut batcher) {
        // Nobody listens when the restore has stopped for another reason: that one is told.
        let _ = to.blocking_send(Err(error));
    }
}

fn read(dump: Reading, chunk_bytes: usize, batcher: &mut Batcher) -> Result<(), Halt> {
    let limits = Limits { parts: true, ..Limits::default() };
    let Some(ahead) = dump.ahead else {
        return match runbook_dump::open(dump.whole, limits)? {
            Dump::Plain(reader) => plain(*reader, batcher),
            Dump::Archive(mut reader) => {
                // The reader moves on while the table of contents is still needed for what comes after the data.
                let toc = reader.toc().to_vec();
                let mut archived = Archived::begin(&toc, chunk_bytes, batcher)?;
                archived.blocks(&mut reader, &[])?;
                archived.end()
            }
        };
    };
    let toc = ahead.head.toc().to_vec();
    let mut archived = Archived::begin(&toc, chunk_bytes, batcher)?;
    let (mut reader, mut came) = (*ahead.head, Vec::new());
    for block in ahead.blocks {
        reader = reader.at_block(block.tap, block.from);
        archived.block_of(&mut reader, block.dump_id)?;
        came.push(block.dump_id);
    }
    let mut reader = ArchiveReader::new(dump.whole, limits)?;
    if reader.toc() != toc {
        let what = "an archive whose table of contents changed while it was read".into();
        return Err(DumpError::Unsupported { what }.into());
    }
    archived.blocks(&mut reader, &came)?;
    archived.end()
}

/// A table, quoted.
pub(super) fn table_name(table: &QualifiedName, namespace: Option<&str>) -> String {
    let schema = table.schema.as_deref().or(namespace).unwrap_or("public");
    qualified(schema, &table.name)
}

fn plain(mut reader: SqlReader<Source>, batcher: &mut Batcher) -> Result<(), Halt> {
    let (mut databases, mut complete) = (Vec::new(), false);
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Statement(statement) => batcher.statement(statement.sql, statement.line, None)?,
            Event::CopyStart(copy) => {
                let table = table_name(&copy.table, None);
                batcher.copy_start(&copy.statement, &table, copy.line + 1)?;
            }
            Event::CopyRows(rows) => batcher.copy_rows(rows)?,
            Event::CopyEnd => batcher.copy_end()?,
            Event::Meta(Meta::Connect { database }) => {
                databases.push(database.clone());
                databases.dedup();
                if databases.len() > 1 {
                    let what = "a dump of several databases".into();
                    return Err(DumpError::Unsupported { what }.into());
                }
                batcher.send(Item::Left(
                    format!("\\connect {database}"),
                    "the database is the one that was given",
                ))?;
            }
            Event::Meta(Meta::Restrict | Meta::Unrestrict) => {}
            Event::Complete => complete = true,
        }
    }
    batcher.release()?;
    if complete {
        batcher.send(Item::Complete)?;
    }
    Ok(())
}
