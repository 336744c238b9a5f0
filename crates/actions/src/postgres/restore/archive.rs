//! Takes an archive apart for a restore: statements before rows, rows with what comes early, all the rest. The order is the
//! archive's own, but for rows that are asked for before their turn. Touches no database.

use std::io::Read;

use runbook_dump::order::{Part, Plan};
use runbook_dump::script::Script;
use runbook_dump::{ArchiveReader, Block, DumpError, Entry, LargeObjectEvent, LargeObjects};

use crate::postgres::split::statements;

use super::batch::{Batcher, Halt, Item};
use super::early::Early;
use super::feed::table_name;

/// An archive of which everything before rows was handed over.
pub(super) struct Archived<'a, 'b> {
    plan: Plan<'a>,
    script: Script<'a>,
    early: Early<'a>,
    chunk_bytes: usize,
    batcher: &'b mut Batcher,
}

impl<'a, 'b> Archived<'a, 'b> {
    /// Hands over what comes before rows.
    pub(super) fn begin(
        toc: &'a [Entry],
        chunk_bytes: usize,
        batcher: &'b mut Batcher,
    ) -> Result<Self, Halt> {
        let plan = Plan::new(toc, false);
        let mut script = Script::new(toc);
        text(batcher, &Script::preamble(toc), None)?;
        for entry in plan.part(Part::PreData) {
            text(batcher, &script.entry(entry), Some(entry))?;
        }
        // Several blocks may fill the root of a partitioned table.
        let rows = toc.iter().filter(|entry| !entry.is_via_partition_root());
        let early = Early::of(rows.filter_map(table_of), plan.part(Part::PostData));
        Ok(Self { plan, script, early, chunk_bytes, batcher })
    }

    /// The block that comes next and is that entry's.
    pub(super) fn block_of<R: Read>(
        &mut self,
        reader: &mut ArchiveReader<R>,
        dump_id: u32,
    ) -> Result<(), Halt> {
        match reader.next_block()? {
            Some(block) if block.entry().dump_id == dump_id => self.block(block),
            _ => Err(DumpError::Unsupported { what: "a block that is another entry's".into() }.into()),
        }
    }

    /// All blocks but those that came already.
    pub(super) fn blocks<R: Read>(
        &mut self,
        reader: &mut ArchiveReader<R>,
        came: &[u32],
    ) -> Result<(), Halt> {
        while let Some(block) = reader.next_block()? {
            if !came.contains(&block.entry().dump_id) {
                self.block(block)?;
            }
        }
        Ok(())
    }

    fn block<R: Read>(&mut self, block: Block<'_, R>) -> Result<(), Halt> {
        let Self { script, early, batcher, .. } = self;
        match block {
            Block::Table { entry, mut rows } => {
                let (Some(copy), Some(table)) = (entry.copy(), table_of(entry)) else {
                    let what = "a COPY statement that pg_dump would not write".into();
                    return Err(DumpError::Unsupported { what }.into());
                };
                batcher.copy_start(&copy.statement, &table, 1)?;
                while let Some(piece) = rows.next_rows()? {
                    batcher.copy_rows(piece)?;
                }
                batcher.copy_end()?;
                for entry in early.loaded(&table) {
                    text(batcher, &script.entry(entry), Some(entry))?;
                }
                batcher.builds()
            }
            Block::Inserts { mut statements, .. } => {
                while let Some(statement) = statements.next_statement()? {
                    batcher.statement(statement.sql, 0, None)?;
                }
                Ok(())
            }
            Block::LargeObjects { objects, .. } => large_objects(objects, self.chunk_bytes, batcher),
        }
    }

    /// Hands over everything that is left.
    pub(super) fn end(mut self) -> Result<(), Halt> {
        for part in [Part::Data, Part::PostData, Part::Acl, Part::Refresh] {
            for entry in self.plan.part(part).filter(|entry| !self.early.came(entry)) {
                text(self.batcher, &self.script.entry(entry), Some(entry))?;
            }
        }
        self.batcher.release()?;
        self.batcher.send(Item::Complete)
    }
}

/// The table, quoted, that an entry's rows go into.
pub(super) fn table_of(entry: &Entry) -> Option<String> {
    entry.copy().map(|copy| table_name(&copy.table, entry.namespace.as_deref()))
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

fn large_objects<R: Read>(
    mut objects: LargeObjects<'_, R>,
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
