//! The decompressed bytes of one stream of chunks.

use std::io::{self, Read};

use crate::archive::chunks::{Chunks, Shape};
use crate::archive::codec::Codec;
use crate::archive::landmark::Landmark;
use crate::error::{DumpError, Place};
use crate::ratio::Ratio;
use crate::window::Window;

const AFTER_END: &str = "bytes after the end of compressed data";

/// Reads one stream. It ends only after the stream's own end and the zero that follows the last chunk were seen.
pub(crate) struct Payload<'a, R> {
    pub(crate) window: &'a mut Window<R>,
    pub(crate) chunks: &'a mut Chunks,
    pub(crate) shape: Shape,
    pub(crate) codec: &'a mut Codec,
    pub(crate) ratio: Ratio,
    pub(crate) input: u64,
    /// Places to begin at that were passed and that nobody took yet.
    pub(crate) landmarks: Vec<Landmark>,
}

impl<R: Read> Payload<'_, R> {
    /// As `Read::read`, with errors of this crate. `output` is not empty. A stream without any chunk is an empty one:
    /// that is how some versions write an empty large object.
    pub(crate) fn decode(&mut self, output: &mut [u8]) -> Result<usize, DumpError> {
        loop {
            let place = Place::Byte(self.window.offset());
            let input = self.chunks.bytes(self.window, &self.shape)?;
            // With no more input the decoder may still hold output back.
            let flush = input.is_empty() && self.codec.is_framed() && self.codec.begun;
            if self.codec.ended || (input.is_empty() && !flush) {
                let more = !input.is_empty();
                return if more { Err(DumpError::malformed(place, AFTER_END)) } else { Ok(0) };
            }
            let (taken, made) = self.codec.decode(input, output)?;
            self.chunks.consume(self.window, taken);
            self.input += taken as u64;
            self.ratio.check(self.input, made, place)?;
            if let Some(between) = self.codec.take_between() {
                let (offset, left) = (self.window.offset(), self.chunks.left());
                let landmark = Landmark::new(&between, offset, left);
                self.landmarks.push(landmark.map_err(|source| DumpError::Read { source })?);
            } else if taken == 0 && made == 0 && !self.codec.ended {
                let what = if flush {
                    "compressed data without its end"
                } else {
                    "compressed data that does not go on"
                };
                return Err(DumpError::malformed(place, what));
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }
}

impl<R: Read> Read for Payload<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.decode(buf).map_err(DumpError::into_io)
    }
}
