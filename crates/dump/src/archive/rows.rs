//! The rows of one table, out of an archive.

use std::io::Read;

use crate::archive::landmark::Landmark;
use crate::archive::payload::Payload;
use crate::error::DumpError;
use crate::limits::Limits;
use crate::rows::{Rows, next_rows};
use crate::window::Window;

/// COPY text of one table. Dropping it early passes over the rest.
pub struct RowStream<'a, R> {
    pub(crate) window: Window<Payload<'a, R>>,
    pub(crate) limits: Limits,
    pub(crate) ended: bool,
    within: usize,
}

impl<'a, R: Read> RowStream<'a, R> {
    pub(crate) fn new(payload: Payload<'a, R>, block: u64, limits: Limits) -> Self {
        let base = limits.rows_bytes.max(32 << 10) * 2;
        Self { window: Window::of_block(payload, base, block), limits, ended: false, within: 0 }
    }

    /// One or more whole rows, each ended by LF (a long one in parts with [`Limits::parts`]); none after the last. The line `\.` is not among them.
    ///
    /// # Errors
    /// When the block is cut off or malformed.
    pub fn next_rows(&mut self) -> Result<Option<&[u8]>, DumpError> {
        if self.ended {
            return Ok(None);
        }
        match next_rows(&mut self.window, &self.limits, &mut self.within)? {
            Rows::Some(n) => Ok(Some(self.window.consumed(n))),
            Rows::End => {
                self.ended = true;
                self.finish()?;
                Ok(None)
            }
        }
    }

    /// The places to begin at that were passed since the last call, in their order.
    pub fn landmarks(&mut self) -> Vec<Landmark> {
        std::mem::take(&mut self.window.source_mut().landmarks)
    }

    /// How far the archive was read: everything given out so far stands before this byte.
    pub fn archive_offset(&mut self) -> u64 {
        self.window.source_mut().window.offset()
    }

    /// Behind the end mark pg_dump writes empty lines, and nothing else.
    fn finish(&mut self) -> Result<(), DumpError> {
        loop {
            let n = self.window.bytes().len();
            if self.window.bytes().iter().any(|b| *b != b'\n') {
                return Err(DumpError::malformed(
                    self.window.place(),
                    "bytes after the end of a table's rows",
                ));
            }
            self.window.consume(n);
            if !self.window.fill()? {
                return Ok(());
            }
        }
    }
}
