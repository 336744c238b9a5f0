//! The side-car index of an archive: where each table's block stands, how many rows it has and their hash, so that one
//! row can be fetched without reading the archive. Built while the archive passes by; [`Indexer`] is fed, never asked.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use crate::archive::ArchiveReader;
use crate::contents::{Contents, of_archive};
use crate::cuts::Cuts;
use crate::error::{DumpError, Place};
use crate::limits::Limits;

/// Pieces that wait for the reader; whoever pushes waits when there are more.
const PIECES_WAITING: usize = 4;

/// What the file beside a dump says: `KEY.index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// 1.
    pub version: u32,
    /// The object that it is about.
    pub dump: IndexedDump,
    /// `custom`.
    pub format: String,
    /// The tables with rows in it.
    pub tables: Vec<IndexedTable>,
}

/// The bytes that an index is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedDump {
    /// sha256 of the object, lower-case hex.
    pub sha256: String,
    /// Its size.
    pub size_bytes: u64,
}

/// One table of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The columns in the order of the rows' fields.
    pub columns: Vec<String>,
    /// How many rows.
    pub rows: u64,
    /// Where its block begins in the archive, the block's own header included.
    pub offset: u64,
    /// Length of the block, its end included.
    pub length: u64,
    /// sha256 of the COPY text: every row with its LF, without the end mark; lower-case hex.
    pub sha256: String,
    /// Parts of the rows that can be read one without the other, where the table is large.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuts: Option<Cuts>,
}

impl Index {
    /// The index of an archive with these contents. Tables whose rows are INSERT statements are left out: there is no
    /// COPY text to find in them.
    pub fn new(contents: Contents, sha256: String, size_bytes: u64) -> Self {
        let tables = contents.tables.into_iter().filter_map(|table| {
            let (offset, length) = table.span?;
            Some(IndexedTable {
                schema: table.schema.unwrap_or_default(),
                name: table.name,
                columns: table.columns?,
                rows: table.rows,
                offset,
                length,
                sha256: table.sha256,
                cuts: table.cuts,
            })
        });
        let dump = IndexedDump { sha256, size_bytes };
        Self { version: 1, dump, format: "custom".to_owned(), tables: tables.collect() }
    }
}

/// Takes an archive piece by piece and reads it on a thread of its own. Dropping it ends the thread.
#[derive(Debug)]
pub struct Indexer {
    pieces: Option<SyncSender<Vec<u8>>>,
    reader: Option<JoinHandle<Result<Contents, DumpError>>>,
}

impl Indexer {
    /// Waits for the first piece.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(limits: Limits) -> io::Result<Self> {
        let (pieces, waiting) = sync_channel(PIECES_WAITING);
        let source = Pieces { waiting, current: io::Cursor::new(Vec::new()) };
        let read = move || of_archive(ArchiveReader::new(source, limits)?, true);
        let reader = std::thread::Builder::new().name("dump-index".to_owned()).spawn(read)?;
        Ok(Self { pieces: Some(pieces), reader: Some(reader) })
    }

    /// Hands over the next bytes; waits while the reader is behind.
    ///
    /// # Errors
    /// What is wrong with the archive, as soon as it is known. After an error it must not be asked again.
    pub fn push(&mut self, bytes: Vec<u8>) -> Result<(), DumpError> {
        let taken = match &self.pieces {
            Some(pieces) => bytes.is_empty() || pieces.send(bytes).is_ok(),
            None => false,
        };
        // The reader goes away only with an error: a whole archive ends where the pieces do.
        if taken { Ok(()) } else { self.join().map(drop) }
    }

    /// There are no more bytes: what the archive holds.
    ///
    /// # Errors
    /// [`DumpError::CutOff`] when the bytes ended too early; else what is wrong with them.
    pub fn finish(mut self) -> Result<Contents, DumpError> {
        self.join()
    }

    fn join(&mut self) -> Result<Contents, DumpError> {
        self.pieces = None;
        let gone = || DumpError::malformed(Place::Byte(0), "its reader went away");
        self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_else(|| Err(gone()))
    }
}

/// The pushed pieces, as the reader sees them.
struct Pieces {
    waiting: Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buf)?;
            if n > 0 || buf.is_empty() {
                return Ok(n);
            }
            match self.waiting.recv() {
                Ok(next) => self.current = io::Cursor::new(next),
                Err(_) => return Ok(0),
            }
        }
    }
}
