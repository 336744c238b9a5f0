//! Runs and their records.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{Where, signed, timestamp, unsigned};
use crate::store::chain::{Link, genesis, prove};
use crate::store::journal::{RunRow, Stored, Verified, too_long};
use crate::store::{AppendError, JournalError};

/// A run's row and where its chain ends.
pub(super) struct Head {
    pub(super) row: RunRow,
    link: Link,
}

pub(super) fn create(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &RunRow,
    first: &[u8],
    time: Timestamp,
) -> Result<Stored, JournalError> {
    too_long(&run.id, first)?;
    let stored = genesis(run).next(&run.id, time, first.to_vec());
    insert_run(tx, at, run, Link { seq: stored.seq, hash: stored.hash })?;
    insert_records(tx, at, &run.id, std::slice::from_ref(&stored))?;
    Ok(stored)
}

pub(super) fn adopt(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &RunRow,
    records: &[Stored],
) -> Result<Verified, JournalError> {
    let verified = prove(run, records.iter().cloned())?;
    insert_run(tx, at, run, Link { seq: verified.records, hash: verified.head })?;
    insert_records(tx, at, &run.id, records)?;
    Ok(verified)
}

pub(super) fn append(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    after_seq: u64,
    records: &[(Timestamp, Vec<u8>)],
) -> Result<Vec<Stored>, AppendError> {
    records.iter().try_for_each(|(_, body)| too_long(run, body))?;
    let mut link = head(tx, at, run)?.link;
    if link.seq != after_seq {
        return Err(AppendError::Moved { head: link.seq });
    }
    let mut stored = Vec::with_capacity(records.len());
    for (time, body) in records {
        let record = link.next(run, *time, body.clone());
        link = Link { seq: record.seq, hash: record.hash };
        stored.push(record);
    }
    insert_records(tx, at, run, &stored)?;
    tx.prepare_cached("UPDATE runs SET head_seq = ?2, head = ?3 WHERE id = ?1")
        .and_then(|mut update| update.execute(params![run, signed(link.seq), link.hash]))
        .map_err(|source| at.error(source))?;
    Ok(stored)
}

pub(super) fn read(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    after_seq: u64,
) -> Result<Vec<Stored>, JournalError> {
    let head = head(tx, at, run)?;
    let mut link = if after_seq == 0 { genesis(&head.row) } else { link_at(tx, at, run, after_seq)? };
    let mut records = Vec::new();
    let mut query = tx
        .prepare_cached("SELECT seq, at, hash, body FROM records WHERE run = ?1 AND seq > ?2 ORDER BY seq")
        .map_err(|source| at.error(source))?;
    let rows = query.query_map(params![run, signed(after_seq)], raw).map_err(|source| at.error(source))?;
    for row in rows {
        let record = row.map_err(|source| at.error(source))?.record(run)?;
        let (next, record) = link.follow(run, record)?;
        link = next;
        records.push(record);
    }
    ends_at(run, link, head.link)?;
    Ok(records)
}

pub(super) fn verify(tx: &Transaction<'_>, at: &Where<'_>, run: &str) -> Result<Verified, JournalError> {
    let records = read(tx, at, run, 0)?;
    let head = head(tx, at, run)?.link;
    Ok(Verified { records: records.len() as u64, head: head.hash })
}

pub(super) fn runs(tx: &Transaction<'_>, at: &Where<'_>) -> Result<Vec<RunRow>, JournalError> {
    let mut query = tx
        .prepare_cached("SELECT id, runbook, environment, created_at, writes, head_seq, head FROM runs")
        .map_err(|source| at.error(source))?;
    let rows = query.query_map([], raw_head).map_err(|source| at.error(source))?;
    let mut runs = Vec::new();
    for row in rows {
        runs.push(row.map_err(|source| at.error(source))?.head()?.row);
    }
    // Not in SQL: times are texts with as many decimals as they need, which do not sort.
    runs.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    Ok(runs)
}

pub(super) fn head(tx: &Transaction<'_>, at: &Where<'_>, run: &str) -> Result<Head, JournalError> {
    tx.prepare_cached(
        "SELECT id, runbook, environment, created_at, writes, head_seq, head FROM runs WHERE id = ?1",
    )
    .and_then(|mut query| query.query_row([run], raw_head).optional())
    .map_err(|source| at.error(source))?
    .ok_or_else(|| JournalError::NoRun { run: run.to_owned() })?
    .head()
}

fn insert_run(tx: &Transaction<'_>, at: &Where<'_>, run: &RunRow, head: Link) -> Result<(), JournalError> {
    let insert = "INSERT INTO runs (id, runbook, environment, created_at, writes, head_seq, head)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING";
    let time = run.created_at.to_string();
    let values = params![run.id, run.runbook, run.environment, time, run.writes, signed(head.seq), head.hash];
    match tx.prepare_cached(insert).and_then(|mut insert| insert.execute(values)) {
        Ok(0) => Err(JournalError::Exists { run: run.id.clone() }),
        Ok(_) => Ok(()),
        Err(source) => Err(at.error(source)),
    }
}

fn insert_records(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    records: &[Stored],
) -> Result<(), JournalError> {
    let insert = "INSERT INTO records (run, seq, at, hash, body) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = tx.prepare_cached(insert).map_err(|source| at.error(source))?;
    for record in records {
        let time = record.at.to_string();
        insert
            .execute(params![run, signed(record.seq), time, record.hash, record.body])
            .map_err(|source| at.error(source))?;
    }
    Ok(())
}

/// The link after record `seq`, taken on trust: what stands before it was proven when it was read.
fn link_at(tx: &Transaction<'_>, at: &Where<'_>, run: &str, seq: u64) -> Result<Link, JournalError> {
    let hash: Option<Vec<u8>> = tx
        .prepare_cached("SELECT hash FROM records WHERE run = ?1 AND seq = ?2")
        .and_then(|mut query| query.query_row(params![run, signed(seq)], |row| row.get(0)).optional())
        .map_err(|source| at.error(source))?;
    let missing = || JournalError::Broken { run: run.to_owned(), seq, why: "it is missing" };
    Ok(Link { seq, hash: hash_of(run, seq, &hash.ok_or_else(missing)?)? })
}

/// A chain that is whole as far as it goes may still have lost its end.
fn ends_at(run: &str, link: Link, head: Link) -> Result<(), JournalError> {
    let broken = |seq, why| Err(JournalError::Broken { run: run.to_owned(), seq, why });
    if link.seq < head.seq {
        return broken(link.seq + 1, "it is missing");
    }
    if link != head {
        return broken(head.seq, "it is not the one that the run's row names as the last");
    }
    Ok(())
}

fn hash_of(run: &str, seq: u64, bytes: &[u8]) -> Result<[u8; 32], JournalError> {
    bytes.try_into().map_err(|_| JournalError::Broken {
        run: run.to_owned(),
        seq,
        why: "its hash is not 32 bytes",
    })
}

/// A record as it stands in the file.
struct RawRecord {
    seq: i64,
    at: String,
    hash: Vec<u8>,
    body: Vec<u8>,
}

fn raw(row: &Row<'_>) -> Result<RawRecord, rusqlite::Error> {
    Ok(RawRecord { seq: row.get(0)?, at: row.get(1)?, hash: row.get(2)?, body: row.get(3)? })
}

impl RawRecord {
    fn record(self, run: &str) -> Result<Stored, JournalError> {
        let seq = unsigned(self.seq);
        // A time that was written in another way is a changed record, even if it means the same.
        let at = timestamp(run, &self.at).ok().filter(|at| at.to_string() == self.at);
        let at = at.ok_or_else(|| JournalError::Broken {
            run: run.to_owned(),
            seq,
            why: "its time is not one that this program writes",
        })?;
        Ok(Stored { seq, at, hash: hash_of(run, seq, &self.hash)?, body: self.body })
    }
}

/// A run's row as it stands in the file.
struct RawHead {
    row: (String, String, String, String, bool),
    seq: i64,
    hash: Vec<u8>,
}

fn raw_head(row: &Row<'_>) -> Result<RawHead, rusqlite::Error> {
    Ok(RawHead {
        row: (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?),
        seq: row.get(5)?,
        hash: row.get(6)?,
    })
}

impl RawHead {
    fn head(self) -> Result<Head, JournalError> {
        let (id, runbook, environment, created_at, writes) = self.row;
        let created_at = timestamp(&id, &created_at)?;
        let seq = unsigned(self.seq);
        let link = Link { seq, hash: hash_of(&id, seq, &self.hash)? };
        Ok(Head { row: RunRow { id, runbook, environment, created_at, writes }, link })
    }
}
