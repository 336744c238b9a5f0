//! Finds spellings in bytes that may still go on. Knows nothing of secrets or encodings.

use zeroize::Zeroizing;

use super::REDACTED;

/// The spellings to look for, by first byte, longest first.
pub(super) struct Matcher {
    by_first: Vec<Vec<Zeroizing<Vec<u8>>>>,
    /// Texts that stay as they are even when a spelling is in them.
    kept: Vec<Vec<u8>>,
}

impl Default for Matcher {
    fn default() -> Self {
        Self { by_first: vec![Vec::new(); 256], kept: Vec::new() }
    }
}

/// How far a scan came.
pub(super) struct Scanned {
    /// How many bytes are dealt with; the rest may be the beginning of a spelling.
    pub(super) taken: usize,
    /// How many bytes of the rest belong to a spelling that was already replaced.
    pub(super) hidden: usize,
    /// Whether anything was replaced.
    pub(super) found: bool,
}

/// How a spelling compares with the bytes at one place.
enum Compared {
    Differs,
    /// The bytes end before the spelling does.
    Open,
    /// It stands there, over that many bytes.
    Stands(usize),
}

impl Matcher {
    /// A matcher that knows `spellings` too; none when it knows them all already.
    pub(super) fn with(&self, spellings: Vec<Zeroizing<Vec<u8>>>) -> Option<Self> {
        let mut by_first = self.by_first.clone();
        let mut news = false;
        for spelling in spellings {
            let Some(first) = spelling.first() else { continue };
            let same_first = &mut by_first[usize::from(*first)];
            if !same_first.contains(&spelling) {
                same_first.push(spelling);
                same_first.sort_by_key(|known| std::cmp::Reverse(known.len()));
                news = true;
            }
        }
        news.then(|| Self { by_first, kept: self.kept.clone() })
    }

    /// A matcher that leaves `text` alone; none when it does so already.
    pub(super) fn keeping(&self, text: &str) -> Option<Self> {
        let text = text.as_bytes().to_vec();
        if text.is_empty() || self.kept.contains(&text) {
            return None;
        }
        let mut kept = self.kept.clone();
        kept.push(text);
        Some(Self { by_first: self.by_first.clone(), kept })
    }

    /// Copies `text` to `out` without spellings. Unless it is the `last` of the text, stops where a spelling may
    /// have begun that goes on beyond it. The first `hidden` bytes belong to a spelling that an earlier scan
    /// replaced. Spellings that overlap are replaced as one: what sticks out of the first would else be the end
    /// of a secret.
    pub(super) fn scan(&self, text: &[u8], hidden: usize, last: bool, out: &mut Vec<u8>) -> Scanned {
        let mut found = false;
        let mut at = 0;
        let mut hidden_until = hidden;
        while at < text.len() {
            if at >= hidden_until {
                match self.kept_at(&text[at..]) {
                    Compared::Stands(length) => {
                        out.extend_from_slice(&text[at..at + length]);
                        at += length;
                        continue;
                    }
                    Compared::Open if !last => break,
                    _ => {}
                }
            }
            match self.longest(&text[at..], last) {
                Compared::Open => break,
                Compared::Stands(length) => {
                    if at >= hidden_until {
                        out.extend_from_slice(REDACTED.as_bytes());
                    }
                    found = true;
                    hidden_until = hidden_until.max(at + length);
                }
                Compared::Differs if at >= hidden_until => out.push(text[at]),
                Compared::Differs => {}
            }
            at += 1;
        }
        Scanned { taken: at, hidden: hidden_until.saturating_sub(at), found }
    }

    fn kept_at(&self, text: &[u8]) -> Compared {
        let mut best = Compared::Differs;
        for kept in self.kept.iter().filter(|kept| kept[0] == text[0]) {
            if text.starts_with(kept) {
                return Compared::Stands(kept.len());
            }
            if kept.starts_with(text) {
                best = Compared::Open;
            }
        }
        best
    }

    fn longest(&self, text: &[u8], last: bool) -> Compared {
        let mut best = Compared::Differs;
        for spelling in &self.by_first[usize::from(text[0])] {
            match compare(spelling, text) {
                Compared::Open if !last => return Compared::Open,
                Compared::Stands(length) if !matches!(best, Compared::Stands(other) if other >= length) => {
                    best = Compared::Stands(length);
                }
                _ => {}
            }
        }
        best
    }
}

/// Line breaks that something put into the middle of a value (base64 in lines of 64, a folded log) are stepped
/// over: one between two characters, so that what must be held back stays bounded.
fn compare(spelling: &[u8], text: &[u8]) -> Compared {
    let mut at = 0;
    for (index, byte) in spelling.iter().enumerate() {
        if index > 0 && text.get(at).is_some_and(|here| here != byte) {
            at += break_length(&text[at..]);
        }
        match text.get(at) {
            None => return Compared::Open,
            Some(here) if here == byte => at += 1,
            Some(_) => return Compared::Differs,
        }
    }
    Compared::Stands(at)
}

fn break_length(text: &[u8]) -> usize {
    match text {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => 0,
    }
}
