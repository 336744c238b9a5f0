//! Carries a dump into the target over several connections: what comes next is the [`Queue`]'s to say, how it is carried
//! over a [`Lane`]'s. Knows what is there already and what a platform owns; does not know where the bytes come from.

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use runbook_core::action::{ActionError, Progress};
use runbook_dump::DumpError;
use tokio::sync::mpsc;

use crate::postgres::mask::is_statistics;
use crate::postgres::session::Session;
use crate::postgres::sql::{What, plain};

use super::batch::{Chunk, Item, Line, Rows};
use super::fault::{Stopped, dump_fault, is_utf8, object, spoiled};
use super::lane::{Carried, Lane, Load, Shared};
use super::locks::{Mode, Needs};
use super::markers;
use super::params::Skipped;
use super::pass::{Pass, pass_over, same};
use super::phases::{Phase, Phases};
use super::platform::Decision;
use super::reading::Meter;
use super::schedule::{Queue, Started};
use super::ties::{Ties, WORK};
use super::verify::Expected;
use super::width::Width;

use rest::Left;
pub(super) use rest::find;

/// How often the run's own journal hears of it; each time costs a durable write.
const CHECKPOINT_CHUNKS: u64 = 32;
/// Chunks that wait for a connection; more are not read ahead.
const WAITING_MAX: usize = 256;
/// Chunks that are read and not loaded, at once.
const PASSING_MAX: usize = 2;
/// Why rows are left out by the masking rules.
const DROPPED: &str = "the masking rules drop them";

/// A restore in motion.
pub(super) struct Loader<'a> {
    pub(super) shared: &'a Shared<'a>,
    /// A session that carries nothing, to end those that do.
    pub(super) session: &'a Session,
    pub(super) meter: Meter,
    pub(super) tally: Tally,
    /// Tables that come first.
    pub(super) priority: Vec<String>,
    /// What tables need beyond the locks that loading takes.
    ties: Ties,
    /// The dump's settings so far; each connection takes them on.
    settings: Vec<String>,
    queue: Queue<Part>,
    width: Width,
    /// What connections are at.
    under_way: Vec<UnderWay>,
    reported: u64,
    settled: bool,
}

/// What was done so far, earlier attempts included.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) statements: u64,
    pub(super) skipped: BTreeSet<Skipped>,
    pub(super) expected: Expected,
    pub(super) complete: bool,
    /// The bytes are the recorded ones.
    pub(super) proven: bool,
    pub(super) phases: Phases,
}

/// A chunk on its way.
#[derive(Debug)]
struct Part {
    seq: u64,
    load: Load,
    made: markers::Chunk,
    /// How many of the settings hold for it.
    settings: usize,
    phase: Phase,
    /// How far the dump had been read when it was taken.
    from: u64,
}

/// A part that a connection is at.
struct UnderWay {
    ticket: u64,
    from: u64,
    /// None for what is not statements.
    left: Option<Left>,
}

/// What a connection says when it is done.
struct Over {
    lane: Lane,
    ticket: u64,
    phase: Phase,
    carried: Result<Carried, Stopped>,
}

/// Whether more is taken.
enum Going {
    On,
    /// The dump is at its end.
    Out,
}

impl<'a> Loader<'a> {
    pub(super) fn new(
        shared: &'a Shared<'a>,
        session: &'a Session,
        meter: Meter,
        width: Width,
        priority: Vec<String>,
    ) -> Self {
        Self {
            shared,
            session,
            meter,
            tally: Tally::default(),
            priority,
            ties: Ties::default(),
            settings: Vec::new(),
            queue: Queue::default(),
            width,
            under_way: Vec::new(),
            reported: 0,
            settled: false,
        }
    }

    /// Loads everything that the reading thread hands over. `there` are the chunks that are in the target from an
    /// earlier attempt. With `proof`, which is asked for when everything was read, what is left then is kept in the target.
    /// Gives the connections back when everything is in; else they are closed, and nothing goes on on the server.
    pub(super) async fn run(
        &mut self,
        mut items: mpsc::Receiver<Result<Item, DumpError>>,
        there: BTreeMap<u64, markers::Chunk>,
        mut idle: Vec<Lane>,
        mut proof: Option<BoxFuture<'_, Result<(), Stopped>>>,
    ) -> Result<Vec<Lane>, Stopped> {
        for chunk in there.values() {
            self.count(chunk);
        }
        let shared = self.shared;
        let pids: Vec<i32> = idle.iter().map(|lane| lane.pid).collect();
        let mut running = FuturesUnordered::new();
        let mut passing = FuturesUnordered::new();
        let mut going = Going::On;
        loop {
            while !idle.is_empty()
                && let Some(started) = self.start(running.len())
            {
                let Some(mut lane) = idle.pop() else { break };
                let left = started.part.left(&started.needs, started.weight);
                let (ticket, part) = (started.ticket, started.part);
                self.under_way.push(UnderWay { ticket, from: part.from, left });
                let settings = self.settings[..part.settings].to_vec();
                self.tally.phases.began(part.phase);
                running.push(async move {
                    let carried = lane.carry(shared, part.seq, part.load, &settings, part.made).await;
                    Over { lane, ticket, phase: part.phase, carried }
                });
            }
            if matches!(going, Going::Out)
                && passing.is_empty()
                && let Some(rest) = proof.is_some().then(|| self.rest()).flatten()
                && let Some(proof) = proof.take()
                && let Err(stopped) = self.keep(rest, proof).await
            {
                self.end(&pids, &mut running).await;
                return Err(stopped);
            }
            if matches!(going, Going::Out) && running.is_empty() && passing.is_empty() && self.queue.is_idle()
            {
                return Ok(idle);
            }
            let waiting = self.queue.waiting() < WAITING_MAX && passing.len() < PASSING_MAX;
            let wants_more = matches!(going, Going::On) && waiting;
            // What the rules say of a table is asked when nothing is under way.
            let held = self.shared.masker.is_some() && !self.settled && !self.queue.is_idle();
            let step = tokio::select! {
                biased;
                () = shared.ctx.stop.wait(), if !shared.ctx.stop.requested() => Ok(()),
                Some(over) = running.next(), if !running.is_empty() => self.over(over, &mut idle).await,
                Some(passed) = passing.next(), if !passing.is_empty() => passed,
                item = items.recv(), if wants_more && !held => match item {
                    Some(Ok(Item::Chunk(seq, Chunk::Rows(rows), _))) => match self.rows(seq, rows, &there) {
                        Some(pass) => {
                            passing.push(pass_over(shared, pass));
                            Ok(())
                        }
                        None => Ok(()),
                    },
                    Some(item) => self.take(item, &there).await,
                    None => {
                        going = Going::Out;
                        Ok(())
                    }
                },
            };
            let stopped = match step {
                Ok(()) if shared.ctx.stop.requested() => {
                    // What is only read would hold the memory that the others wait for.
                    passing.clear();
                    self.stop(&mut running).await
                }
                Ok(()) => continue,
                Err(stopped) => stopped,
            };
            self.end(&pids, &mut running).await;
            return Err(stopped);
        }
    }

    /// The part that comes next, if there is a connection for it.
    fn start(&mut self, running: usize) -> Option<Started<Part>> {
        let Self { queue, width, .. } = self;
        queue.start(|part| {
            running
                < match part.phase {
                    Phase::Rows => width.for_rows(),
                    _ => width.for_others(),
                }
        })
    }

    /// A stop was asked for: what is in flight is whole chunks, and they are let in.
    async fn stop<F: Future<Output = Over>>(&mut self, running: &mut FuturesUnordered<F>) -> Stopped {
        self.queue.give_up();
        let mut idle = Vec::new();
        while let Some(over) = running.next().await {
            if let Err(stopped) = self.over(over, &mut idle).await {
                return stopped;
            }
        }
        match self.checkpoint().await {
            Ok(()) => ActionError::unchanged("go on restoring: a stop was asked for").code("stopped").into(),
            Err(error) => error.into(),
        }
    }

    /// Ends what the connections are at on the server, and waits until they are: none outlives the attempt.
    async fn end<F: Future<Output = Over>>(&mut self, pids: &[i32], running: &mut FuturesUnordered<F>) {
        self.queue.give_up();
        if running.is_empty() {
            return;
        }
        let ended = "select pg_catalog.pg_terminate_backend(pid) from pg_catalog.unnest($1::int[]) pid";
        if let Err(error) = self.session.client.query(ended, &[&pids]).await {
            // Then this session is lost as well, and the next attempt waits for the lock that those hold.
            tracing::debug!(%error, "the sessions of a failed restore could not be ended");
            return;
        }
        while running.next().await.is_some() {}
    }

    /// A connection is done with a chunk.
    async fn over(&mut self, over: Over, idle: &mut Vec<Lane>) -> Result<(), Stopped> {
        self.queue.done(over.ticket);
        self.under_way.retain(|under_way| under_way.ticket != over.ticket);
        self.tally.phases.ended(over.phase);
        let carried = over.carried?;
        idle.push(over.lane);
        // The reader says why in a moment.
        if carried.unfinished {
            return Ok(());
        }
        if over.phase == Phase::Rows {
            let more = self.queue.waiting() > 0;
            for (table, rows) in &carried.made.rows {
                self.width.loaded(table, *rows, more, Instant::now());
            }
        }
        for what in &carried.left {
            self.tally.expected.forget(what);
        }
        self.count(&carried.made);
        for table in carried.made.rows.keys() {
            let done = self.tally.rows.get(table).copied().unwrap_or(0);
            self.tell(done, None, "rows", plain(table));
        }
        self.tell(self.loaded(), Some(self.meter.size_bytes()), "bytes", "dump".into());
        self.reported += 1;
        if self.reported.is_multiple_of(CHECKPOINT_CHUNKS) {
            self.checkpoint().await?;
        }
        Ok(())
    }

    async fn take(
        &mut self,
        item: Result<Item, DumpError>,
        there: &BTreeMap<u64, markers::Chunk>,
    ) -> Result<(), Stopped> {
        match item.map_err(|error| dump_fault(self.meter.failure(), error))? {
            Item::Complete => self.tally.complete = true,
            Item::Left(object, reason) => self.skip(object, reason),
            Item::Table(table) => match self.table(&table).await? {
                Decision::Run => {
                    self.tally.rows.entry(table.to_string()).or_default();
                }
                Decision::Skip(reason) => self.skip(format!("rows of {}", plain(&table)), reason),
            },
            Item::Chunk(seq, chunk, about) => {
                let sum = chunk.sum();
                if let Some(marked) = there.get(&seq) {
                    same(seq, &marked.sum, &sum)?;
                }
                match chunk {
                    Chunk::Lines(lines) => self.lines(seq, lines, sum, there.get(&seq), about)?,
                    Chunk::LargeObject { oid, data } => {
                        if !self.keeps_large_objects()? {
                            self.skip("large objects".into(), DROPPED);
                        } else if !there.contains_key(&seq) {
                            let needs = Needs::lock(&format!("large object {oid}"), Mode::AccessExclusive);
                            self.put(seq, needs, Load::LargeObject { oid, data }, sum);
                        }
                    }
                    Chunk::Rows(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Rows, or something like them, for a connection.
    fn put(&mut self, seq: u64, needs: Needs, load: Load, sum: String) {
        let made = markers::Chunk { sum, ..markers::Chunk::default() };
        let (settings, from) = (self.settings.len(), self.meter.bytes_read());
        self.push(needs, 0, Part { seq, load, made, settings, phase: Phase::Rows, from });
    }

    /// For whoever looks at the run; the target's markers decide what is done.
    async fn checkpoint(&self) -> Result<(), ActionError> {
        let rows: u64 = self.tally.rows.values().sum();
        let state = serde_json::json!({ "bytes_loaded": self.loaded(), "bytes": self.meter.size_bytes(), "rows": rows });
        self.shared.ctx.checkpoints.save("restore", state).await
    }

    fn count(&mut self, chunk: &markers::Chunk) {
        for (table, rows) in &chunk.rows {
            *self.tally.rows.entry(table.clone()).or_default() += rows;
        }
        self.tally.skipped.extend(chunk.skipped.iter().cloned());
    }

    fn skip(&mut self, object: String, reason: &str) {
        self.tally.skipped.insert(Skipped { object, reason: reason.into() });
    }

    /// How far of the dump everything is in the target, in bytes; what was only read does not count.
    fn loaded(&self) -> u64 {
        let waiting = self.queue.parts().map(|(part, ..)| part.from);
        let least = self.under_way.iter().map(|under_way| under_way.from).chain(waiting).min();
        least.unwrap_or_else(|| self.meter.bytes_read())
    }

    fn tell(&self, done: u64, total: Option<u64>, unit: &'static str, message: String) {
        self.shared.ctx.progress.report(Progress { done, total, unit, message });
    }

    /// What becomes of a table's rows. With masking, the first of them waits until each column has a rule.
    async fn table(&mut self, table: &str) -> Result<Decision, Stopped> {
        let ground = self.shared.ground;
        let decide = |table: &str| ground.decide(&What::Copy { table: table.to_owned() });
        if let Some(masker) = &self.shared.masker {
            masker.settle(self.session, |table| decide(table) == Decision::Run).await.map_err(spoiled)?;
            self.settled = true;
            if decide(table) == Decision::Run && masker.drops(table) {
                return Ok(Decision::Skip(DROPPED));
            }
        }
        Ok(decide(table))
    }

    /// Gives rows to a connection, or back where they are only to be read.
    fn rows(&mut self, seq: u64, rows: Rows, there: &BTreeMap<u64, markers::Chunk>) -> Option<Pass> {
        let table = rows.table.to_string();
        let copy = What::Copy { table: table.clone() };
        let dropped = self.shared.masker.as_ref().is_some_and(|masker| masker.drops(&table));
        if dropped || self.shared.ground.decide(&copy) != Decision::Run {
            return Some(Pass { seq, rows, marked: None });
        }
        if let Some(marked) = there.get(&seq) {
            return Some(Pass { seq, rows, marked: Some(marked.sum.clone()) });
        }
        let freeze = rows.first && self.ties.is_own(&table);
        let needs = self.ties.rows(&self.shared.ground, self.shared.replica, &table, freeze);
        self.put(seq, needs, Load::Rows { rows, freeze }, String::new());
        None
    }

    fn keeps_large_objects(&self) -> Result<bool, Stopped> {
        self.shared.masker.as_ref().map_or(Ok(true), |masker| masker.keeps_large_objects()).map_err(spoiled)
    }

    /// What masking leaves out of the statements, and what it cannot let through.
    fn unmasked(&self, line: &Line) -> Result<Option<&'static str>, Stopped> {
        if self.shared.masker.is_none() {
            return Ok(None);
        }
        if is_statistics(&line.sql) {
            return Ok(Some("statistics quote values: they are left out while masking"));
        }
        match &line.what {
            What::Insert { table } => Err(spoiled(
                ActionError::refused(format!("mask {}: rows as INSERT are not masked", plain(table)))
                    .code("mask-inserts"),
            )),
            What::LargeObject if !self.keeps_large_objects()? => Ok(Some(DROPPED)),
            What::Session { setting } if setting == "client_encoding" && !is_utf8(&line.sql) => Err(spoiled(
                ActionError::refused("mask a dump that is not in UTF-8")
                    .code("mask-encoding")
                    .hint("Make the dump with `--encoding=UTF8`."),
            )),
            _ => Ok(None),
        }
    }

    /// Statements: decided about, remembered, and given to a connection unless they are in the target.
    fn lines(
        &mut self,
        seq: u64,
        lines: Vec<Line>,
        sum: String,
        marked: Option<&markers::Chunk>,
        about: u64,
    ) -> Result<(), Stopped> {
        let mut made = markers::Chunk { sum, ..markers::Chunk::default() };
        let mut kept = Vec::new();
        for line in lines {
            if let Some(reason) = self.unmasked(&line)? {
                made.skipped.push(Skipped { object: object(&line), reason: reason.into() });
                continue;
            }
            match self.shared.ground.decide(&line.what) {
                Decision::Run => kept.push(line),
                Decision::Skip(_) if matches!(line.what, What::Analyze { .. }) => {}
                Decision::Skip(reason) => {
                    made.skipped.push(Skipped { object: object(&line), reason: reason.into() })
                }
            }
        }
        for line in &kept {
            self.tally.expected.note(&line.what, &line.sql);
            self.ties.note(line);
        }
        self.tally.statements += kept.len() as u64;
        let before = self.settings.len();
        let session = kept.iter().filter(|line| matches!(line.what, What::Session { .. }));
        self.settings.extend(session.map(|line| line.sql.clone()));
        if let Some(marked) = marked {
            self.forget(&kept, marked);
            return Ok(());
        }
        let none = Needs::Locks(Vec::new());
        let needs =
            kept.iter().fold(none, |needs, line| needs.and(self.ties.statement(&self.shared.ground, line)));
        let phase = kept.iter().map(Phase::of).max().unwrap_or(Phase::Schema);
        let first = kept.iter().any(|line| self.comes_first(line));
        let weight = if first { u64::MAX } else { about };
        let from = self.meter.bytes_read();
        let load = Load::Lines(kept.into());
        self.push(needs, weight, Part { seq, load, made, settings: before, phase, from });
        Ok(())
    }

    /// What was left out of statements that are in the target.
    fn forget(&mut self, lines: &[Line], marked: &markers::Chunk) {
        let forgiven: BTreeSet<_> = marked.skipped.iter().map(|s| s.object.clone()).collect();
        for line in lines.iter().filter(|line| forgiven.contains(&object(line))) {
            self.tally.expected.forget(&line.what);
        }
    }

    fn push(&mut self, needs: Needs, weight: u64, part: Part) {
        let needs = match part.phase {
            Phase::References => needs,
            _ => needs.and(Needs::lock(WORK, Mode::RowExclusive)),
        };
        self.queue.push(needs, weight, part);
    }

    fn comes_first(&self, line: &Line) -> bool {
        let table = match &line.what {
            What::Create { on: Some(table), .. }
            | What::AddConstraint { table, .. }
            | What::Validate { table, .. } => table,
            _ => return false,
        };
        self.priority.contains(table)
    }
}
