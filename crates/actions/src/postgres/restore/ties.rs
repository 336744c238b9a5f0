//! What tables need beyond the locks that loading takes: whether their rows just go in, or have to keep an order. Made
//! from the statements that were carried out so far. Pure.

use std::collections::HashSet;

use crate::postgres::sql::What;

use super::batch::Line;
use super::locks::{Mode, Needs};
use super::platform::Ground;
use super::rewrite::{foreign_key_parent, is_partitioned, is_plain_table, refers};

/// What all parts of a restore but checks of foreign keys share, and what has to wait for them all takes alone. Stands
/// in the place of a table; no table is called that, since their names are quoted.
pub(super) const WORK: &str = "work";

/// All rows, also in the place of a table.
const ROWS: &str = "rows";

/// What is known of a table's rows, also in the place of a table.
fn statistics(table: &str) -> String {
    format!("statistics of {table}")
}

/// Tables whose rows do not just go in.
#[derive(Debug, Default)]
pub(super) struct Ties {
    /// Made by this restore, plain and empty so far: their first rows may be frozen.
    own: HashSet<String>,
    /// Made by this restore, of other tables.
    partitioned: HashSet<String>,
    /// With triggers or foreign keys: their rows go in the order of the dump.
    tied: HashSet<String>,
}

impl Ties {
    /// Remembers what a statement ties.
    pub(super) fn note(&mut self, line: &Line) {
        match &line.what {
            What::Create { kind: "table", name, .. } => {
                if is_plain_table(&line.sql) {
                    self.own.insert(name.clone());
                }
                if is_partitioned(&line.sql) {
                    self.partitioned.insert(name.clone());
                }
                if refers(&line.sql) {
                    self.tied.insert(name.clone());
                }
            }
            What::Create { kind: "trigger" | "rule", on: Some(table), .. } => {
                self.tied.insert(table.clone());
            }
            What::AddConstraint { table, .. } => {
                if let Some(parent) = foreign_key_parent(&line.sql) {
                    self.tied.extend([table.clone(), parent]);
                }
            }
            _ => {}
        }
    }

    /// Whether this restore made the table, plain and empty.
    pub(super) fn is_own(&self, table: &str) -> bool {
        self.own.contains(table)
    }

    /// What rows of a table need. Those of a platform's table go in under its foreign keys where those cannot be off
    /// (`replica`).
    pub(super) fn rows(&self, ground: &Ground<'_>, replica: bool, table: &str, freeze: bool) -> Needs {
        if self.tied.contains(table) || ground.was_there(table) && !replica {
            return Needs::Everything;
        }
        Needs::lock(table, if freeze { Mode::AccessExclusive } else { Mode::RowExclusive })
            .and(Needs::lock(ROWS, Mode::RowExclusive))
    }

    /// What a statement needs for itself (PostgreSQL documentation, "Explicit Locking", and the page of each command).
    pub(super) fn statement(&self, ground: &Ground<'_>, line: &Line) -> Needs {
        match &line.what {
            What::Insert { table } => {
                let tied = self.tied.contains(table) || ground.was_there(table);
                if tied { Needs::Everything } else { Needs::lock(table, Mode::RowExclusive) }
            }
            What::Setval { .. } => Needs::Locks(Vec::new()),
            What::Create { kind: "index", on: Some(table), .. } => Needs::lock(table, Mode::Share),
            What::AddConstraint { table, .. } if self.partitioned.contains(table) => {
                match foreign_key_parent(&line.sql) {
                    // Locks its parts too, of which only the rows have to come before it.
                    Some(parent) if self.own.contains(&parent) => Needs::lock(table, Mode::ShareRowExclusive)
                        .and(Needs::lock(&parent, Mode::ShareRowExclusive))
                        .and(Needs::lock(ROWS, Mode::Share)),
                    _ => Needs::Everything,
                }
            }
            What::AddConstraint { table, .. } if self.own.contains(table) => {
                match foreign_key_parent(&line.sql) {
                    None => Needs::lock(table, Mode::AccessExclusive),
                    // Unchecked, which is not to be had of a partitioned one.
                    Some(parent)
                        if self.own.contains(&parent)
                            || ground.was_there(&parent) && line.sql.ends_with(" NOT VALID") =>
                    {
                        Needs::lock(table, Mode::ShareRowExclusive)
                            .and(Needs::lock(&parent, Mode::ShareRowExclusive))
                    }
                    Some(_) => Needs::Everything,
                }
            }
            What::Analyze { table } => Needs::lock(table, Mode::ShareUpdateExclusive)
                .and(Needs::lock(&statistics(table), Mode::AccessExclusive)),
            // Goes by the statistics of both tables.
            What::Validate { table, parent, .. } => Needs::lock(table, Mode::ShareUpdateExclusive)
                .and(Needs::lock(parent, Mode::RowShare))
                .and(Needs::lock(&statistics(table), Mode::RowShare))
                .and(Needs::lock(&statistics(parent), Mode::RowShare)),
            // Reads what it likes, and is not changed by checks.
            What::On { verb: "refresh", .. } => Needs::lock(WORK, Mode::ShareRowExclusive),
            _ => Needs::Everything,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::postgres::catalog::Catalog;
    use crate::postgres::sql::what;

    use super::super::platform::Profile;
    use super::*;

    fn needs(what: What) -> Needs {
        let before = Catalog::default();
        let ground = Ground { profile: Profile::Plain, before: &before, server: 150_000 };
        Ties::default().statement(&ground, &Line { sql: String::new(), line: 1, object: None, what })
    }

    fn check(child: &str, parent: &str) -> Needs {
        needs(What::Validate { table: child.into(), name: "f".into(), parent: parent.into() })
    }

    fn analyze(table: &str) -> Needs {
        needs(What::Analyze { table: table.into() })
    }

    #[test]
    fn a_check_waits_for_the_statistics_of_both_tables_and_for_no_other_check_of_another_table() {
        let one = check("a", "p");
        assert!(one.conflicts(&analyze("a")) && one.conflicts(&analyze("p")));
        assert!(!one.conflicts(&analyze("b")) && !one.conflicts(&check("b", "p")));
        assert!(one.conflicts(&check("a", "q")), "the server lets only one check a table");
    }

    #[test]
    fn a_refresh_waits_for_all_work_and_goes_beside_checks() {
        let refresh = needs(what("REFRESH MATERIALIZED VIEW public.m"));
        assert!(refresh.conflicts(&Needs::lock(WORK, Mode::RowExclusive)) && refresh.conflicts(&refresh));
        assert!(!refresh.conflicts(&check("a", "p")));
    }

    #[test]
    fn the_foreign_key_of_a_partitioned_table_waits_for_rows_and_for_no_build_of_another_table() {
        let before = Catalog::default();
        let ground = Ground { profile: Profile::Plain, before: &before, server: 150_000 };
        let line = |sql: &str| Line { sql: sql.into(), line: 1, object: None, what: what(sql) };
        let mut ties = Ties::default();
        for sql in ["CREATE TABLE s.p (id int)", "CREATE TABLE s.parts (id int) PARTITION BY LIST (id)"] {
            ties.note(&line(sql));
        }
        let key = "ALTER TABLE s.parts ADD CONSTRAINT f FOREIGN KEY (id) REFERENCES s.p(id)";
        let key = ties.statement(&ground, &line(key));
        assert!(key.conflicts(&ties.rows(&ground, false, "\"s\".\"part\"", false)));
        assert!(key.conflicts(&ties.statement(&ground, &line("CREATE INDEX i ON s.p USING btree (id)"))));
        assert!(!key.conflicts(&ties.statement(&ground, &line("CREATE INDEX i ON s.big USING gin (id)"))));
    }
}
