//! What of an archive's end comes early: keys, foreign keys and indexes of a table, as soon as its rows are in, and those
//! of the tables that it is tied to. They need nothing else that comes after rows; what needs them stands in its
//! place, behind all rows. Decides only; reads nothing.

use std::collections::{HashMap, HashSet};

use runbook_dump::Entry;

use crate::postgres::sql::{What, what};

use super::rewrite::{foreign_key_parent, index_kind};

/// Entries that are waiting for rows.
pub(super) struct Early<'a> {
    /// Tables whose rows are still to come.
    rows: HashSet<String>,
    /// Of each table.
    keys: HashMap<String, Vec<&'a Entry>>,
    foreign_keys: Vec<ForeignKey<'a>>,
    /// Each with its table.
    indexes: Vec<(String, &'a Entry)>,
    taken: HashSet<u32>,
}

struct ForeignKey<'a> {
    child: String,
    parent: String,
    entry: &'a Entry,
}

impl<'a> Early<'a> {
    /// `rows` are the tables whose rows the archive holds, `entries` what comes after rows.
    pub(super) fn of(rows: HashSet<String>, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut early = Self {
            rows,
            keys: HashMap::new(),
            foreign_keys: Vec::new(),
            indexes: Vec::new(),
            taken: HashSet::new(),
        };
        for entry in entries {
            early.note(entry);
        }
        early
    }

    /// Only tables with rows of their own are taken: others may be made of them.
    fn note(&mut self, entry: &'a Entry) {
        match (entry.desc.as_str(), what(&entry.defn)) {
            ("CONSTRAINT", What::AddConstraint { table, .. }) if self.rows.contains(&table) => {
                self.keys.entry(table).or_default().push(entry);
            }
            ("INDEX", What::Create { on: Some(table), .. }) if self.rows.contains(&table) => {
                if index_kind(&entry.defn).is_unique {
                    self.keys.entry(table).or_default().push(entry);
                } else {
                    self.indexes.push((table, entry));
                }
            }
            ("FK CONSTRAINT", What::AddConstraint { table: child, .. }) if self.rows.contains(&child) => {
                let parent = foreign_key_parent(&entry.defn).filter(|parent| self.rows.contains(parent));
                self.foreign_keys.extend(parent.map(|parent| ForeignKey { child, parent, entry }));
            }
            _ => {}
        }
    }

    /// The rows of a table are in: what can come now, in its order.
    pub(super) fn loaded(&mut self, table: &str) -> Vec<&'a Entry> {
        self.rows.remove(table);
        let mut now = self.keys.remove(table).unwrap_or_default();
        let rows = &self.rows;
        let ready = |key: &mut ForeignKey<'_>| !rows.contains(&key.child) && !rows.contains(&key.parent);
        now.extend(self.foreign_keys.extract_if(.., ready).map(|key| key.entry));
        // A build locks its table against foreign keys, so those come first.
        let waiting = &self.foreign_keys;
        let free = |(of, _): &mut (String, &Entry)| {
            !rows.contains(of) && waiting.iter().all(|key| key.child != *of && key.parent != *of)
        };
        now.extend(self.indexes.extract_if(.., free).map(|(_, entry)| entry));
        self.taken.extend(now.iter().map(|entry| entry.dump_id));
        now
    }

    /// Whether the entry came already.
    pub(super) fn came(&self, entry: &Entry) -> bool {
        self.taken.contains(&entry.dump_id)
    }
}

#[cfg(test)]
mod tests {
    use runbook_dump::{DataOffset, Section};

    use super::*;

    fn entry(dump_id: u32, desc: &str, defn: &str) -> Entry {
        Entry {
            dump_id,
            had_dumper: false,
            catalog_oid: 0,
            object_oid: 0,
            tag: String::new(),
            desc: desc.into(),
            section: Section::PostData,
            defn: defn.into(),
            drop: String::new(),
            copy_stmt: String::new(),
            namespace: None,
            tablespace: None,
            tableam: None,
            relkind: None,
            owner: String::new(),
            with_oids: false,
            dependencies: Vec::new(),
            offset: DataOffset::NoData,
        }
    }

    fn key(dump_id: u32, table: &str) -> Entry {
        entry(
            dump_id,
            "CONSTRAINT",
            &format!("ALTER TABLE ONLY public.{table} ADD CONSTRAINT k PRIMARY KEY (id);"),
        )
    }

    fn index(dump_id: u32, kind: &str, table: &str) -> Entry {
        entry(dump_id, "INDEX", &format!("CREATE {kind} i{dump_id} ON public.{table} USING btree (a);"))
    }

    fn foreign_key(dump_id: u32, child: &str, parent: &str) -> Entry {
        let defn = format!(
            "ALTER TABLE ONLY public.{child} ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.{parent}(id);"
        );
        entry(dump_id, "FK CONSTRAINT", &defn)
    }

    #[test]
    fn indexes_come_with_their_tables_rows_and_after_the_foreign_keys_that_they_would_lock_out() {
        let entries = [
            key(1, "a"),
            key(2, "b"),
            key(3, "c"),
            index(4, "INDEX", "a"),
            index(5, "UNIQUE INDEX", "b"),
            index(6, "INDEX", "b"),
            index(7, "INDEX", "c"),
            foreign_key(8, "a", "c"),
            foreign_key(9, "b", "b"),
        ];
        let rows = ["a", "b", "c"].map(|table| format!("\"public\".\"{table}\""));
        let mut early = Early::of(rows.iter().cloned().collect(), entries.iter());
        let mut loaded = |table: &str| early.loaded(table).iter().map(|e| e.dump_id).collect::<Vec<_>>();
        assert_eq!(loaded(&rows[0]), [1], "its index would lock out the foreign key to c");
        assert_eq!(loaded(&rows[1]), [2, 5, 9, 6]);
        assert_eq!(loaded(&rows[2]), [3, 8, 4, 7]);
        assert!(entries.iter().all(|entry| early.came(entry)));
    }

    #[test]
    fn what_is_about_a_table_without_rows_of_its_own_keeps_its_place() {
        let entries = [
            key(1, "whole"),
            index(2, "INDEX", "whole"),
            foreign_key(3, "a", "whole"),
            foreign_key(4, "whole", "a"),
        ];
        let a = "\"public\".\"a\"".to_owned();
        let mut early = Early::of(HashSet::from([a.clone()]), entries.iter());
        assert!(early.loaded(&a).is_empty() && !entries.iter().any(|entry| early.came(entry)));
    }
}
