//! Reads an archive from front to back, block by block, without ever going back.

use std::io::Read;

use crate::archive::chunks::{Chunks, Shape};
use crate::archive::codec::Codec;
use crate::archive::entry::{DataOffset, Entry};
use crate::archive::fields::Fields;
use crate::archive::header::Header;
use crate::archive::landmark::{Landmark, Resumed};
use crate::archive::objects::{LargeObjects, Progress, next_object};
use crate::archive::payload::Payload;
use crate::archive::rows::RowStream;
use crate::archive::statements::StatementStream;
use crate::archive::toc::Toc;
use crate::error::{DumpError, Place};
use crate::limits::Limits;
use crate::ratio::Ratio;
use crate::sql::Splitter;
use crate::window::Window;

/// Pieces of large objects are handed out in this size: what pg_dump itself reads at once, a few times over.
const OBJECT_BYTES: usize = 64 << 10;

/// A reader of custom-format archives. After an error it must not be asked again.
pub struct ArchiveReader<R> {
    window: Window<R>,
    header: Header,
    toc: Toc,
    spans: Vec<BlockSpan>,
    seen: Vec<bool>,
    open: Open,
    codec: Codec,
    limits: Limits,
    data_start: u64,
}

/// Where a block was found: enough to read it again by range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
pub struct BlockSpan {
    /// The entry it belongs to.
    pub dump_id: u32,
    /// Where it begins in the archive, in bytes.
    pub offset: u64,
    /// How many bytes it has, its own header and end included; none while it is being read.
    pub length: Option<u64>,
}

/// One block, in file order. Dropping it early passes over the rest of it.
pub enum Block<'a, R> {
    /// Rows of a table as COPY text.
    Table {
        /// The table's entry.
        entry: &'a Entry,
        /// Its rows.
        rows: RowStream<'a, R>,
    },
    /// Rows of a table as INSERT statements.
    Inserts {
        /// The table's entry.
        entry: &'a Entry,
        /// Its statements.
        statements: StatementStream<'a, R>,
    },
    /// Contents of large objects.
    LargeObjects {
        /// The entry of the objects.
        entry: &'a Entry,
        /// The objects.
        objects: LargeObjects<'a, R>,
    },
}

impl<R> Block<'_, R> {
    /// The entry it belongs to.
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Table { entry, .. } | Self::Inserts { entry, .. } | Self::LargeObjects { entry, .. } => {
                entry
            }
        }
    }
}

/// How far the block that was given out last has been read.
enum Open {
    None,
    Rows(Chunks),
    Objects(Progress),
}

impl<R: Read> ArchiveReader<R> {
    /// Reads the header and the table of contents of an archive that is not compressed as a whole.
    ///
    /// # Errors
    /// What cannot be read is refused by name; what is malformed, with its place.
    pub fn new(input: R, limits: Limits) -> Result<Self, DumpError> {
        let mut window = Window::new(input, 256 << 10);
        let part = "the table of contents";
        let end_max = limits.toc_bytes;
        let mut fields = Fields { window: &mut window, int_size: 4, offset_size: 8, end_max, part };
        let header = Header::read(&mut fields)?;
        let toc = Toc::read(&mut fields, header.version, &limits)?;
        let data_start = window.offset();
        let seen = vec![false; toc.entries.len()];
        let codec = Codec::new(header.compression)?;
        Ok(Self { window, header, toc, spans: Vec::new(), seen, open: Open::None, codec, limits, data_start })
    }

    /// With this archive's header and table of contents, reads blocks from elsewhere: from a range of it that begins
    /// at byte `offset`. What stands there is held to the table of contents like any block.
    pub fn at_block<S: Read>(self, input: S, offset: u64) -> ArchiveReader<S> {
        let Self { header, toc, seen, codec, limits, data_start, .. } = self;
        let window = Window::from_offset(input, 256 << 10, offset);
        ArchiveReader {
            window,
            header,
            toc,
            spans: Vec::new(),
            seen,
            open: Open::None,
            codec,
            limits,
            data_start,
        }
    }

    /// Finds places to begin at in the blocks of tables, where they are in zlib's format; slower to read.
    #[must_use]
    pub fn with_landmarks(self) -> Self {
        Self { codec: self.codec.with_places(), ..self }
    }

    /// With this archive's table of contents, reads on in a table's block, from a range of the archive that begins where
    /// the landmark says.
    ///
    /// # Errors
    /// [`DumpError::Corrupt`] for a landmark that was not made by this crate.
    pub fn at_landmark<S: Read>(self, input: S, landmark: &Landmark) -> Result<Resumed<S>, DumpError> {
        let shape = self.shape();
        let window = Window::from_offset(input, 256 << 10, landmark.offset);
        let codec = Codec::between(&landmark.between()?);
        Ok(Resumed { window, chunks: Chunks::within(landmark.left), codec, shape, limits: self.limits })
    }

    /// What the archive says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All entries, in the order of the file, settings included.
    pub fn toc(&self) -> &[Entry] {
        &self.toc.entries
    }

    /// The entry with this number.
    pub fn entry(&self, dump_id: u32) -> Option<&Entry> {
        self.toc.by_id.get(&dump_id).map(|index| &self.toc.entries[*index])
    }

    /// Where the first block begins: the length of header and table of contents.
    pub fn data_start(&self) -> u64 {
        self.data_start
    }

    /// The blocks that were found so far, and where.
    pub fn spans(&self) -> &[BlockSpan] {
        &self.spans
    }

    /// The `client_encoding` if it is not UTF-8: rows are in it.
    pub fn encoding(&self) -> Option<&str> {
        let defn = &self.toc.entries.iter().find(|entry| entry.desc == "ENCODING")?.defn;
        defn.split('\'').nth(1).filter(|name| !name.eq_ignore_ascii_case("UTF8"))
    }

    /// The next block. None only when every entry with data has had its block, and nothing follows.
    ///
    /// # Errors
    /// [`DumpError::CutOff`] when the archive ends too early; else what is wrong with it, and where.
    pub fn next_block(&mut self) -> Result<Option<Block<'_, R>>, DumpError> {
        self.close()?;
        self.window.fill_to(1)?;
        let Some(&kind) = self.window.bytes().first() else { return self.finish().map(|()| None) };
        let offset = self.window.offset();
        let index = self.begin(kind)?;
        let (shape, ratio) = (self.shape(), Ratio::new(self.limits.ratio));
        self.codec.restart()?;
        self.open =
            if kind == 3 { Open::Objects(Progress::default()) } else { Open::Rows(Chunks::default()) };
        let splitter = self.splitter();
        let Self { window, toc, codec, limits, open, .. } = self;
        let entry = &toc.entries[index];
        Ok(Some(match open {
            Open::Objects(progress) => {
                let buf = vec![0; OBJECT_BYTES];
                let objects = LargeObjects { window, progress, codec, shape, ratio, input: 0, buf };
                Block::LargeObjects { entry, objects }
            }
            Open::Rows(chunks) => {
                let payload =
                    Payload { window, chunks, shape, codec, ratio, input: 0, landmarks: Vec::new() };
                if entry.is_inserts() {
                    let statements = StatementStream::new(payload, offset, splitter, *limits);
                    Block::Inserts { entry, statements }
                } else {
                    Block::Table { entry, rows: RowStream::new(payload, offset, *limits) }
                }
            }
            Open::None => return Ok(None),
        }))
    }

    fn shape(&self) -> Shape {
        let (int_size, offset_size) = (self.header.int_size, self.header.offset_size);
        Shape { int_size, offset_size, limits: self.limits }
    }

    fn splitter(&self) -> Splitter {
        let strings = self.toc.entries.iter().find(|entry| entry.desc == "STDSTRINGS");
        let standard_strings = strings.is_none_or(|entry| !entry.defn.contains("'off'"));
        Splitter { standard_strings, encoding: self.encoding().map(str::to_owned) }
    }

    /// Reads a block's header and finds its entry.
    fn begin(&mut self, kind: u8) -> Result<usize, DumpError> {
        let offset = self.window.offset();
        let wrong = |what: String| Err(DumpError::malformed(Place::Byte(offset), what));
        if !matches!(kind, 1 | 3) {
            return wrong(format!("a block of the unknown type {kind}"));
        }
        self.window.consume(1);
        let shape = self.shape();
        let id = shape.fields(&mut self.window).int_in("a block's number", 1..=i64::from(i32::MAX))?;
        let dump_id = u32::try_from(id).unwrap_or(0);
        let Some(&index) = self.toc.by_id.get(&dump_id) else {
            return wrong(format!("a block of the entry {dump_id}, which is not in the table of contents"));
        };
        let entry = &self.toc.entries[index];
        let fits = entry.had_dumper && if kind == 3 { entry.desc == "BLOBS" } else { entry.is_table_data() };
        if !fits {
            return wrong(format!("a block of the entry {dump_id}, which can have none of this type"));
        }
        if matches!(entry.offset, DataOffset::At(at) if at != offset) {
            return wrong(format!("the block of the entry {dump_id}, which should be elsewhere"));
        }
        if std::mem::replace(&mut self.seen[index], true) {
            return wrong(format!("a second block of the entry {dump_id}"));
        }
        self.spans.push(BlockSpan { dump_id, offset, length: None });
        Ok(index)
    }

    /// Passes over what is left of the block before.
    fn close(&mut self) -> Result<(), DumpError> {
        let shape = self.shape();
        match &mut self.open {
            Open::None => return Ok(()),
            Open::Rows(chunks) => chunks.skip(&mut self.window, &shape)?,
            Open::Objects(progress) => {
                while !progress.ended {
                    if let Some(mut chunks) = progress.within.take() {
                        chunks.skip(&mut self.window, &shape)?;
                    }
                    next_object(&mut self.window, progress, &shape)?;
                }
            }
        }
        self.open = Open::None;
        let end = self.window.offset();
        if let Some(span) = self.spans.last_mut() {
            span.length = Some(end - span.offset);
        }
        Ok(())
    }

    /// At the end of the bytes: no entry may lack its data.
    fn finish(&self) -> Result<(), DumpError> {
        let mut entries = self.toc.entries.iter().zip(&self.seen);
        let missing = entries.find(|(entry, seen)| entry.had_dumper && !**seen);
        missing.map_or(Ok(()), |(entry, _)| {
            let open = format!("before the data of entry {} ({})", entry.dump_id, entry.desc);
            Err(DumpError::cut_off(Place::Byte(self.window.offset()), open))
        })
    }
}
