//! Inflates with places to begin at: now and then, where one deflate block ends and the next begins, it gives out what is
//! needed to go on from there without what comes before. Slower than the decoder that everything else is read with.

use std::io;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_IGNORE_ADLER32, TINFL_FLAG_PARSE_ZLIB_HEADER,
    TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY,
};
use miniz_oxide::inflate::core::{BlockBoundaryState, DecompressorOxide, decompress_with_limit};

/// What a deflate block may refer back to (RFC 1951, 2).
pub(crate) const WINDOW_BYTES: usize = 32 << 10;
/// The ring must be a power of two.
const RING_BYTES: usize = 2 * WINDOW_BYTES;
/// Text between two places, near the beginning; further on, this share of the text so far.
const STEP_BYTES: u64 = 4 << 20;
const STEP_SHARE: u64 = 64;

/// A state between two deflate blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Between {
    /// Bytes of text before it.
    pub(crate) text: u64,
    /// Bits of the last byte that belong to the next block, and how many.
    pub(crate) bit_buf: u8,
    pub(crate) bits: u8,
    /// The text before it, as far as the next blocks may refer to it.
    pub(crate) window: Vec<u8>,
}

/// A decoder of one zlib stream.
pub(crate) struct Inflate {
    core: DecompressorOxide,
    ring: Box<[u8; RING_BYTES]>,
    at: usize,
    text: u64,
    flags: u32,
    /// The text after which the next place is wanted, if any.
    next: Option<u64>,
    found: Option<Between>,
}

impl Inflate {
    pub(crate) fn new() -> Self {
        Self {
            core: DecompressorOxide::new(),
            ring: Box::new([0; RING_BYTES]),
            at: 0,
            text: 0,
            flags: TINFL_FLAG_PARSE_ZLIB_HEADER,
            next: Some(STEP_BYTES),
            found: None,
        }
    }

    /// Goes on from a place. What comes before it is not known, so the stream's own checksum is not compared.
    pub(crate) fn between(between: &Between) -> Self {
        let state = BlockBoundaryState {
            num_bits: between.bits,
            bit_buf: between.bit_buf,
            ..BlockBoundaryState::default()
        };
        let mut ring = Box::new([0; RING_BYTES]);
        let window = &between.window[between.window.len().saturating_sub(WINDOW_BYTES)..];
        ring[..window.len()].copy_from_slice(window);
        Self {
            core: DecompressorOxide::from_block_boundary_state(&state),
            ring,
            at: window.len(),
            text: between.text,
            flags: TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_IGNORE_ADLER32,
            next: None,
            found: None,
        }
    }

    /// How much of the input was taken, how much of the output was made, and whether the stream has ended.
    pub(crate) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        let wanted = self.next.is_some_and(|next| self.text >= next);
        let stop = if wanted { TINFL_FLAG_STOP_ON_BLOCK_BOUNDARY } else { 0 };
        let flags = self.flags | TINFL_FLAG_HAS_MORE_INPUT | stop;
        let room = output.len().min(RING_BYTES - self.at);
        let Self { core, ring, at, .. } = self;
        let (status, taken, made) = decompress_with_limit(core, input, &mut ring[..], *at, room, flags);
        output[..made].copy_from_slice(&ring[*at..*at + made]);
        self.at = (self.at + made) % RING_BYTES;
        // Whoever made the place may have said anything of the text before it.
        self.text = self.text.saturating_add(made as u64);
        match status {
            TINFLStatus::Done => return Ok((taken, made, true)),
            TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput => {}
            TINFLStatus::BlockBoundary => {
                self.found = self.core.block_boundary_state().map(|state| Between {
                    text: self.text,
                    bit_buf: state.bit_buf,
                    bits: state.num_bits,
                    window: self.window(),
                });
                self.next = Some(self.text + (self.text / STEP_SHARE).max(STEP_BYTES));
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a malformed deflate stream")),
        }
        Ok((taken, made, false))
    }

    /// The place that the last call stopped at.
    pub(crate) fn take_between(&mut self) -> Option<Between> {
        self.found.take()
    }

    fn window(&self) -> Vec<u8> {
        let known = usize::try_from(self.text).unwrap_or(WINDOW_BYTES).min(WINDOW_BYTES);
        let from = (self.at + RING_BYTES - known) % RING_BYTES;
        self.ring.iter().cycle().skip(from).take(known).copied().collect()
    }
}
