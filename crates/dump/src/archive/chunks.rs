//! The chunks of one stream inside a block.

use std::io::Read;

use crate::archive::fields::Fields;
use crate::error::{DumpError, Place};
use crate::limits::Limits;
use crate::window::Window;

/// Where a stream of chunks stands. It outlives whoever reads the stream, so that the rest can be passed over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Chunks {
    left: u64,
    pub(crate) ended: bool,
}

/// What is needed to read numbers between chunks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) int_size: usize,
    pub(crate) offset_size: usize,
    pub(crate) limits: Limits,
}

impl Shape {
    /// Reads primitives of a block.
    pub(crate) fn fields<'a, R>(&self, window: &'a mut Window<R>) -> Fields<'a, R> {
        let Self { int_size, offset_size, .. } = *self;
        Fields { window, int_size, offset_size, end_max: u64::MAX, part: "a block of data" }
    }
}

impl Chunks {
    /// In the middle of a chunk of which so many bytes are left.
    pub(crate) fn within(left: u64) -> Self {
        Self { left, ended: false }
    }

    /// Bytes that are left of the chunk; 0 when another one follows, or none.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// Some bytes of the stream; empty at its end. To be followed by [`Self::consume`].
    pub(crate) fn bytes<'w, R: Read>(
        &mut self,
        window: &'w mut Window<R>,
        shape: &Shape,
    ) -> Result<&'w [u8], DumpError> {
        if self.left == 0 && !self.ended {
            let n =
                shape.fields(window).int_in("the length of a chunk", 0..=i64::from(i32::MAX))?.unsigned_abs();
            if n > shape.limits.chunk_bytes {
                let (place, limit) = (Place::Byte(window.offset()), shape.limits.chunk_bytes);
                return Err(DumpError::TooLarge { what: "a chunk", place, limit });
            }
            (self.left, self.ended) = (n, n == 0);
        }
        if self.ended {
            return Ok(&[]);
        }
        if window.bytes().is_empty() && !window.fill()? {
            return Err(DumpError::cut_off(Place::Byte(window.offset()), "inside a block of data"));
        }
        let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(window.bytes().len());
        Ok(&window.bytes()[..n])
    }

    /// Takes `n` of the bytes that were given last.
    pub(crate) fn consume<R: Read>(&mut self, window: &mut Window<R>, n: usize) {
        window.consume(n);
        self.left -= n as u64;
    }

    /// Passes over the rest of the stream.
    pub(crate) fn skip<R: Read>(&mut self, window: &mut Window<R>, shape: &Shape) -> Result<(), DumpError> {
        loop {
            let n = self.bytes(window, shape)?.len();
            if n == 0 {
                return Ok(());
            }
            self.consume(window, n);
        }
    }
}
