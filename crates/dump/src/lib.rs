//! Reads what pg_dump writes, as a stream, and trusts none of it.
//!
//! | part      | what it holds                                                                        |
//! |-----------|--------------------------------------------------------------------------------------|
//! | [`open`]  | takes off gzip and zstd, looks at the bytes, gives the reader for them               |
//! | `sql`     | plain dumps: statements and COPY rows, split where psql splits them                  |
//! | `archive` | the custom format: header, table of contents, blocks of rows and large objects       |
//! | [`contents`] | what a whole dump holds: tables, rows, hashes                                          |
//! | [`Indexer`] | the side-car index of an archive, built while it passes by                         |
//! | [`order`] | the order in which pg_restore goes through an archive                                |
//! | [`script`]| the SQL of an archive's entries                                                      |
//! | [`Schema`]| what the statements say of tables: columns, keys, references, partitions             |
//! | `values`, [`Insert`] | the values of single rows                                                 |
//!
//! The one rule: a reader says `None` only after the dump's own end. A dump that is cut off, at whichever byte, is
//! [`DumpError::CutOff`] or another error, never a short success; a psql command is refused, never executed; and
//! memory stays flat whatever the bytes say ([`Limits`]).
//!
//! ```
//! use runbook_dump::{Dump, Event, Limits, open};
//!
//! let text = "\
//! --\n-- PostgreSQL database dump\n--\n\nCREATE TABLE public.t (a text);\n\
//! COPY public.t (a) FROM stdin;\none\ntwo\n\\.\n\
//! --\n-- PostgreSQL database dump complete\n--\n";
//! let Dump::Plain(mut reader) = open(text.as_bytes(), Limits::default())? else { panic!("it is SQL") };
//! let mut rows = 0;
//! while let Some(event) = reader.next_event()? {
//!     match event {
//!         Event::CopyStart(copy) => assert_eq!(copy.table.to_string(), r#""public"."t""#),
//!         Event::CopyRows(lines) => rows += lines.iter().filter(|byte| **byte == b'\n').count(),
//!         _ => {}
//!     }
//! }
//! assert_eq!(rows, 2);
//! # Ok::<(), runbook_dump::DumpError>(())
//! ```
//!
//! It leaves to others: fetching and hashing the bytes, deciding what to restore, and every connection to a database.

mod ahead;
mod archive;
mod contents;
mod cuts;
mod error;
mod format;
mod index;
mod insert;
mod limits;
mod open;
pub mod order;
mod ratio;
mod rows;
mod schema;
pub mod script;
mod sql;
mod values;
mod window;

pub use archive::{
    ArchiveReader, Block, BlockSpan, Compression, CreatedAt, DataOffset, Entry, Header, Landmark,
    LargeObjectEvent, LargeObjects, Pass, Resumed, RowStream, Section, StatementStream, Version,
    block_ranges,
};
pub use contents::{Contents, TableContents, contents};
pub use cuts::{CutPart, Cuts, Values};
pub use error::{DumpError, Place};
pub use format::{Format, SNIFF_BYTES};
pub use index::{Index, IndexedDump, IndexedTable, Indexer};
pub use insert::{Insert, InsertError, Inserted};
pub use limits::Limits;
pub use open::{Dump, Source, open};
pub use schema::{Column, ForeignKey, Schema, Table};
pub use sql::{Banner, Copy, Event, Kind, Meta, Position, QualifiedName, SqlReader, Statement};
pub use values::{ValueError, copy_fields, push_copy_field};
