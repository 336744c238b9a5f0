//! The decompressors of data blocks. Each says when its stream has ended, so that a cut one is not taken for whole.

use std::io;

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::archive::header::Compression;
use crate::archive::inflate::{Between, Inflate};
use crate::archive::lz4::Lz4;
use crate::error::DumpError;

/// One decompressor, used for one stream after the other.
pub(crate) struct Codec {
    kind: Kind,
    /// Whether the stream has begun, and whether it has ended.
    pub(crate) begun: bool,
    pub(crate) ended: bool,
}

enum Kind {
    None,
    Zlib(Box<Decompress>),
    /// The same, with places to begin at.
    Inflate(Box<Inflate>),
    Lz4(Box<Lz4>),
    Zstd(Decoder<'static>),
}

impl Codec {
    pub(crate) fn new(compression: Compression) -> Result<Self, DumpError> {
        let kind = match compression {
            Compression::None => Kind::None,
            Compression::Gzip => Kind::Zlib(Box::new(Decompress::new(true))),
            Compression::Lz4 => Kind::Lz4(Box::default()),
            Compression::Zstd => Kind::Zstd(Decoder::new().map_err(|e| corrupt("zstd", e))?),
        };
        Ok(Self { kind, begun: false, ended: false })
    }

    /// Finds places to begin at in each stream, where streams are in zlib's format.
    pub(crate) fn with_places(self) -> Self {
        match self.kind {
            Kind::Zlib(_) => Self { kind: Kind::Inflate(Box::new(Inflate::new())), ..self },
            _ => self,
        }
    }

    /// Goes on in a zlib stream.
    pub(crate) fn between(between: &Between) -> Self {
        let kind = Kind::Inflate(Box::new(Inflate::between(between)));
        Self { kind, begun: true, ended: false }
    }

    /// The place that [`Self::decode`] stopped at just now.
    pub(crate) fn take_between(&mut self) -> Option<Between> {
        match &mut self.kind {
            Kind::Inflate(inner) => inner.take_between(),
            _ => None,
        }
    }

    /// Makes ready for the next stream.
    pub(crate) fn restart(&mut self) -> Result<(), DumpError> {
        match &mut self.kind {
            Kind::None => {}
            Kind::Zlib(inner) => inner.reset(true),
            Kind::Inflate(inner) => **inner = Inflate::new(),
            Kind::Lz4(inner) => **inner = Lz4::default(),
            Kind::Zstd(inner) => inner.reinit().map_err(|e| corrupt("zstd", e))?,
        }
        (self.begun, self.ended) = (false, false);
        Ok(())
    }

    /// Whether a stream has an end of its own, which a cut stream lacks.
    pub(crate) fn is_framed(&self) -> bool {
        !matches!(self.kind, Kind::None)
    }

    /// Turns some of `input` into some of `output`; says how much of each.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), DumpError> {
        self.begun |= !input.is_empty();
        match &mut self.kind {
            Kind::None => {
                let n = input.len().min(output.len());
                output[..n].copy_from_slice(&input[..n]);
                Ok((n, n))
            }
            Kind::Zlib(inner) => {
                let before = (inner.total_in(), inner.total_out());
                let status = inner.decompress(input, output, FlushDecompress::None);
                let status = status.map_err(|e| corrupt("zlib", e.into()))?;
                self.ended = status == Status::StreamEnd;
                let moved = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(0);
                Ok((moved(inner.total_in(), before.0), moved(inner.total_out(), before.1)))
            }
            Kind::Inflate(inner) => {
                let (taken, made, ended) = inner.decode(input, output).map_err(|e| corrupt("zlib", e))?;
                self.ended = ended;
                Ok((taken, made))
            }
            Kind::Lz4(inner) => {
                let (taken, made, ended) = inner.decode(input, output)?;
                self.ended = ended;
                Ok((taken, made))
            }
            Kind::Zstd(inner) => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(output));
                let left = inner.run(&mut from, &mut to).map_err(|e| corrupt("zstd", e))?;
                self.ended = left == 0;
                Ok((from.pos(), to.pos()))
            }
        }
    }
}

fn corrupt(layer: &'static str, source: io::Error) -> DumpError {
    DumpError::Corrupt { layer, source }
}
