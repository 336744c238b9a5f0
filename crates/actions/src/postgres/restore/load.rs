//! Carries chunks into the target, each with its marker in one transaction. Knows what is there already
//! and what a platform owns; does not know where the bytes come from.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::SinkExt as _;
use runbook_core::action::{ActionError, Aftermath, Context, Progress};
use runbook_dump::DumpError;
use tokio::sync::mpsc;
use tokio_postgres::SimpleQueryMessage;

use crate::postgres::mask::{Masker, is_statistics};
use crate::postgres::session::{Session, failed};
use crate::postgres::sql::{What, plain};
use crate::s3::{Failure, Tap};

use super::batch::{Chunk, Item, Line, Rows};
use super::markers;
use super::params::Skipped;
use super::platform::{Decision, Ground};
use super::verify::Expected;

/// How often the run's own journal hears of it; each time costs a durable write.
const CHECKPOINT_CHUNKS: u64 = 32;
/// Why rows are left out by the masking rules.
const DROPPED: &str = "the masking rules drop them";

/// A restore in motion.
pub(super) struct Loader<'a> {
    pub(super) ctx: &'a Context,
    pub(super) session: &'a Session,
    pub(super) ground: Ground<'a>,
    /// Chunks that are in the target from an earlier attempt.
    pub(super) there: BTreeMap<u64, markers::Chunk>,
    pub(super) tap: Tap,
    pub(super) tally: Tally,
    /// Whether triggers may be turned off; none before the first try.
    pub(super) replica: Option<bool>,
    /// Masks the rows, where that is wanted.
    pub(super) masker: Option<Masker>,
}

/// What was done so far, earlier attempts included.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) statements: u64,
    pub(super) skipped: BTreeSet<Skipped>,
    pub(super) expected: Expected,
    pub(super) complete: bool,
}

/// Why loading stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) error: ActionError,
    /// The dump is at fault: what was loaded must go.
    pub(super) spoiled: bool,
}

impl From<ActionError> for Stopped {
    fn from(error: ActionError) -> Self {
        Self { error, spoiled: false }
    }
}

impl Loader<'_> {
    /// Loads everything that the reading thread hands over.
    pub(super) async fn run(
        &mut self,
        mut items: mpsc::Receiver<Result<Item, DumpError>>,
    ) -> Result<(), Stopped> {
        let there = std::mem::take(&mut self.there);
        for chunk in there.values() {
            self.count(chunk);
        }
        while let Some(item) = self.next(&mut items).await? {
            match item.map_err(|error| dump_fault(&self.tap, error))? {
                Item::Complete => self.tally.complete = true,
                Item::Left(object, reason) => self.skip(object, reason),
                Item::Table(table) => match self.table(&table).await? {
                    Decision::Run => {
                        self.tally.rows.entry(table.to_string()).or_default();
                    }
                    Decision::Skip(reason) => self.skip(format!("rows of {}", plain(&table)), reason),
                },
                Item::Chunk(seq, chunk) => {
                    let marked = there.get(&seq);
                    self.chunk(seq, chunk, marked).await?;
                    self.tell();
                    if seq % CHECKPOINT_CHUNKS == 0 {
                        self.checkpoint().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The next item, or the wish to stop: what is in flight is a whole chunk, and it is in.
    async fn next(
        &self,
        items: &mut mpsc::Receiver<Result<Item, DumpError>>,
    ) -> Result<Option<Result<Item, DumpError>>, ActionError> {
        if !self.ctx.stop.requested() {
            tokio::select! {
                item = items.recv() => return Ok(item),
                () = self.ctx.stop.wait() => {}
            }
        }
        self.checkpoint().await?;
        Err(ActionError::unchanged("go on restoring: a stop was asked for").code("stopped"))
    }

    /// For whoever looks at the run; the target's markers decide what is done.
    async fn checkpoint(&self) -> Result<(), ActionError> {
        let rows: u64 = self.tally.rows.values().sum();
        let state = serde_json::json!({ "bytes_read": self.tap.bytes_read(), "bytes": self.tap.size_bytes(), "rows": rows });
        self.ctx.checkpoints.save("restore", state).await
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

    fn tell(&self) {
        let (done, total) = (self.tap.bytes_read(), Some(self.tap.size_bytes()));
        self.ctx.progress.report(Progress { done, total, unit: "bytes", message: "dump".into() });
    }

    async fn chunk(
        &mut self,
        seq: u64,
        chunk: Chunk,
        marked: Option<&markers::Chunk>,
    ) -> Result<(), Stopped> {
        let sum = chunk.sum();
        if let Some(marked) = marked
            && marked.sum != sum
        {
            let error = ActionError::refused(format!(
                "go on restoring: chunk {seq} was loaded from other bytes than those that are read now"
            ));
            return Err(Stopped { error: error.code("checksum-mismatch"), spoiled: true });
        }
        let made = markers::Chunk { sum, ..markers::Chunk::default() };
        match chunk {
            Chunk::Lines(lines) => self.lines(seq, lines, marked, made).await?,
            Chunk::Rows(rows) => {
                let runs = self.table(&rows.table).await? == Decision::Run;
                // Rows that are in the target already are hashed all the same: the hashes are of all rows.
                if runs && let Some(rows) = self.masked(rows, marked.is_none()).await? {
                    self.rows(seq, rows, made).await?;
                }
            }
            Chunk::LargeObject { oid, data } => {
                if !self.keeps_large_objects()? {
                    self.skip("large objects".into(), DROPPED);
                } else if marked.is_none() {
                    self.large_object(seq, oid, &data, &made).await?;
                }
            }
        }
        Ok(())
    }

    /// What becomes of a table's rows. With masking, the first of them waits until each column has a rule.
    async fn table(&mut self, table: &str) -> Result<Decision, Stopped> {
        let (ground, session) = (self.ground, self.session);
        let decide = |table: &str| ground.decide(&What::Copy { table: table.to_owned() });
        if let Some(masker) = &mut self.masker {
            let settled = masker.settle(session, |table| decide(table) == Decision::Run).await;
            settled.map_err(spoiled)?;
            if decide(table) == Decision::Run && masker.drops(table) {
                return Ok(Decision::Skip(DROPPED));
            }
        }
        Ok(decide(table))
    }

    /// The rows as they are to be loaded; none when they are in already.
    async fn masked(&self, rows: Rows, write: bool) -> Result<Option<Rows>, Stopped> {
        let Some(masker) = &self.masker else { return Ok(write.then_some(rows)) };
        let data = masker.rows(&rows.copy, &rows.table, rows.data.clone(), write).await.map_err(spoiled)?;
        Ok(write.then_some(Rows { data, ..rows }))
    }

    /// Two masked values of a column that takes each only once are the same.
    fn is_collision(&self, error: &tokio_postgres::Error) -> bool {
        self.masker.is_some() && error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
    }

    fn keeps_large_objects(&self) -> Result<bool, Stopped> {
        self.masker.as_ref().map_or(Ok(true), Masker::keeps_large_objects).map_err(spoiled)
    }

    /// What masking leaves out of the statements, and what it cannot let through.
    fn unmasked(&self, line: &Line) -> Result<Option<&'static str>, Stopped> {
        if self.masker.is_none() {
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

    /// Statements: in one go; when one fails, one by one, to find it and to see whether it is a known and
    /// harmless one.
    async fn lines(
        &mut self,
        seq: u64,
        lines: Vec<Line>,
        marked: Option<&markers::Chunk>,
        mut made: markers::Chunk,
    ) -> Result<(), Stopped> {
        let mut kept = Vec::new();
        for line in lines {
            if let Some(reason) = self.unmasked(&line)? {
                made.skipped.push(Skipped { object: object(&line), reason: reason.into() });
                continue;
            }
            match self.ground.decide(&line.what) {
                Decision::Run => kept.push(line),
                Decision::Skip(reason) => {
                    made.skipped.push(Skipped { object: object(&line), reason: reason.into() })
                }
            }
        }
        for line in &kept {
            self.tally.expected.note(&line.what, &line.sql);
        }
        self.tally.statements += kept.len() as u64;
        if let Some(marked) = marked {
            let forgiven: BTreeSet<_> = marked.skipped.iter().map(|s| s.object.clone()).collect();
            for line in kept.iter().filter(|line| forgiven.contains(&object(line))) {
                self.tally.expected.forget(&line.what);
            }
            return Ok(self.settings(&kept).await?);
        }
        if !self.at_once(seq, &kept, &mut made).await? {
            self.one_by_one(seq, &kept, &mut made).await?;
        }
        self.count(&made);
        for table in made.rows.keys() {
            self.tell_rows(table);
        }
        Ok(())
    }

    fn tell_rows(&self, table: &str) {
        let done = self.tally.rows.get(table).copied().unwrap_or(0);
        self.ctx.progress.report(Progress { done, total: None, unit: "rows", message: plain(table) });
    }

    /// Settings belong to the session, so a new one needs them again.
    async fn settings(&self, lines: &[Line]) -> Result<(), ActionError> {
        for line in lines.iter().filter(|line| matches!(line.what, What::Session { .. })) {
            self.send(&line.sql, || place(line)).await?;
        }
        Ok(())
    }

    async fn send(&self, sql: &str, place: impl Fn() -> String) -> Result<(), ActionError> {
        let sent = self.session.client.batch_execute(sql).await;
        sent.map_err(|error| failed(format!("restore {} into `{}`", place(), self.session.label), error))
    }

    /// Whether all statements and the marker committed together.
    async fn at_once(
        &self,
        seq: u64,
        lines: &[Line],
        made: &mut markers::Chunk,
    ) -> Result<bool, ActionError> {
        let inserts = lines.iter().any(|line| matches!(line.what, What::Insert { .. }));
        let mut sql = String::from("begin;\n");
        for line in lines {
            // A line end first: the statement may end in a comment.
            sql.push_str(&line.sql);
            sql.push_str("\n;\n");
        }
        if !inserts {
            sql.push_str(&markers::mark(&self.ctx.key, seq, made));
            sql.push_str(";\ncommit");
        }
        let answers = match self.session.client.simple_query(&sql).await {
            Ok(answers) => answers,
            Err(error) if error.as_db_error().is_none() => {
                return Err(failed(format!("restore into `{}`", self.session.label), error));
            }
            Err(_) => {
                self.send("rollback", || "after a failed statement".into()).await?;
                return Ok(false);
            }
        };
        if inserts {
            let counts = answers.iter().filter_map(|answer| match answer {
                SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
                _ => None,
            });
            for (line, rows) in lines.iter().zip(counts.skip(1)) {
                if let What::Insert { table } = &line.what {
                    *made.rows.entry(table.clone()).or_default() += rows;
                }
            }
            let mark = format!("{}; commit", markers::mark(&self.ctx.key, seq, made));
            self.send(&mark, || "a marker".into()).await?;
        }
        Ok(true)
    }

    async fn one_by_one(
        &mut self,
        seq: u64,
        lines: &[Line],
        made: &mut markers::Chunk,
    ) -> Result<(), ActionError> {
        self.send("begin", || "a chunk".into()).await?;
        for line in lines {
            self.send("savepoint one", || place(line)).await?;
            match self.session.client.simple_query(&line.sql).await {
                Ok(answers) => {
                    if let What::Insert { table } = &line.what {
                        let rows = answers.iter().filter_map(|answer| match answer {
                            SimpleQueryMessage::CommandComplete(rows) => Some(*rows),
                            _ => None,
                        });
                        *made.rows.entry(table.clone()).or_default() += rows.sum::<u64>();
                    }
                }
                Err(error) => {
                    let sqlstate = error.as_db_error().map(|said| said.code().code().to_string());
                    let forgiven = sqlstate.and_then(|code| self.ground.forgives(&line.what, &code));
                    let Some(reason) = forgiven else {
                        let twice = self.is_collision(&error);
                        let error =
                            failed(format!("restore {} into `{}`", place(line), self.session.label), error);
                        let error = if twice { collision(error) } else { error };
                        if error.aftermath == Aftermath::Refused {
                            self.send("rollback", || place(line)).await?;
                        }
                        let code = error.code.unwrap_or("statement-failed");
                        return Err(error.code(code));
                    };
                    self.send("rollback to savepoint one", || place(line)).await?;
                    made.skipped.push(Skipped { object: object(line), reason: reason.into() });
                    self.tally.expected.forget(&line.what);
                }
            }
        }
        let mark = format!("{}; commit", markers::mark(&self.ctx.key, seq, made));
        self.send(&mark, || "a marker".into()).await
    }

    /// Whether triggers and foreign keys can be off while rows go into a table that the platform made;
    /// where they cannot, its rows go in under them.
    async fn may_replicate(&mut self) -> Result<bool, ActionError> {
        if let Some(may) = self.replica {
            return Ok(may);
        }
        let tried =
            self.session.client.batch_execute("begin; set local session_replication_role = replica").await;
        self.send("rollback", || "a setting".into()).await?;
        self.replica = Some(tried.is_ok());
        if tried.is_err() {
            self.skip(
                "turning triggers off".into(),
                "the role may not: rows of the platform's tables go in under them",
            );
        }
        Ok(tried.is_ok())
    }

    async fn rows(&mut self, seq: u64, rows: Rows, mut made: markers::Chunk) -> Result<(), ActionError> {
        let table = rows.table.to_string();
        let begin = if self.ground.was_there(&table) && self.may_replicate().await? {
            "begin; set local session_replication_role = replica"
        } else {
            "begin"
        };
        let what = || format!("rows of {} from line {} on", plain(&rows.table), rows.line);
        self.send(begin, what).await?;
        match self.copy(&rows).await {
            Ok(loaded) if loaded == rows.count => {}
            Ok(loaded) => {
                self.send("rollback", what).await?;
                return Err(ActionError::refused(format!(
                    "restore {}: {} lines made {loaded} rows",
                    what(),
                    rows.count
                ))
                .code("statement-failed"));
            }
            Err(error) => {
                let at = error.as_db_error().and_then(|said| line_of(said.where_()?));
                if self.masker.is_some() && may_quote(&error) {
                    self.send("rollback", what).await?;
                    return Err(withheld(&rows, &error));
                }
                let line =
                    at.map(|at| format!(", line {} of the dump", rows.line + at - 1)).unwrap_or_default();
                let twice = self.is_collision(&error);
                let error = failed(
                    format!("restore rows of {}{line} into `{}`", plain(&rows.table), self.session.label),
                    error,
                );
                if twice {
                    self.send("rollback", what).await?;
                    return Err(collision(error));
                }
                if error.aftermath == Aftermath::Refused {
                    self.send("rollback", what).await?;
                    return Err(error.code("statement-failed"));
                }
                return Err(error);
            }
        }
        made.rows.insert(table.clone(), rows.count);
        let mark = format!("{}; commit", markers::mark(&self.ctx.key, seq, &made));
        self.send(&mark, what).await?;
        self.count(&made);
        self.tell_rows(&table);
        Ok(())
    }

    async fn copy(&self, rows: &Rows) -> Result<u64, tokio_postgres::Error> {
        let sink = self.session.client.copy_in(&*rows.copy).await?;
        futures_util::pin_mut!(sink);
        sink.send(rows.data.clone()).await?;
        sink.finish().await
    }

    async fn large_object(
        &self,
        seq: u64,
        oid: u32,
        data: &[u8],
        made: &markers::Chunk,
    ) -> Result<(), ActionError> {
        let what = || format!("large object {oid}");
        self.send("begin", what).await?;
        let write = format!(
            "select pg_catalog.lo_lseek64(fd, 0, 2), pg_catalog.lowrite(fd, $1) \
             from (select pg_catalog.lo_open({oid}, 131072) as fd offset 0) opened"
        );
        let written = self.session.client.query(&write, &[&data]).await;
        written
            .map_err(|error| failed(format!("restore {} into `{}`", what(), self.session.label), error))?;
        let mark = format!("{}; commit", markers::mark(&self.ctx.key, seq, made));
        self.send(&mark, what).await
    }
}

/// What a dump that cannot be read means: the source failed, the object changed, or the dump is bad.
pub(super) fn dump_fault(tap: &Tap, error: DumpError) -> Stopped {
    match tap.failure() {
        Some(Failure::Changed) => {
            let error = ActionError::refused("read the dump: the object changed while it was read");
            return Stopped { error: error.code("object-changed"), spoiled: true };
        }
        Some(failure @ (Failure::Broken(_) | Failure::Cancelled)) => {
            return ActionError::unchanged("read the dump to its end").because(failure).into();
        }
        None => {}
    }
    let code = match &error {
        DumpError::CutOff { .. } => "cut-off",
        DumpError::MetaCommand { .. } | DumpError::Restrict { .. } => "meta-command",
        _ => "dump-malformed",
    };
    let attempted = error.to_string();
    let mut made = ActionError::refused(attempted).code(code);
    made.source = std::error::Error::source(&error).map(|cause| cause.to_string().into());
    Stopped { error: made, spoiled: true }
}

/// The dump and the rules do not fit: what was loaded must go.
fn spoiled(error: ActionError) -> Stopped {
    // A thing that may pass is tried again on what is there.
    let spoiled = error.aftermath == Aftermath::Refused;
    Stopped { error, spoiled }
}

fn collision(error: ActionError) -> ActionError {
    error.code("mask-collision").hint(
        "Two masked values of a unique column are the same. Give it a pseudonym (`text` where another format is too \
         narrow) and no constant; two spellings of one address count as the same address.",
    )
}

/// `SET client_encoding = 'UTF8'`
fn is_utf8(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.contains("utf8") || sql.contains("utf-8") || sql.contains("unicode")
}

/// Whether the server's words may quote a value: complaints about data do.
fn may_quote(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| said.code().code().starts_with("22"))
}

/// The complaint about masked rows, without the server's words.
fn withheld(rows: &Rows, error: &tokio_postgres::Error) -> ActionError {
    let code = error.as_db_error().map(|said| said.code().code().to_owned()).unwrap_or_default();
    ActionError::refused(format!(
        "restore masked rows of {}: the database refuses a value (SQLSTATE {code}; its words may quote the value)",
        plain(&rows.table)
    ))
    .code("statement-failed")
    .hint("Look at the table's rules: does each column take what its rule gives?")
}

/// `COPY users, line 17, column a: …` says 17.
fn line_of(context: &str) -> Option<u64> {
    let rest = &context[context.find(", line ")? + 7..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// What a statement is about, for people.
fn object(line: &Line) -> String {
    if let Some(object) = &line.object {
        return object.clone();
    }
    match &line.what {
        What::Create { kind, name, on: Some(table) } => format!("{kind} {} on {}", plain(name), plain(table)),
        What::Create { kind, name, .. } => format!("{kind} {}", plain(name)),
        What::AddConstraint { table, name } => format!("constraint {} on {}", plain(name), plain(table)),
        What::EnableRls { table } => format!("row-level security of {}", plain(table)),
        What::Owner { kind, name, role } => format!("owner {} of {kind} {}", plain(role), plain(name)),
        What::On { verb, kind, name } => format!("{verb} on {kind} {}", plain(name)),
        What::DefaultPrivileges { role } => format!("default privileges of {}", plain(role)),
        What::Session { setting } => format!("setting {setting}"),
        What::Insert { table } | What::Copy { table } => format!("rows of {}", plain(table)),
        What::Setval { sequence } => format!("value of sequence {}", plain(sequence)),
        What::Database => "the database itself".into(),
        What::LargeObject => "a large object".into(),
        What::Begin | What::Commit | What::Other => {
            let head: String = line.sql.chars().take(60).collect();
            format!("`{}`", plain(&head))
        }
    }
}

fn place(line: &Line) -> String {
    if line.line > 0 { format!("{} (line {} of the dump)", object(line), line.line) } else { object(line) }
}
