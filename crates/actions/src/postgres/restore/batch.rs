//! Cuts a dump into chunks, each of which becomes one transaction. The cuts depend on the dump's text and
//! the chunk size alone, never on how the bytes arrived or on how many connections there are: a resumed restore must
//! number them the same.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use runbook_dump::DumpError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::postgres::sql::{What, ends_transaction, what};

use super::put_off::{Place, PutOff};
use super::rewrite::{
    IndexKind, foreign_key_in_two, foreign_key_parent, index_kind, index_of_key, is_plain_table, key_in_two,
};

/// Which rules a restore cut its chunks by. To be raised when what is in a chunk, or their order, changes: markers of other
/// rules say nothing.
pub(super) const CUTS: i32 = 3;
/// Statements of one transaction: a small one costs a round trip and an fsync, a long one a long rollback.
const WEIGHT_MAX: usize = 200;
/// What an index, a constraint or a check of one weighs, of a table without rows; with a chunk of rows it is a transaction by
/// itself.
const HEAVY: usize = 10;
/// Text of one transaction of statements.
const STATEMENT_BYTES_MAX: usize = 1 << 20;
/// One statement of a dump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
    /// Whole rows of one table, which are still being read.
    Rows(Rows),
    /// A piece of a large object of an archive, to be put at its end.
    LargeObject { oid: u32, data: Bytes },
}

impl Chunk {
    /// sha256 of its text, lower-case hex; that of rows comes with their end.
    pub(super) fn sum(&self) -> String {
        let mut hash = Sha256::new();
        match self {
            Self::Lines(lines) => {
                for line in lines {
                    hash.update(line.sql.as_bytes());
                    hash.update([0]);
                }
            }
            Self::Rows(_) => {}
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
    /// They are the first of their table in the dump.
    pub(super) first: bool,
    /// Their text, then their end. Without the end the dump could not be read on.
    pub(super) pieces: mpsc::UnboundedReceiver<Piece>,
}

/// Part of the text of rows.
#[derive(Debug)]
pub(super) enum Piece {
    /// Bytes, cut anywhere; the memory is free again when the second part is dropped.
    Text(Bytes, OwnedSemaphorePermit),
    /// All rows were given: how many, and the sha256 of the chunk's text.
    End { count: u64, sum: String },
}

/// What the reading thread hands over.
#[derive(Debug)]
pub(super) enum Item {
    /// A chunk with its number, and about how many bytes of rows it is about.
    Chunk(u64, Chunk, u64),
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

/// What may share a transaction: only statements of one sort do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// In its place, after all before it.
    InOrder,
    /// Rows as INSERT.
    Insert,
    /// On tables of its own, beside others.
    Beside,
    /// The same, and long.
    Alone,
}

/// Collects and cuts.
pub(super) struct Batcher {
    to: mpsc::Sender<Result<Item, DumpError>>,
    memory: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
    chunk_bytes: usize,
    seq: u64,
    lines: Vec<Line>,
    sort: Sort,
    weight: usize,
    bytes: usize,
    about: u64,
    in_transaction: bool,
    open_object: Option<String>,
    copy: Option<rows::OpenCopy>,
    /// Bytes of rows, a table.
    loaded: HashMap<Arc<str>, u64>,
    /// Tables whose rows came after what the planner knows of them.
    fresh: Vec<Arc<str>>,
    /// Tables that the dump makes, and that are not partitioned.
    plain: HashSet<String>,
    put_off: PutOff,
}

impl Batcher {
    /// `memory` bounds the text of rows that was read and is not in the target yet, in bytes. Blocks, so it belongs on
    /// a thread that may, of the runtime `runtime`.
    pub(super) fn new(
        to: mpsc::Sender<Result<Item, DumpError>>,
        memory: Arc<Semaphore>,
        runtime: tokio::runtime::Handle,
        chunk_bytes: usize,
    ) -> Self {
        Self {
            to,
            memory,
            runtime,
            chunk_bytes: chunk_bytes.max(1),
            seq: 0,
            lines: Vec::new(),
            sort: Sort::InOrder,
            weight: 0,
            bytes: 0,
            about: 0,
            in_transaction: false,
            open_object: None,
            copy: None,
            loaded: HashMap::new(),
            fresh: Vec::new(),
            plain: HashSet::new(),
            put_off: PutOff::default(),
        }
    }

    pub(super) fn send(&mut self, item: Item) -> Result<(), Halt> {
        self.to.blocking_send(Ok(item)).map_err(|_| Halt::Unheard)
    }

    fn chunk(&mut self, chunk: Chunk, about: u64) -> Result<(), Halt> {
        let seq = self.seq;
        self.seq += 1;
        self.send(Item::Chunk(seq, chunk, about))
    }

    /// Takes a statement.
    pub(super) fn statement(&mut self, sql: &str, line: u64, object: Option<&str>) -> Result<(), Halt> {
        let what = what(sql);
        match &what {
            // Large objects of a plain dump are written inside BEGIN and COMMIT: descriptors live in one
            // transaction. The chunk's own transaction takes their place.
            What::Begin => {
                self.builds()?;
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
            What::Create { kind: "table", name, .. } if is_plain_table(sql) => {
                self.plain.insert(name.clone());
            }
            What::Insert { table } => self.filled(table, sql.len()),
            What::LargeObject if sql.contains("lo_open") => self.open_object = Some(sql.to_string()),
            What::LargeObject if sql.contains("lo_close") => self.open_object = None,
            _ => {}
        }
        let sql = sql.trim().trim_end_matches(';');
        let made = Line { sql: sql.to_string(), line, object: object.map(Into::into), what };
        match self.put_off.place(&made, &self.plain) {
            Place::First => {}
            Place::BehindAttaches => self.attaches()?,
            Place::Late => {
                self.put_off.late(made);
                return Ok(());
            }
            Place::Waits => {
                self.put_off.wait(made);
                return Ok(());
            }
            Place::Last => self.release()?,
        }
        self.now(made)
    }

    /// Takes a statement whose turn it is.
    fn now(&mut self, made: Line) -> Result<(), Halt> {
        match &made.what {
            What::AddConstraint { table, .. } if self.plain.contains(table) => {
                self.constraint(table.clone(), made)
            }
            What::Create { kind: "index", on: Some(table), .. }
                if self.plain.contains(table) && self.is_big(table) =>
            {
                match index_kind(&made.sql) {
                    IndexKind { is_unique: true, .. } => self.take(made),
                    IndexKind { slowness: 1, .. } => {
                        self.put_off.build(made);
                        Ok(())
                    }
                    _ => {
                        self.put_off.slow(&made);
                        self.take(made)
                    }
                }
            }
            _ => self.take(made),
        }
    }

    /// A constraint of a plain table: in two steps where that pays.
    fn constraint(&mut self, table: String, line: Line) -> Result<(), Halt> {
        if let Some(parent) = foreign_key_parent(&line.sql) {
            let two = foreign_key_in_two(&line.sql).filter(|_| self.plain.contains(&parent));
            let Some(two) = two else { return self.take(line) };
            let What::AddConstraint { table, name } = line.what.clone() else { return self.take(line) };
            let check = What::Validate { table, name, parent };
            self.put_off.check(Line { sql: two.second, what: check, ..line.clone() });
            return self.take(Line { sql: two.first, ..line });
        }
        match key_in_two(&line.sql) {
            Some(two) if self.is_big(&table) => {
                let index = index_of_key(&table, &two);
                self.take(Line { sql: two.first, what: index, ..line.clone() })?;
                self.put_off.attach(Line { sql: two.second, ..line });
                Ok(())
            }
            _ => self.take(line),
        }
    }

    fn is_big(&self, table: &str) -> bool {
        self.loaded(table) > self.chunk_bytes as u64
    }

    fn loaded(&self, table: &str) -> u64 {
        self.loaded.get(table).copied().unwrap_or(0)
    }

    /// Whether a statement may go beside others, the table by which its length is judged, and its weight.
    fn sort_of(&self, line: &Line) -> (Sort, u64, usize) {
        let of = |table: &str| {
            let sort = if self.is_big(table) { Sort::Alone } else { Sort::Beside };
            let loaded = self.loaded(table);
            let share = loaded.saturating_mul(WEIGHT_MAX as u64) / self.chunk_bytes as u64;
            (sort, loaded, HEAVY + usize::try_from(share).map_or(WEIGHT_MAX, |share| share.min(WEIGHT_MAX)))
        };
        match &line.what {
            What::Insert { .. } => (Sort::Insert, 0, 0),
            What::Setval { .. } => (Sort::Beside, 0, 1),
            What::Create { kind: "index", on: Some(table), .. } => {
                let (sort, about, weight) = of(table);
                let IndexKind { slowness, .. } = index_kind(&line.sql);
                (sort, about.saturating_mul(slowness), weight)
            }
            What::Validate { table, .. } | What::Analyze { table } => of(table),
            What::AddConstraint { table, .. } => {
                let known = foreign_key_parent(&line.sql).is_none_or(|parent| self.plain.contains(&parent));
                if known && self.plain.contains(table) { of(table) } else { (Sort::InOrder, 0, HEAVY) }
            }
            What::On { verb: "refresh", .. } => (Sort::InOrder, 0, WEIGHT_MAX),
            _ => (Sort::InOrder, 0, 1),
        }
    }

    fn take(&mut self, line: Line) -> Result<(), Halt> {
        let (sort, about, weight) = self.sort_of(&line);
        // Adding a foreign key unchecked, or a constraint that uses an index, is done in no time.
        let quick = line.sql.ends_with(" NOT VALID") || line.sql.contains(" USING INDEX ");
        let (sort, weight) = match sort {
            Sort::Alone | Sort::Beside if quick => (Sort::Beside, HEAVY),
            _ => (sort, weight),
        };
        if sort == Sort::Alone || sort != self.sort && !self.in_transaction {
            self.flush()?;
        }
        let number = line.line;
        self.sort = sort;
        // INSERTs are bounded by their bytes alone: a dump of them has one a row.
        self.weight += weight;
        self.bytes += line.sql.len();
        self.about = self.about.max(about);
        self.lines.push(line);
        if sort == Sort::Alone {
            return self.flush();
        }
        if self.bytes < STATEMENT_BYTES_MAX && (self.weight < WEIGHT_MAX || self.in_transaction) {
            return Ok(());
        }
        self.cut_object(number)
    }

    /// The constraints that use an index and were put off. While a slow build goes on, everything that may go beside it comes
    /// before: else it would be over before that began.
    fn attaches(&mut self) -> Result<(), Halt> {
        if self.put_off.has_slow() {
            self.put_off.take_builds().into_iter().try_for_each(|line| self.take(line))?;
            self.vacuum(false)?;
        }
        self.put_off.take_attaches().into_iter().try_for_each(|line| self.take(line))
    }

    /// The builds of indexes that were put off.
    pub(super) fn builds(&mut self) -> Result<(), Halt> {
        self.attaches()?;
        self.flush()?;
        self.put_off.take_builds().into_iter().try_for_each(|line| self.take(line))
    }

    /// Everything that was put off.
    pub(super) fn release(&mut self) -> Result<(), Halt> {
        self.builds()?;
        self.checks()?;
        let (attaches, late) = self.put_off.take_late();
        attaches.into_iter().try_for_each(|line| self.take(line))?;
        late.into_iter().try_for_each(|line| self.now(line))?;
        self.checks()?;
        self.put_off.take_rest().into_iter().try_for_each(|line| self.take(line))?;
        self.flush()
    }

    /// The checks of foreign keys that were put off.
    fn checks(&mut self) -> Result<(), Halt> {
        self.flush()?;
        self.vacuum(true)?;
        self.put_off.take_checks().into_iter().try_for_each(|line| self.take(line))?;
        self.flush()
    }

    /// What the planner has to know of tables. Checks take several times as long where the server does not know that it may go
    /// by an index alone, which is what the VACUUM is for: only a table's first chunk was frozen. That of a table with a slow
    /// build waits for the end of it, and goes beside whatever comes then.
    fn vacuum(&mut self, slow: bool) -> Result<(), Halt> {
        let Self { fresh, put_off, .. } = self;
        let fresh: Vec<_> = fresh.extract_if(.., |table| slow || !put_off.is_slow(table)).collect();
        if fresh.is_empty() {
            return Ok(());
        }
        self.flush()?;
        for table in fresh {
            let big = self.is_big(&table);
            let verb = if big { "VACUUM (ANALYZE, INDEX_CLEANUP off, TRUNCATE off)" } else { "ANALYZE" };
            let what = What::Analyze { table: table.to_string() };
            self.take(Line { sql: format!("{verb} {table}"), line: 0, object: None, what })?;
        }
        self.flush()
    }

    /// Rows of a table came.
    fn filled(&mut self, table: &str, bytes: usize) {
        match self.loaded.get_mut(table) {
            Some(sum) => *sum += bytes as u64,
            None => drop(self.loaded.insert(table.into(), bytes as u64)),
        }
        // Rows of a table come one after the other, and as INSERT each of them by itself.
        let is_last = self.fresh.last().is_some_and(|last| **last == *table);
        if !is_last && !self.fresh.iter().any(|fresh| **fresh == *table) {
            self.fresh.push(table.into());
        }
    }

    /// Ends a transaction, also in the middle of a large object: the next one opens it again and goes to
    /// its end.
    fn cut_object(&mut self, line: u64) -> Result<(), Halt> {
        let Some(open) = self.open_object.clone() else { return self.flush() };
        let write = |sql: &str| Line { sql: sql.into(), line, object: None, what: What::LargeObject };
        self.lines.push(write("SELECT pg_catalog.lo_close(0)"));
        self.flush()?;
        self.lines.push(write(open.trim().trim_end_matches(';')));
        self.lines.push(write("SELECT pg_catalog.lo_lseek64(0, 0, 2)"));
        Ok(())
    }

    /// Sends the statements collected so far.
    pub(super) fn flush(&mut self) -> Result<(), Halt> {
        let about = std::mem::take(&mut self.about);
        (self.weight, self.bytes) = (0, 0);
        if self.lines.is_empty() {
            return Ok(());
        }
        let lines = std::mem::take(&mut self.lines);
        self.chunk(Chunk::Lines(lines), about)
    }

    /// A piece of a large object.
    pub(super) fn large_object(&mut self, oid: u32, data: Vec<u8>) -> Result<(), Halt> {
        self.builds()?;
        self.chunk(Chunk::LargeObject { oid, data: data.into() }, 0)
    }
}

#[cfg(test)]
mod tests;
