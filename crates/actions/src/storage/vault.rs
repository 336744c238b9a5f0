//! The copies in the backup bucket: `PREFIX/objects/AA/SHA256` for bytes, each kept once whatever its names, and
//! `PREFIX/manifests/BUCKET/YYYY/MM/DD/BUCKET-MOMENT.jsonl` with its `.sha256`. Every byte that is read is hashed.

use std::collections::BTreeSet;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use runbook_core::action::{ActionError, Aftermath, Context};
use sha2::{Digest as _, Sha256};

use super::manifest::{MANIFEST_BYTES_MAX, Manifest, ManifestRef, check_bucket, is_sum, read};
use super::service::CHUNK;
use crate::s3::{Failure, ObjectInfo, PartedUpload, Pinned, Store};

/// A `.sha256` file holds one line.
const SUM_BYTES_MAX: usize = 4 << 10;
/// One ranged GET of the store.
const PART: u64 = 8 << 20;
/// Tries of reading a small copy, beyond those that the store's client makes of a request.
const SMALL_TRIES: usize = 4;
/// The store takes at most 10,000 parts.
const PARTS_MAX: u64 = 9_000;

/// The backup bucket, as far as it is about files.
pub(super) struct Vault {
    pub(super) store: Store,
    prefix: String,
}

fn broken(at: &str, failure: Failure) -> ActionError {
    let error = ActionError::unchanged(format!("read the copy `{at}`")).because(failure.clone());
    if failure == Failure::Changed { error.code("object-changed") } else { error }
}

impl Vault {
    pub(super) async fn open(ctx: &Context) -> Result<Self, ActionError> {
        let store = Store::of(ctx).await?;
        let named = ctx.environment.backups.as_ref().and_then(|backups| backups.storage_prefix.clone());
        let prefix = named.unwrap_or_else(|| format!("storage/{}", ctx.environment.name));
        Ok(Self { store, prefix: prefix.trim_matches('/').to_owned() })
    }

    fn manifests(&self) -> String {
        format!("{}/manifests/", self.prefix)
    }

    fn key(&self, sha256: &str) -> String {
        format!("{}/objects/{}/{sha256}", self.prefix, &sha256[..2])
    }

    /// The store's name for a copy.
    pub(super) fn address(&self, sha256: &str) -> String {
        format!("s3://{}/{}", self.store.name(), self.key(sha256))
    }

    /// Buckets that have a manifest.
    pub(super) async fn buckets(&self) -> Result<Vec<String>, ActionError> {
        let prefix = self.manifests();
        let listed = self.store.list(&prefix).await?;
        let names: BTreeSet<String> = listed
            .iter()
            .filter_map(|object| object.key.strip_prefix(&prefix)?.split_once('/'))
            .map(|(bucket, _)| bucket.to_owned())
            .collect();
        Ok(names.into_iter().filter(|name| check_bucket(name).is_ok()).collect())
    }

    /// The newest manifest of a bucket at or before a moment; none when there is none. Only one with a `.sha256`
    /// beside it counts.
    pub(super) async fn newest(
        &self,
        bucket: &str,
        before: Option<Timestamp>,
    ) -> Result<Option<Manifest>, ActionError> {
        check_bucket(bucket)?;
        let listed = self.store.list(&format!("{}{bucket}/", self.manifests())).await?;
        let keys: BTreeSet<&str> = listed.iter().map(|object| object.key.as_str()).collect();
        let chosen = keys
            .iter()
            .filter(|key| keys.contains(format!("{key}.sha256").as_str()))
            .filter_map(|key| Some((moment(bucket, key)?, *key)))
            .filter(|(at, _)| before.is_none_or(|moment| *at <= moment))
            .max();
        match chosen {
            None => Ok(None),
            Some((_, key)) => self.manifest(bucket, key, None).await.map(Some),
        }
    }

    /// The manifest that was looked at earlier: the same bytes, or a refusal.
    pub(super) async fn again(&self, at: &ManifestRef) -> Result<Manifest, ActionError> {
        check_bucket(&at.bucket)?;
        let place = format!("{}{}/", self.manifests(), at.bucket);
        if !at.key.starts_with(&place) || !is_sum(&at.sha256) {
            return Err(ActionError::refused(format!(
                "use `{}` as a manifest of bucket `{}`",
                at.key, at.bucket
            ))
            .hint(format!("Manifests lie under `{place}` and are named together with their sha256.")));
        }
        self.manifest(&at.bucket, &at.key, Some(&at.sha256)).await
    }

    async fn manifest(&self, bucket: &str, key: &str, known: Option<&str>) -> Result<Manifest, ActionError> {
        let gone = |key: &str| ActionError::refused(format!("read the manifest `{key}`: it is not there"));
        let text = self.store.text(key, MANIFEST_BYTES_MAX).await?.ok_or_else(|| gone(key))?;
        let sum = hex::encode(Sha256::digest(&text));
        let recorded = match known {
            Some(known) => known.to_owned(),
            None => {
                let note = format!("{key}.sha256");
                let text = self.store.text(&note, SUM_BYTES_MAX).await?.ok_or_else(|| gone(&note))?;
                text.split_whitespace().next().unwrap_or_default().to_ascii_lowercase()
            }
        };
        if sum != recorded {
            return Err(ActionError::refused(format!(
                "trust the manifest `{key}`: its recorded sha256 is {}, its bytes have {sum}",
                if is_sum(&recorded) { recorded.as_str() } else { "none" }
            ))
            .code("checksum-mismatch")
            .hint(
                "The manifest or its .sha256 was altered. Take an earlier restore point and find out why.",
            ));
        }
        read(bucket, key, &sum, &text)
    }

    /// Writes a manifest and its `.sha256`, and reads them back.
    pub(super) async fn keep(
        &self,
        bucket: &str,
        at: Timestamp,
        text: String,
    ) -> Result<ManifestRef, ActionError> {
        let file = format!("{bucket}-{}.jsonl", at.strftime("%Y%m%dT%H%M%SZ"));
        let key = format!("{}{bucket}/{}/{file}", self.manifests(), at.strftime("%Y/%m/%d"));
        let digest = Sha256::digest(&text);
        let note = format!("{}  {file}\n", hex::encode(digest));
        self.store.put(&key, text.into(), &digest).await?;
        let sum = Sha256::digest(&note);
        self.store.put(&format!("{key}.sha256"), note.into(), &sum).await?;
        Ok(self.manifest(bucket, &key, None).await?.at)
    }

    /// Whether a copy of the bytes is there. Its name is its sha256, and its bytes are hashed when they are read.
    pub(super) async fn has(&self, sha256: &str, size: u64) -> Result<bool, ActionError> {
        let found = self.store.head(&self.key(sha256)).await?;
        Ok(found.is_some_and(|info| info.size_bytes == size))
    }

    /// Keeps small bytes and reads them back.
    pub(super) async fn put(&self, sha256: &str, bytes: Bytes) -> Result<(), ActionError> {
        let digest =
            hex::decode(sha256).map_err(|error| ActionError::refused("use a sha256").because(error))?;
        let size = bytes.len() as u64;
        self.store.put(&self.key(sha256), bytes, &digest).await?;
        self.prove(sha256, size).await
    }

    /// Begins a large copy. `part_size` tells how large its parts must be.
    pub(super) async fn begin(&self, sha256: &str) -> Result<PartedUpload, ActionError> {
        self.store.put_in_parts(&self.key(sha256)).await
    }

    /// Reads a copy to its end; refuses other bytes than its name promises.
    pub(super) async fn prove(&self, sha256: &str, size: u64) -> Result<(), ActionError> {
        let mut copy = self.copy(sha256, size).await?;
        while copy.next(PART).await?.is_some() {}
        copy.check()
    }

    /// The bytes of a copy that is small enough for one request, proven to be what its name promises.
    pub(super) async fn small(&self, sha256: &str, size: u64) -> Result<Bytes, ActionError> {
        let (key, at) = (self.key(sha256), self.address(sha256));
        let limit = usize::try_from(size).unwrap_or(usize::MAX);
        let again = |error: &ActionError| matches!(error.aftermath, Aftermath::Unchanged { .. });
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_times(SMALL_TRIES - 1)
            .with_jitter();
        let read = (|| self.store.small(&key, limit)).retry(patience).when(again).await;
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(missing(&at)),
            Err(error) if error.code == Some("too-large") => {
                return Err(wrong(&at, (size, sha256), &format!("more than {size} bytes")));
            }
            Err(error) => return Err(error),
        };
        let sum = hex::encode(Sha256::digest(&bytes));
        if bytes.len() as u64 == size && sum == sha256 {
            return Ok(bytes.into());
        }
        let found = format!("{} bytes with sha256 {sum}", bytes.len());
        Err(wrong(&at, (size, sha256), &found))
    }

    /// A copy, to be read from its beginning.
    pub(super) async fn copy(&self, sha256: &str, size: u64) -> Result<Copy, ActionError> {
        let key = self.key(sha256);
        let at = self.address(sha256);
        let info: ObjectInfo = self.store.head(&key).await?.ok_or_else(|| missing(&at))?;
        let etag = info.etag.clone().unwrap_or_default();
        let copy = Copy {
            object: Pinned::new(&self.store, &key, &etag),
            at,
            etag,
            size,
            read: 0,
            hash: Sha256::new(),
            sha256: sha256.into(),
        };
        if info.size_bytes == size {
            Ok(copy)
        } else {
            Err(copy.wrong(&format!("{} bytes", info.size_bytes)))
        }
    }
}

/// How large the parts of a copy must be, for the store and for memory.
pub(super) fn part_size(size: u64) -> u64 {
    CHUNK.max(size.div_ceil(PARTS_MAX))
}

/// A copy on its way out.
pub(super) struct Copy {
    object: Pinned,
    at: String,
    /// What the reading is bound to.
    pub(super) etag: String,
    size: u64,
    read: u64,
    hash: Sha256,
    sha256: String,
}

impl Copy {
    /// The next bytes, at most so many; none at the end.
    pub(super) async fn next(&mut self, most: u64) -> Result<Option<Bytes>, ActionError> {
        if self.read == self.size {
            return Ok(None);
        }
        let to = (self.read + most).min(self.size);
        let bytes = self.object.part(self.read, to).await.map_err(|failure| broken(&self.at, failure))?;
        self.hash.update(&bytes);
        self.read = to;
        Ok(Some(bytes))
    }

    /// Refuses a copy whose bytes, all of them read, are not what its name promises.
    pub(super) fn check(&self) -> Result<(), ActionError> {
        let sum = hex::encode(self.hash.clone().finalize());
        if self.read == self.size && sum == self.sha256 {
            Ok(())
        } else {
            Err(self.wrong(&format!("sha256 {sum}")))
        }
    }

    fn wrong(&self, found: &str) -> ActionError {
        wrong(&self.at, (self.size, &self.sha256), found)
    }
}

fn missing(at: &str) -> ActionError {
    ActionError::refused(format!("find the copy `{at}`: it is not there"))
        .code("object-missing")
        .hint("An earlier snapshot may hold the object; look with an earlier restore point.")
}

fn wrong(at: &str, (size, sha256): (u64, &str), found: &str) -> ActionError {
    ActionError::refused(format!(
        "trust the copy `{at}`: the manifest says {size} bytes with sha256 {sha256}, it has {found}"
    ))
    .code("checksum-mismatch")
    .hint("The copy was altered or cut off. An earlier snapshot may hold the object under other bytes.")
}

/// The moment in a manifest's key: `…/BUCKET-20260201T030000Z.jsonl`.
fn moment(bucket: &str, key: &str) -> Option<Timestamp> {
    let name = key.rsplit('/').next()?.strip_prefix(bucket)?.strip_prefix('-')?.strip_suffix(".jsonl")?;
    let at = DateTime::strptime("%Y%m%dT%H%M%SZ", name).ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}
