//! Picks rows out of a dump as it passes: those of one table whose key is wanted, to a CSV file. Asks nobody and
//! decides nothing about trust.

use std::path::PathBuf;

use runbook_core::action::ActionError;
use runbook_dump::{DumpError, Insert, Inserted, QualifiedName, Schema, Table, copy_fields};

use super::file::{CsvWriter, RowsFile};
use super::keys::{Lookup, Spelling, Wanted};

/// Why a dump was not read on.
#[derive(Debug)]
pub(super) enum Halt {
    /// The dump.
    Dump(DumpError),
    /// Anything else.
    Refused(Box<ActionError>),
}

impl From<DumpError> for Halt {
    fn from(error: DumpError) -> Self {
        Self::Dump(error)
    }
}

impl From<ActionError> for Halt {
    fn from(error: ActionError) -> Self {
        Self::Refused(Box::new(error))
    }
}

/// What is picked out.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) table: QualifiedName,
    pub(super) wanted: Wanted,
    /// Every row, whatever its key.
    pub(super) all: bool,
    /// The columns to write; all when left out.
    pub(super) columns: Option<Vec<String>>,
    /// Somebody says that a key names one row at most.
    pub(super) unique: bool,
    pub(super) max_rows: u64,
    /// Keys are compared byte by byte, because what the dump says of types is not trusted.
    pub(super) exact: bool,
    /// A dump without the table has none of the rows; else that is an error.
    pub(super) optional: bool,
    pub(super) folder: PathBuf,
    pub(super) file: String,
}

/// Picks the rows of one table.
pub(super) struct Picker {
    want: Want,
    lookup: Lookup,
    begun: bool,
    unique: bool,
    out: Option<CsvWriter>,
    /// Where in a row the columns of the key stand, and those to write.
    key_at: Vec<usize>,
    put_at: Vec<usize>,
    fields: usize,
}

/// What came of it.
pub(super) struct Picked {
    pub(super) file: RowsFile,
    /// Places of the keys that were not found.
    pub(super) missing: Vec<usize>,
}

/// How a table is named to people: `public.users`.
pub(super) fn shown(table: &QualifiedName) -> String {
    let schema = table.schema.as_deref().map(|schema| format!("{schema}.")).unwrap_or_default();
    crate::postgres::sql::plain(&format!("{schema}{}", table.name))
}

/// A field of a line of COPY text whose text stands there as it is; none for one with an escape in it, NULL included.
fn raw_field(line: &[u8], at: usize) -> Option<&[u8]> {
    let mut rest = line;
    for _ in 0..at {
        rest = &rest[memchr::memchr(b'\t', rest)? + 1..];
    }
    let end = memchr::memchr2(b'\t', b'\\', rest).unwrap_or(rest.len());
    (rest.get(end) != Some(&b'\\')).then(|| &rest[..end])
}

impl Picker {
    pub(super) fn new(want: Want) -> Self {
        let lookup = Lookup::default();
        let (key_at, put_at) = (Vec::new(), Vec::new());
        let unique = want.unique;
        Self { want, lookup, begun: false, unique, out: None, key_at, put_at, fields: 0 }
    }

    pub(super) fn wants(&self, table: &QualifiedName, schema: &Schema) -> bool {
        schema.is_part_of(table, &self.want.table)
    }

    fn refused(&self, why: impl std::fmt::Display) -> ActionError {
        ActionError::refused(format!("extract rows of `{}` from the dump: {why}", shown(&self.want.table)))
    }

    /// Rows with these columns follow.
    pub(super) fn begin(&mut self, columns: &[String], facts: Option<&Table>) -> Result<(), ActionError> {
        let place = |name: &String| columns.iter().position(|column| column == name);
        let key = self.want.wanted.columns.clone();
        self.key_at = key
            .iter()
            .map(|name| {
                place(name).ok_or_else(|| {
                    self.refused(format!("it has no column `{name}`; it has {}", columns.join(", ")))
                        .code("no-such-column")
                })
            })
            .collect::<Result<_, _>>()?;
        if !self.begun {
            let spelling = |name: &String| match facts.and_then(|table| table.type_of(name)) {
                Some(type_name) if !self.want.exact => Spelling::of(type_name),
                _ => Spelling::Exact,
            };
            self.lookup = Lookup::new(&self.want.wanted, key.iter().map(spelling).collect());
            self.unique |= !self.want.exact && facts.is_some_and(|table| table.is_unique(&key));
            let write = self.want.columns.clone().unwrap_or_else(|| columns.to_vec());
            let table = shown(&self.want.table);
            self.out = Some(CsvWriter::create(&self.want.folder, &self.want.file, &table, &write)?);
            self.begun = true;
        }
        let write = self.out.as_ref().map(CsvWriter::columns).unwrap_or_default();
        self.put_at = write
            .iter()
            .map(|name| {
                place(name).ok_or_else(|| {
                    self.refused(format!("it has no column `{name}` in each of its partitions"))
                        .code("no-such-column")
                })
            })
            .collect::<Result<_, _>>()?;
        self.fields = columns.len();
        Ok(())
    }

    /// Whole rows of COPY text. A row is taken apart only when its key is one that is wanted.
    pub(super) fn rows(&mut self, rows: &[u8]) -> Result<(), ActionError> {
        let mut rest = rows;
        while !rest.is_empty() {
            if self.is_done() {
                return Ok(());
            }
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            if self.is_another(line) {
                continue;
            }
            let fields = copy_fields(line, self.fields).map_err(|error| self.refused(error))?;
            self.row(&fields.iter().map(Option::as_deref).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Whether the key of a row is surely none of those that are wanted. One with an escape in it, or a row that has
    /// no such field, is for the slower way to judge.
    fn is_another(&mut self, line: &[u8]) -> bool {
        if self.want.all {
            return false;
        }
        let Self { lookup, key_at, .. } = self;
        let values: Option<Vec<&[u8]>> = match key_at.as_slice() {
            // By far the most common, and without a list.
            [at] => return raw_field(line, *at).is_some_and(|value| !lookup.knows(std::iter::once(value))),
            several => several.iter().map(|at| raw_field(line, *at)).collect(),
        };
        values.is_some_and(|values| !lookup.knows(values.into_iter()))
    }

    /// One INSERT statement.
    pub(super) fn insert(&mut self, sql: &str, schema: &Schema) -> Result<(), ActionError> {
        if self.is_done() {
            return Ok(());
        }
        let insert = Insert::parse(sql).map_err(|error| self.refused(error))?;
        let facts = schema.table(&insert.table);
        let names = match insert.columns {
            Some(names) => names,
            None => {
                let known = facts.map(|table| table.columns.iter().map(|c| c.name.clone()).collect());
                known.unwrap_or_default()
            }
        };
        for row in &insert.rows {
            if row.len() != names.len() {
                return Err(self
                    .refused("its INSERT statements name no columns, and the dump does not tell them")
                    .hint("Make the dump with --column-inserts, or without --inserts."));
            }
            // A generated column has no value: its place is left out for all rows alike.
            let given = |n: &usize| row[*n] != Inserted::Default;
            let places: Vec<usize> = (0..row.len()).filter(given).collect();
            let columns: Vec<String> = places.iter().map(|n| names[*n].clone()).collect();
            self.begin(&columns, facts)?;
            let values: Vec<Option<&[u8]>> = places
                .iter()
                .map(|n| match &row[*n] {
                    Inserted::Value(value) => Some(value.as_bytes()),
                    Inserted::Null | Inserted::Default => None,
                })
                .collect();
            self.row(&values)?;
        }
        Ok(())
    }

    fn row(&mut self, fields: &[Option<&[u8]>]) -> Result<(), ActionError> {
        let Self { lookup, key_at, .. } = self;
        if !self.want.all && !lookup.has(key_at.iter().map(|at| fields[*at])) {
            return Ok(());
        }
        if fields.iter().flatten().any(|value| std::str::from_utf8(value).is_err()) {
            return Err(self.refused("a row is not in UTF-8").hint("Make the dump with --encoding=UTF8."));
        }
        let max = self.want.max_rows;
        let Some(out) = &mut self.out else { return Err(self.refused("a row came before its columns")) };
        if out.rows() >= max {
            return Err(self
                .refused(format!("the keys name more than {max} rows"))
                .code("too-many-rows")
                .hint("Name fewer keys, or raise `max_rows`."));
        }
        let values: Vec<_> = self.put_at.iter().map(|at| fields[*at]).collect();
        out.row(&values)
    }

    /// Nothing more can come: each key names one row, and all were found.
    pub(super) fn is_done(&self) -> bool {
        self.begun && !self.want.all && self.unique && self.lookup.all_found()
    }

    /// Every key named a row.
    pub(super) fn has_all(&self) -> bool {
        self.begun && !self.want.all && self.lookup.all_found()
    }

    pub(super) fn finish(self) -> Result<Picked, ActionError> {
        if self.want.optional && self.out.is_none() {
            let Want { wanted, table, folder, file, .. } = &self.want;
            let empty = CsvWriter::create(folder, file, &shown(table), &wanted.columns)?;
            return Ok(Picked { file: empty.finish()?, missing: (0..wanted.values.len()).collect() });
        }
        let Some(out) = self.out else {
            return Err(self
                .refused("the dump has no rows of such a table")
                .code("no-such-table")
                .hint("Write it as the dump does: `schema.table`. A table that was dumped without data has no rows."));
        };
        Ok(Picked { file: out.finish()?, missing: self.lookup.missing() })
    }
}
