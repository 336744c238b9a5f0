//! The one buffer that both readers look at a stream through. It grows only while its user asks for more.

use std::io::{ErrorKind, Read};

use crate::error::{DumpError, Place};

/// Unconsumed bytes of a stream, contiguous, with the place where they begin.
pub(crate) struct Window<R> {
    inner: R,
    buf: Vec<u8>,
    start: usize,
    end: usize,
    eof: bool,
    offset: u64,
    line: u64,
    /// The size it starts with and returns to.
    base: usize,
    /// For the data of an archive's block: where the block begins.
    block: Option<u64>,
}

impl<R: Read> Window<R> {
    pub(crate) fn new(inner: R, base: usize) -> Self {
        Self {
            inner,
            buf: vec![0; base],
            start: 0,
            end: 0,
            eof: false,
            offset: 0,
            line: 1,
            base,
            block: None,
        }
    }

    /// A window on the data of the block that begins at this byte of an archive.
    pub(crate) fn of_block(inner: R, base: usize, block: u64) -> Self {
        Self { block: Some(block), ..Self::new(inner, base) }
    }

    /// A window on the part of a stream that begins at this byte of it.
    pub(crate) fn from_offset(inner: R, base: usize, offset: u64) -> Self {
        Self { offset, ..Self::new(inner, base) }
    }

    /// Where the unconsumed bytes begin, for messages.
    pub(crate) fn place(&self) -> Place {
        self.block.map_or(Place::Line(self.line), Place::Byte)
    }

    /// Where the bytes come from.
    pub(crate) fn source_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// What is buffered and not consumed.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buf[self.start..self.end]
    }

    /// The `n` bytes that were consumed last. Valid until the next fill.
    pub(crate) fn consumed(&self, n: usize) -> &[u8] {
        &self.buf[self.start - n..self.start]
    }

    /// Whether the source has no more to give.
    pub(crate) fn is_eof(&self) -> bool {
        self.eof
    }

    /// Where the unconsumed bytes begin, in bytes from 0.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The line on which the unconsumed bytes begin, from 1.
    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// Reads once from the source; false at its end.
    pub(crate) fn fill(&mut self) -> Result<bool, DumpError> {
        if self.eof {
            return Ok(false);
        }
        self.make_room();
        loop {
            match self.inner.read(&mut self.buf[self.end..]) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(false);
                }
                Ok(n) => {
                    self.end += n;
                    return Ok(true);
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(DumpError::from_io(e)),
            }
        }
    }

    /// Reads until `n` bytes are there or the source ends.
    pub(crate) fn fill_to(&mut self, n: usize) -> Result<(), DumpError> {
        while self.bytes().len() < n && self.fill()? {}
        Ok(())
    }

    /// Takes `n` bytes whose lines nobody counts.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        self.offset += n as u64;
    }

    /// Takes `n` bytes and counts their lines.
    pub(crate) fn consume_text(&mut self, n: usize) {
        self.line += memchr::memchr_iter(b'\n', &self.bytes()[..n]).count() as u64;
        self.consume(n);
    }

    fn make_room(&mut self) {
        let held = self.end - self.start;
        if self.buf.len() > self.base * 4 && held < self.base {
            // One long row must not keep its memory for the rest of the dump.
            let mut small = vec![0; self.base];
            small[..held].copy_from_slice(&self.buf[self.start..self.end]);
            (self.buf, self.start, self.end) = (small, 0, held);
        } else if self.end == self.buf.len() {
            if held <= self.buf.len() / 2 {
                self.buf.copy_within(self.start..self.end, 0);
            } else {
                let mut large = vec![0; self.buf.len() * 2];
                large[..held].copy_from_slice(&self.buf[self.start..self.end]);
                self.buf = large;
            }
            (self.start, self.end) = (0, held);
        }
    }
}
