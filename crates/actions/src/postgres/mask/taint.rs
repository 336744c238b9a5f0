//! Remembers source values of masked columns as keyed hashes in a Bloom filter: bounded memory, nothing to be read
//! from it without the key, no value is ever missed, few are taken for known that are not.

use std::io::Write as _;
use std::path::Path;

use ring::hmac::{Key, sign};
use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::keys::Keys;
use super::output::TaintFile;
use super::search;

/// Bits looked at for a value.
const PROBES: u64 = 16;
/// The smallest and the largest filter, in bits: 1 MiB and 256 MiB.
const BITS: std::ops::RangeInclusive<u64> = 1 << 23..=1 << 31;
/// How the file begins; the header follows as one line of JSON, then the bits.
const MAGIC: &[u8] = b"RUNBOOK-TAINT-1\n";
/// A header is short.
const HEADER_BYTES_MAX: usize = 4096;
/// Name of the file among the artifacts of a step.
const FILE: &str = "taint.bin";

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    key_check: String,
    bits: u64,
    values: u64,
}

/// The filter.
#[derive(Debug)]
pub(super) struct Taint {
    words: Vec<u64>,
    values: u64,
    key: Key,
    key_check: String,
}

impl Taint {
    /// An empty one, fit for a dump or a database of so many bytes.
    pub(super) fn new(keys: &Keys, bytes: u64) -> Self {
        let bits = bytes.saturating_mul(16).clamp(*BITS.start(), *BITS.end()).next_power_of_two();
        Self {
            words: vec![0; usize::try_from(bits / 64).unwrap_or(1 << 17)],
            values: 0,
            key: keys.taint.clone(),
            key_check: keys.check.clone(),
        }
    }

    fn bits(&self) -> u64 {
        self.words.len() as u64 * 64
    }

    /// The places of a value: two halves of its hash make all of them.
    fn places(&self, value: &str) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mac = sign(&self.key, value.as_bytes());
        let half =
            |at: usize| mac.as_ref()[at..at + 8].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let (start, stride, mask) = (half(0), half(8) | 1, self.bits() - 1);
        (0..PROBES).map(move |n| {
            let bit = start.wrapping_add(n.wrapping_mul(stride)) & mask;
            (usize::try_from(bit / 64).unwrap_or(0), 1u64 << (bit % 64))
        })
    }

    /// Remembers a source value.
    pub(super) fn add(&mut self, value: &str) {
        search::of_source(value, |value| {
            for (word, bit) in self.places(value) {
                self.words[word] |= bit;
            }
            self.values += 1;
        });
    }

    /// Whether a value holds a source value.
    pub(super) fn is_in(&self, value: &str) -> bool {
        search::is_known(value, |value| self.places(value).all(|(word, bit)| self.words[word] & bit != 0))
    }

    /// The share of unknown values that would be taken for known ones.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn false_positive_rate(&self) -> f64 {
        let set: u64 = self.words.iter().map(|word| u64::from(word.count_ones())).sum();
        (set as f64 / self.bits() as f64).powi(16)
    }

    /// Writes it among a step's artifacts, durably and whole.
    pub(super) fn save(&self, artifacts: &Path) -> Result<TaintFile, ActionError> {
        let path = artifacts.join(FILE);
        let attempted = |error: std::io::Error| {
            ActionError::unchanged(format!("write the hashes of source values to `{}`", path.display()))
                .because(error)
        };
        let header = Header { key_check: self.key_check.clone(), bits: self.bits(), values: self.values };
        let header = serde_json::to_vec(&header)
            .map_err(|error| ActionError::unchanged("write down what the hashes are of").because(error))?;
        std::fs::create_dir_all(artifacts).map_err(attempted)?;
        let part = artifacts.join(format!("{FILE}.part"));
        let file = std::fs::File::create(&part).map_err(attempted)?;
        let mut hash = Sha256::new();
        let mut out = std::io::BufWriter::with_capacity(1 << 20, &file);
        let mut put = |bytes: &[u8]| {
            hash.update(bytes);
            out.write_all(bytes)
        };
        put(MAGIC).and_then(|()| put(&header)).and_then(|()| put(b"\n")).map_err(attempted)?;
        let mut buffer = Vec::with_capacity(64 << 10);
        for words in self.words.chunks(8 << 10) {
            buffer.clear();
            buffer.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            put(&buffer).map_err(attempted)?;
        }
        out.flush().map_err(attempted)?;
        drop(out);
        file.sync_all().map_err(attempted)?;
        std::fs::rename(&part, &path).map_err(attempted)?;
        Ok(TaintFile {
            path: path.to_string_lossy().into_owned(),
            sha256: hex::encode(hash.finalize()),
            values: self.values,
            false_positive_rate: self.false_positive_rate(),
        })
    }

    /// Reads one back, and refuses any other than the one that was written.
    pub(super) fn load(file: &TaintFile, keys: &Keys) -> Result<Self, ActionError> {
        let attempted = format!("read the hashes of source values from `{}`", file.path);
        let refused = |why: &str| ActionError::refused(format!("{attempted}: {why}")).code("taint-missing");
        let length = std::fs::metadata(&file.path).map(|found| found.len()).unwrap_or(0);
        if length > BITS.end() / 8 + HEADER_BYTES_MAX as u64 {
            return Err(refused("it is too large to be one"));
        }
        let bytes = std::fs::read(&file.path).map_err(|error| {
            refused("it cannot be read")
                .because(error)
                .hint("It lies where the masking step ran. Bring it there, or mask again.")
        })?;
        if hex::encode(Sha256::digest(&bytes)) != file.sha256 {
            return Err(refused("it is not the file that the masking step wrote"));
        }
        let broken = || refused("it is damaged");
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
        let end = rest.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n').ok_or_else(broken)?;
        let header: Header = serde_json::from_slice(&rest[..end]).map_err(|_| broken())?;
        if header.key_check != keys.check {
            return Err(refused("it was made with another key"));
        }
        let words: Vec<u64> =
            rest[end + 1..].as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        if words.len() as u64 * 64 != header.bits || !header.bits.is_power_of_two() {
            return Err(broken());
        }
        Ok(Self { words, values: header.values, key: keys.taint.clone(), key_check: header.key_check })
    }
}
