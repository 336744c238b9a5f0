//! Any bytes as an archive: no panic, and never more than the limits allow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_dump::{ArchiveReader, Block, Limits};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = ArchiveReader::new(bytes, Limits::default()) else { return };
    while let Ok(Some(block)) = reader.next_block() {
        match block {
            Block::Table { mut rows, .. } => while let Ok(Some(_)) = rows.next_rows() {},
            Block::Inserts { mut statements, .. } => while let Ok(Some(_)) = statements.next_statement() {},
            Block::LargeObjects { mut objects, .. } => while let Ok(Some(_)) = objects.next_event() {},
        }
    }
});
