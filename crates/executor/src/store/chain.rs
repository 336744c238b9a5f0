//! How a record's hash follows from the one before. Pure.
//!
//! ```text
//! frame(x) = length of x in bytes, as 8 bytes, most significant first, then x
//! genesis  = SHA-256( frame("runbook journal 1") frame(id) frame(runbook) frame(environment)
//!                     frame(created_at) frame("writes" or "reads") )
//! hash(n)  = SHA-256( hash(n-1) frame(id) frame(n in decimal) frame(at) frame(body) )
//! ```
//!
//! Texts are UTF-8; times are RFC 3339 in UTC, as they stand in the file. The lengths keep two different
//! records from ever being the same bytes. Twenty lines in any language can prove a chain without this program.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::error::JournalError;
use super::journal::{RunRow, Stored, Verified};

/// Opens every chain, so that a hash of ours is never a hash of something else.
const TAG: &[u8] = b"runbook journal 1";

/// Where a chain stands: the number and the hash of its last record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// 0 before the first record.
    pub seq: u64,
    /// The genesis hash before the first record.
    pub hash: [u8; 32],
}

/// Where the chain of a run begins.
pub fn genesis(run: &RunRow) -> Link {
    let mut hasher = Sha256::new();
    frame(&mut hasher, TAG);
    frame(&mut hasher, run.id.as_bytes());
    frame(&mut hasher, run.runbook.as_bytes());
    frame(&mut hasher, run.environment.as_bytes());
    frame(&mut hasher, run.created_at.to_string().as_bytes());
    frame(&mut hasher, if run.writes { b"writes" } else { b"reads" });
    Link { seq: 0, hash: hasher.finalize().into() }
}

impl Link {
    /// The record that follows this one.
    pub(crate) fn next(self, run: &str, at: Timestamp, body: Vec<u8>) -> Stored {
        let seq = self.seq + 1;
        let mut hasher = Sha256::new();
        hasher.update(self.hash);
        frame(&mut hasher, run.as_bytes());
        frame(&mut hasher, seq.to_string().as_bytes());
        frame(&mut hasher, at.to_string().as_bytes());
        frame(&mut hasher, &body);
        Stored { seq, at, hash: hasher.finalize().into(), body }
    }

    /// Steps over `record`, or says why it does not follow.
    pub(crate) fn follow(self, run: &str, record: Stored) -> Result<(Self, Stored), JournalError> {
        let expected = self.seq + 1;
        let broken = |why| JournalError::Broken { run: run.to_owned(), seq: expected, why };
        if record.seq != expected {
            return Err(broken("it is missing"));
        }
        let hash = record.hash;
        let record = self.next(run, record.at, record.body);
        if record.hash != hash {
            return Err(broken("its hash does not follow from the record before"));
        }
        Ok((Self { seq: record.seq, hash }, record))
    }
}

/// Proves that `records` are the chain of `run` from its first record on.
pub fn prove(run: &RunRow, records: impl IntoIterator<Item = Stored>) -> Result<Verified, JournalError> {
    let mut link = genesis(run);
    for record in records {
        (link, _) = link.follow(&run.id, record)?;
    }
    Ok(Verified { records: link.seq, head: link.hash })
}

fn frame(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}
