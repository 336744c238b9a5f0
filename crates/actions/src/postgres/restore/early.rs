//! What of an archive's end comes early: keys and indexes of a table, as soon as its rows are in. They need nothing else
//! that comes after rows; what needs them stands in its place, behind all rows. Decides only; reads nothing.

use std::collections::{HashMap, HashSet};

use runbook_dump::Entry;

use crate::postgres::sql::{What, what};

/// Entries that are waiting for rows.
pub(super) struct Early<'a> {
    /// Of each table whose rows are still to come.
    waiting: HashMap<String, Vec<&'a Entry>>,
    taken: HashSet<u32>,
}

impl<'a> Early<'a> {
    /// `rows` are the tables whose rows the archive holds, `entries` what comes after rows. Only tables with rows of their
    /// own are taken: others may be made of them.
    pub(super) fn of(rows: impl Iterator<Item = String>, entries: impl Iterator<Item = &'a Entry>) -> Self {
        let mut waiting: HashMap<_, Vec<_>> = rows.map(|table| (table, Vec::new())).collect();
        for entry in entries {
            let table = match (entry.desc.as_str(), what(&entry.defn)) {
                ("CONSTRAINT", What::AddConstraint { table, .. })
                | ("INDEX", What::Create { on: Some(table), .. }) => table,
                _ => continue,
            };
            if let Some(of_table) = waiting.get_mut(&table) {
                of_table.push(entry);
            }
        }
        Self { waiting, taken: HashSet::new() }
    }

    /// The rows of a table are in: what can come now, in its order.
    pub(super) fn loaded(&mut self, table: &str) -> Vec<&'a Entry> {
        let now = self.waiting.remove(table).unwrap_or_default();
        self.taken.extend(now.iter().map(|entry| entry.dump_id));
        now
    }

    /// Whether the entry came already.
    pub(super) fn came(&self, entry: &Entry) -> bool {
        self.taken.contains(&entry.dump_id)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use runbook_dump::{DataOffset, Section};

    use super::*;

    pub(in super::super) fn entry(dump_id: u32, desc: &str, defn: &str) -> Entry {
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

    pub(in super::super) fn index(dump_id: u32, kind: &str, table: &str) -> Entry {
        entry(dump_id, "INDEX", &format!("CREATE {kind} i{dump_id} ON public.{table} USING btree (a);"))
    }

    fn foreign_key(dump_id: u32, child: &str, parent: &str) -> Entry {
        let defn = format!(
            "ALTER TABLE ONLY public.{child} ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.{parent}(id);"
        );
        entry(dump_id, "FK CONSTRAINT", &defn)
    }

    #[test]
    fn keys_and_indexes_come_with_their_tables_rows_and_foreign_keys_do_not() {
        let entries = [
            key(1, "a"),
            key(2, "b"),
            index(3, "INDEX", "a"),
            index(4, "UNIQUE INDEX", "b"),
            index(5, "INDEX", "b"),
            foreign_key(6, "a", "b"),
        ];
        let rows = ["a", "b"].map(|table| format!("\"public\".\"{table}\""));
        let mut early = Early::of(rows.iter().cloned(), entries.iter());
        let mut loaded = |table: &str| early.loaded(table).iter().map(|e| e.dump_id).collect::<Vec<_>>();
        assert_eq!(loaded(&rows[0]), [1, 3]);
        assert_eq!(loaded(&rows[1]), [2, 4, 5]);
        assert!(loaded(&rows[1]).is_empty(), "each comes once");
        assert!(entries[..5].iter().all(|entry| early.came(entry)) && !early.came(&entries[5]));
    }

    #[test]
    fn what_is_about_a_table_without_rows_of_its_own_keeps_its_place() {
        let entries = [key(1, "whole"), index(2, "INDEX", "whole")];
        let a = "\"public\".\"a\"".to_owned();
        let mut early = Early::of([a.clone()].into_iter(), entries.iter());
        assert!(early.loaded(&a).is_empty() && !entries.iter().any(|entry| early.came(entry)));
    }
}
