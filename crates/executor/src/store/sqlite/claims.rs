//! Idempotency keys of an environment.

use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;

use super::{Where, unreadable};
use crate::store::JournalError;
use crate::store::journal::KeyClaim;
use crate::store::keys::Claimed;

pub(super) fn claim(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    (environment, key): (&str, &str),
    params_digest: &str,
    (run, step): (&str, &str),
) -> Result<KeyClaim, JournalError> {
    if let Some(claimed) = claimed(tx, at, (environment, key))? {
        return Ok(claimed.answer(params_digest, run, step));
    }
    tx.prepare_cached(
        "INSERT INTO keys (environment, key, params_digest, run, step) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .and_then(|mut insert| insert.execute([environment, key, params_digest, run, step]))
    .map_err(|source| at.error(source))?;
    Ok(KeyClaim::New)
}

/// What was done first under a key is what counts: outputs are never replaced.
pub(super) fn finish(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    (environment, key): (&str, &str),
    run: &str,
    outputs: &Value,
) -> Result<(), JournalError> {
    let update = "UPDATE keys SET outputs = coalesce(outputs, ?4)
        WHERE environment = ?1 AND key = ?2 AND run = ?3";
    let finished = tx
        .prepare_cached(update)
        .and_then(|mut update| update.execute(params![environment, key, run, outputs.to_string()]))
        .map_err(|source| at.error(source))?;
    if finished == 0 { Err(JournalError::not_claimed(environment, key, run)) } else { Ok(()) }
}

pub(super) fn drop(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    (environment, key): (&str, &str),
    run: &str,
) -> Result<(), JournalError> {
    if claimed(tx, at, (environment, key))?.is_none_or(|claimed| claimed.run != run) {
        return Err(JournalError::not_claimed(environment, key, run));
    }
    tx.prepare_cached("DELETE FROM keys WHERE environment = ?1 AND key = ?2 AND outputs IS NULL")
        .and_then(|mut delete| delete.execute([environment, key]))
        .map_err(|source| at.error(source))?;
    Ok(())
}

fn claimed(
    tx: &Transaction<'_>,
    at: &Where<'_>,
    (environment, key): (&str, &str),
) -> Result<Option<Claimed>, JournalError> {
    let row: Option<(String, String, String, Option<String>)> = tx
        .prepare_cached(
            "SELECT params_digest, run, step, outputs FROM keys WHERE environment = ?1 AND key = ?2",
        )
        .and_then(|mut query| {
            query
                .query_row([environment, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
                .optional()
        })
        .map_err(|source| at.error(source))?;
    let Some((params_digest, run, step, outputs)) = row else { return Ok(None) };
    let outputs = outputs
        .map(|text| serde_json::from_str(&text).map_err(|_| unreadable("a key's outputs", &run, &text)))
        .transpose()?;
    Ok(Some(Claimed { params_digest, run, step, outputs }))
}
