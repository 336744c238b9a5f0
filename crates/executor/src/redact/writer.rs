//! A writer that takes values out of a stream, whatever pieces it comes in.

use std::io::{self, Write};

use zeroize::Zeroize;

use super::Redactor;

/// Passes on what is written, without secret values.
///
/// Holds back the end of what it was given as long as that may be the beginning of a value, also over a
/// [`flush`](Write::flush): at most about three times the longest spelling. [`finish`](Self::finish) or dropping
/// it passes on the rest.
#[derive(Debug)]
pub struct RedactingWriter<W: Write> {
    redactor: Redactor,
    inner: W,
    /// Not yet passed on.
    pending: Vec<u8>,
    /// How many bytes of `pending` belong to a value that was already replaced.
    hidden: usize,
}

impl<W: Write> RedactingWriter<W> {
    /// Writes to `inner` what `redactor` lets through.
    pub fn new(redactor: Redactor, inner: W) -> Self {
        Self { redactor, inner, pending: Vec::new(), hidden: 0 }
    }

    /// Passes on the rest.
    pub fn finish(&mut self) -> io::Result<()> {
        self.pass(true)?;
        self.inner.flush()
    }

    fn pass(&mut self, last: bool) -> io::Result<()> {
        let mut out = Vec::new();
        let scanned = self.redactor.matcher().scan(&self.pending, self.hidden, last, &mut out);
        let rest = self.pending[scanned.taken..].to_vec();
        self.pending.zeroize();
        self.pending = rest;
        self.hidden = scanned.hidden;
        self.inner.write_all(&out)
    }
}

impl<W: Write> Write for RedactingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        self.pass(false)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for RedactingWriter<W> {
    fn drop(&mut self) {
        // Nobody is left to tell; who must know calls `finish`.
        let _lost = self.finish();
    }
}
