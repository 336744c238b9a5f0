//! An object in parts: ranged GETs bound to one ETag, a few in flight, each retried by itself, handed on in order.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::error::DisplayErrorContext;
use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::source::Failure;
use super::store::{Store, status, up_to};

/// One ranged GET: large enough that requests do not count, small enough to retry. Tests have small objects,
/// which should have many parts.
const PART_BYTES: u64 = if cfg!(test) { 256 << 10 } else { 8 << 20 };
/// Parts asked for at a time; more bring nothing beside COPY (facts/restore-limits.md).
const PARTS_IN_FLIGHT: usize = 3;
/// Tries per part.
const PART_TRIES: usize = 6;
/// A part that takes longer is asked for again.
const PART_TIMEOUT: Duration = Duration::from_secs(120);

/// Parts of an object in their order; the first is asked for when it is wanted.
pub(super) struct Fetched {
    object: Pinned,
    range: Range<u64>,
    runtime: Handle,
    under_way: Option<(mpsc::Receiver<Result<Bytes, Failure>>, StopOnDrop)>,
}

impl Fetched {
    /// Belongs to the runtime that it is made on; reading it blocks, elsewhere.
    pub(super) fn new(object: Pinned, range: Range<u64>) -> Self {
        Self { object, range, runtime: Handle::current(), under_way: None }
    }

    /// The next part; none at the end, and after an error.
    pub(super) fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        let (parts, _) = self.under_way.get_or_insert_with(|| {
            let (send, parts) = mpsc::channel(1);
            let pump = self.runtime.spawn(pump(self.object.clone(), self.range.clone(), send));
            (parts, StopOnDrop(pump))
        });
        parts.blocking_recv()
    }
}

/// Ends the fetching when nobody reads any more.
struct StopOnDrop(tokio::task::JoinHandle<()>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An object bound to one ETag, read in parts.
#[derive(Clone)]
pub(crate) struct Pinned {
    store: Store,
    key: String,
    etag: String,
}

/// Fetches all parts, a few at a time, and hands them on in order. Ends when nobody listens.
async fn pump(object: Pinned, range: Range<u64>, send: mpsc::Sender<Result<Bytes, Failure>>) {
    let object = &object;
    let parts = (range.end - range.start).div_ceil(PART_BYTES);
    let starts = (0..parts).map(|n| range.start + n * PART_BYTES);
    let mut parts = futures_util::stream::iter(starts)
        .map(|from| object.part(from, (from + PART_BYTES).min(range.end)))
        .buffered(PARTS_IN_FLIGHT);
    while let Some(part) = parts.next().await {
        let over = part.is_err();
        if send.send(part).await.is_err() || over {
            return;
        }
    }
}

impl Pinned {
    /// Binds the reading of an object to what [`Store::head`] saw of it.
    pub(crate) fn new(store: &Store, key: &str, etag: &str) -> Self {
        Self { store: store.clone(), key: key.into(), etag: etag.into() }
    }

    /// The bytes from the first to before the second position, tried several times.
    pub(crate) async fn part(&self, from: u64, to: u64) -> Result<Bytes, Failure> {
        let once = || async {
            match tokio::time::timeout(PART_TIMEOUT, self.try_part(from, to)).await {
                Ok(part) => part,
                Err(_) => Err(Failure::Broken(format!("no part at byte {from} within {PART_TIMEOUT:?}"))),
            }
        };
        let patience = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(PART_TRIES - 1)
            .with_jitter();
        once.retry(patience).when(|failure| *failure != Failure::Changed).await
    }

    async fn try_part(&self, from: u64, to: u64) -> Result<Bytes, Failure> {
        let request = self.store.client.get_object().bucket(&self.store.bucket).key(&self.key);
        let range = format!("bytes={from}-{}", to - 1);
        let answer = match request.range(range).if_match(&self.etag).send().await {
            Ok(answer) => answer,
            Err(error) if matches!(status(&error), Some(404 | 412 | 416)) => return Err(Failure::Changed),
            Err(error) => {
                return Err(Failure::Broken(DisplayErrorContext(&error).to_string()));
            }
        };
        // Stores exist that ignore If-Match on GET: look at what came.
        if answer.e_tag() != Some(self.etag.as_str()) {
            return Err(Failure::Changed);
        }
        let wanted = to - from;
        // A store that ignores the range sends the whole object, which need not fit into memory.
        let limit = usize::try_from(wanted).unwrap_or(usize::MAX);
        let part = up_to(answer.body, limit).await.map_err(|error| Failure::Broken(error.to_string()))?;
        match part {
            Some(part) if part.len() as u64 == wanted => Ok(part.into()),
            Some(part) => {
                Err(Failure::Broken(format!("asked for {wanted} bytes at {from}, got {}", part.len())))
            }
            None => Err(Failure::Broken(format!("asked for {wanted} bytes at {from}, got more"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use runbook_core::environment::Backups;
    use runbook_core::secret::SecretText;

    use super::*;
    use crate::testing::World;

    /// A store that ignores ranges and sends without end, whatever is asked.
    async fn endless() -> (Backups, tokio::task::JoinHandle<()>) {
        let router = axum::Router::new().fallback(|| async {
            let pieces =
                futures_util::stream::repeat_with(|| Ok::<_, io::Error>(Bytes::from(vec![b'a'; 64 << 10])));
            ([("etag", "\"e\"")], axum::body::Body::from_stream(pieces))
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let settings = Backups {
            bucket: "backups".into(),
            prefix: None,
            storage_prefix: None,
            data: None,
            endpoint: Some(endpoint),
            region: None,
            path_style: true,
            access_key_id: Some(SecretText::reference("id")),
            secret_access_key: Some(SecretText::reference("secret")),
        };
        (settings, server)
    }

    #[tokio::test]
    async fn a_body_without_end_is_not_taken_into_memory() {
        let (settings, server) = endless().await;
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), Some(settings));
        let store = Store::of(&world.at(1, "k")).await.unwrap();

        let text = store.text("a.sha256", 64 << 10).await.unwrap_err();
        let object = Pinned { store, key: "a".into(), etag: "\"e\"".into() };
        let part = object.try_part(0, 1 << 20).await.unwrap_err();
        server.abort();

        assert!(text.attempted.contains("it is larger than 65536 bytes"), "{text:#?}");
        assert_eq!(part, Failure::Broken("asked for 1048576 bytes at 0, got more".into()));
    }
}
