//! Reads a dump to its end, whatever it is, and writes down all that was seen.

use std::io::Read;

use runbook_dump::{ArchiveReader, Block, Dump, DumpError, LargeObjectEvent, Limits, SqlReader, open};

/// Gives a few bytes at a time, as a slow network does.
pub(crate) struct Trickle<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.step.min(buf.len()).min(self.bytes.len());
        buf[..n].copy_from_slice(&self.bytes[..n]);
        self.bytes = &self.bytes[n..];
        Ok(n)
    }
}

/// Opens and reads all.
pub(crate) fn read(bytes: &[u8], limits: Limits) -> Result<Vec<String>, DumpError> {
    let mut seen = Vec::new();
    match open(std::io::Cursor::new(bytes.to_vec()), limits)? {
        Dump::Plain(mut reader) => plain(&mut reader, &mut seen)?,
        Dump::Archive(mut reader) => archive(&mut reader, &mut seen)?,
    }
    Ok(seen)
}

pub(crate) fn plain<R: Read>(reader: &mut SqlReader<R>, seen: &mut Vec<String>) -> Result<(), DumpError> {
    while let Some(event) = reader.next_event()? {
        seen.push(format!("{event:?}"));
    }
    Ok(())
}

pub(crate) fn archive<R: Read>(
    reader: &mut ArchiveReader<R>,
    seen: &mut Vec<String>,
) -> Result<(), DumpError> {
    seen.push(format!("{:?} {:?}", reader.header(), reader.toc()));
    while let Some(block) = reader.next_block()? {
        seen.push(block.entry().dump_id.to_string());
        match block {
            Block::Table { mut rows, .. } => {
                while let Some(rows) = rows.next_rows()? {
                    seen.push(format!("{rows:?}"));
                }
            }
            Block::Inserts { mut statements, .. } => {
                while let Some(statement) = statements.next_statement()? {
                    seen.push(format!("{statement:?}"));
                }
            }
            Block::LargeObjects { mut objects, .. } => {
                // How an object's bytes are cut is nobody's concern.
                let mut bytes = Vec::new();
                while let Some(event) = objects.next_event()? {
                    match event {
                        LargeObjectEvent::Bytes(some) => bytes.extend_from_slice(some),
                        LargeObjectEvent::Start { .. } => seen.push(format!("{event:?}")),
                        LargeObjectEvent::End => {
                            seen.push(format!("{} End", bytes.escape_ascii()));
                            bytes.clear();
                        }
                    }
                }
            }
        }
    }
    seen.push(format!("{:?}", reader.spans()));
    Ok(())
}
