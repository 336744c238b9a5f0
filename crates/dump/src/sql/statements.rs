//! Takes whole statements out of a stream of SQL text, with what lies between them.

use std::io::Read;

use crate::error::DumpError;
use crate::limits::Limits;
use crate::sql::lexer::{Lexer, Step};
use crate::sql::meta;
use crate::window::Window;

/// What stands before the next statement.
pub(crate) enum Lead {
    /// The text ends here, between statements.
    End,
    /// A comment of this many bytes, which is consumed; whether its end was seen.
    Comment(usize, bool),
    /// A statement or a command begins with this byte, which is not consumed.
    Token(u8),
}

/// A whole statement. Its bytes are consumed and lie in `window.consumed(len)`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw {
    pub(crate) line: u64,
    pub(crate) offset: u64,
    pub(crate) len: usize,
}

/// Splits text into statements. Keeps only what one statement changes for the next.
#[derive(Debug)]
pub(crate) struct Splitter {
    pub(crate) standard_strings: bool,
    /// The `client_encoding`, if it is not UTF-8.
    pub(crate) encoding: Option<String>,
}

impl Splitter {
    pub(crate) fn new() -> Self {
        Self { standard_strings: true, encoding: None }
    }

    /// Skips white space (and a `;` that ends nothing) up to the next comment or token.
    pub(crate) fn lead<R: Read>(&self, window: &mut Window<R>, limits: &Limits) -> Result<Lead, DumpError> {
        loop {
            window.fill_to(2)?;
            let bytes = window.bytes();
            let space = bytes.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b';'));
            let space = space.unwrap_or(bytes.len());
            window.consume_text(space);
            window.fill_to(2)?;
            match *window.bytes() {
                [] => return Ok(Lead::End),
                [b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b';', ..] => {}
                [b'\r', b'\n', ..] => return Err(DumpError::CarriageReturn { line: window.line() }),
                [b'\r', ..] => window.consume(1),
                [0, ..] => return Err(DumpError::Nul { line: window.line() }),
                [b'-', b'-', ..] => return line_comment(window, limits),
                [b'/', b'*', ..] => return block_comment(window, limits),
                [byte, ..] => return Ok(Lead::Token(byte)),
            }
        }
    }

    /// Takes the statement that begins here.
    pub(crate) fn statement<R: Read>(
        &self,
        window: &mut Window<R>,
        limits: &Limits,
    ) -> Result<Raw, DumpError> {
        let (line, offset) = (window.line(), window.offset());
        let mut lexer = Lexer::new(self.standard_strings);
        let len = loop {
            let bytes = window.bytes();
            let line_of = |at: usize| line + memchr::memchr_iter(b'\n', &bytes[..at]).count() as u64;
            match lexer.scan(bytes, window.is_eof()) {
                Step::End(len) => break len,
                Step::Backslash(at) => {
                    let line = line_of(at);
                    window.fill_to(at + meta::NAME_MAX)?;
                    let command = meta::display_name(&window.bytes()[at..]);
                    return Err(DumpError::MetaCommand { command, line });
                }
                Step::CarriageReturn(at) => return Err(DumpError::CarriageReturn { line: line_of(at) }),
                Step::LongTag(at) => {
                    let place = crate::Place::Line(line_of(at));
                    return Err(DumpError::malformed(place, "a dollar quote's tag never ends"));
                }
                Step::More | Step::Go => {}
            }
            if bytes.len() > limits.statement_bytes {
                let limit = limits.statement_bytes as u64;
                return Err(DumpError::TooLarge { what: "a statement", place: window.place(), limit });
            }
            if !window.fill()? {
                // The lexer may have waited for one byte more; what it finds now is its last word.
                match lexer.scan(window.bytes(), true) {
                    Step::End(len) => break len,
                    _ => return Err(DumpError::cut_off(window.place(), lexer.open())),
                }
            }
        };
        if memchr::memchr(0, &window.bytes()[..len]).is_some() {
            return Err(DumpError::Nul { line });
        }
        window.consume_text(len);
        Ok(Raw { line, offset, len })
    }
}

fn line_comment<R: Read>(window: &mut Window<R>, limits: &Limits) -> Result<Lead, DumpError> {
    let mut seen = 0;
    let (len, ended) = loop {
        let bytes = window.bytes();
        if let Some(at) = memchr::memchr2(b'\n', b'\r', &bytes[seen..]) {
            break (seen + at, true);
        }
        seen = bytes.len();
        if !grow_comment(window, limits)? {
            break (seen, false);
        }
    };
    window.fill_to(len + 2)?;
    if window.bytes()[len..].starts_with(b"\r\n") {
        return Err(DumpError::CarriageReturn { line: window.line() });
    }
    comment(window, len, ended)
}

fn block_comment<R: Read>(window: &mut Window<R>, limits: &Limits) -> Result<Lead, DumpError> {
    let (mut at, mut depth) = (2, 1_u32);
    loop {
        let bytes = window.bytes();
        while at + 1 < bytes.len() {
            let skip = memchr::memchr2(b'*', b'/', &bytes[at..]).unwrap_or(bytes.len() - at);
            at += skip;
            match bytes.get(at..at + 2) {
                Some(b"*/") => (depth, at) = (depth - 1, at + 2),
                Some(b"/*") => (depth, at) = (depth.saturating_add(1), at + 2),
                Some(_) => at += 1,
                None => break,
            }
            if depth == 0 {
                return comment(window, at, true);
            }
        }
        if !grow_comment(window, limits)? {
            return Err(DumpError::cut_off(window.place(), "inside a comment"));
        }
    }
}

fn grow_comment<R: Read>(window: &mut Window<R>, limits: &Limits) -> Result<bool, DumpError> {
    if window.bytes().len() > limits.statement_bytes {
        let limit = limits.statement_bytes as u64;
        return Err(DumpError::TooLarge { what: "a comment", place: window.place(), limit });
    }
    window.fill()
}

fn comment<R: Read>(window: &mut Window<R>, len: usize, ended: bool) -> Result<Lead, DumpError> {
    if memchr::memchr(0, &window.bytes()[..len]).is_some() {
        return Err(DumpError::Nul { line: window.line() });
    }
    window.consume_text(len);
    Ok(Lead::Comment(len, ended))
}
