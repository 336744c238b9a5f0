//! The rows of one table as INSERT statements, out of an archive made with `--inserts`.

use std::io::Read;

use crate::archive::payload::Payload;
use crate::error::DumpError;
use crate::limits::Limits;
use crate::sql::{Kind, Lead, Splitter, Statement};
use crate::window::Window;

/// INSERT statements of one table. Dropping it early passes over the rest.
pub struct StatementStream<'a, R> {
    window: Window<Payload<'a, R>>,
    splitter: Splitter,
    limits: Limits,
}

impl<'a, R: Read> StatementStream<'a, R> {
    pub(crate) fn new(payload: Payload<'a, R>, block: u64, splitter: Splitter, limits: Limits) -> Self {
        Self { window: Window::of_block(payload, 256 << 10, block), splitter, limits }
    }

    /// The next statement. Its `line` and `offset` are counted from the beginning of the block's data.
    ///
    /// # Errors
    /// When the block is cut off or malformed, or holds anything but INSERT statements.
    pub fn next_statement(&mut self) -> Result<Option<Statement<'_>>, DumpError> {
        loop {
            match self.splitter.lead(&mut self.window, &self.limits)? {
                Lead::End => return Ok(None),
                Lead::Comment(..) => {}
                Lead::Token(_) => break,
            }
        }
        let place = self.window.place();
        let raw = self.splitter.statement(&mut self.window, &self.limits)?;
        let sql = std::str::from_utf8(self.window.consumed(raw.len))
            .map_err(|_| DumpError::Encoding { place, encoding: self.splitter.encoding.clone() })?;
        let kind = Kind::of(sql);
        if kind != Kind::Insert {
            return Err(DumpError::malformed(place, "a statement among a table's rows that is no INSERT"));
        }
        Ok(Some(Statement { sql, line: raw.line, offset: raw.offset, kind }))
    }
}
