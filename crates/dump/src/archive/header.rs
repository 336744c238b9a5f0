//! The header of an archive.

use std::fmt;
use std::io::Read;

use crate::archive::fields::Fields;
use crate::error::DumpError;

/// The version of the archive format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Version {
    /// Always 1 so far.
    pub major: u8,
    /// 12 to 16 are read: PostgreSQL 9.0 to 18.
    pub minor: u8,
    /// Changes nothing in the format.
    pub revision: u8,
}

impl Version {
    pub(crate) fn is_from(self, minor: u8) -> bool {
        self.minor >= minor
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// How the data blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// zlib streams.
    Gzip,
    /// LZ4 frames.
    Lz4,
    /// zstd frames.
    Zstd,
}

/// When the dump was begun, by the wall clock of the host that made it: **no time zone is recorded**.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct CreatedAt {
    /// Such as 2026.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 60.
    pub second: u8,
    /// Whether daylight saving time was in force; none where the host did not know.
    pub is_dst: Option<bool>,
}

/// What an archive says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Header {
    /// The version of the format.
    pub version: Version,
    /// How the blocks are compressed.
    pub compression: Compression,
    /// When it was made.
    pub created_at: CreatedAt,
    /// The database it was made from.
    pub database: String,
    /// The server's version, such as `15.18 (Debian …)`.
    pub server_version: String,
    /// pg_dump's version.
    pub dump_version: String,
    /// Octets of a number, without its sign octet.
    #[serde(skip)]
    pub(crate) int_size: usize,
    /// Octets of a position, without its flag octet.
    #[serde(skip)]
    pub(crate) offset_size: usize,
}

impl Header {
    /// Reads it, and sets the sizes of `fields` for what follows.
    pub(crate) fn read<R: Read>(fields: &mut Fields<'_, R>) -> Result<Self, DumpError> {
        for expected in b"PGDMP" {
            if fields.byte()? != *expected {
                return Err(fields.malformed("no archive begins like this"));
            }
        }
        let version = Version { major: fields.byte()?, minor: fields.byte()?, revision: fields.byte()? };
        if version.major != 1 || !(12..=16).contains(&version.minor) {
            let what = format!("archive version {version} (only 1.12 to 1.16 are read)");
            return Err(DumpError::Unsupported { what });
        }
        let int_size = fields.byte()?;
        let offset_size = fields.byte()?;
        if !matches!((int_size, offset_size), (4 | 8, 4 | 8)) {
            return Err(
                fields.malformed(format!("numbers of {int_size} and offsets of {offset_size} octets"))
            );
        }
        (fields.int_size, fields.offset_size) = (int_size.into(), offset_size.into());
        match fields.byte()? {
            1 => {}
            3 => {
                return Err(DumpError::Unsupported {
                    what: "the table of contents of a directory dump".into(),
                });
            }
            other => return Err(fields.malformed(format!("the format code {other}"))),
        }
        Ok(Self {
            version,
            compression: compression(fields, version)?,
            created_at: created_at(fields)?,
            database: text(fields)?,
            server_version: text(fields)?,
            dump_version: text(fields)?,
            int_size: fields.int_size,
            offset_size: fields.offset_size,
        })
    }
}

fn compression<R: Read>(fields: &mut Fields<'_, R>, version: Version) -> Result<Compression, DumpError> {
    if !version.is_from(15) {
        let level = fields.int_in("the compression level", -1..=9)?;
        return Ok(if level == 0 { Compression::None } else { Compression::Gzip });
    }
    match fields.byte()? {
        0 => Ok(Compression::None),
        1 => Ok(Compression::Gzip),
        2 => Ok(Compression::Lz4),
        3 => Ok(Compression::Zstd),
        other => Err(fields.malformed(format!("the compression algorithm {other}"))),
    }
}

/// Seven numbers, as C's `struct tm` has them.
fn created_at<R: Read>(fields: &mut Fields<'_, R>) -> Result<CreatedAt, DumpError> {
    let mut small = |what, range| fields.int_in(what, range).map(|n| u8::try_from(n).unwrap_or(0));
    let second = small("the second", 0..=60)?;
    let minute = small("the minute", 0..=59)?;
    let hour = small("the hour", 0..=23)?;
    let day = small("the day", 1..=31)?;
    let month = small("the month", 0..=11)? + 1;
    let years = fields.int_in("the year since 1900", 0..=8099)?;
    let is_dst = match fields.int_in("the daylight saving flag", -1..=1)? {
        -1 => None,
        flag => Some(flag == 1),
    };
    let year = 1900 + i32::try_from(years).unwrap_or(0);
    Ok(CreatedAt { year, month, day, hour, minute, second, is_dst })
}

/// The database's name may be in any encoding; it is for people only.
fn text<R: Read>(fields: &mut Fields<'_, R>) -> Result<String, DumpError> {
    Ok(String::from_utf8_lossy(&fields.text()?.unwrap_or_default()).into_owned())
}
