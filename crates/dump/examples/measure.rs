//! Reads a dump and says how fast: `cargo run -p runbook-dump --example measure -- FILE`.

use std::fs::File;
use std::io::{Error, Write};
use std::time::Instant;

use runbook_dump::{Block, Dump, Event, Limits, open};

fn main() -> Result<(), Error> {
    let path = std::env::args_os().nth(1).ok_or_else(|| Error::other("usage: measure FILE"))?;
    let file = File::open(&path)?;
    let size = file.metadata()?.len();
    let begun = Instant::now();
    let (mut statements, mut rows, mut bytes) = (0_u64, 0_u64, 0_u64);
    match open(file, Limits::default()).map_err(Error::other)? {
        Dump::Plain(mut reader) => {
            while let Some(event) = reader.next_event().map_err(Error::other)? {
                match event {
                    Event::Statement(_) => statements += 1,
                    Event::CopyRows(lines) => rows += count(lines),
                    _ => {}
                }
            }
            bytes = reader.position().byte;
        }
        Dump::Archive(mut reader) => {
            while let Some(block) = reader.next_block().map_err(Error::other)? {
                let Block::Table { rows: mut table, .. } = block else { continue };
                while let Some(lines) = table.next_rows().map_err(Error::other)? {
                    rows += count(lines);
                    bytes += lines.len() as u64;
                }
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let rate = |bytes: u64| bytes as f64 / 1e6 / seconds;
    writeln!(
        std::io::stdout(),
        "{statements} statements, {rows} rows; {:.0} MB/s of file, {:.0} MB/s decompressed",
        rate(size),
        rate(bytes)
    )
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}
