//! Places inside a table's block from which its rows can be read without what comes before.

use std::io::Read;

use serde::{Deserialize, Serialize};

use crate::archive::chunks::{Chunks, Shape};
use crate::archive::codec::Codec;
use crate::archive::inflate::{Between, WINDOW_BYTES};
use crate::archive::payload::Payload;
use crate::archive::rows::RowStream;
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
    /// The text before it as far as it is needed, deflated, in base64.
    #[serde(with = "packed")]
    window: Vec<u8>,
}

impl Landmark {
    pub(crate) fn new(between: Between, offset: u64, left: u64) -> Self {
        let Between { text, bit_buf, bits, window } = between;
        Self { text, offset, left, bits, bit_buf, window }
    }

    pub(crate) fn between(&self) -> Between {
        // What was read from a file may say anything.
        let bits = self.bits & 7;
        let bit_buf = self.bit_buf & ((1 << bits) - 1);
        Between { text: self.text, bit_buf, bits, window: self.window.clone() }
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

/// Bytes as deflated base64.
mod packed {
    use std::io::{self, Write as _};

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use flate2::Compression;
    use flate2::write::{DeflateDecoder, DeflateEncoder};
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::WINDOW_BYTES;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        let mut packed = DeflateEncoder::new(Vec::new(), Compression::default());
        let packed = packed.write_all(bytes).and_then(|()| packed.finish());
        to.serialize_str(&STANDARD.encode(packed.map_err(serde::ser::Error::custom)?))
    }

    /// Takes in no more than a window, whatever the text unpacks to.
    struct Bounded(Vec<u8>);

    impl io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() + bytes.len() > WINDOW_BYTES {
                return Err(io::Error::other("more than a window of text"));
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        let packed = STANDARD.decode(text).map_err(D::Error::custom)?;
        let mut window = DeflateDecoder::new(Bounded(Vec::new()));
        let window = window.write_all(&packed).and_then(|()| window.finish());
        Ok(window.map_err(D::Error::custom)?.0)
    }
}
