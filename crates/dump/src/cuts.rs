//! Cuts a table's rows into parts that can be read one without the other, and notes for each which keys may be in it. Pure:
//! is shown the rows as they pass.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash64;

use crate::archive::Landmark;
use crate::contents::hex;

/// Columns whose values are noted, in one table.
const KEYS_MAX: usize = 4;
/// Bits of a filter for each value: one in a hundred values that are not there seems to be.
const FILTER_BITS: u64 = 10;
const FILTER_PROBES: u64 = 7;
/// Values of one part that go into a filter; more would take too much memory.
const FILTER_VALUES_MAX: usize = 4 << 20;
/// Bytes of all filters of one table.
const FILTER_BYTES_MAX: usize = 8 << 20;

/// The parts of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cuts {
    /// Columns whose values are noted in each part.
    pub keys: Vec<String>,
    /// The parts, in the order of the rows; together they have them all.
    pub parts: Vec<CutPart>,
}

/// Some rows of a table, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutPart {
    /// Where to begin; at the beginning of the block when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<Landmark>,
    /// Bytes of COPY text before the first row.
    pub text: u64,
    /// How long its rows are as COPY text, with their line ends.
    pub text_bytes: u64,
    /// The byte of the archive before which all of it stands.
    pub upto: u64,
    /// sha256 of its rows as COPY text, lower-case hex.
    pub sha256: String,
    /// For each of the keys which values may be in it.
    pub values: Vec<Values>,
}

/// Which values may be in a part. NULL is never among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Values {
    /// Whole numbers from the first to the second.
    Range(i64, i64),
    /// Those that a Bloom filter knows: its bits, as base64.
    Filter(#[serde(with = "bits")] Vec<u8>),
    /// Any.
    Any,
    /// None at all.
    None,
}

/// A whole number as PostgreSQL writes it; none for any other text, one with a needless zero or sign too.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// Bits of a filter of so many that stand for a value with this hash: two halves of the hash serve for as many as are
/// wanted (Kirsch and Mitzenmacher, 2006).
fn probes(hash: u64, bits: u64) -> impl Iterator<Item = u64> {
    let (first, second) = (hash >> 32, (hash & 0xffff_ffff) | 1);
    (0..FILTER_PROBES).map(move |n| first.wrapping_add(n.wrapping_mul(second)) % bits.max(1))
}

mod bits {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bits: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bits))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(D::Error::custom)
    }
}

impl Values {
    /// Whether a value, as it stands in the COPY text, may be in the part.
    pub fn may_have(&self, value: &[u8]) -> bool {
        match self {
            Self::Range(least, most) => number(value).is_some_and(|n| (least..=most).contains(&&n)),
            Self::Filter(bits) => {
                let is_set = |at: u64| {
                    let byte = usize::try_from(at / 8).ok().and_then(|at| bits.get(at));
                    byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
                };
                probes(XxHash64::oneshot(0, value), bits.len() as u64 * 8).all(is_set)
            }
            Self::Any => true,
            Self::None => false,
        }
    }
}

/// The values of one column in the open part.
#[derive(Debug, Default)]
struct Noted {
    hashes: Vec<u64>,
    /// While all are whole numbers.
    range: Option<(i64, i64)>,
    others: bool,
    too_many: bool,
}

impl Noted {
    fn note(&mut self, value: &[u8]) {
        match number(value) {
            Some(n) => {
                let (least, most) = self.range.unwrap_or((n, n));
                self.range = Some((least.min(n), most.max(n)));
            }
            None => self.others = true,
        }
        if self.hashes.len() < FILTER_VALUES_MAX {
            self.hashes.push(XxHash64::oneshot(0, value));
        } else {
            self.too_many = true;
        }
    }

    fn values(self) -> Values {
        match self.range {
            Some((least, most)) if !self.others => return Values::Range(least, most),
            None if !self.others => return Values::None,
            _ if self.too_many => return Values::Any,
            _ => {}
        }
        let bytes = (self.hashes.len() as u64 * FILTER_BITS).div_ceil(8).max(1);
        let mut bits = vec![0_u8; usize::try_from(bytes).unwrap_or(1)];
        for hash in self.hashes {
            for at in probes(hash, bytes * 8) {
                if let Some(byte) = usize::try_from(at / 8).ok().and_then(|at| bits.get_mut(at)) {
                    *byte |= 1 << (at % 8);
                }
            }
        }
        Values::Filter(bits)
    }
}

/// Is shown the rows of one table.
pub(crate) struct Cutter {
    keys: Vec<String>,
    /// Where in a row they stand.
    places: Vec<usize>,
    landmarks: VecDeque<Landmark>,
    /// Bytes of text that were shown.
    text: u64,
    open: Open,
    parts: Vec<CutPart>,
    upto: u64,
}

struct Open {
    begin: Option<Landmark>,
    text: u64,
    hash: Sha256,
    noted: Vec<Noted>,
}

impl Open {
    fn new(begin: Option<Landmark>, text: u64, keys: usize) -> Self {
        let noted = std::iter::repeat_with(Noted::default).take(keys).collect();
        Self { begin, text, hash: Sha256::new(), noted }
    }
}

impl Cutter {
    /// `columns` are those of the rows, `unique` those that name a row, each by itself.
    pub(crate) fn new(columns: &[String], unique: impl Iterator<Item = String>) -> Self {
        let mut keys = Vec::new();
        let mut places = Vec::new();
        for key in unique {
            let place = columns.iter().position(|column| *column == key);
            if let Some(place) = place.filter(|place| !places.contains(place) && places.len() < KEYS_MAX) {
                keys.push(key);
                places.push(place);
            }
        }
        let open = Open::new(None, 0, keys.len());
        Self { keys, places, landmarks: VecDeque::new(), text: 0, open, parts: Vec::new(), upto: 0 }
    }

    /// Whole rows.
    pub(crate) fn rows(&mut self, mut rows: &[u8]) {
        while let Some(next) = self.landmarks.front() {
            // The first row that begins at the landmark or behind it.
            let ahead = usize::try_from(next.text.saturating_sub(self.text)).unwrap_or(usize::MAX);
            let cut = match ahead.checked_sub(1) {
                None => 0,
                Some(last) => match rows.get(last..).and_then(|rest| memchr::memchr(b'\n', rest)) {
                    Some(end) => last + end + 1,
                    None => break,
                },
            };
            if cut >= rows.len() {
                break;
            }
            self.take(&rows[..cut]);
            rows = &rows[cut..];
            let mut begin = self.landmarks.pop_front();
            while self.landmarks.front().is_some_and(|nearer| nearer.text <= self.text) {
                begin = self.landmarks.pop_front();
            }
            self.close();
            self.open = Open::new(begin, self.text, self.keys.len());
        }
        self.take(rows);
    }

    /// Landmarks that were passed while the last rows were read, and how far the archive was read.
    pub(crate) fn passed(&mut self, landmarks: Vec<Landmark>, upto: u64) {
        self.landmarks.extend(landmarks);
        self.parts.iter_mut().rev().take_while(|part| part.upto == 0).for_each(|part| part.upto = upto);
        self.upto = upto;
    }

    fn take(&mut self, rows: &[u8]) {
        self.text += rows.len() as u64;
        self.open.hash.update(rows);
        for row in rows.split_inclusive(|byte| *byte == b'\n') {
            let row = row.strip_suffix(b"\n").unwrap_or(row);
            for (place, noted) in self.places.iter().zip(&mut self.open.noted) {
                match row.split(|byte| *byte == b'\t').nth(*place) {
                    Some(b"\\N") | None => {}
                    Some(value) => noted.note(value),
                }
            }
        }
    }

    fn close(&mut self) {
        let open = std::mem::replace(&mut self.open, Open::new(None, 0, 0));
        self.parts.push(CutPart {
            begin: open.begin,
            text: open.text,
            text_bytes: self.text - open.text,
            upto: 0,
            sha256: hex(&open.hash.finalize()),
            values: open.noted.into_iter().map(Noted::values).collect(),
        });
    }

    /// None when there is only one part.
    pub(crate) fn finish(mut self) -> Option<Cuts> {
        if self.parts.is_empty() {
            return None;
        }
        self.close();
        self.passed(Vec::new(), self.upto);
        for at in 0..self.keys.len() {
            let of = |part: &CutPart| match part.values.get(at) {
                Some(Values::Filter(bits)) => bits.len(),
                _ => 0,
            };
            if self.parts.iter().map(of).sum::<usize>() > FILTER_BYTES_MAX {
                self.parts
                    .iter_mut()
                    .filter_map(|part| part.values.get_mut(at))
                    .for_each(|v| *v = Values::Any);
            }
        }
        Some(Cuts { keys: self.keys, parts: self.parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(of: &[&str]) -> Values {
        let mut noted = Noted::default();
        of.iter().for_each(|value| noted.note(value.as_bytes()));
        noted.values()
    }

    #[test]
    fn whole_numbers_are_noted_as_a_range_and_everything_else_in_a_filter() {
        assert_eq!(values(&["7", "-3", "12"]), Values::Range(-3, 12));
        assert_eq!(values(&[]), Values::None);
        for odd in ["007", "+1", "-0", "1.5", "", "9223372036854775808"] {
            assert!(matches!(values(&["7", odd]), Values::Filter(_)), "{odd}");
            assert!(!Values::Range(0, 9).may_have(odd.as_bytes()), "{odd}");
        }
    }

    #[test]
    fn a_filter_knows_all_that_went_in_and_few_others() {
        let key = |n: u32| {
            format!("{:032x}", u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
        };
        let keys: Vec<String> = (0..10_000).map(key).collect();
        let known = values(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(keys.iter().all(|key| known.may_have(key.as_bytes())));
        let others = (10_000..20_000).filter(|n| known.may_have(key(*n).as_bytes())).count();
        assert!(others < 300, "{others} of 10000");
        let json = serde_json::to_string(&known).unwrap();
        assert_eq!(serde_json::from_str::<Values>(&json).unwrap(), known);
        assert!(!Values::Filter(Vec::new()).may_have(b"x"), "an empty filter knows nothing");
    }
}
