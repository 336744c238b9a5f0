//! The only door to the terminal: results to stdout, all else to stderr. A broken pipe is success.

use std::io::{self, IsTerminal as _, Write as _};

use crate::arguments::{Global, When};

/// What may be printed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    /// One JSON object a line on stdout.
    pub(crate) json: bool,
    /// Less on stderr.
    pub(crate) quiet: bool,
    /// Colour on stdout.
    pub(crate) color: bool,
    /// Stderr is a terminal: a live screen may be drawn.
    pub(crate) live: bool,
    /// Columns of the terminal, 80 in a pipe.
    pub(crate) width: usize,
}

impl Ui {
    /// Decides once, from the flags and from what the streams are.
    pub(crate) fn new(global: &Global) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = match global.color {
            When::Always => true,
            When::Never => false,
            When::Auto => io::stdout().is_terminal() && !no_color && !dumb,
        };
        let live = io::stderr().is_terminal() && io::stdout().is_terminal() && !global.json && !dumb;
        Self { json: global.json, quiet: global.quiet, color, live, width: width() }
    }

    /// One line of result.
    pub(crate) fn line(&self, text: &str) {
        let mut out = io::stdout().lock();
        done(writeln!(out, "{text}").and_then(|()| out.flush()));
    }

    /// A result that ends in its own line end.
    pub(crate) fn block(&self, text: &str) {
        let mut out = io::stdout().lock();
        done(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }

    /// A remark on stderr; silent under `--quiet`.
    pub(crate) fn remark(&self, text: &str) {
        if !self.quiet {
            self.error(text);
        }
    }

    /// A line on stderr that is always said.
    pub(crate) fn error(&self, text: &str) {
        done(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Asks on the terminal; `None` when there is nobody to ask.
    pub(crate) fn ask(&self, question: &str) -> Option<String> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut err = io::stderr().lock();
        done(write!(err, "{question} ").and_then(|()| err.flush()));
        let mut answer = String::new();
        match io::stdin().read_line(&mut answer) {
            Ok(read) if read > 0 => Some(answer.trim().to_owned()),
            _ => None,
        }
    }
}

/// A reader that went away (`| head`) is no error of ours; any other is told by status 1.
fn done(written: io::Result<()>) {
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(_) => std::process::exit(1),
    }
}

fn width() -> usize {
    let from_terminal = rustix::termios::tcgetwinsize(io::stderr()).ok().map(|size| usize::from(size.ws_col));
    let from_environment = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    from_terminal.or(from_environment).filter(|width| *width >= 40).unwrap_or(80)
}
