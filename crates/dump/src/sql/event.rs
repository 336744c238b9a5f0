//! What a plain dump is made of, in the order in which it stands there. Types only.

use crate::sql::copy::Copy;
use crate::sql::kind::Kind;

/// The next thing in a plain dump. Slices live until the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole statement. May return rows: whoever executes it must drain them.
    Statement(Statement<'a>),
    /// A `COPY … FROM stdin;`: rows follow, then [`Event::CopyEnd`].
    CopyStart(Copy),
    /// One or more whole rows in COPY text form, each ended by LF; a long one in parts with [`crate::Limits::parts`].
    CopyRows(&'a [u8]),
    /// The line `\.`.
    CopyEnd,
    /// One of the psql commands that pg_dump writes.
    Meta(Meta),
    /// pg_dump's own mark that the dump is whole. Statements may still follow, and the rest is still checked:
    /// only the `None` after the last event says that the dump was read without fault.
    Complete,
}

/// A statement as it stands in the file, from its first word to its `;`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The text, `;` included, comments before it left out.
    pub sql: &'a str,
    /// The line it begins on, from 1.
    pub line: u64,
    /// Where it begins, in bytes of decompressed text.
    pub offset: u64,
    /// What it is, judged by its first words.
    pub kind: Kind,
}

/// A psql command that a dump may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meta {
    /// What follows belongs to another database (pg_dump `--create`).
    Connect {
        /// The database's name.
        database: String,
    },
    /// From here on no other command may stand in the dump (since the 2025-08 releases of PostgreSQL).
    Restrict,
    /// The end of it; the key was compared.
    Unrestrict,
}

/// A place in the decompressed text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The line, from 1.
    pub line: u64,
    /// The byte, from 0.
    pub byte: u64,
}

/// The comment that pg_dump writes above each object. A hint for people and reports, never for correctness: names in
/// it are sanitized, and anybody can write a comment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Banner {
    /// The object's name, functions with their arguments.
    pub name: String,
    /// The type as pg_dump calls it, such as `TABLE` or `FK CONSTRAINT`.
    pub desc: String,
    /// The schema; none for objects outside of schemas.
    pub schema: Option<String>,
    /// The owner; none where pg_dump writes `-`.
    pub owner: Option<String>,
}

impl Banner {
    /// Reads one comment line, such as `-- Name: t; Type: TABLE; Schema: public; Owner: me`.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.strip_prefix("-- ")?;
        let line = line.strip_prefix("Data for ").unwrap_or(line).strip_prefix("Name: ")?;
        let (line, owner) = line.rsplit_once("; Owner: ")?;
        let owner = owner.rsplit_once("; Tablespace: ").map_or(owner, |(owner, _)| owner);
        let (line, schema) = line.rsplit_once("; Schema: ")?;
        let (name, desc) = line.rsplit_once("; Type: ")?;
        let known = |text: &str| (text != "-" && !text.is_empty()).then(|| text.to_owned());
        Some(Self {
            name: name.to_owned(),
            desc: desc.to_owned(),
            schema: known(schema),
            owner: known(owner),
        })
    }
}
