//! What can be wrong with a dump. Holds types only; says where, never what the bytes were.

use std::fmt;
use std::io;

use crate::format::Format;

/// Why a dump could not be read. Each text can follow "could not".
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The source of the bytes failed; the dump itself may be sound.
    #[error("read the dump's bytes from their source")]
    Read {
        /// What the source said.
        #[source]
        source: io::Error,
    },
    /// The dump ends before its end: nothing of it may be called restored.
    #[error("read the dump to its end: it is cut off at {place}, {open}")]
    CutOff {
        /// Where the bytes ended.
        place: Place,
        /// What was still open, such as "inside a string literal".
        open: String,
    },
    /// A psql command that no dump needs. It was not executed.
    #[error("accept the psql command `{command}` on line {line}: a dump is data, not a script")]
    MetaCommand {
        /// The command's name with its backslash, without its arguments.
        command: String,
        /// The line it stands on, from 1.
        line: u64,
    },
    /// `\restrict` and `\unrestrict` do not belong together.
    #[error("trust `\\unrestrict` on line {line}: {reason}")]
    Restrict {
        /// The line of the command, from 1.
        line: u64,
        /// What is wrong with the pair.
        reason: &'static str,
    },
    /// The bytes are something that this reader refuses by name.
    #[error("read this as a dump: it is {found}")]
    Format {
        /// What it is.
        found: Format,
    },
    /// A version, compression or clause that is known and not read.
    #[error("read the dump: {what} is not supported")]
    Unsupported {
        /// What it is, in words.
        what: String,
    },
    /// The decoder of a compressed layer refused the bytes.
    #[error("decompress the dump ({layer})")]
    Corrupt {
        /// Which compression.
        layer: &'static str,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The bytes break the format.
    #[error("understand the dump at {place}: {what}")]
    Malformed {
        /// Where.
        place: Place,
        /// What was found, or expected.
        what: String,
    },
    /// The file went through a line-end conversion, which also changed the data in it.
    #[error(
        "trust the dump: line {line} ends in CR LF, so its line ends were converted, and its data with them"
    )]
    CarriageReturn {
        /// The first such line, from 1.
        line: u64,
    },
    /// A NUL byte, which neither SQL text nor COPY text can hold.
    #[error("understand the dump: a NUL byte stands on line {line}")]
    Nul {
        /// The line, or the first line of the statement that holds it, from 1.
        line: u64,
    },
    /// Text that is not UTF-8.
    #[error("read the text at {place}: it is not UTF-8{}", in_encoding(.encoding.as_deref()))]
    Encoding {
        /// Where the text begins.
        place: Place,
        /// The dump's own `client_encoding`, where it is another one.
        encoding: Option<String>,
    },
    /// Something is larger than [`crate::Limits`] allow.
    #[error("read {what} at {place}: it is larger than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Where it begins.
        place: Place,
        /// The limit, in the unit of the thing (bytes, entries).
        limit: u64,
    },
}

/// A place in a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line of a plain dump, from 1.
    Line(u64),
    /// A byte of an archive (decompressed, where the whole file is compressed), from 0.
    Byte(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Byte(byte) => write!(f, "byte {byte}"),
        }
    }
}

fn in_encoding(encoding: Option<&str>) -> String {
    encoding.map(|name| format!(" but {name}; make the dump with --encoding=UTF8")).unwrap_or_default()
}

impl DumpError {
    pub(crate) fn malformed(place: Place, what: impl Into<String>) -> Self {
        Self::Malformed { place, what: what.into() }
    }

    pub(crate) fn cut_off(place: Place, open: impl Into<String>) -> Self {
        Self::CutOff { place, open: open.into() }
    }

    /// Hides itself in an `io::Error`, to get through `Read`; [`Self::from_io`] takes it out again.
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// Takes out what [`Self::into_io`] hid; anything else is the source's failure.
    pub(crate) fn from_io(error: io::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(inner) => inner,
            Err(source) => Self::Read { source },
        }
    }
}
