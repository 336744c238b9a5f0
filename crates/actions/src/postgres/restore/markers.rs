//! What a restore leaves in its target to be found again: one row for the restore, one per chunk. A
//! chunk's marker commits with its data, so the markers are the truth after any crash.

use std::collections::BTreeMap;

use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::postgres::catalog::{Catalog, MARKERS};
use crate::postgres::session::{Session, failed, timed};
use crate::postgres::sql::literal;

use super::params::Skipped;

/// Where a restore stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Filling; the bytes may not be verified yet.
    Loading,
    /// Being emptied, before a restore or after a failed one.
    Emptying,
    /// Verified and compared.
    Done,
}

/// The restore that a target remembers.
#[derive(Debug, Clone)]
pub(super) struct Restore {
    pub(super) key: String,
    pub(super) url: String,
    pub(super) sha256: String,
    pub(super) etag: Option<String>,
    pub(super) chunk_bytes: u64,
    /// By which rules its chunks are cut ([`super::batch::CUTS`]).
    pub(super) cuts: i32,
    /// Entries of an archive whose rows come first, by their numbers.
    pub(super) first: Vec<u32>,
    pub(super) verified_by: String,
    pub(super) status: Status,
    /// What the target held before, or, while it is being emptied, what stays.
    pub(super) before: Catalog,
    pub(super) outputs: Option<Value>,
    /// Fingerprint of the masking, when there is one.
    pub(super) mask: Option<String>,
}

/// A chunk that is in the target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// sha256 of the chunk's text. A resumed restore hashes other bytes than those that the first one loaded:
    /// only this tells that they are the same.
    pub(super) sum: String,
    pub(super) rows: BTreeMap<String, u64>,
    pub(super) skipped: Vec<Skipped>,
}

fn attempted(session: &Session) -> impl Fn() -> String {
    let label = session.label.clone();
    move || format!("read the restore markers of `{label}`")
}

/// Every restore that the target remembers; none when it has no markers.
pub(super) async fn find(session: &Session) -> Result<Vec<Restore>, ActionError> {
    let there =
        session.client.query_one("select pg_catalog.to_regclass('_runbook.restores') is not null", &[]);
    if !timed(there, attempted(session)).await?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let rows = session.client.query(
        "select step_key, url, sha256, etag, chunk_bytes, verified_by, status, before, outputs, \
         pg_catalog.to_jsonb(r) ->> 'mask', (pg_catalog.to_jsonb(r) ->> 'cuts')::int, \
         pg_catalog.to_jsonb(r) -> 'first' from _runbook.restores r order by started_at",
        &[],
    );
    timed(rows, attempted(session)).await?.iter().map(|row| decode(session, row)).collect()
}

fn decode(session: &Session, row: &tokio_postgres::Row) -> Result<Restore, ActionError> {
    let broken = |what: &str| {
        ActionError::refused(format!("{}: {what} is damaged", attempted(session)())).code("markers-damaged")
    };
    Ok(Restore {
        key: row.get(0),
        url: row.get(1),
        sha256: row.get(2),
        etag: row.get(3),
        chunk_bytes: u64::try_from(row.get::<_, i64>(4)).map_err(|_| broken("the chunk size"))?,
        verified_by: row.get(5),
        status: match row.get::<_, String>(6).as_str() {
            "loading" => Status::Loading,
            "emptying" => Status::Emptying,
            "done" => Status::Done,
            _ => return Err(broken("the status")),
        },
        before: serde_json::from_value(row.get(7)).map_err(|_| broken("the catalog"))?,
        outputs: row.get(8),
        mask: row.get(9),
        // Those of the first version were not written down.
        cuts: row.get::<_, Option<i32>>(10).unwrap_or(1),
        first: match row.get::<_, Option<Value>>(11) {
            Some(first) => {
                serde_json::from_value(first).map_err(|_| broken("the list of what comes first"))?
            }
            None => Vec::new(),
        },
    })
}

fn status_text(status: Status) -> &'static str {
    match status {
        Status::Loading => "loading",
        Status::Emptying => "emptying",
        Status::Done => "done",
    }
}

/// Writes the restore's row, in place of one under the same key.
pub(super) async fn begin(session: &Session, restore: &Restore) -> Result<(), ActionError> {
    let before = serde_json::to_string(&restore.before)
        .map_err(|error| ActionError::refused("write down the target's catalog").because(error))?;
    let sql = format!(
        "begin; set local synchronous_commit = on; create schema if not exists {MARKERS}; \
         create table if not exists {MARKERS}.restores (step_key text primary key, url text not null, \
           sha256 text not null, etag text, chunk_bytes bigint not null, verified_by text not null, \
           status text not null, before jsonb not null, outputs jsonb, \
           started_at timestamptz not null default pg_catalog.now(), ended_at timestamptz); \
         alter table {MARKERS}.restores add column if not exists mask text, add column if not exists cuts int, \
           add column if not exists first jsonb; \
         create table if not exists {MARKERS}.chunks (step_key text not null, seq bigint not null, \
           chunk jsonb not null, primary key (step_key, seq)); \
         delete from {MARKERS}.restores where step_key = {key}; \
         delete from {MARKERS}.chunks where step_key = {key}; drop table if exists {MARKERS}.rests; \
         insert into {MARKERS}.restores (step_key, url, sha256, etag, chunk_bytes, verified_by, status, before, mask, cuts, \
           first) \
         values ({key}, {url}, {sha}, {etag}, {chunk}, {by}, {status}, {before}, {mask}, {cuts}, {first}); commit",
        cuts = restore.cuts,
        first = literal(&serde_json::json!(restore.first).to_string()),
        key = literal(&restore.key),
        url = literal(&restore.url),
        sha = literal(&restore.sha256),
        etag = restore.etag.as_deref().map_or_else(|| "null".into(), literal),
        chunk = restore.chunk_bytes,
        by = literal(&restore.verified_by),
        status = literal(status_text(restore.status)),
        before = literal(&before),
        mask = restore.mask.as_deref().map_or_else(|| "null".into(), literal),
    );
    let attempted = || format!("mark `{}` as being restored", session.label);
    timed(session.client.batch_execute(&sql), attempted).await
}

/// Moves the restore's row on.
pub(super) async fn set_status(session: &Session, key: &str, status: Status) -> Result<(), ActionError> {
    let sql = format!(
        "begin; set local synchronous_commit = on; update {MARKERS}.restores set status = {} \
         where step_key = {}; commit",
        literal(status_text(status)),
        literal(key)
    );
    timed(session.client.batch_execute(&sql), || format!("mark `{}`", session.label)).await
}

/// The chunks that are in the target.
pub(super) async fn chunks(session: &Session, key: &str) -> Result<BTreeMap<u64, Chunk>, ActionError> {
    let sql = format!("select seq, chunk from {MARKERS}.chunks where step_key = $1");
    let rows = timed(session.client.query(&sql, &[&key]), attempted(session)).await?;
    rows.iter()
        .map(|row| {
            let seq = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            let chunk = serde_json::from_value(row.get(1)).map_err(|error| {
                ActionError::refused(attempted(session)()).because(error).code("markers-damaged")
            })?;
            Ok((seq, chunk))
        })
        .collect()
}

/// The statement that marks a chunk; it runs in the chunk's own transaction.
pub(super) fn mark(key: &str, seq: u64, chunk: &Chunk) -> String {
    let json = serde_json::json!(chunk).to_string();
    format!(
        "insert into {MARKERS}.chunks (step_key, seq, chunk) values ({}, {seq}, {})",
        literal(key),
        literal(&json)
    )
}

/// The last transaction: the outputs are durable, the chunks and what was left go. The row stays, so that a repeat whose
/// outcome was lost finds the outputs.
pub(super) async fn finish(session: &Session, key: &str, outputs: &Value) -> Result<(), ActionError> {
    // What is masked must not be masked again: its pseudonyms would be taken for values.
    let masked = match outputs.get("masked") {
        Some(masked) if !masked.is_null() => crate::postgres::mask::mark(key, "postgres.restore", masked),
        _ => String::new(),
    };
    let sql = format!(
        "begin; set local synchronous_commit = on; {masked}update {MARKERS}.restores set status = 'done', \
         outputs = {}, ended_at = pg_catalog.now() where step_key = {}; drop table {MARKERS}.chunks; \
         drop table if exists {MARKERS}.rests; commit",
        literal(&outputs.to_string()),
        literal(key)
    );
    session
        .client
        .batch_execute(&sql)
        .await
        .map_err(|error| failed(format!("finish the restore into `{}`", session.label), error))
}

/// Removes every marker of restores. Keys of other actions stay, and with them the schema.
pub(super) async fn forget(session: &Session) -> Result<(), ActionError> {
    let attempted = || format!("remove the markers of `{}`", session.label);
    // The rows that were masked are gone with the rest.
    let all = ["rests", "chunks", "restores", "masked"].map(|table| format!("{MARKERS}.{table}")).join(", ");
    let sql = format!("drop table if exists {all}");
    timed(session.client.batch_execute(&sql), attempted).await?;
    let keys = session.client.query_one("select pg_catalog.to_regclass('_runbook.effects') is null", &[]);
    if timed(keys, attempted).await?.get(0) {
        timed(session.client.batch_execute(&format!("drop schema if exists {MARKERS}")), attempted).await?;
    }
    Ok(())
}
