//! Which tables of an archive are read before their turn: those that somebody wants first, and the one whose rows and
//! indexes take longest, since a long build that begins last is waited for alone. Decides only; reads nothing.

use std::collections::HashMap;
use std::ops::Range;

use runbook_dump::{Entry, block_ranges};

use crate::postgres::sql::{What, what};

use super::archive::table_of;
use super::rewrite::index_kind;

/// The longest one has at least this part of the archive, and this part stands before it; else nothing is won.
const PART: u64 = 8;

/// What there is to choose from.
pub(super) struct Choice<'a> {
    pub(super) toc: &'a [Entry],
    /// Where the first block begins.
    pub(super) data_start: u64,
    /// Size of the archive in bytes.
    pub(super) size: u64,
    /// Tables that are wanted first, quoted.
    pub(super) priority: &'a [String],
    /// The store is so fast that reading something twice costs less than waiting for it.
    pub(super) fast: bool,
}

impl Choice<'_> {
    /// The entries to be read first, in that order. `free` says of which tables the order of rows does not matter.
    pub(super) fn ahead(&self, free: impl Fn(&str) -> bool) -> Vec<u32> {
        let blocks = block_ranges(self.toc, self.size);
        let mut tables = HashMap::new();
        for entry in self.toc.iter().filter(|entry| !entry.is_via_partition_root()) {
            if let (Some(table), Some(range)) = (table_of(entry), blocks.get(&entry.dump_id))
                && free(&table)
            {
                tables.insert(table, (entry.dump_id, range));
            }
        }
        let mut ahead = Vec::new();
        for (dump_id, _) in self.priority.iter().filter_map(|table| tables.get(table)) {
            if !ahead.contains(dump_id) {
                ahead.push(*dump_id);
            }
        }
        let length = |range: &Range<u64>| range.end - range.start;
        let part = (self.size / PART).max(1);
        let slowness = self.slowness();
        let longest = tables.iter().max_by_key(|(table, (dump_id, range))| {
            let of_indexes = slowness.get(*table).copied().unwrap_or(0);
            (length(range).saturating_mul(1 + of_indexes), *dump_id)
        });
        if let Some((_, (dump_id, range))) = longest
            && self.fast
            && length(range) >= part
            && range.start.saturating_sub(self.data_start) >= part
            && !ahead.contains(dump_id)
        {
            ahead.push(*dump_id);
        }
        ahead
    }

    /// How many times as long as its rows the indexes of each table take.
    fn slowness(&self) -> HashMap<String, u64> {
        let mut slowness: HashMap<_, u64> = HashMap::new();
        for entry in self.toc.iter().filter(|entry| entry.desc == "INDEX") {
            if let What::Create { on: Some(table), .. } = what(&entry.defn) {
                *slowness.entry(table).or_default() += index_kind(&entry.defn).slowness;
            }
        }
        slowness
    }
}

#[cfg(test)]
mod tests {
    use runbook_dump::DataOffset;

    use super::super::early::tests::{entry, index};
    use super::*;

    /// Tables of so many bytes, one behind the other, the first at byte 100.
    fn archive(tables: &[(&str, u64)]) -> (Vec<Entry>, u64) {
        let mut at = 100;
        let mut toc = Vec::new();
        for (dump_id, (table, bytes)) in (1..).zip(tables) {
            let mut rows = entry(dump_id, "TABLE DATA", "");
            rows.copy_stmt = format!("COPY public.{table} (id) FROM stdin;\n");
            (rows.had_dumper, rows.tag, rows.namespace) = (true, (*table).into(), Some("public".into()));
            rows.offset = DataOffset::At(at);
            at += bytes;
            toc.push(rows);
        }
        (toc, at)
    }

    fn ahead((toc, size): &(Vec<Entry>, u64), priority: &[&str], fast: bool) -> Vec<u32> {
        let priority: Vec<_> = priority.iter().map(|table| format!("\"public\".\"{table}\"")).collect();
        let choice = Choice { toc, data_start: 100, size: *size, priority: &priority, fast };
        choice.ahead(|table| !table.contains("kept"))
    }

    #[test]
    fn the_table_that_takes_longest_comes_first_where_something_stands_before_it() {
        assert_eq!(ahead(&archive(&[("a", 500), ("b", 900), ("c", 100)]), &[], true), [2]);
        assert!(
            ahead(&archive(&[("a", 500), ("b", 900), ("c", 100)]), &[], false).is_empty(),
            "a slow store"
        );
        assert!(
            ahead(&archive(&[("b", 900), ("a", 500)]), &[], true).is_empty(),
            "it is the first one anyhow"
        );
        let even: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|table| (table, 100)).into();
        assert!(ahead(&archive(&even), &[], true).is_empty(), "none is long");
        let mut words = archive(&[("a", 500), ("b", 900), ("c", 400)]);
        let mut gin = index(9, "INDEX", "c");
        gin.defn = gin.defn.replace("btree", "gin");
        words.0.push(gin);
        assert_eq!(ahead(&words, &[], true), [3], "its index takes longer than the rows of b");
    }

    #[test]
    fn tables_that_are_wanted_first_come_before_that_once_and_others_stay() {
        let tables = archive(&[("a", 500), ("b", 900), ("kept", 900), ("c", 100)]);
        assert_eq!(ahead(&tables, &["c", "nowhere", "a", "c"], true), [4, 1, 2]);
        assert_eq!(ahead(&tables, &["b", "kept"], true), [2]);
        assert_eq!(block_ranges(&tables.0, tables.1)[&4], 2400..2500);
    }

    #[test]
    fn nothing_comes_first_where_the_archive_does_not_say_where_it_is() {
        let (mut toc, size) = archive(&[("a", 500), ("b", 900)]);
        for offset in [DataOffset::Unknown, DataOffset::At(size + 1)] {
            toc[1].offset = offset;
            assert!(ahead(&(toc.clone(), size), &["b"], true).is_empty(), "{offset:?}");
        }
    }
}
