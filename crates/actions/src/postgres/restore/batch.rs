//! Cuts a dump into chunks, each of which becomes one transaction. The cuts depend on the dump's text and
//! the chunk size alone, never on how the bytes arrived: a resumed restore must number them the same.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;
use runbook_dump::DumpError;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::postgres::sql::{What, ends_transaction, what};

/// Statements of one transaction: a small one costs a round trip and an fsync, a long one a long rollback.
const WEIGHT_MAX: usize = 200;
/// What an index or a constraint weighs.
const HEAVY: usize = 50;
/// Text of one transaction of statements.
const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// One statement of a dump.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) sql: String,
    /// From 1; 0 when the dump has no lines.
    pub(super) line: u64,
    /// The object by the archive's table of contents, where there is one.
    pub(super) object: Option<String>,
    pub(super) what: What,
}

/// What becomes one transaction.
#[derive(Debug)]
pub(super) enum Chunk {
    /// Statements.
    Lines(Vec<Line>),
    /// Whole rows of one table.
    Rows(Rows),
    /// A piece of a large object of an archive, to be put at its end.
    LargeObject { oid: u32, data: Bytes },
}

impl Chunk {
    /// sha256 of its text, lower-case hex.
    pub(super) fn sum(&self) -> String {
        let mut hash = Sha256::new();
        match self {
            Self::Lines(lines) => {
                for line in lines {
                    hash.update(line.sql.as_bytes());
                    hash.update([0]);
                }
            }
            Self::Rows(rows) => {
                hash.update(rows.copy.as_bytes());
                hash.update([0]);
                hash.update(&rows.data);
            }
            Self::LargeObject { oid, data } => {
                hash.update(oid.to_le_bytes());
                hash.update(data);
            }
        }
        hex::encode(hash.finalize())
    }
}

/// Rows for one COPY.
#[derive(Debug)]
pub(super) struct Rows {
    /// `COPY … FROM stdin`.
    pub(super) copy: Arc<str>,
    /// The table, quoted.
    pub(super) table: Arc<str>,
    /// Line of the first row.
    pub(super) line: u64,
    /// How many.
    pub(super) count: u64,
    /// Their text.
    pub(super) data: Bytes,
}

/// What the reading thread hands over.
#[derive(Debug)]
pub(super) enum Item {
    /// A chunk with its number.
    Chunk(u64, Chunk),
    /// A COPY begins; said also of a table without rows.
    Table(Arc<str>),
    /// Something that is left out, and why.
    Left(String, &'static str),
    /// The dump said itself that it is whole.
    Complete,
}

/// Why the reading thread stopped before the end.
#[derive(Debug)]
pub(super) enum Halt {
    /// The dump is at fault, or its source.
    Dump(DumpError),
    /// Nobody listens any more.
    Unheard,
}

impl From<DumpError> for Halt {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

/// Collects and cuts.
pub(super) struct Batcher {
    to: mpsc::Sender<Result<Item, DumpError>>,
    chunk_bytes: usize,
    seq: u64,
    lines: Vec<Line>,
    weight: usize,
    bytes: usize,
    in_transaction: bool,
    open_object: Option<String>,
    copy: Option<OpenCopy>,
}

struct OpenCopy {
    copy: Arc<str>,
    table: Arc<str>,
    line: u64,
    buffer: Vec<u8>,
    count: u64,
}

impl Batcher {
    pub(super) fn new(to: mpsc::Sender<Result<Item, DumpError>>, chunk_bytes: usize) -> Self {
        Self {
            to,
            chunk_bytes: chunk_bytes.max(1),
            seq: 0,
            lines: Vec::new(),
            weight: 0,
            bytes: 0,
            in_transaction: false,
            open_object: None,
            copy: None,
        }
    }

    pub(super) fn send(&mut self, item: Item) -> Result<(), Halt> {
        self.to.blocking_send(Ok(item)).map_err(|_| Halt::Unheard)
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<(), Halt> {
        let seq = self.seq;
        self.seq += 1;
        self.send(Item::Chunk(seq, chunk))
    }

    /// Takes a statement.
    pub(super) fn statement(&mut self, sql: &str, line: u64, object: Option<&str>) -> Result<(), Halt> {
        let what = what(sql);
        match what {
            // Large objects of a plain dump are written inside BEGIN and COMMIT: descriptors live in one
            // transaction. The chunk's own transaction takes their place.
            What::Begin => {
                self.flush()?;
                self.in_transaction = true;
                return Ok(());
            }
            What::Commit => {
                self.in_transaction = false;
                self.open_object = None;
                return self.flush();
            }
            // It would take back the statements before it in the chunk, and the marker would say they are in.
            What::Other => {
                if let Some(word) = ends_transaction(sql) {
                    let what = format!("`{}` on line {line}", word.to_ascii_uppercase());
                    return Err(DumpError::Unsupported { what }.into());
                }
            }
            _ => {}
        }
        let heavy = match &what {
            What::Create { kind, .. } => *kind == "index",
            What::AddConstraint { .. } => true,
            What::On { verb, .. } => *verb == "refresh",
            _ => false,
        };
        if what == What::LargeObject {
            if sql.contains("lo_open") {
                self.open_object = Some(sql.to_string());
            } else if sql.contains("lo_close") {
                self.open_object = None;
            }
        }
        // INSERTs are bounded by their bytes alone: a dump of them has one a row.
        self.weight += match what {
            What::Insert { .. } => 0,
            _ if heavy => HEAVY,
            _ => 1,
        };
        self.bytes += sql.len();
        let object = object.map(Into::into);
        self.lines.push(Line { sql: sql.trim().trim_end_matches(';').to_string(), line, object, what });
        if self.bytes < STATEMENT_BYTES_MAX && (self.weight < WEIGHT_MAX || self.in_transaction) {
            return Ok(());
        }
        self.cut_object(line)
    }

    /// Ends a transaction, also in the middle of a large object: the next one opens it again and goes to
    /// its end.
    fn cut_object(&mut self, line: u64) -> Result<(), Halt> {
        let Some(open) = self.open_object.clone() else { return self.flush() };
        let mut push = |sql: &str| {
            self.lines.push(Line { sql: sql.into(), line, object: None, what: What::LargeObject });
        };
        push("SELECT pg_catalog.lo_close(0)");
        self.flush()?;
        let mut push = |sql: &str| {
            self.lines.push(Line { sql: sql.into(), line, object: None, what: What::LargeObject });
        };
        push(open.trim().trim_end_matches(';'));
        push("SELECT pg_catalog.lo_lseek64(0, 0, 2)");
        Ok(())
    }

    /// Sends the statements collected so far.
    pub(super) fn flush(&mut self) -> Result<(), Halt> {
        (self.weight, self.bytes) = (0, 0);
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        self.chunk(Chunk::Lines(lines))
    }

    /// A COPY begins, with the line of its first row.
    pub(super) fn copy_start(&mut self, copy: &str, table: &str, line: u64) -> Result<(), Halt> {
        self.flush()?;
        let table: Arc<str> = table.into();
        self.send(Item::Table(table.clone()))?;
        let copy = copy.trim().trim_end_matches(';').into();
        self.copy = Some(OpenCopy { copy, table, line, buffer: Vec::new(), count: 0 });
        Ok(())
    }

    /// Whole rows, each ended by LF.
    pub(super) fn copy_rows(&mut self, mut rows: &[u8]) -> Result<(), Halt> {
        while let Some(open) = &mut self.copy
            && !rows.is_empty()
        {
            let wanted = self.chunk_bytes.saturating_sub(open.buffer.len() + 1);
            // The first line end at which the chunk has its size; without one, all of it.
            let end = rows.get(wanted..).and_then(|tail| memchr(b'\n', tail)).map(|at| wanted + at + 1);
            let (taken, rest) = rows.split_at(end.unwrap_or(rows.len()));
            open.buffer.extend_from_slice(taken);
            open.count += memchr::memchr_iter(b'\n', taken).count() as u64;
            rows = rest;
            if open.buffer.len() >= self.chunk_bytes {
                self.send_rows()?;
            }
        }
        Ok(())
    }

    fn send_rows(&mut self) -> Result<(), Halt> {
        let Some(open) = &mut self.copy else { return Ok(()) };
        let count = std::mem::take(&mut open.count);
        let rows = Rows {
            copy: open.copy.clone(),
            table: open.table.clone(),
            line: open.line,
            count,
            data: std::mem::take(&mut open.buffer).into(),
        };
        open.line += count;
        self.chunk(Chunk::Rows(rows))
    }

    /// The COPY is over.
    pub(super) fn copy_end(&mut self) -> Result<(), Halt> {
        if self.copy.as_ref().is_some_and(|open| !open.buffer.is_empty()) {
            self.send_rows()?;
        }
        self.copy = None;
        Ok(())
    }

    /// A piece of a large object.
    pub(super) fn large_object(&mut self, oid: u32, data: Vec<u8>) -> Result<(), Halt> {
        self.flush()?;
        self.chunk(Chunk::LargeObject { oid, data: data.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(pieces: usize) -> Vec<(u64, Vec<u8>)> {
        let text: Vec<u8> = (0..400u32)
            .flat_map(|n| format!("{n}\t{}\n", "x".repeat(n as usize % 37)).into_bytes())
            .collect();
        let (to, mut from) = mpsc::channel(1000);
        let mut batcher = Batcher::new(to, 512);
        batcher.copy_start("COPY public.t (a, b) FROM stdin;", "\"public\".\"t\"", 1).unwrap();
        let mut buffer: Vec<u8> = Vec::new();
        for piece in text.chunks(pieces) {
            buffer.extend_from_slice(piece);
            let whole = buffer.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            batcher.copy_rows(&buffer[..whole]).unwrap();
            buffer.drain(..whole);
        }
        batcher.copy_end().unwrap();
        drop(batcher);
        let mut found = Vec::new();
        while let Some(Ok(item)) = from.blocking_recv() {
            if let Item::Chunk(seq, Chunk::Rows(rows)) = item {
                found.push((seq, rows.data.to_vec()));
            }
        }
        assert_eq!(found.iter().flat_map(|(_, data)| data.clone()).collect::<Vec<_>>(), text);
        found
    }

    #[test]
    fn chunks_are_the_same_however_the_bytes_arrive() {
        let whole = cuts(usize::MAX / 2);
        assert!(whole.len() > 5);
        for pieces in [1, 7, 100, 511, 513, 5000] {
            assert_eq!(cuts(pieces), whole, "pieces of {pieces}");
        }
    }

    #[test]
    fn a_large_object_is_cut_between_writes_and_opened_again() {
        let (to, mut from) = mpsc::channel(100);
        let mut batcher = Batcher::new(to, 1000);
        batcher.statement("BEGIN;", 1, None).unwrap();
        batcher.statement("SELECT pg_catalog.lo_open('7', 131072);", 2, None).unwrap();
        let write = format!("SELECT pg_catalog.lowrite(0, '\\x{}');", "00".repeat(300_000));
        for line in 3..8 {
            batcher.statement(&write, line, None).unwrap();
        }
        batcher.statement("SELECT pg_catalog.lo_close(0);", 8, None).unwrap();
        batcher.statement("COMMIT;", 9, None).unwrap();
        drop(batcher);
        let mut heads = Vec::new();
        while let Some(Ok(Item::Chunk(_, Chunk::Lines(lines)))) = from.blocking_recv() {
            assert!(lines[0].sql.contains("lo_open('7'"), "{}", &lines[0].sql[..30]);
            assert!(lines.last().unwrap().sql.contains("lo_close"));
            heads.push(lines.len());
        }
        assert_eq!(heads, [4, 5, 4]);
    }
}
