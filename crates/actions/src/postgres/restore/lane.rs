//! One connection of a restore: carries one chunk at a time into the target, with its marker in the same
//! transaction. Knows nothing of the other connections, and does not decide what comes next.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::SinkExt as _;
use runbook_core::action::{ActionError, Aftermath, Context};
use runbook_core::types::Connection;
use tokio_postgres::SimpleQueryMessage;

use crate::postgres::catalog::{count, count_only};
use crate::postgres::mask::Masker;
use crate::postgres::session::{Session, WHOLE, connect, failed, timed};
use crate::postgres::sql::{What, plain};

use super::batch::{Line, Piece, Rows};
use super::fault::{Stopped, collision, line_of, may_quote, object, place, spoiled, withheld};
use super::markers;
use super::params::Skipped;
use super::platform::Ground;

/// The advisory lock that each connection of a restore shares; any number that nobody else uses.
pub(super) const LANES: i64 = 7_236_283_640_821_777;

/// What all connections of a restore work with.
pub(super) struct Shared<'a> {
    pub(super) ctx: &'a Context,
    pub(super) ground: Ground<'a>,
    /// Masks the rows, where that is wanted.
    pub(super) masker: Option<Masker>,
    /// Whether triggers and foreign keys of tables that were there may be turned off while rows go in.
    pub(super) replica: bool,
}

/// What is to be carried over.
#[derive(Debug)]
pub(super) enum Load {
    /// Statements, already decided about.
    Lines(Arc<[Line]>),
    /// Rows; with `freeze` the table is this restore's own and empty, and nobody else fills it meanwhile.
    Rows { rows: Rows, freeze: bool },
    /// A piece of a large object.
    LargeObject { oid: u32, data: Bytes },
}

/// What came of a chunk.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// As it is marked in the target.
    pub(super) made: markers::Chunk,
    /// What a known and harmless error kept from being made.
    pub(super) left: Vec<What>,
    /// The text of rows ended before their end: the dump could not be read on, which its reader tells.
    pub(super) unfinished: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Lane {
    session: Session,
    /// Of the server's process.
    pub(super) pid: i32,
    /// How many of the dump's settings it has.
    settings: usize,
}

impl Lane {
    /// Opens one, set up for loading. The dump's settings come on top.
    pub(super) async fn open(ctx: &Context, to: &Connection, memory_kb: u64) -> Result<Self, ActionError> {
        let session = connect(ctx, to).await?;
        // A commit that a crash of the server takes back takes its marker back as well, and all that came after it, so no
        // chunk waits for the disk; the markers' own changes of status do.
        let sql = format!(
            "set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0; \
             set synchronous_commit = off; set client_min_messages = warning; set check_function_bodies = off; \
             set row_security = off; set maintenance_work_mem = {memory_kb}; \
             select pg_catalog.pg_advisory_lock_shared({LANES})"
        );
        let attempted = || format!("set up `{}`", session.label);
        timed(session.client.batch_execute(&sql), attempted).await?;
        let pid = session.client.query_one("select pg_catalog.pg_backend_pid()", &[]);
        let pid = timed(pid, attempted).await?.get(0);
        Ok(Self { session, pid, settings: 0 })
    }

    /// Carries a chunk over. `settings` are those of the dump that hold for it.
    pub(super) async fn carry(
        &mut self,
        shared: &Shared<'_>,
        seq: u64,
        load: Load,
        settings: &[String],
        made: markers::Chunk,
    ) -> Result<Carried, Stopped> {
        for sql in &settings[self.settings.min(settings.len())..] {
            self.send(sql, || format!("`{}`", plain(sql))).await?;
        }
        self.settings = settings.len();
        let key = &shared.ctx.key;
        match load {
            Load::Lines(lines) if lines.iter().all(|line| matches!(line.what, What::Analyze { .. })) => {
                for line in &*lines {
                    self.send(&line.sql, || object(line)).await?;
                }
                self.send(&markers::mark(key, seq, &made), || "a marker".into()).await?;
                Ok(Carried { made, ..Carried::default() })
            }
            Load::Lines(lines) => {
                let mut carried = Carried { made, ..Carried::default() };
                if !self.at_once(key, seq, &lines, &mut carried.made).await? {
                    self.one_by_one(shared, seq, &lines, &mut carried).await?;
                }
                // They hold for this session already.
                self.settings +=
                    lines.iter().filter(|line| matches!(line.what, What::Session { .. })).count();
                Ok(carried)
            }
            Load::Rows { rows, freeze } => self.rows(shared, seq, rows, freeze, made).await,
            Load::LargeObject { oid, data } => {
                self.large_object(key, seq, oid, &data, &made).await?;
                Ok(Carried { made, ..Carried::default() })
            }
        }
    }

    /// Forgets the dump's settings: what comes now is no part of it.
    pub(super) async fn reset(&self) -> Result<(), ActionError> {
        let sql =
            "reset all; set statement_timeout = 0; set row_security = off; set client_min_messages = error";
        timed(self.session.client.batch_execute(sql), || format!("set up `{}`", self.session.label)).await
    }

    /// Counts a table's rows; without those of tables that inherit from it where it has `own` ones.
    pub(super) async fn counted(&self, table: &str, own: bool) -> Result<u64, ActionError> {
        if own { count_only(&self.session, table).await } else { count(&self.session, table).await }
    }

    async fn send(&self, sql: &str, place: impl Fn() -> String) -> Result<(), ActionError> {
        let sent = self.session.client.batch_execute(sql).await;
        sent.map_err(|error| failed(format!("restore {} into `{}`", place(), self.session.label), error))
    }

    /// Whether all statements and the marker committed together.
    async fn at_once(
        &self,
        key: &str,
        seq: u64,
        lines: &[Line],
        made: &mut markers::Chunk,
    ) -> Result<bool, ActionError> {
        let inserts = lines.iter().any(|line| matches!(line.what, What::Insert { .. }));
        // Without INSERTs everything is said at once, so that the server comes to the end of it also when nobody waits for that.
        let mut sql = if inserts { String::from("begin;\n") } else { format!("{WHOLE} begin;\n") };
        for line in lines {
            // A line end first: the statement may end in a comment.
            sql.push_str(&line.sql);
            sql.push_str("\n;\n");
        }
        if !inserts {
            sql.push_str(&markers::mark(key, seq, made));
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
            let mark = format!("{}; commit", markers::mark(key, seq, made));
            self.send(&mark, || "a marker".into()).await?;
        }
        Ok(true)
    }

    /// Finds the statement that fails, and sees whether it is a known and harmless one.
    async fn one_by_one(
        &self,
        shared: &Shared<'_>,
        seq: u64,
        lines: &[Line],
        carried: &mut Carried,
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
                        *carried.made.rows.entry(table.clone()).or_default() += rows.sum::<u64>();
                    }
                }
                Err(error) => {
                    let sqlstate = error.as_db_error().map(|said| said.code().code().to_string());
                    let forgiven = sqlstate.and_then(|code| shared.ground.forgives(&line.what, &code));
                    let Some(reason) = forgiven else {
                        let twice = is_collision(shared, &error);
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
                    carried.made.skipped.push(Skipped { object: object(line), reason: reason.into() });
                    carried.left.push(line.what.clone());
                }
            }
        }
        let mark = format!("{}; commit", markers::mark(&shared.ctx.key, seq, &carried.made));
        self.send(&mark, || "a marker".into()).await
    }

    /// Whether the table may be frozen: it is empty, and can be truncated. Opens the transaction for that.
    async fn freeze(&self, table: &str) -> Result<bool, ActionError> {
        let attempted = || format!("prepare the table {}", plain(table));
        let empty = format!("select not exists (select from only {table})");
        let found = self.session.client.query_one(&empty, &[]).await;
        let found =
            found.map_err(|error| failed(format!("{} in `{}`", attempted(), self.session.label), error))?;
        if !found.get::<_, bool>(0) {
            return Ok(false);
        }
        match self.session.client.batch_execute(&format!("begin; truncate only {table}")).await {
            Ok(()) => Ok(true),
            Err(error) if error.as_db_error().is_some() => {
                self.send("rollback", attempted).await?;
                Ok(false)
            }
            Err(error) => Err(failed(format!("{} in `{}`", attempted(), self.session.label), error)),
        }
    }

    async fn rows(
        &self,
        shared: &Shared<'_>,
        seq: u64,
        mut rows: Rows,
        freeze: bool,
        mut made: markers::Chunk,
    ) -> Result<Carried, Stopped> {
        let table = rows.table.to_string();
        let first = rows.line;
        let what = || format!("rows of {} from line {first} on", plain(&table));
        let frozen = freeze && self.freeze(&table).await?;
        if !frozen {
            let own = !(shared.replica && shared.ground.was_there(&table));
            let begin = if own { "begin" } else { "begin; set local session_replication_role = replica" };
            self.send(begin, what).await?;
        }
        // Nobody sees the table before the transaction is over, so its rows need no later visit.
        let copy = if frozen { format!("{} with (freeze)", rows.copy) } else { rows.copy.to_string() };
        let whole = match &shared.masker {
            Some(masker) => {
                let Some((text, count, sum)) = collect(&mut rows).await else {
                    return self.unread(what).await;
                };
                let masked = masker.rows(&rows.copy, &table, text, true).await.map_err(spoiled)?;
                self.copy_text(&copy, masked).await.map(|loaded| (loaded, count, sum))
            }
            None => match self.copy_pieces(&copy, &mut rows).await {
                Ok(None) => return self.unread(what).await,
                Ok(Some(whole)) => Ok(whole),
                Err(error) => Err(error),
            },
        };
        let (loaded, count, sum) = match whole {
            Ok(whole) => whole,
            Err(error) => return Err(self.not_loaded(shared, &rows, error).await?.into()),
        };
        if loaded != count {
            self.send("rollback", what).await?;
            let attempted = format!("restore {}: {count} lines made {loaded} rows", what());
            return Err(ActionError::refused(attempted).code("statement-failed").into());
        }
        made.sum = sum;
        made.rows.insert(table.clone(), count);
        let mark = format!("{}; commit", markers::mark(&shared.ctx.key, seq, &made));
        self.send(&mark, what).await?;
        Ok(Carried { made, ..Carried::default() })
    }

    async fn unread(&self, what: impl Fn() -> String) -> Result<Carried, Stopped> {
        self.send("rollback", what).await?;
        Ok(Carried { unfinished: true, ..Carried::default() })
    }

    /// Why COPY failed; the transaction is closed where the server still listens.
    async fn not_loaded(
        &self,
        shared: &Shared<'_>,
        rows: &Rows,
        error: tokio_postgres::Error,
    ) -> Result<ActionError, ActionError> {
        let what = || format!("rows of {} from line {} on", plain(&rows.table), rows.line);
        let at = error.as_db_error().and_then(|said| line_of(said.where_()?));
        if shared.masker.is_some() && may_quote(&error) {
            self.send("rollback", what).await?;
            return Ok(withheld(&rows.table, &error));
        }
        let line = at.map(|at| format!(", line {} of the dump", rows.line + at - 1)).unwrap_or_default();
        let twice = is_collision(shared, &error);
        let error = failed(
            format!("restore rows of {}{line} into `{}`", plain(&rows.table), self.session.label),
            error,
        );
        if twice {
            self.send("rollback", what).await?;
            return Ok(collision(error));
        }
        if error.aftermath == Aftermath::Refused {
            self.send("rollback", what).await?;
            return Ok(error.code("statement-failed"));
        }
        Ok(error)
    }

    async fn copy_text(&self, copy: &str, text: Bytes) -> Result<u64, tokio_postgres::Error> {
        let mut sink = pin!(self.session.client.copy_in(copy).await?);
        sink.send(text).await?;
        sink.finish().await
    }

    /// Sends rows on while they are read; none when they ended before their end.
    async fn copy_pieces(
        &self,
        copy: &str,
        rows: &mut Rows,
    ) -> Result<Option<(u64, u64, String)>, tokio_postgres::Error> {
        let mut sink = pin!(self.session.client.copy_in(copy).await?);
        loop {
            match rows.pieces.recv().await {
                // The permit goes when the piece has been taken by the connection.
                Some(Piece::Text(text, _permit)) => sink.send(text).await?,
                Some(Piece::End { count, sum }) => return Ok(Some((sink.finish().await?, count, sum))),
                // Dropping the sink fails the COPY.
                None => return Ok(None),
            }
        }
    }

    async fn large_object(
        &self,
        key: &str,
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
        let mark = format!("{}; commit", markers::mark(key, seq, made));
        self.send(&mark, what).await
    }
}

/// Two masked values of a column that takes each only once are the same.
fn is_collision(shared: &Shared<'_>, error: &tokio_postgres::Error) -> bool {
    shared.masker.is_some() && error.code() == Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
}

/// All the text of a chunk, its number of rows and its sum; none when it ended before its end.
pub(super) async fn collect(rows: &mut Rows) -> Option<(Bytes, u64, String)> {
    let mut whole = BytesMut::new();
    loop {
        match rows.pieces.recv().await? {
            Piece::Text(text, _permit) => whole.extend_from_slice(&text),
            Piece::End { count, sum } => return Some((whole.freeze(), count, sum)),
        }
    }
}
