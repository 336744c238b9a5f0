//! What a restore puts off: constraints that use an index, the long builds of indexes and the checks of foreign keys. They
//! come in one go, side by side, when everything small stands: a long build locks its table against whatever else the
//! dump says of it, and a single one of them would hold up all that. Decides what may come before them. Pure.

use std::collections::HashSet;

use crate::postgres::sql::{What, name_of};
use crate::postgres::words::{Token, Words};

use super::batch::Line;
use super::rewrite::foreign_key_parent;

/// Statements that wait.
#[derive(Debug, Default)]
pub(super) struct PutOff {
    /// Constraints that use an index of their own, which comes before them.
    attaches: Vec<Line>,
    builds: Vec<Line>,
    /// Tables with a build that takes so long that it was not put off, and which is under way.
    slow: HashSet<String>,
    /// What comes when those are done.
    late: Vec<Line>,
    /// Statements about the indexes of `names`.
    after: Vec<Line>,
    checks: Vec<Line>,
    /// The indexes whose builds were put off or may be under way, without their schemas.
    names: HashSet<String>,
}

/// When a statement comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Now, before everything that waits.
    First,
    /// Now, behind the constraints that use an index.
    BehindAttaches,
    /// When the slow builds are done.
    Late,
    /// With what waits, at its end.
    Waits,
    /// Now, behind everything that waits.
    Last,
}

impl PutOff {
    /// Puts a constraint off that uses an index.
    pub(super) fn attach(&mut self, line: Line) {
        self.attaches.push(line);
    }

    /// Puts the build of an index off. Not of a unique one: a foreign key may need it.
    pub(super) fn build(&mut self, line: Line) {
        if let What::Create { name, .. } = &line.what {
            self.names.insert(name_of(name));
        }
        self.builds.push(line);
    }

    /// A build that takes so long that it is not put off: what is about its index or locks its table waits for it, and
    /// nothing else does.
    pub(super) fn slow(&mut self, line: &Line) {
        if let What::Create { name, on: Some(table), .. } = &line.what {
            self.names.insert(name_of(name));
            self.slow.insert(table.clone());
        }
    }

    /// Whether a slow build of the table may be under way.
    pub(super) fn is_slow(&self, table: &str) -> bool {
        self.slow.contains(table)
    }

    /// Whether any is.
    pub(super) fn has_slow(&self) -> bool {
        !self.slow.is_empty()
    }

    /// Puts a statement off that [`Self::place`] said would be late.
    pub(super) fn late(&mut self, line: Line) {
        self.late.push(line);
    }

    /// Puts a check off.
    pub(super) fn check(&mut self, line: Line) {
        self.checks.push(line);
    }

    /// Puts a statement off that [`Self::place`] said would wait.
    pub(super) fn wait(&mut self, line: Line) {
        self.after.push(line);
    }

    /// When the statement comes. Only what pg_dump writes behind rows comes before what waits, and only if it cannot
    /// tell the difference. `plain` tells tables that are made of no others.
    pub(super) fn place(&self, line: &Line, plain: &HashSet<String>) -> Place {
        match self.place_by_kind(line) {
            Place::BehindAttaches if self.has_slow() && self.is_late(line, plain) => Place::Late,
            place => place,
        }
    }

    /// Only foreign keys take long enough to go beside a slow build, where their tables are others. The key of a partitioned
    /// table is none before its parts' indexes are attached to it, which is late.
    fn is_late(&self, line: &Line, plain: &HashSet<String>) -> bool {
        match (&line.what, foreign_key_parent(&line.sql)) {
            (What::AddConstraint { table, .. }, Some(parent)) => {
                self.is_slow(table) || self.is_slow(&parent) || !plain.contains(&parent)
            }
            _ => true,
        }
    }

    fn place_by_kind(&self, line: &Line) -> Place {
        if self.attaches.is_empty() && self.names.is_empty() && self.checks.is_empty() {
            return Place::First;
        }
        match &line.what {
            What::Create { kind: "index", .. } => Place::First,
            What::AddConstraint { .. } if foreign_key_parent(&line.sql).is_none() => Place::First,
            What::AddConstraint { .. }
            | What::Create { kind: "trigger" | "policy" | "publication", .. }
            | What::EnableRls { .. }
            | What::DefaultPrivileges { .. }
            | What::Setval { .. }
            | What::On { verb: "grant" | "revoke", .. } => Place::BehindAttaches,
            What::On { verb: "comment", kind, .. } if kind != "index" => Place::BehindAttaches,
            What::Other if has(&line.sql, ["create", "statistics"]) => Place::BehindAttaches,
            What::On { verb: "alter", kind, .. } | What::Owner { kind, .. } if kind == "statistics" => {
                Place::BehindAttaches
            }
            What::On { kind, .. } if kind == "index" => self.unless_mentioned(&line.sql),
            What::On { verb: "alter", kind, .. } | What::Owner { kind, .. } if kind == "publication" => {
                Place::BehindAttaches
            }
            What::On { verb: "alter", kind, .. } if kind == "table" && is_about_index(&line.sql) => {
                self.unless_mentioned(&line.sql)
            }
            What::On { verb: "alter", kind, .. } if kind == "table" && is_switch(&line.sql) => {
                Place::BehindAttaches
            }
            _ => Place::Last,
        }
    }

    fn unless_mentioned(&self, sql: &str) -> Place {
        let waits = Words::new(sql).any(|token| match token {
            Token::Word(name) | Token::Quoted(name) => self.names.contains(&name),
            _ => false,
        });
        if waits { Place::Waits } else { Place::BehindAttaches }
    }

    /// The constraints that use an index, in their order; not those of tables that a slow build locks.
    pub(super) fn take_attaches(&mut self) -> Vec<Line> {
        let Self { attaches, slow, .. } = self;
        let free = |line: &mut Line| !matches!(&line.what, What::AddConstraint { table, .. } if slow.contains(table));
        attaches.extract_if(.., free).collect()
    }

    /// What waits for slow builds: the constraints that use an index, then the rest in its order.
    pub(super) fn take_late(&mut self) -> (Vec<Line>, Vec<Line>) {
        self.slow.clear();
        (self.take_attaches(), std::mem::take(&mut self.late))
    }

    /// The checks.
    pub(super) fn take_checks(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.checks)
    }

    /// The builds of indexes.
    pub(super) fn take_builds(&mut self) -> Vec<Line> {
        std::mem::take(&mut self.builds)
    }

    /// Statements about indexes. All else that waits is taken before.
    pub(super) fn take_rest(&mut self) -> Vec<Line> {
        self.names.clear();
        std::mem::take(&mut self.after)
    }
}

fn has(sql: &str, wanted: [&str; 2]) -> bool {
    let words: Vec<_> = Words::new(sql).collect();
    let is = |token: &Token, wanted: &str| matches!(token, Token::Word(word) if word == wanted);
    words.windows(2).any(|two| is(&two[0], wanted[0]) && is(&two[1], wanted[1]))
}

/// `CLUSTER ON`, `REPLICA IDENTITY USING INDEX`.
fn is_about_index(sql: &str) -> bool {
    has(sql, ["cluster", "on"]) || has(sql, ["replica", "identity"])
}

/// Turns row-level security or a trigger on or off.
fn is_switch(sql: &str) -> bool {
    has(sql, ["level", "security"])
        || ["enable", "disable", "replica", "always"].iter().any(|verb| has(sql, [verb, "trigger"]))
}

#[cfg(test)]
mod tests {
    use crate::postgres::sql::what;

    use super::*;

    fn place(put_off: &PutOff, line: &Line) -> Place {
        let plain = HashSet::from(["a", "b", "big"].map(|table| format!("\"public\".\"{table}\"")));
        put_off.place(line, &plain)
    }

    fn line(sql: &str) -> Line {
        Line { sql: sql.into(), line: 1, object: None, what: what(sql) }
    }

    #[test]
    fn what_pg_dump_writes_behind_rows_comes_first_and_all_else_last() {
        let mut put_off = PutOff::default();
        assert_eq!(place(&put_off, &line("DROP INDEX big_i")), Place::First, "nothing waits");
        put_off.build(line("CREATE INDEX \"Big \"\"i\" ON public.big USING gin (a)"));
        put_off.build(line("CREATE INDEX big_i ON public.big USING gin (a)"));
        for sql in [
            "CREATE INDEX other ON public.big USING btree (a)",
            "ALTER TABLE ONLY public.big ADD CONSTRAINT k PRIMARY KEY (id)",
        ] {
            assert_eq!(place(&put_off, &line(sql)), Place::First, "{sql}");
        }
        for sql in [
            "ALTER TABLE ONLY public.big ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.other(id)",
            "CREATE TRIGGER t BEFORE UPDATE ON public.big FOR EACH ROW EXECUTE FUNCTION public.f()",
            "CREATE POLICY p ON public.big USING (true)",
            "ALTER TABLE public.big ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE ONLY public.big FORCE ROW LEVEL SECURITY",
            "ALTER TABLE public.big DISABLE TRIGGER t",
            "GRANT SELECT ON TABLE public.big TO anon",
            "COMMENT ON TABLE public.big IS 'big_i'",
            "COMMENT ON INDEX public.other IS 'x'",
            "ALTER PUBLICATION p ADD TABLE ONLY public.big",
            "CREATE STATISTICS public.s (ndistinct) ON a, b FROM public.big",
            "ALTER STATISTICS public.s OWNER TO app",
            "ALTER TABLE ONLY public.big REPLICA IDENTITY USING INDEX other",
        ] {
            assert_eq!(place(&put_off, &line(sql)), Place::BehindAttaches, "{sql}");
        }
        for sql in [
            "COMMENT ON INDEX public.big_i IS 'x'",
            "COMMENT ON INDEX public.\"Big \"\"i\" IS 'x'",
            "ALTER INDEX public.whole ATTACH PARTITION public.big_i",
            "ALTER TABLE public.big CLUSTER ON big_i",
        ] {
            assert_eq!(place(&put_off, &line(sql)), Place::Waits, "{sql}");
        }
        for sql in [
            "DROP INDEX big_i",
            "ALTER TABLE public.big DROP COLUMN a",
            "SET default_tablespace = 'fast'",
            "INSERT INTO public.big VALUES (1)",
            "CREATE TABLE public.more (id int)",
            "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION public.f()",
            "REFRESH MATERIALIZED VIEW public.m",
            "CREATE RULE r AS ON INSERT TO public.big DO INSTEAD NOTHING",
        ] {
            assert_eq!(place(&put_off, &line(sql)), Place::Last, "{sql}");
        }
    }

    #[test]
    fn nothing_comes_before_a_build_that_may_be_under_way() {
        let mut put_off = PutOff::default();
        put_off.check(line("ALTER TABLE public.big VALIDATE CONSTRAINT f"));
        put_off.wait(line("ALTER TABLE public.big CLUSTER ON big_i"));
        put_off.build(line("CREATE INDEX big_i ON public.big USING gin (a)"));
        put_off.attach(line("ALTER TABLE ONLY public.big ADD CONSTRAINT k PRIMARY KEY USING INDEX k"));
        assert_eq!(put_off.take_attaches().len(), 1);
        assert_eq!(put_off.take_builds().len(), 1);
        assert_eq!(place(&put_off, &line("DROP INDEX big_i")), Place::Last, "its build may be under way");
        assert_eq!(put_off.take_checks().len(), 1);
        assert_eq!(put_off.take_rest().len(), 1);
        assert_eq!(place(&put_off, &line("DROP INDEX big_i")), Place::First);
    }

    #[test]
    fn what_locks_the_table_of_a_slow_build_is_late_and_foreign_keys_of_others_are_not() {
        let mut put_off = PutOff::default();
        put_off.slow(&line("CREATE INDEX big_i ON public.big USING gin (a)"));
        let foreign_key = |child: &str, parent: &str| {
            line(&format!(
                "ALTER TABLE ONLY public.{child} ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES public.{parent}(id)"
            ))
        };
        assert_eq!(place(&put_off, &foreign_key("a", "b")), Place::BehindAttaches);
        for late in [
            foreign_key("big", "b"),
            foreign_key("a", "big"),
            foreign_key("a", "parts"),
            line("CREATE POLICY p ON public.a USING (true)"),
        ] {
            assert_eq!(place(&put_off, &late), Place::Late, "{late:?}");
        }
        assert_eq!(place(&put_off, &line("COMMENT ON INDEX public.big_i IS 'x'")), Place::Waits);
        for table in ["big", "a"] {
            put_off.attach(line(&format!(
                "ALTER TABLE ONLY public.{table} ADD CONSTRAINT k PRIMARY KEY USING INDEX k"
            )));
        }
        assert_eq!(put_off.take_attaches().len(), 1);
        let (attaches, _) = put_off.take_late();
        assert!(matches!(&attaches[..], [attach] if attach.sql.contains("public.big")));
        assert!(!put_off.has_slow());
    }
}
