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
    /// Other bytes than the manifest's, and than its own row promises or promised then.
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
    /// Other bytes, although nobody put a newer version there.
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
    let differs = if is_newer(row, entry) { State::Changed } else { State::Damaged };
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

/// Whether the row was given other bytes since the manifest. A row that still promises the manifest's very bytes
/// (it was touched, or restored) and does not have them is damaged.
fn is_newer(row: &Row, entry: &Entry) -> bool {
    let touched = row.updated_at.is_some() && row.updated_at > entry.updated_at;
    let promised = row.metadata.as_ref();
    let same_promise = promised
        .is_some_and(|says| says.size == Some(entry.size) && says.etag.is_some() && says.etag == entry.etag);
    touched && !same_promise
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let entry: Entry = serde_json::from_value(json!({
            "name": "a", "size": 3, "sha256": "", "etag": "\"t\"", "updated_at": "2026-02-01T00:00:00Z",
        }))
        .unwrap();
        let row = |at: &str, size: u64, etag: &str| -> Row {
            serde_json::from_value(
                json!({ "name": "a", "updated_at": at, "metadata": { "size": size, "eTag": etag } }),
            )
            .unwrap()
        };
        let (old, new) = ("2026-02-01T00:00:00Z", "2026-02-02T00:00:00Z");
        assert!(is_newer(&row(new, 3, "\"u\""), &entry), "other bytes were put there");
        assert!(is_newer(&row(new, 4, "\"t\""), &entry));
        assert!(!is_newer(&row(new, 3, "\"t\""), &entry), "the row promises the bytes of the manifest");
        assert!(!is_newer(&row(old, 3, "\"u\""), &entry), "nobody touched the row");
    }
}
