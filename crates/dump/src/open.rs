//! Opens a stream of unknown make: takes off compression, looks at what is inside, gives the reader for it.

use std::io::{self, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::ahead::ahead;
use crate::archive::ArchiveReader;
use crate::error::{DumpError, Place};
use crate::format::{Format, Layer, SNIFF_BYTES};
use crate::limits::Limits;
use crate::ratio::Ratio;
use crate::sql::SqlReader;

/// A stream of decompressed bytes.
pub type Source = Box<dyn Read + Send>;

/// More layers than this are a bomb or a mistake.
const LAYERS_MAX: usize = 2;

/// A dump of either make.
pub enum Dump {
    /// SQL text.
    Plain(Box<SqlReader<Source>>),
    /// A custom-format archive whose table of contents has been read.
    Archive(Box<ArchiveReader<Source>>),
}

/// Finds out what `input` is and gives the reader for it. An archive's table of contents is read at once.
///
/// # Errors
/// What cannot be read is refused by name ([`DumpError::Format`], [`DumpError::Unsupported`]).
pub fn open<R: Read + Send + 'static>(input: R, limits: Limits) -> Result<Dump, DumpError> {
    let mut source: Source = Box::new(Outer { inner: input });
    for _ in 0..=LAYERS_MAX {
        let head;
        (head, source) = peek(source)?;
        match Layer::of(&head) {
            Some(layer) => source = peel(source, layer, limits.ratio)?,
            None => return reader(Format::of(&head), source, limits),
        }
    }
    Err(DumpError::Unsupported { what: format!("compression in more than {LAYERS_MAX} layers") })
}

fn reader(format: Format, source: Source, limits: Limits) -> Result<Dump, DumpError> {
    match format {
        Format::Plain => Ok(Dump::Plain(Box::new(SqlReader::new(source, limits)))),
        Format::Archive => Ok(Dump::Archive(Box::new(ArchiveReader::new(source, limits)?))),
        found => Err(DumpError::Format { found }),
    }
}

/// Looks at the beginning, and puts it back.
fn peek(mut source: Source) -> Result<(Vec<u8>, Source), DumpError> {
    let mut head = Vec::with_capacity(SNIFF_BYTES);
    source.by_ref().take(SNIFF_BYTES as u64).read_to_end(&mut head).map_err(DumpError::from_io)?;
    let whole: Source = Box::new(Cursor::new(head.clone()).chain(source));
    Ok((head, whole))
}

fn peel(source: Source, layer: Layer, limit: Option<u64>) -> Result<Source, DumpError> {
    let read = Arc::new(AtomicU64::new(0));
    let counted = BufReader::with_capacity(64 << 10, Counted { inner: source, read: Arc::clone(&read) });
    let decoder: Source = match layer {
        Layer::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(counted)),
        Layer::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(counted);
            Box::new(decoder.map_err(|source| DumpError::Corrupt { layer: layer.name(), source })?)
        }
    };
    let peeled: Source = Box::new(Peeled { decoder, layer, read, ratio: Ratio::new(limit) });
    ahead(peeled).map_err(|source| DumpError::Read { source })
}

/// Marks the source's own failures, so that they are not taken for a decoder's.
struct Outer<R> {
    inner: R,
}

impl<R: Read> Read for Outer<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf).map_err(|source| match source.kind() {
            io::ErrorKind::Interrupted => source,
            _ => DumpError::Read { source }.into_io(),
        })
    }
}

struct Counted {
    inner: Source,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// The inside of one layer, with the decoder's failures named.
struct Peeled {
    decoder: Source,
    layer: Layer,
    read: Arc<AtomicU64>,
    ratio: Ratio,
}

impl Read for Peeled {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.decoder.read(buf).map_err(|e| self.name(e))?;
        let place = Place::Byte(self.read.load(Ordering::Relaxed));
        self.ratio.check(self.read.load(Ordering::Relaxed), n, place).map_err(DumpError::into_io)?;
        Ok(n)
    }
}

impl Peeled {
    fn name(&self, error: io::Error) -> io::Error {
        if error.kind() == io::ErrorKind::Interrupted {
            return error;
        }
        let kind = error.kind();
        match error.downcast::<DumpError>() {
            Ok(inner) => inner.into_io(),
            Err(_) if kind == io::ErrorKind::UnexpectedEof => {
                let place = Place::Byte(self.read.load(Ordering::Relaxed));
                DumpError::cut_off(place, format!("inside its {} stream", self.layer.name())).into_io()
            }
            Err(source) => DumpError::Corrupt { layer: self.layer.name(), source }.into_io(),
        }
    }
}
