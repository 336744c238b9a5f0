//! How an object in Storage stands against its line in a manifest. Decided by its bytes: by their first one, their
//! size and their tag, and by all of them where that is not proof. Reads only.

use runbook_core::action::ActionError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::crew::stopped;
use super::manifest::Entry;
use super::service::{CHUNK, Row, Service};

/// How an object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// Its bytes are those of the manifest.
    Same,
    /// No row, no bytes.
    Missing,
    /// A row without bytes.
    Lost,
    /// Other bytes, although its row was not touched since the manifest.
    Damaged,
    /// Other bytes, and a row that was changed since: somebody put a newer version there.
    Changed,
}

/// What may be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No row and no bytes: it was deleted.
    Missing,
    /// A row whose bytes are gone.
    Lost,
    /// Other bytes, although the row was not touched since the manifest was written.
    Damaged,
    /// A newer version, put there after the manifest was written. Bringing the old one back loses it.
    Changed,
}

impl State {
    pub(super) fn kind(self) -> Option<Kind> {
        match self {
            Self::Same => None,
            Self::Missing => Some(Kind::Missing),
            Self::Lost => Some(Kind::Lost),
            Self::Damaged => Some(Kind::Damaged),
            Self::Changed => Some(Kind::Changed),
        }
    }
}

/// Compares. `full` reads every byte, also where size and tag agree.
pub(super) async fn compare(
    service: &Service<'_>,
    bucket: &str,
    entry: &Entry,
    row: Option<&Row>,
    full: bool,
) -> Result<State, ActionError> {
    let Some(row) = row else { return Ok(State::Missing) };
    let Some(found) = service.probe(bucket, &entry.name).await? else { return Ok(State::Lost) };
    let differs = match (&row.updated_at, &entry.updated_at) {
        (Some(now), Some(then)) if now > then => State::Changed,
        _ => State::Damaged,
    };
    if found.size != entry.size {
        return Ok(differs);
    }
    // The tag comes with the bytes, not from the row.
    if !full && found.etag.is_some() && found.etag == entry.etag {
        return Ok(State::Same);
    }
    Ok(match hash(service, bucket, &entry.name, found.size).await? {
        None => State::Lost,
        Some(sum) if sum == entry.sha256 => State::Same,
        Some(_) => differs,
    })
}

/// The sha256 of all bytes of an object, lower-case hex; none when they are not there.
pub(super) async fn hash(
    service: &Service<'_>,
    bucket: &str,
    name: &str,
    size: u64,
) -> Result<Option<String>, ActionError> {
    let mut hash = Sha256::new();
    let mut from = 0;
    loop {
        let to = (from + CHUNK).min(size);
        let Some(part) = service.part((bucket, name), (from, to)).await? else { return Ok(None) };
        hash.update(&part);
        from = to;
        if from == size {
            return Ok(Some(hex::encode(hash.finalize())));
        }
        if service.ctx.stop.requested() {
            return Err(stopped());
        }
    }
}
