//! A run as a file: JSON lines that carry a journal to another machine, with its chain.
//!
//! ```text
//! {"format":"runbook run","version":1,"run":{…},"made_secrets_left_out":2}
//! {"seq":1,"at":"…","hash":"…","body":"…"}            one line per record; "body_base64" when it is no text
//! {"records":40,"head":"…"}                           the last line: a file that was cut lacks it
//! ```
//!
//! Secrets that steps made are not in it, and the first line says how many: the file may be sent around. A
//! resume elsewhere asks for a step that needs one to be settled by hand. Leases, environment locks and keys
//! stay behind, too: they are about one machine's state; the next lease is newer than those in the records. The run here is not closed by an export; whoever
//! resumes it there must not resume it here, and a lease cannot see that far.

use std::io::{self, BufRead, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::record::Record;
use crate::store::{Journal, JournalError, RECORD_BYTES_MAX, RunRow, Stored, Verified, prove};

const FORMAT: &str = "runbook run";
const VERSION: u32 = 1;

/// The longest line: the longest record with every character escaped as six.
const LINE_BYTES_MAX: u64 = 6 * RECORD_BYTES_MAX as u64 + 1024;

/// The most that an import takes in: it is proven in memory before anything is written.
const IMPORT_BYTES_MAX: u64 = 512 << 20;

/// Why a run could not be carried over.
#[derive(Debug, thiserror::Error)]
pub enum PortableError {
    /// The journal failed, or the chain does not hold.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The file could not be written.
    #[error("write the export of run `{run}`")]
    Write {
        /// The run.
        run: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file could not be read.
    #[error("read line {line} of the export")]
    Read {
        /// From 1.
        line: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not what this program writes.
    #[error("understand line {line} of the export: {why}")]
    Malformed {
        /// From 1.
        line: u64,
        /// In what way.
        why: String,
    },
    /// It ends before its end.
    #[error("import run `{run}`: the export is cut off after {records} records")]
    Cut {
        /// The run.
        run: String,
        /// How many were read.
        records: u64,
    },
    /// More than [`IMPORT_BYTES_MAX`].
    #[error("import the run: the export is longer than {max} bytes")]
    TooLong {
        /// The limit.
        max: u64,
    },
    /// The last line does not fit the records.
    #[error("import run `{run}`: its last line names another end than its records have")]
    OtherEnd {
        /// The run.
        run: String,
    },
}

/// What an export or an import carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The run.
    pub run: RunRow,
    /// How many records, and the chain's end.
    pub verified: Verified,
    /// How many secrets that steps made stayed behind.
    pub made_secrets_left_out: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct First {
    format: String,
    version: u32,
    run: RunRow,
    made_secrets_left_out: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    at: Timestamp,
    hash: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Last {
    records: u64,
    head: String,
}

/// Writes a run to `out`, after proving its chain. `made_secrets` is what [`Vault::count`] says.
///
/// [`Vault::count`]: crate::vault::Vault::count
pub fn export_run(
    journal: &dyn Journal,
    run: &str,
    made_secrets: usize,
    out: &mut dyn Write,
) -> Result<Carried, PortableError> {
    let row = journal.run(run)?;
    let records = journal.read(run, 0)?;
    let verified = prove(&row, records.iter().cloned())?;
    let first = First {
        format: FORMAT.to_owned(),
        version: VERSION,
        run: row.clone(),
        made_secrets_left_out: made_secrets,
    };
    let write = || -> io::Result<()> {
        write_line(out, &first)?;
        for record in records {
            write_line(out, &Line::of(record))?;
        }
        write_line(out, &Last { records: verified.records, head: hex::encode(verified.head) })?;
        out.flush()
    };
    write().map_err(|source| PortableError::Write { run: run.to_owned(), source })?;
    Ok(Carried { run: row, verified, made_secrets_left_out: made_secrets })
}

/// Takes a run in from `input`, once its chain is proven; all of it or nothing. A run that is already in the
/// journal is refused.
pub fn import_run(journal: &dyn Journal, input: &mut dyn BufRead) -> Result<Carried, PortableError> {
    let mut lines = Lines { input, line: 0, bytes: 0 };
    let first = lines.next()?.ok_or_else(|| lines.malformed("the file is empty"))?;
    let first: First = lines.decode(&first)?;
    if first.format != FORMAT {
        return Err(lines.malformed("it is not the export of a run"));
    }
    if first.version != VERSION {
        let why = format!("it has version {}, this program knows {VERSION}", first.version);
        return Err(lines.malformed(&why));
    }
    let run = first.run;
    let mut records = Vec::new();
    let last = loop {
        let Some(text) = lines.next()? else {
            return Err(PortableError::Cut { run: run.id, records: records.len() as u64 });
        };
        if let Ok(last) = serde_json::from_slice::<Last>(&text) {
            break last;
        }
        let record = lines.decode::<Line>(&text)?.stored();
        records.push(record.map_err(|why| lines.malformed(why))?);
    };
    if lines.next()?.is_some() {
        return Err(lines.malformed("nothing may follow the last line"));
    }
    let verified = prove(&run, records.iter().cloned())?;
    if verified.records != last.records || hex::encode(verified.head) != last.head {
        return Err(PortableError::OtherEnd { run: run.id });
    }
    journal.adopt(&run, &records, newest_epoch(&records))?;
    Ok(Carried { run, verified, made_secrets_left_out: first.made_secrets_left_out })
}

/// Whoever goes on must be newer than everybody who worked on the run elsewhere.
fn newest_epoch(records: &[Stored]) -> u64 {
    let epochs = records.iter().filter_map(|stored| match Record::decode(&stored.body) {
        Ok(Record::Opened { epoch, .. }) => Some(epoch),
        _ => None,
    });
    epochs.max().unwrap_or(0)
}

impl Line {
    fn of(record: Stored) -> Self {
        let (body, body_base64) = match String::from_utf8(record.body) {
            Ok(text) => (Some(text), None),
            Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
        };
        Self { seq: record.seq, at: record.at, hash: hex::encode(record.hash), body, body_base64 }
    }

    fn stored(self) -> Result<Stored, &'static str> {
        let body = match (self.body, self.body_base64) {
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| "its body is not base64")?,
            _ => return Err("it must have either `body` or `body_base64`"),
        };
        if body.len() > RECORD_BYTES_MAX {
            return Err("its body is longer than any record");
        }
        let mut hash = [0; 32];
        hex::decode_to_slice(&self.hash, &mut hash).map_err(|_| "its hash is not 64 hexadecimal digits")?;
        Ok(Stored { seq: self.seq, at: self.at, hash, body })
    }
}

fn write_line(out: &mut dyn Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}

/// Lines in bounded memory, counted.
struct Lines<'a> {
    input: &'a mut dyn BufRead,
    line: u64,
    bytes: u64,
}

impl Lines<'_> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, PortableError> {
        self.line += 1;
        let mut text = Vec::new();
        let read = (&mut *self.input).take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
        let read = read.map_err(|source| PortableError::Read { line: self.line, source })?;
        self.bytes += read as u64;
        if self.bytes > IMPORT_BYTES_MAX {
            return Err(PortableError::TooLong { max: IMPORT_BYTES_MAX });
        }
        if read == 0 {
            return Ok(None);
        }
        // Without its newline a line may be half of one, even where what is there can be read.
        if text.pop() == Some(b'\n') {
            Ok(Some(text))
        } else {
            Err(self.malformed("it is cut off or too long"))
        }
    }

    fn decode<T: for<'de> Deserialize<'de>>(&self, text: &[u8]) -> Result<T, PortableError> {
        serde_json::from_slice(text).map_err(|error| self.malformed(&error.to_string()))
    }

    fn malformed(&self, why: &str) -> PortableError {
        PortableError::Malformed { line: self.line, why: why.to_owned() }
    }
}

#[cfg(test)]
mod tests;
