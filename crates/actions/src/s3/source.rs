//! One object as a stream of bytes that cannot change on the way: its parts in order, sha256 of every byte as it
//! passes, and of ranges that are watched. A file is read the same way. The reading end blocks: it belongs on a thread of its own.
//!
//! Memory is bounded by [`PART_BYTES`] times the parts in flight and waiting.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read, Seek as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::{Buf as _, Bytes};
use jiff::Timestamp;
use runbook_core::action::{ActionError, Context};
use sha2::{Digest as _, Sha256};

use super::location::Location;
use super::parts::{Fetched, Pinned};
use super::store::Store;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Size in bytes.
    pub size_bytes: u64,
    /// What every read is bound to; for a file its size and time of change.
    pub etag: Option<String>,
    /// The store's own full-object sha256, lower-case hex.
    pub store_sha256: Option<String>,
    /// When it was written.
    pub last_modified: Option<Timestamp>,
}

/// Looks at an object without reading it. One that is not there is refused.
/// `source` names one of the environment's `backup_sources`; none is its own backup bucket.
pub async fn inspect(ctx: &Context, source: Option<&str>, at: &Location) -> Result<ObjectInfo, ActionError> {
    let gone = || ActionError::refused(format!("find `{at}`: it is not there")).code("object-missing");
    match at {
        Location::S3 { bucket, key } => {
            Store::bucket_of(ctx, source, bucket).await?.head(key).await?.ok_or_else(gone)
        }
        Location::File(path) => match std::fs::metadata(path) {
            Ok(found) => Ok(file_info(&found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(gone()),
            Err(error) => Err(ActionError::refused(format!("look at `{at}`")).because(error)),
        },
    }
}

fn file_info(found: &Metadata) -> ObjectInfo {
    let changed = found.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    let nanos = changed.duration_since(SystemTime::UNIX_EPOCH).map(|d| d.as_nanos()).unwrap_or(0);
    ObjectInfo {
        size_bytes: found.len(),
        etag: Some(format!("{}-{nanos}", found.len())),
        store_sha256: None,
        last_modified: Timestamp::try_from(changed).ok(),
    }
}

/// Reads an object that [`inspect`] saw; the bytes are those, or the reader fails. Nothing is fetched before the first
/// read. `source` as for [`inspect`].
pub async fn read(
    ctx: &Context,
    source: Option<&str>,
    at: &Location,
    info: &ObjectInfo,
) -> Result<Tap, ActionError> {
    read_range(ctx, source, at, info, 0..info.size_bytes).await
}

/// The same for a part of it. What the [`Tap`] says of size and sha256 is that of the part.
pub async fn read_range(
    ctx: &Context,
    source: Option<&str>,
    at: &Location,
    info: &ObjectInfo,
    range: Range<u64>,
) -> Result<Tap, ActionError> {
    if range.start > range.end || range.end > info.size_bytes {
        return Err(ActionError::refused(format!(
            "read bytes {} to {} of `{at}`: it has {}",
            range.start, range.end, info.size_bytes
        )));
    }
    let size = range.end - range.start;
    let from = match at {
        Location::S3 { bucket, key } => {
            let Some(etag) = info.etag.clone() else {
                return Err(ActionError::refused(format!("bind the reading of `{at}`: it has no ETag")));
            };
            let store = Store::bucket_of(ctx, source, bucket).await?;
            let object = Pinned::new(&store, key, &etag);
            From::Store { fetched: Fetched::new(object, range), current: Bytes::new() }
        }
        Location::File(path) => {
            let broken = |error| ActionError::refused(format!("open `{at}`")).because(error);
            let mut file = File::open(path).map_err(broken)?;
            file.seek(io::SeekFrom::Start(range.start)).map_err(broken)?;
            From::File { file, path: path.clone(), etag: info.etag.clone() }
        }
    };
    Ok(Tap(Arc::new(Shared {
        state: Mutex::new(State {
            from,
            hash: Sha256::new(),
            spans: Vec::new(),
            ended: false,
            failure: None,
        }),
        read: AtomicU64::new(0),
        watched: AtomicU64::new(0),
        cancelled: AtomicBool::new(false),
        size,
    })))
}

/// Why an object could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Another object is there now under the same name.
    #[error("read the object: it changed while it was read")]
    Changed,
    /// The store or the file failed; trying again may help.
    #[error("read the object: {0}")]
    Broken(String),
    /// The reader was told to stop.
    #[error("read the object: a stop was asked for")]
    Cancelled,
}

/// The reading end of an object; clones read on where another left off, and all see the same digest.
#[derive(Clone)]
pub struct Tap(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    read: AtomicU64,
    /// Those of them that are watched.
    watched: AtomicU64,
    cancelled: AtomicBool,
    size: u64,
}

struct State {
    from: From,
    hash: Sha256,
    spans: Vec<Span>,
    ended: bool,
    failure: Option<Failure>,
}

/// A part of the object that is hashed by itself.
struct Span {
    range: Range<u64>,
    hash: Sha256,
}

enum From {
    Store { fetched: Fetched, current: Bytes },
    File { file: File, path: PathBuf, etag: Option<String> },
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tap({} of {} bytes)", self.bytes_read(), self.0.size)
    }
}

impl Tap {
    /// Bytes that passed so far.
    pub fn bytes_read(&self) -> u64 {
        self.0.read.load(Ordering::Relaxed)
    }

    /// Size of the object.
    pub fn size_bytes(&self) -> u64 {
        self.0.size
    }

    /// From now on hashes these parts of it by themselves as well. Bytes that passed before are not in their hashes.
    pub fn watch(&self, ranges: impl IntoIterator<Item = Range<u64>>) {
        let spans = ranges.into_iter().map(|range| Span { range, hash: Sha256::new() });
        self.state().spans.extend(spans);
    }

    /// Bytes of watched parts that passed so far.
    pub fn watched_bytes(&self) -> u64 {
        self.0.watched.load(Ordering::Relaxed)
    }

    /// The sha256 of each watched part, as far as it passed, in the order in which they were given; lower-case hex.
    pub fn watched(&self) -> Vec<String> {
        self.state().spans.iter().map(|span| hex::encode(span.hash.clone().finalize())).collect()
    }

    /// Lets whoever reads on fail with [`Failure::Cancelled`], on whatever thread that is.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }

    /// Why reading failed, when it did.
    pub fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Reads what is left and gives the sha256 of the whole object, lower-case hex. Blocks.
    pub fn finish(&self) -> Result<String, Failure> {
        let mut scratch = vec![0; 256 << 10];
        let mut tap = self.clone();
        loop {
            match tap.read(&mut scratch) {
                Ok(0) => return Ok(hex::encode(self.state().hash.clone().finalize())),
                Ok(_) => {}
                Err(error) => {
                    return Err(self.failure().unwrap_or_else(|| Failure::Broken(error.to_string())));
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A reader that panicked left whole values behind: nothing here is half-written.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for Tap {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state();
        let state = &mut *state;
        if self.0.cancelled.load(Ordering::Relaxed) {
            state.failure.get_or_insert(Failure::Cancelled);
        }
        if let Some(failure) = &state.failure {
            return Err(io::Error::other(failure.clone()));
        }
        if state.ended || into.is_empty() {
            return Ok(0);
        }
        let seen = self.0.read.load(Ordering::Relaxed);
        match state.from.read(into, seen, self.0.size) {
            Ok(0) => {
                state.ended = true;
                Ok(0)
            }
            Ok(n) => {
                state.hash.update(&into[..n]);
                for span in &mut state.spans {
                    let own = span.pass(seen, &into[..n]);
                    self.0.watched.fetch_add(own as u64, Ordering::Relaxed);
                }
                self.0.read.store(seen + n as u64, Ordering::Relaxed);
                Ok(n)
            }
            Err(failure) => {
                state.failure = Some(failure.clone());
                Err(io::Error::other(failure))
            }
        }
    }
}

impl Span {
    /// Bytes of the object pass, the first of them at `at`; how many are the part's own.
    fn pass(&mut self, at: u64, bytes: &[u8]) -> usize {
        let within =
            |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let own = &bytes[within(self.range.start)..within(self.range.end)];
        self.hash.update(own);
        own.len()
    }
}

impl From {
    fn read(&mut self, into: &mut [u8], seen: u64, size: u64) -> Result<usize, Failure> {
        match self {
            Self::Store { fetched, current } => {
                while current.is_empty() {
                    match fetched.next() {
                        Some(part) => *current = part?,
                        None if seen == size => return Ok(0),
                        None => return Err(Failure::Broken("the download was ended".into())),
                    }
                }
                let n = into.len().min(current.len());
                current.copy_to_slice(&mut into[..n]);
                Ok(n)
            }
            Self::File { file, path, etag } => {
                let left = usize::try_from(size - seen).unwrap_or(usize::MAX).min(into.len());
                let n = file.read(&mut into[..left]).map_err(|error| Failure::Broken(error.to_string()))?;
                // One that grew or was written anew has another size or time of change by now.
                if n == 0 && (seen != size || etag_of(path) != *etag) {
                    return Err(Failure::Changed);
                }
                Ok(n)
            }
        }
    }
}

fn etag_of(path: &Path) -> Option<String> {
    std::fs::metadata(path).ok().and_then(|found| file_info(&found).etag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bucket, World};

    async fn opened(bucket: &Bucket) -> (Tap, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), Some(bucket.settings()));
        let ctx = world.at(1, "k");
        let at = Location::parse("s3://backups/a/b").unwrap();
        let info = inspect(&ctx, None, &at).await.unwrap();
        (read(&ctx, None, &at, &info).await.unwrap(), folder)
    }

    #[tokio::test]
    async fn an_object_arrives_whole_in_order_and_hashed() {
        let bucket = Bucket::start().await;
        let bytes: Vec<u8> = (0..1_000_003u32).flat_map(u32::to_le_bytes).collect();
        bucket.put("a/b", &bytes);
        let (tap, _folder) = opened(&bucket).await;
        let mut reader = tap.clone();
        let (first, sum) = tokio::task::spawn_blocking(move || {
            let mut first = vec![0; 200_000];
            reader.read_exact(&mut first).unwrap();
            (first, reader.finish().unwrap())
        })
        .await
        .unwrap();
        assert_eq!(first, bytes[..200_000]);
        assert_eq!(sum, hex::encode(Sha256::digest(&bytes)));
        assert_eq!(tap.bytes_read(), bytes.len() as u64);
    }

    #[tokio::test]
    async fn parts_that_are_watched_are_hashed_by_themselves() {
        let bucket = Bucket::start().await;
        let bytes: Vec<u8> = (0..200_003u32).flat_map(u32::to_le_bytes).collect();
        bucket.put("a/b", &bytes);
        let (tap, _folder) = opened(&bucket).await;
        let ranges = [0..1, 70_001..600_000, 300_000..300_000, 800_000..800_012];
        tap.watch(ranges.clone().map(|range| range.start as u64..range.end as u64));
        let reader = tap.clone();
        tokio::task::spawn_blocking(move || reader.finish().unwrap()).await.unwrap();
        assert_eq!(tap.watched_bytes(), ranges.iter().map(|range| range.len() as u64).sum::<u64>());
        assert_eq!(tap.watched(), ranges.map(|range| hex::encode(Sha256::digest(&bytes[range]))));
    }

    #[tokio::test]
    async fn the_stores_own_checksum_of_a_whole_object_is_known() {
        let bucket = Bucket::start().await;
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), Some(bucket.settings()));
        let store = Store::of(&world.at(1, "k")).await.unwrap();
        store.put_with_sum("x", b"some bytes").await;
        let sum = store.head("x").await.unwrap().unwrap().store_sha256;
        assert_eq!(sum, Some(hex::encode(Sha256::digest(b"some bytes"))));
        bucket.put("y", b"put by other means");
        assert_eq!(store.head("y").await.unwrap().unwrap().store_sha256, None);
        assert_eq!(store.head("z").await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_object_that_changes_on_the_way_is_noticed() {
        let bucket = Bucket::start().await;
        bucket.put("a/b", &vec![1; 3 << 20]);
        let (tap, _folder) = opened(&bucket).await;
        let path = bucket.path("a/b");
        let failure = tokio::task::spawn_blocking(move || {
            let mut tap = tap;
            tap.read_exact(&mut [0; 100]).unwrap();
            std::fs::write(path, vec![2; 3 << 20]).unwrap();
            tap.finish().unwrap_err()
        });
        assert_eq!(failure.await.unwrap(), Failure::Changed);
    }

    #[tokio::test]
    async fn a_file_that_grows_on_the_way_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), None);
        let path = folder.path().join("x");
        std::fs::write(&path, vec![1; 1 << 20]).unwrap();
        let at = Location::File(path.clone());
        let ctx = world.at(1, "k");
        let info = inspect(&ctx, None, &at).await.unwrap();
        let mut tap = read(&ctx, None, &at, &info).await.unwrap();
        tap.read_exact(&mut [0; 100]).unwrap();
        std::fs::write(&path, vec![1; 2 << 20]).unwrap();
        assert_eq!(tap.finish().unwrap_err(), Failure::Changed);
        assert!(inspect(&ctx, None, &Location::File(folder.path().join("y"))).await.is_err());
    }
}
