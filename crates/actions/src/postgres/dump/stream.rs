//! What pg_dump writes, on its way to the bucket: hashed, cut into parts, and read by the indexer. Touches no disk.

use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use runbook_core::action::{Progress, ProgressSink};
use runbook_dump::{Contents, DumpError, Indexer, Limits};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::backup::writing::Digest;

/// Bytes read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// What passed by.
#[derive(Debug)]
pub(super) struct Passed {
    pub(super) digest: Digest,
    pub(super) contents: Contents,
}

/// Why not all of it did.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// The archive is not one, or not a whole one.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The pipe, or a thread.
    #[error("read what pg_dump writes: {0}")]
    Pipe(#[from] std::io::Error),
    /// Whoever takes the parts went away; it knows why.
    #[error("hand over what pg_dump writes: nobody takes it")]
    Unwanted,
}

/// Reads to the end and hands parts over, all of one size but the last. Blocks: memory is bounded by the parts on their
/// way.
pub(super) fn pump(
    mut from: impl Read,
    part_bytes: usize,
    to: &mpsc::Sender<Bytes>,
    news: &Arc<dyn ProgressSink>,
) -> Result<Passed, Broken> {
    let mut indexer = Indexer::start(Limits::default())?;
    let mut hash = Sha256::new();
    let mut size_bytes = 0;
    let mut part = Vec::new();
    loop {
        let room = PIECE_BYTES.min(part_bytes - part.len());
        let mut piece = vec![0; room];
        let n = from.read(&mut piece)?;
        if n == 0 {
            break;
        }
        piece.truncate(n);
        hash.update(&piece);
        part.extend_from_slice(&piece);
        indexer.push(piece)?;
        size_bytes += n as u64;
        news.report(Progress { done: size_bytes, total: None, unit: "bytes", message: "dumping".into() });
        if part.len() == part_bytes {
            let whole = Bytes::from(std::mem::take(&mut part));
            to.blocking_send(whole).map_err(|_| Broken::Unwanted)?;
        }
    }
    // A dump that was cut off must not become an object: it is known before the last part leaves.
    let contents = indexer.finish()?;
    if !part.is_empty() {
        to.blocking_send(Bytes::from(part)).map_err(|_| Broken::Unwanted)?;
    }
    Ok(Passed { digest: Digest { sha256: hex::encode(hash.finalize()), size_bytes }, contents })
}
