//! One entry of an archive's table of contents, as the file has it. Decides nothing but the restore pass.

use std::collections::HashMap;
use std::ops::Range;

use crate::sql::Copy;

/// Where in a restore an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Comments, grants and the like, which follow their object.
    None,
    /// Before data: schemas, types, tables, functions.
    PreData,
    /// Rows, large objects, sequence values.
    Data,
    /// After data: indexes, constraints, triggers, policies.
    PostData,
}

/// The three passes in which pg_restore goes through the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Everything else, in the order of the table of contents.
    Main,
    /// Grants: after the data, since an owner may have revoked its own right to insert.
    Acl,
    /// Materialized views' contents, event triggers and what belongs to them.
    Refresh,
}

/// What the table of contents says about where an entry's block begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DataOffset {
    /// There is a block, and the archive was written to a pipe, which could not record where.
    Unknown,
    /// The block begins at this byte of the archive.
    At(u64),
    /// There is no block.
    NoData,
}

/// One entry. Names in it may hold anything, line ends and escape sequences too: quote them for SQL, and never print
/// them raw.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// The entry's number in this archive, above 0.
    pub dump_id: u32,
    /// Whether a block of data belongs to it.
    pub had_dumper: bool,
    /// The object's catalog in the source cluster (an OID).
    pub catalog_oid: u32,
    /// The object in the source cluster (an OID).
    pub object_oid: u32,
    /// The object's name, unquoted; functions with their arguments.
    pub tag: String,
    /// The type, such as `TABLE DATA` or `FK CONSTRAINT`.
    pub desc: String,
    /// Where in a restore it belongs.
    pub section: Section,
    /// SQL that makes the object; for `BLOB METADATA` a list of OIDs, one a line.
    pub defn: String,
    /// SQL that drops it.
    pub drop: String,
    /// The COPY statement for its rows; empty for `--inserts`.
    pub copy_stmt: String,
    /// The schema.
    pub namespace: Option<String>,
    /// The tablespace: none where there can be none, empty for the database's default.
    pub tablespace: Option<String>,
    /// The table access method (archive version 1.14 on).
    pub tableam: Option<String>,
    /// `pg_class.relkind` (archive version 1.16 on).
    pub relkind: Option<char>,
    /// The owner.
    pub owner: String,
    /// Whether rows carry OIDs, which no PostgreSQL since 12 can take.
    pub with_oids: bool,
    /// The entries that it needs; may name some that are not in the archive.
    pub dependencies: Vec<u32>,
    /// Where its block begins.
    pub offset: DataOffset,
}

/// Where the blocks of entries stand in an archive of `size` bytes, by their entries' numbers: from where the table of
/// contents says to where the next one begins. Entries of which it does not say so are left out.
pub fn block_ranges(toc: &[Entry], size: u64) -> HashMap<u32, Range<u64>> {
    let mut starts: Vec<(u64, u32)> = toc
        .iter()
        .filter_map(|entry| match entry.offset {
            DataOffset::At(at) if at < size => Some((at, entry.dump_id)),
            _ => None,
        })
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([size]);
    starts.iter().zip(ends).map(|((at, dump_id), end)| (*dump_id, *at..end)).collect()
}

impl Entry {
    /// The pass of a restore to which it belongs.
    pub fn pass(&self) -> Pass {
        match self.desc.as_str() {
            "ACL" | "DEFAULT ACL" => Pass::Acl,
            "EVENT TRIGGER" | "MATERIALIZED VIEW DATA" => Pass::Refresh,
            "COMMENT" | "SECURITY LABEL" if self.tag.starts_with("EVENT TRIGGER ") => Pass::Refresh,
            "STATISTICS DATA" if self.section == Section::PostData => Pass::Refresh,
            _ => Pass::Main,
        }
    }

    /// Whether it says how to read the archive, and is no object to restore.
    pub fn is_setting(&self) -> bool {
        matches!(self.desc.as_str(), "ENCODING" | "STDSTRINGS" | "SEARCHPATH")
    }

    /// Whether it is about the database itself: wanted only where the restore also makes the database.
    pub fn is_database(&self) -> bool {
        match self.desc.as_str() {
            "DATABASE" | "DATABASE PROPERTIES" => true,
            "ACL" | "COMMENT" | "SECURITY LABEL" => self.tag.starts_with("DATABASE "),
            _ => false,
        }
    }

    /// Whether it holds a table's rows.
    pub fn is_table_data(&self) -> bool {
        self.desc == "TABLE DATA"
    }

    /// Whether its rows are INSERT statements.
    pub fn is_inserts(&self) -> bool {
        self.had_dumper && self.is_table_data() && self.copy_stmt.is_empty()
    }

    /// Its COPY statement, taken apart. None without one, or for one that pg_dump would not write.
    pub fn copy(&self) -> Option<Copy> {
        Copy::parse(&self.copy_stmt)
    }

    /// Whether its rows go in through the root of a partitioned table: then no TRUNCATE may precede them, and rows of
    /// several entries share a target.
    pub fn is_via_partition_root(&self) -> bool {
        let other_table = |copy: Copy| {
            copy.table.name != self.tag
                || (copy.table.schema.is_some() && copy.table.schema != self.namespace)
        };
        self.defn.starts_with("-- load via partition root ") || self.copy().is_some_and(other_table)
    }
}
