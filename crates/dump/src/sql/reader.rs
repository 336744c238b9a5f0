//! Reads a plain dump event by event, in memory that does not grow with the dump.

use std::io::Read;

use crate::error::{DumpError, Place};
use crate::format::Format;
use crate::limits::Limits;
use crate::rows::{Rows, next_rows};
use crate::sql::copy::Copy;
use crate::sql::event::{Banner, Event, Meta, Position, Statement};
use crate::sql::kind::Kind;
use crate::sql::meta::{self, Command};
use crate::sql::settings;
use crate::sql::statements::{Lead, Raw, Splitter};
use crate::window::Window;

/// A line with one of the three commands is far shorter.
const COMMAND_MAX: usize = 8 << 10;

/// A reader of plain SQL dumps. After an error it must not be asked again.
pub struct SqlReader<R> {
    window: Window<R>,
    splitter: Splitter,
    limits: Limits,
    mode: Mode,
    restrict: Option<String>,
    banner: Option<Banner>,
    end: EndMark,
    /// The line on which a statement or block comment ended: no command may stand on it.
    busy_line: u64,
    /// How much of a long row was handed out.
    within: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Statements,
    Rows,
    Finished,
}

/// How far the marks of a whole dump have been seen.
#[derive(Debug, Default)]
struct EndMark {
    /// pg_dump's opening comment.
    head: bool,
    /// The first line of its closing comment.
    begun: bool,
    complete: bool,
    /// The statement before here was `RESET ALL;`: the end of a dump by the Supabase CLI, which strips all comments.
    reset_all: bool,
}

/// What was found, before it is borrowed from the window.
enum Found {
    Statement(Raw),
    Copy(Copy),
    Rows(usize),
    CopyEnd,
    Meta(Meta),
    Complete,
    End,
}

impl<R: Read> SqlReader<R> {
    /// Reads plain SQL from `input`, which is not compressed. [`crate::open`] finds out whether it is.
    pub fn new(input: R, limits: Limits) -> Self {
        Self {
            window: Window::new(input, limits.rows_bytes.max(32 << 10) * 2),
            splitter: Splitter::new(),
            limits,
            mode: Mode::Statements,
            restrict: None,
            banner: None,
            end: EndMark::default(),
            busy_line: 0,
            within: 0,
        }
    }

    /// Where the next event begins to be looked for.
    pub fn position(&self) -> Position {
        Position { line: self.window.line(), byte: self.window.offset() }
    }

    /// The comment above the object whose statements are being read. A hint only.
    pub fn banner(&self) -> Option<&Banner> {
        self.banner.as_ref()
    }

    /// The dump's `client_encoding` if it is not UTF-8: its COPY rows are in it.
    pub fn encoding(&self) -> Option<&str> {
        self.splitter.encoding.as_deref()
    }

    /// The next event. None only when the dump was whole and without fault.
    ///
    /// # Errors
    /// [`DumpError::CutOff`] when the text ends before the dump does; else what is wrong with it, and where.
    pub fn next_event(&mut self) -> Result<Option<Event<'_>>, DumpError> {
        Ok(Some(match self.advance()? {
            Found::Statement(raw) => Event::Statement(self.statement(raw)?),
            Found::Copy(copy) => Event::CopyStart(copy),
            Found::Rows(n) => Event::CopyRows(self.window.consumed(n)),
            Found::CopyEnd => Event::CopyEnd,
            Found::Meta(meta) => Event::Meta(meta),
            Found::Complete => Event::Complete,
            Found::End => return Ok(None),
        }))
    }

    /// After [`Event::CopyStart`]: passes over the rows and the end mark. Says how many bytes of rows there were.
    ///
    /// # Errors
    /// As [`Self::next_event`].
    pub fn skip_copy(&mut self) -> Result<u64, DumpError> {
        let mut bytes = 0;
        while self.mode == Mode::Rows {
            match next_rows(&mut self.window, &self.limits, &mut self.within)? {
                Rows::Some(n) => bytes += n as u64,
                Rows::End => self.mode = Mode::Statements,
            }
        }
        Ok(bytes)
    }

    fn advance(&mut self) -> Result<Found, DumpError> {
        match self.mode {
            Mode::Finished => return Ok(Found::End),
            Mode::Rows => {
                return Ok(match next_rows(&mut self.window, &self.limits, &mut self.within)? {
                    Rows::Some(n) => Found::Rows(n),
                    Rows::End => {
                        self.mode = Mode::Statements;
                        Found::CopyEnd
                    }
                });
            }
            Mode::Statements => {}
        }
        loop {
            match self.splitter.lead(&mut self.window, &self.limits)? {
                Lead::End => return self.finish(),
                Lead::Comment(len, ended) => {
                    if self.comment(len, ended)? {
                        return Ok(Found::Complete);
                    }
                }
                Lead::Token(b'\\') => return self.command().map(Found::Meta),
                Lead::Token(_) => return self.split(),
            }
        }
    }

    /// At the end of the text: it must be the end of the dump.
    fn finish(&mut self) -> Result<Found, DumpError> {
        let place = self.window.place();
        if self.restrict.is_some() {
            return Err(DumpError::cut_off(place, "before `\\unrestrict`"));
        }
        if !self.end.head && self.end.reset_all && !self.end.complete {
            self.end.complete = true;
            return Ok(Found::Complete);
        }
        if !self.end.complete {
            return Err(DumpError::cut_off(place, "before the line \"PostgreSQL database dump complete\""));
        }
        self.mode = Mode::Finished;
        Ok(Found::End)
    }

    /// Looks at a comment between statements; true when it completes the dump.
    fn comment(&mut self, len: usize, ended: bool) -> Result<bool, DumpError> {
        let comment = self.window.consumed(len);
        if comment.starts_with(b"/*") {
            self.busy_line = self.window.line();
        }
        match comment {
            b"-- PostgreSQL database dump" => {
                // A second dump in the same file has an end of its own.
                self.end = EndMark { head: true, ..EndMark::default() };
            }
            b"-- PostgreSQL database cluster dump" => {
                return Err(DumpError::Format { found: Format::Cluster });
            }
            b"-- PostgreSQL database dump complete" => self.end.begun = true,
            b"--" => {
                let complete = std::mem::take(&mut self.end.begun) && ended;
                self.end.complete |= complete;
                return Ok(complete);
            }
            _ => {
                self.end.begun = false;
                if let Some(banner) = Banner::parse(comment) {
                    self.banner = Some(banner);
                }
            }
        }
        Ok(false)
    }

    /// Takes the command that begins here.
    fn command(&mut self) -> Result<Meta, DumpError> {
        let line = self.window.line();
        let mut end = memchr::memchr(b'\n', self.window.bytes());
        while end.is_none() && self.window.bytes().len() <= COMMAND_MAX && self.window.fill()? {
            end = memchr::memchr(b'\n', self.window.bytes());
        }
        let len = end.unwrap_or(self.window.bytes().len());
        let text = &self.window.bytes()[..len];
        if text.ends_with(b"\r") {
            return Err(DumpError::CarriageReturn { line });
        }
        let command = if line == self.busy_line { None } else { meta::parse(text) };
        let Some(command) = command else {
            if end.is_none() && self.window.is_eof() && meta::may_be_cut(text) {
                return Err(DumpError::cut_off(Place::Line(line), "inside a psql command"));
            }
            return Err(DumpError::MetaCommand { command: meta::display_name(text), line });
        };
        self.window.consume_text(len);
        self.obey(command, line)
    }

    fn obey(&mut self, command: Command, line: u64) -> Result<Meta, DumpError> {
        let wrong = |reason| Err(DumpError::Restrict { line, reason });
        match (command, self.restrict.take()) {
            (Command::Unrestrict(_), None) => wrong("there is no `\\restrict` before it"),
            (Command::Unrestrict(given), Some(key)) if given != key => {
                wrong("its key is not that of `\\restrict`")
            }
            (Command::Unrestrict(_), Some(_)) => Ok(Meta::Unrestrict),
            (Command::Restrict(_), Some(_)) => {
                Err(DumpError::MetaCommand { command: "\\restrict".to_owned(), line })
            }
            (Command::Connect(_), Some(_)) => {
                Err(DumpError::MetaCommand { command: "\\connect".to_owned(), line })
            }
            (Command::Restrict(key), None) => {
                self.restrict = Some(key);
                Ok(Meta::Restrict)
            }
            (Command::Connect(database), None) => Ok(Meta::Connect { database }),
        }
    }

    fn split(&mut self) -> Result<Found, DumpError> {
        let raw = self.splitter.statement(&mut self.window, &self.limits)?;
        self.busy_line = self.window.line();
        self.end.begun = false;
        self.end.reset_all = false;
        let sql = self.window.consumed(raw.len);
        let word = sql.iter().position(|b| !b.is_ascii_alphabetic()).unwrap_or(sql.len());
        match sql[..word].to_ascii_lowercase().as_slice() {
            b"set" | b"reset" => {
                self.end.reset_all = sql.eq_ignore_ascii_case(b"RESET ALL;");
                settings::follow(&mut self.splitter, sql).map_err(|encoding| DumpError::Unsupported {
                    what: format!("client_encoding {encoding} (make the dump with --encoding=UTF8)"),
                })?;
            }
            b"copy" => return self.start_copy(raw).map(Found::Copy),
            _ => {}
        }
        Ok(Found::Statement(raw))
    }

    fn start_copy(&mut self, raw: Raw) -> Result<Copy, DumpError> {
        let place = Place::Line(raw.line);
        let copy = Copy::parse(self.statement(raw)?.sql);
        let mut copy = copy.ok_or_else(|| {
            DumpError::malformed(place, "a COPY in another form than `COPY table (columns) FROM stdin;`")
        })?;
        self.window.fill_to(2)?;
        match self.window.bytes() {
            [b'\n', ..] => self.window.consume_text(1),
            [b'\r', b'\n', ..] => return Err(DumpError::CarriageReturn { line: self.window.line() }),
            [] => return Err(DumpError::cut_off(self.window.place(), "before the rows of a COPY")),
            _ => return Err(DumpError::malformed(place, "a COPY that is not at the end of its line")),
        }
        (copy.line, copy.offset, copy.data_offset) = (raw.line, raw.offset, self.window.offset());
        self.mode = Mode::Rows;
        Ok(copy)
    }

    fn statement(&self, raw: Raw) -> Result<Statement<'_>, DumpError> {
        let Raw { line, offset, len } = raw;
        let sql = std::str::from_utf8(self.window.consumed(len)).map_err(|_| DumpError::Encoding {
            place: Place::Line(line),
            encoding: self.splitter.encoding.clone(),
        })?;
        Ok(Statement { sql, line, offset, kind: Kind::of(sql) })
    }
}
