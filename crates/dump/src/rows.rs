//! Cuts COPY text into whole rows. Knows line ends and the end mark, nothing of columns.

use std::io::Read;

use crate::error::{DumpError, Place};
use crate::limits::Limits;
use crate::window::Window;

/// A part is not so short that the end mark could be taken for the beginning of a row.
const PART_MIN: usize = 4;

/// What stands next in COPY text.
pub(crate) enum Rows {
    /// This many bytes of whole rows; they are consumed.
    Some(usize),
    /// The line `\.`, which is consumed.
    End,
}

/// Takes as many whole rows as fit, or the end mark. `within` is how much of a row was handed out already, zero at the
/// beginning of one ([`Limits::parts`]).
///
/// In COPY text a row can neither be `\.` nor hold a raw LF, CR or NUL (COPY TO escapes them), so one line is one row.
pub(crate) fn next_rows<R: Read>(
    window: &mut Window<R>,
    limits: &Limits,
    within: &mut usize,
) -> Result<Rows, DumpError> {
    window.fill_to(limits.rows_bytes)?;
    let mut searched = 0;
    loop {
        let bytes = window.bytes();
        let view = &bytes[..bytes.len().min(limits.rows_bytes.max(searched + 1))];
        if let Some(last) = memchr::memrchr(b'\n', &view[searched.min(view.len())..]) {
            return take(window, searched + last + 1, within);
        }
        searched = view.len();
        if searched < bytes.len() && !limits.parts {
            match memchr::memchr(b'\n', &bytes[searched..]) {
                Some(at) => return take(window, searched + at + 1, within),
                None => searched = bytes.len(),
            }
        }
        if *within + searched > limits.row_bytes {
            return Err(DumpError::TooLarge {
                what: "a row",
                place: window.place(),
                limit: limits.row_bytes as u64,
            });
        }
        if limits.parts && searched >= limits.rows_bytes.max(PART_MIN) {
            return take(window, searched, within);
        }
        // With parts, what is there may not have been looked at to its end.
        let seen = searched >= window.bytes().len();
        if seen && !window.fill()? {
            return Err(DumpError::cut_off(window.place(), "inside the rows of a COPY"));
        }
    }
}

/// Takes the first `n` bytes, which are whole lines or part of one, up to the end mark if it is among them.
fn take<R: Read>(window: &mut Window<R>, n: usize, within: &mut usize) -> Result<Rows, DumpError> {
    let lines = &window.bytes()[..n];
    if *within == 0
        && let Some(rest) = lines.strip_prefix(b"\\.")
    {
        end_mark(rest, window.line())?;
        window.consume_text(3);
        return Ok(Rows::End);
    }
    let n = memchr::memmem::find(lines, b"\n\\.").map_or(n, |at| at + 1);
    let rows = &lines[..n];
    if let Some(at) = memchr::memchr2(b'\r', 0, rows) {
        let line = window.line() + memchr::memchr_iter(b'\n', &rows[..at]).count() as u64;
        return Err(if rows[at] == 0 { DumpError::Nul { line } } else { DumpError::CarriageReturn { line } });
    }
    *within = match memchr::memrchr(b'\n', rows) {
        Some(_) if rows.ends_with(b"\n") => 0,
        Some(last) => rows.len() - last - 1,
        None => *within + rows.len(),
    };
    window.consume_text(n);
    Ok(Rows::Some(n))
}

/// A line that begins with `\.` is the end mark or it is damage.
fn end_mark(rest: &[u8], line: u64) -> Result<(), DumpError> {
    match rest {
        [b'\n', ..] => Ok(()),
        [b'\r', ..] => Err(DumpError::CarriageReturn { line }),
        _ => Err(DumpError::malformed(Place::Line(line), "a COPY row begins with `\\.`")),
    }
}
