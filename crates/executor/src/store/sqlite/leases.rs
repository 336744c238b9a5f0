//! Who works on a run, and which run has an environment.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::{Where, holder, records, signed, timestamp, unsigned};
use crate::holder::Holder;
use crate::store::journal::{Lease, LeaseInfo};
use crate::store::lease::{environment_held, may_take};
use crate::store::{AppendError, JournalError, LeaseError, RunRow};

/// The lease of a run, looked at now.
pub(super) fn held(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
) -> Result<Option<LeaseInfo>, JournalError> {
    records::head(tx, at, run)?;
    let row: Option<(i64, String, String, String)> = tx
        .prepare_cached("SELECT epoch, holder, since, renewed_at FROM leases WHERE run = ?1 AND held")
        .and_then(|mut query| {
            query.query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).optional()
        })
        .map_err(|source| at.error(source))?;
    let Some((epoch, who, since, renewed_at)) = row else { return Ok(None) };
    let holder = holder(run, &who)?;
    Ok(Some(LeaseInfo {
        epoch: unsigned(epoch),
        since: timestamp(run, &since)?,
        renewed_at: timestamp(run, &renewed_at)?,
        alive: holder.alive(),
        holder,
    }))
}

pub(super) fn check_fence(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    fence: Option<u64>,
) -> Result<(), AppendError> {
    let Some(epoch) = fence else { return Ok(()) };
    let row: Option<(i64, bool, String)> = tx
        .prepare_cached("SELECT epoch, held, holder FROM leases WHERE run = ?1")
        .and_then(|mut query| {
            query.query_row([run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .map_err(|source| at.error(source))?;
    let Some((current, held, who)) = row else {
        return Err(AppendError::Fenced { current: 0, holder: None });
    };
    let current = unsigned(current);
    if held && current == epoch {
        return Ok(());
    }
    let holder = if held { Some(Box::new(holder(run, &who)?)) } else { None };
    Err(AppendError::Fenced { current, holder })
}

/// Nobody holds the run, and the next lease is newer than `epoch`.
pub(super) fn begin_after(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &RunRow,
    epoch: u64,
) -> Result<(), JournalError> {
    let insert =
        "INSERT INTO leases (run, epoch, held, holder, since, renewed_at) VALUES (?1, ?2, 0, '', ?3, ?3)";
    tx.prepare_cached(insert)
        .and_then(|mut insert| insert.execute(params![run.id, signed(epoch), run.created_at.to_string()]))
        .map_err(|source| at.error(source))?;
    Ok(())
}

pub(super) fn take(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    holder: &Holder,
    now: Timestamp,
) -> Result<Lease, LeaseError> {
    let held = held(tx, at, run)?;
    if let Some(held) = &held {
        may_take(run, held, now)?;
    }
    let upsert =
        "INSERT INTO leases (run, epoch, held, holder, since, renewed_at) VALUES (?1, 1, 1, ?2, ?3, ?3)
        ON CONFLICT (run) DO UPDATE SET epoch = epoch + 1, held = 1, holder = ?2, since = ?3, renewed_at = ?3
        RETURNING epoch";
    let epoch: i64 = tx
        .prepare_cached(upsert)
        .and_then(|mut upsert| {
            upsert.query_row(params![run, written(holder), now.to_string()], |row| row.get(0))
        })
        .map_err(|source| at.error(source))?;
    Ok(Lease { epoch: unsigned(epoch), taken_from: held.map(|info| info.holder) })
}

pub(super) fn take_environment(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    (environment, run): (&str, &str),
    by: &Holder,
    now: Timestamp,
) -> Result<(), LeaseError> {
    let row: Option<(String, String, String)> = tx
        .prepare_cached("SELECT run, holder, since FROM environments WHERE environment = ?1 AND run <> ?2")
        .and_then(|mut query| {
            query.query_row([environment, run], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .map_err(|source| at.error(source))?;
    if let Some((other, last, since)) = row {
        let engine = held(tx, at, &other)?;
        let (last, since) = (holder(&other, &last)?, timestamp(&other, &since)?);
        return Err(environment_held(environment, &other, since, last, engine.as_ref()));
    }
    let upsert = "INSERT INTO environments (environment, run, holder, since) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (environment) DO UPDATE SET holder = ?3";
    tx.prepare_cached(upsert)
        .and_then(|mut upsert| upsert.execute(params![environment, run, written(by), now.to_string()]))
        .map_err(|source| at.error(source))?;
    Ok(())
}

pub(super) fn environment_run(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    environment: &str,
) -> Result<Option<String>, JournalError> {
    tx.prepare_cached("SELECT run FROM environments WHERE environment = ?1")
        .and_then(|mut query| query.query_row([environment], |row| row.get(0)).optional())
        .map_err(|source| at.error(source))
}

pub(super) fn renew(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    epoch: u64,
    now: Timestamp,
) -> Result<(), LeaseError> {
    let renewed = tx
        .prepare_cached("UPDATE leases SET renewed_at = ?3 WHERE run = ?1 AND epoch = ?2 AND held")
        .and_then(|mut update| update.execute(params![run, signed(epoch), now.to_string()]))
        .map_err(|source| at.error(source))?;
    if renewed == 1 {
        return Ok(());
    }
    records::head(tx, at, run)?;
    let current: Option<i64> = tx
        .prepare_cached("SELECT epoch FROM leases WHERE run = ?1")
        .and_then(|mut query| query.query_row([run], |row| row.get(0)).optional())
        .map_err(|source| at.error(source))?;
    Err(LeaseError::Lost { epoch, current: current.map_or(0, unsigned) })
}

pub(super) fn release(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    run: &str,
    epoch: u64,
    close_environment: bool,
) -> Result<(), JournalError> {
    records::head(tx, at, run)?;
    let released = tx
        .prepare_cached("UPDATE leases SET held = 0 WHERE run = ?1 AND epoch = ?2 AND held")
        .and_then(|mut update| update.execute(params![run, signed(epoch)]))
        .map_err(|source| at.error(source))?;
    if released == 0 {
        return Err(JournalError::NotHeld { run: run.to_owned(), epoch });
    }
    if close_environment {
        tx.prepare_cached("DELETE FROM environments WHERE run = ?1")
            .and_then(|mut delete| delete.execute([run]))
            .map_err(|source| at.error(source))?;
    }
    Ok(())
}

fn written(holder: &Holder) -> String {
    serde_json::to_string(holder).expect("texts and numbers always serialise")
}
