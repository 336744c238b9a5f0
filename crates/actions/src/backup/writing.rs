//! One object of the backup bucket, written once from a stream of pieces, and the notes beside it. What is needed to go
//! on after a crash stands in a checkpoint: the key, the upload that was begun, and the hash of what was sent.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use jiff::Timestamp;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Backups;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::reading::{self, Depth, Seen};
use crate::s3::{Location, NewObject, ObjectInfo, Part, Put, Store, inspect};

/// Parts on their way at a time.
const PARTS_IN_FLIGHT: usize = 2;
/// Stores take at most 10,000 parts; some room is left for a dump that is larger than it looked.
const PARTS_WANTED: u64 = 6_000;
/// The name of the checkpoint.
const MARK: &str = "writing";
/// What a note beside a dump may have when it is compared.
const NOTE_BYTES_MAX: usize = 256 << 20;

/// sha256 and size of what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    /// Lower-case hex.
    pub(crate) sha256: String,
    /// In bytes.
    pub(crate) size_bytes: u64,
}

/// Where the writing of an object stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The object's key.
    pub(crate) key: String,
    /// The moment whose data it holds.
    pub(crate) taken_at: Timestamp,
    /// An upload in parts that was begun.
    #[serde(default)]
    pub(crate) upload: Option<String>,
    /// Saved before the object comes into being: whatever is there under the key is compared with it.
    #[serde(default)]
    pub(crate) digest: Option<Digest>,
    /// What else the step wants to know again.
    #[serde(default)]
    pub(crate) notes: serde_json::Value,
}

impl Mark {
    /// What an earlier attempt of this step saved.
    pub(crate) fn load(ctx: &Context) -> Option<Self> {
        ctx.checkpoints.get(MARK).and_then(|value| serde_json::from_value(value).ok())
    }

    /// Makes it durable.
    pub(crate) async fn save(&self, ctx: &Context) -> Result<(), ActionError> {
        let value = serde_json::to_value(self)
            .map_err(|error| ActionError::unchanged("save where the writing stands").because(error))?;
        ctx.checkpoints.save(MARK, value).await
    }
}

/// What was sent, and is not yet an object.
pub(crate) enum Sent {
    /// It fits into one request, which was not made yet.
    Whole(Bytes),
    /// The store has all parts.
    Parts { id: String, parts: Vec<Part> },
}

/// An object on its way.
pub(crate) struct Writing<'a> {
    pub(crate) ctx: &'a Context,
    pub(crate) store: &'a Store,
    pub(crate) new: NewObject,
}

/// How large the parts of something are: the least that was asked for, or more where that would be too many.
pub(crate) fn part_bytes(least_mib: u64, expected: u64) -> usize {
    let needed = expected.div_ceil(PARTS_WANTED).div_ceil(1 << 20);
    usize::try_from(least_mib.max(needed) << 20).unwrap_or(usize::MAX)
}

/// Settings of the bucket, and the prefix of its dumps with a `/` at its end.
pub(crate) fn settings(ctx: &Context) -> Result<(&Backups, String), ActionError> {
    let Some(settings) = &ctx.environment.backups else {
        return Err(ActionError::refused(format!(
            "reach the backups of environment `{}`: it names no bucket",
            ctx.environment.name
        ))
        .hint("Add `backups: { bucket: … }` to the environment file."));
    };
    let prefix = settings.prefix.clone().unwrap_or_else(|| format!("db/{}", ctx.environment.name));
    Ok((settings, format!("{}/", prefix.trim_end_matches('/'))))
}

/// `PREFIX/YYYY/MM/DD/NAME-YYYYMMDDTHHMMSSZ.ENDING`
pub(crate) fn day_key(prefix: &str, name: &str, at: Timestamp, ending: &str) -> String {
    let dot = if ending.is_empty() { "" } else { "." };
    format!("{prefix}{}/{name}-{}{dot}{ending}", at.strftime("%Y/%m/%d"), at.strftime("%Y%m%dT%H%M%SZ"))
}

/// A name that can stand in a key.
pub(crate) fn fits_in_a_key(name: &str) -> Result<(), ActionError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !name.is_empty() && name.len() <= 64 && name.bytes().all(fits) && !name.starts_with('.') {
        return Ok(());
    }
    Err(ActionError::refused(format!("use `{}` in the name of a backup", name.escape_debug()))
        .hint("Letters, digits, `-`, `_` and `.` are allowed, 64 at most, no `.` at the beginning."))
}

/// Ends the uploads that an earlier attempt began and did not end: those that the store lists, or the one that was
/// noted down.
pub(crate) async fn clear(store: &Store, mark: &Mark) -> Result<(), ActionError> {
    let listed = store.unfinished(&mark.key).await?;
    let ids = listed.unwrap_or_else(|| mark.upload.iter().cloned().collect());
    for id in ids {
        store.abort(&mark.key, &id).await?;
    }
    Ok(())
}

impl Writing<'_> {
    /// Sends pieces until there are no more. Pieces are parts: all of one size but the last.
    pub(crate) async fn send(
        &self,
        mark: &mut Mark,
        mut pieces: mpsc::Receiver<Bytes>,
    ) -> Result<Sent, ActionError> {
        let Some(first) = pieces.recv().await else { return Ok(Sent::Whole(Bytes::new())) };
        let Some(second) = pieces.recv().await else { return Ok(Sent::Whole(first)) };
        let id = self.store.begin(&self.new).await?;
        mark.upload = Some(id.clone());
        mark.save(self.ctx).await?;
        let (mut parts, mut flying) = (Vec::new(), FuturesOrdered::new());
        let mut number = 0;
        let mut send = |bytes| {
            number += 1;
            self.store.part(&self.new.key, &id, number, bytes)
        };
        flying.push_back(send(first));
        flying.push_back(send(second));
        let mut more = true;
        while more || !flying.is_empty() {
            tokio::select! {
                piece = pieces.recv(), if more && flying.len() < PARTS_IN_FLIGHT => match piece {
                    Some(piece) => flying.push_back(send(piece)),
                    None => more = false,
                },
                Some(part) = flying.next(), if !flying.is_empty() => parts.push(part?),
            }
        }
        drop(flying);
        Ok(Sent::Parts { id, parts })
    }

    /// Makes the object. An answer that was lost is settled by looking.
    pub(crate) async fn land(&self, sent: Sent, digest: &Digest) -> Result<(), ActionError> {
        let key = &self.new.key;
        let put = match sent {
            Sent::Whole(bytes) => self.store.put_new(&self.new, bytes, &digest.sha256).await,
            Sent::Parts { id, parts } => self.store.complete(key, &id, &parts).await,
        };
        if let Ok(Put::Created) = put {
            return Ok(());
        }
        // Reading back decides whether it is ours; here only what surely is not is turned away.
        match (put, self.store.head(key).await?) {
            (_, Some(info)) if info.size_bytes == digest.size_bytes => Ok(()),
            (Err(error), None) => Err(error),
            (Ok(_), None) => Err(ActionError::unchanged(format!(
                "write `{}`: something was there and is gone again",
                self.url()
            ))),
            (_, Some(_)) => Err(occupied(&self.url())),
        }
    }

    /// Reads the object back and compares it with what was sent.
    pub(crate) async fn read_back(
        &self,
        digest: &Digest,
        depth: Depth,
    ) -> Result<(ObjectInfo, Seen), ActionError> {
        let at = Location::S3 { bucket: self.store.name().into(), key: self.new.key.clone() };
        let info = inspect(self.ctx, None, &at).await?;
        if info.size_bytes != digest.size_bytes {
            return Err(other_bytes(&self.url(), "another size"));
        }
        let seen = reading::read_whole(self.ctx, &at, &info, depth).await?;
        if seen.sha256 != digest.sha256 {
            return Err(other_bytes(&self.url(), "another sha256"));
        }
        Ok((info, seen))
    }

    fn url(&self) -> String {
        format!("s3://{}/{}", self.store.name(), self.new.key)
    }
}

fn other_bytes(url: &str, what: &str) -> ActionError {
    ActionError::refused(format!("trust `{url}`: the store gives back {what} than was sent to it"))
        .code("checksum-mismatch")
        .hint("It has no .sha256, so nothing takes it for a backup. Find out what the store did to it, then run again.")
}

/// Something else is under the key.
pub(crate) fn occupied(url: &str) -> ActionError {
    ActionError::refused(format!("write `{url}`: something else is there already"))
        .code("object-exists")
        .hint("A backup is written once and never replaced. Give the step another `name`, or run again a second later.")
}

/// Writes a small object beside a dump. One that is there already must say the same.
pub(crate) async fn note(
    store: &Store,
    key: &str,
    content_type: &'static str,
    text: &str,
) -> Result<(), ActionError> {
    let new = NewObject { key: key.into(), content_type, metadata: std::collections::BTreeMap::new() };
    let sum = hex::encode(Sha256::digest(text.as_bytes()));
    let put = store.put_new(&new, Bytes::copy_from_slice(text.as_bytes()), &sum).await;
    if let Err(error) = &put
        && error.aftermath == runbook_core::action::Aftermath::Refused
    {
        return put.map(drop);
    }
    match store.text(key, NOTE_BYTES_MAX).await? {
        Some(there) if there == text => Ok(()),
        Some(_) => Err(occupied(&format!("s3://{}/{key}", store.name()))),
        None => put.map(drop).and(Err(ActionError::unchanged(format!(
            "read back `s3://{}/{key}`: it is not there",
            store.name()
        )))),
    }
}

/// The line that sha256sum writes, for the object of this key.
pub(crate) fn sum_line(sha256: &str, key: &str) -> String {
    format!("{sha256}  {}\n", key.rsplit('/').next().unwrap_or(key))
}
