//! The thread that reads a dump: takes plain text and archives to the same chunks. Touches no database.

use std::sync::Arc;

use runbook_dump::order::{Part, Plan};
use runbook_dump::script::Script;
use runbook_dump::{
    ArchiveReader, Block, Dump, DumpError, Entry, Event, LargeObjectEvent, LargeObjects, Limits, Meta,
    QualifiedName, Source, SqlReader,
};
use tokio::sync::{Semaphore, mpsc};

use crate::postgres::split::statements;
use crate::postgres::sql::qualified;
use crate::s3::Tap;

use super::batch::{Batcher, Halt, Item};
use super::early::Early;

/// Reads the dump to its end or to its first fault, and hands everything over. Blocks.
pub(super) fn feed(
    tap: Tap,
    chunk_bytes: usize,
    to: mpsc::Sender<Result<Item, DumpError>>,
    memory: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
) {
    let mut batcher = Batcher::new(to.clone(), memory, runtime, chunk_bytes);
    if let Err(Halt::Dump(error)) = read(tap, chunk_bytes, &mut batcher) {
        // Nobody listens when the restore has stopped for another reason: that one is told.
        let _ = to.blocking_send(Err(error));
    }
}

fn read(tap: Tap, chunk_bytes: usize, batcher: &mut Batcher) -> Result<(), Halt> {
    match runbook_dump::open(tap, Limits { parts: true, ..Limits::default() })? {
        Dump::Plain(reader) => plain(*reader, batcher),
        Dump::Archive(reader) => archive(*reader, chunk_bytes, batcher),
    }
}

fn table_name(table: &QualifiedName, namespace: Option<&str>) -> String {
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

fn archive(mut reader: ArchiveReader<Source>, chunk_bytes: usize, batcher: &mut Batcher) -> Result<(), Halt> {
    // The reader moves on while the table of contents is still needed for what comes after the data.
    let toc = reader.toc().to_vec();
    let plan = Plan::new(&toc, false);
    let mut script = Script::new(&toc);
    text(batcher, &Script::preamble(&toc), None)?;
    for entry in plan.part(Part::PreData) {
        text(batcher, &script.entry(entry), Some(entry))?;
    }
    // Several blocks may fill the root of a partitioned table.
    let rows = toc
        .iter()
        .filter(|entry| !entry.is_via_partition_root())
        .filter_map(|entry| entry.copy().map(|copy| table_name(&copy.table, entry.namespace.as_deref())));
    let mut early = Early::of(rows.collect(), plan.part(Part::PostData));
    while let Some(block) = reader.next_block()? {
        match block {
            Block::Table { entry, mut rows } => {
                let Some(copy) = entry.copy() else {
                    let what = "a COPY statement that pg_dump would not write".into();
                    return Err(DumpError::Unsupported { what }.into());
                };
                let table = table_name(&copy.table, entry.namespace.as_deref());
                batcher.copy_start(&copy.statement, &table, 1)?;
                while let Some(piece) = rows.next_rows()? {
                    batcher.copy_rows(piece)?;
                }
                batcher.copy_end()?;
                for entry in early.loaded(&table) {
                    text(batcher, &script.entry(entry), Some(entry))?;
                }
                batcher.builds()?;
            }
            Block::Inserts { mut statements, .. } => {
                while let Some(statement) = statements.next_statement()? {
                    batcher.statement(statement.sql, 0, None)?;
                }
            }
            Block::LargeObjects { objects, .. } => large_objects(objects, chunk_bytes, batcher)?,
        }
    }
    for part in [Part::Data, Part::PostData, Part::Acl, Part::Refresh] {
        for entry in plan.part(part).filter(|entry| !early.came(entry)) {
            text(batcher, &script.entry(entry), Some(entry))?;
        }
    }
    batcher.release()?;
    batcher.send(Item::Complete)
}

/// The statements of one entry.
fn text(batcher: &mut Batcher, sql: &str, entry: Option<&Entry>) -> Result<(), Halt> {
    if sql.trim().is_empty() {
        return Ok(());
    }
    let object = entry.map(|entry| {
        let schema = entry.namespace.as_deref().map(|schema| format!("{schema}.")).unwrap_or_default();
        crate::postgres::sql::plain(&format!("{} {schema}{}", entry.desc.to_lowercase(), entry.tag))
    });
    for statement in statements(sql)? {
        batcher.statement(&statement.sql, 0, object.as_deref())?;
    }
    Ok(())
}

fn large_objects(
    mut objects: LargeObjects<'_, Source>,
    chunk_bytes: usize,
    batcher: &mut Batcher,
) -> Result<(), Halt> {
    let (mut open, mut data) = (0, Vec::new());
    while let Some(event) = objects.next_event()? {
        match event {
            LargeObjectEvent::Start { oid } => open = oid,
            LargeObjectEvent::Bytes(bytes) => {
                data.extend_from_slice(bytes);
                while data.len() >= chunk_bytes {
                    let rest = data.split_off(chunk_bytes);
                    batcher.large_object(open, std::mem::replace(&mut data, rest))?;
                }
            }
            LargeObjectEvent::End => {
                if !data.is_empty() {
                    batcher.large_object(open, std::mem::take(&mut data))?;
                }
            }
        }
    }
    Ok(())
}
