//! Says what bytes are by looking at their beginning, never at a name.

use std::fmt;

/// How many bytes [`Format::of`] wants to see.
pub const SNIFF_BYTES: usize = 512;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// SQL text, as pg_dump writes it without `-F`.
    Plain,
    /// The custom format, `pg_dump -Fc`.
    Archive,
    /// The tar format, `pg_dump -Ft`. Refused.
    Tar,
    /// pg_dumpall's output: several databases. Refused.
    Cluster,
    /// LZ4, around whatever it is. Refused.
    Lz4,
    /// No bytes at all. Refused.
    Empty,
    /// Something else. Refused.
    Unknown,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "a plain SQL dump",
            Self::Archive => "a custom-format archive",
            Self::Tar => "a tar archive (make the dump with -Fc, or plain)",
            Self::Cluster => {
                "a dump of a whole cluster by pg_dumpall (make one of a single database with pg_dump)"
            }
            Self::Lz4 => "compressed with LZ4 (use gzip or zstd)",
            Self::Empty => "an empty file",
            Self::Unknown => "neither SQL text nor a pg_dump archive",
        })
    }
}

/// A compression around a whole file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layer {
    Gzip,
    Zstd,
}

impl Layer {
    pub(crate) fn of(head: &[u8]) -> Option<Self> {
        match head {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl Format {
    /// Judges the first [`SNIFF_BYTES`] bytes (fewer only if there are no more) of something not compressed.
    pub fn of(head: &[u8]) -> Self {
        if head.is_empty() {
            Self::Empty
        } else if head.starts_with(b"PGDMP") {
            Self::Archive
        } else if head.starts_with(&[0x04, 0x22, 0x4d, 0x18]) {
            Self::Lz4
        } else if head.get(257..262) == Some(b"ustar") {
            Self::Tar
        } else if head.starts_with(b"--\n-- PostgreSQL database cluster dump\n") {
            Self::Cluster
        } else if looks_like_sql(head) {
            Self::Plain
        } else {
            Self::Unknown
        }
    }
}

/// Text that begins as a statement, a comment or a psql command does.
fn looks_like_sql(head: &[u8]) -> bool {
    let control = |b: &u8| *b < b' ' && !matches!(*b, b'\t' | b'\n' | b'\r' | 0x0b | 0x0c);
    let text = head.trim_ascii_start();
    let begins = text.starts_with(b"--")
        || text.starts_with(b"/*")
        || text.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'\\');
    begins && !head.iter().any(control)
}
