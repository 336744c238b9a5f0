//! Places inside a table's block from which its rows can be read without what comes before.

use std::io::{self, Read, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde::{Deserialize, Serialize};

use crate::archive::chunks::{Chunks, Shape};
use crate::archive::codec::Codec;
use crate::archive::inflate::{Between, WINDOW_BYTES};
use crate::archive::payload::Payload;
use crate::archive::rows::RowStream;
use crate::error::DumpError;
use crate::limits::Limits;
use crate::ratio::Ratio;
use crate::window::Window;

/// A place between two deflate blocks of a table's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landmark {
    /// Bytes of COPY text before it. It stands anywhere in a row.
    pub text: u64,
    /// The byte of the archive at which to go on.
    pub offset: u64,
    /// Bytes that are left of the archive's own chunk there.
    pub(crate) left: u64,
    bits: u8,
    bit_buf: u8,
    /// The text before it as far as it is needed, deflated, in base64. Unpacked only where it is used: what was read from a
    /// file may unpack to anything.
    window: String,
}

impl Landmark {
    pub(crate) fn new(between: &Between, offset: u64, left: u64) -> io::Result<Self> {
        let Between { text, bit_buf, bits, window } = between;
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        packed.write_all(window)?;
        let window = STANDARD.encode(packed.finish()?);
        Ok(Self { text: *text, offset, left, bits: *bits, bit_buf: *bit_buf, window })
    }

    pub(crate) fn between(&self) -> Result<Between, DumpError> {
        let corrupt = |source| DumpError::Corrupt { layer: "zlib", source };
        let packed = STANDARD.decode(&self.window).map_err(|error| corrupt(io::Error::other(error)))?;
        let mut window = Vec::new();
        let unpacked = DeflateDecoder::new(&packed[..]).take(WINDOW_BYTES as u64);
        { unpacked }.read_to_end(&mut window).map_err(corrupt)?;
        let bits = self.bits & 7;
        let bit_buf = self.bit_buf & ((1 << bits) - 1);
        Ok(Between { text: self.text, bit_buf, bits, window })
    }
}

/// Rows of one table from a landmark on.
pub struct Resumed<R> {
    pub(crate) window: Window<R>,
    pub(crate) chunks: Chunks,
    pub(crate) codec: Codec,
    pub(crate) shape: Shape,
    pub(crate) limits: Limits,
}

impl<R: Read> Resumed<R> {
    /// The rows; the first of them lacks its beginning, unless the landmark stands between two.
    pub fn rows(&mut self) -> RowStream<'_, R> {
        let block = self.window.offset();
        let Self { window, chunks, codec, shape, limits } = self;
        let ratio = Ratio::new(limits.ratio);
        let payload =
            Payload { window, chunks, shape: *shape, codec, ratio, input: 0, landmarks: Vec::new() };
        RowStream::new(payload, block, *limits)
    }
}
