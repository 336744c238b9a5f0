//! Takes constraints apart into what is long and what locks much: a primary key becomes an index, which is built
//! beside others, and a constraint that uses it; a foreign key is added unchecked, and checked later. What is not
//! understood to the last word stays as it is. Pure text.

use crate::postgres::sql::{What, name_of, qualified, schema_of, what};
use crate::postgres::words::{Token, Words};

/// A constraint in two steps; each is a statement of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InTwo {
    /// Comes where the constraint stood.
    pub(super) first: String,
    /// Comes after it.
    pub(super) second: String,
}

/// `ALTER TABLE … ADD CONSTRAINT name` and what follows it.
struct Added<'a> {
    /// The table as it is written, without `ONLY`.
    table: &'a str,
    /// The constraint's name as it is written.
    name: &'a str,
    /// `PRIMARY KEY (id)`
    rest: &'a str,
}

impl<'a> Added<'a> {
    fn of(sql: &'a str) -> Option<Self> {
        let sql = after_comments(sql);
        let mut words = Cursor { rest: sql };
        words.keyword("ALTER")?;
        words.keyword("TABLE")?;
        let _ = words.keyword("ONLY");
        let table = words.name()?;
        words.keyword("ADD")?;
        words.keyword("CONSTRAINT")?;
        let name = words.part()?;
        Some(Self { table, name, rest: words.rest.trim() })
    }
}

/// A primary key or unique constraint as an index and a constraint that uses it. Not for partitioned tables, which
/// cannot use one.
pub(super) fn key_in_two(sql: &str) -> Option<InTwo> {
    let Added { table, name, rest } = Added::of(sql)?;
    let mut words = Cursor { rest };
    let mut same_nulls = "";
    let kind = if words.keyword("PRIMARY").is_some() {
        words.keyword("KEY")?;
        "PRIMARY KEY"
    } else {
        words.keyword("UNIQUE")?;
        if words.keyword("NULLS").is_some() {
            words.keyword("NOT")?;
            words.keyword("DISTINCT")?;
            same_nulls = " NULLS NOT DISTINCT";
        }
        "UNIQUE"
    };
    let columns = words.columns()?;
    let include = match words.keyword("INCLUDE") {
        Some(()) => format!(" INCLUDE {}", words.columns()?),
        None => String::new(),
    };
    let with = match words.keyword("WITH") {
        Some(()) => format!(" WITH {}", words.parentheses()?),
        None => String::new(),
    };
    let deferrable = words.rest.trim();
    if !matches!(deferrable, "" | "DEFERRABLE" | "DEFERRABLE INITIALLY DEFERRED") {
        return None;
    }
    Some(InTwo {
        first: format!(
            "CREATE UNIQUE INDEX {name} ON {table} USING btree {columns}{include}{same_nulls}{with}"
        ),
        second: format!(
            "ALTER TABLE ONLY {table} ADD CONSTRAINT {name} {kind} USING INDEX {name} {deferrable}"
        )
        .trim_end()
        .to_owned(),
    })
}

/// A foreign key that is added unchecked, and its check. Not for partitioned tables, which take none.
pub(super) fn foreign_key_in_two(sql: &str) -> Option<InTwo> {
    let Added { table, name, rest } = Added::of(sql)?;
    foreign_key_parent(sql)?;
    let head = rest.to_ascii_uppercase();
    if head.ends_with("NOT VALID") || head.contains("ENFORCED") {
        return None;
    }
    Some(InTwo {
        first: format!("{} NOT VALID", after_comments(sql).trim_end()),
        second: format!("ALTER TABLE {table} VALIDATE CONSTRAINT {name}"),
    })
}

/// The table that a foreign key refers to, quoted; none for any other statement.
pub(super) fn foreign_key_parent(sql: &str) -> Option<String> {
    let Added { rest, .. } = Added::of(sql)?;
    let mut words = Words::new(rest);
    let mut is = |wanted: &str| matches!(words.next(), Some(Token::Word(word)) if word == wanted);
    if !(is("foreign") && is("key")) {
        return None;
    }
    // What `what` makes of a name is what tables are known by everywhere else.
    let mut depth = 0_usize;
    let mut words = Words::new(rest);
    for token in words.by_ref() {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && word == "references" => break,
            _ => {}
        }
    }
    let mut part = || match words.next() {
        Some(Token::Word(name) | Token::Quoted(name)) => Some(name),
        _ => None,
    };
    let first = part()?;
    match words.next() {
        Some(Token::Mark('.')) => match words.next() {
            Some(Token::Word(name) | Token::Quoted(name)) => Some(qualified(&first, &name)),
            _ => None,
        },
        _ => Some(qualified("public", &first)),
    }
}

/// Whether a `CREATE TABLE` makes a table that has no rows of its own, or takes rows from elsewhere: anything but a
/// plain list of columns.
pub(super) fn is_plain_table(create: &str) -> bool {
    let mut depth = 0_usize;
    let mut listed = false;
    for token in Words::new(create) {
        match token {
            Token::Mark('(') => {
                depth += 1;
                listed = true;
            }
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Word(word) if depth == 0 && matches!(word.as_str(), "partition" | "of" | "as") => {
                return false;
            }
            _ => {}
        }
    }
    listed
}

/// Whether a `CREATE TABLE` makes one that is made of others.
pub(super) fn is_partitioned(create: &str) -> bool {
    let words: Vec<_> = Words::new(create).collect();
    let is = |token: &Token, wanted: &str| matches!(token, Token::Word(word) if word == wanted);
    words.windows(2).any(|two| is(&two[0], "partition") && is(&two[1], "by"))
}

/// Whether a `CREATE TABLE` refers to another table by itself; pg_dump adds foreign keys after the rows.
pub(super) fn refers(create: &str) -> bool {
    Words::new(create).any(|token| matches!(token, Token::Word(word) if word == "references"))
}

/// What the build of an index is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexKind {
    /// It takes each key only once.
    pub(super) is_unique: bool,
    /// About how many times as long it takes as a btree.
    pub(super) slowness: u64,
}

/// Reads a `CREATE INDEX`.
pub(super) fn index_kind(create: &str) -> IndexKind {
    let mut words = Words::new(create);
    let mut is = |wanted: &str| matches!(words.next(), Some(Token::Word(word)) if word == wanted);
    let is_unique = is("create") && is("unique");
    let method = words.skip_while(|token| !matches!(token, Token::Word(word) if word == "using")).nth(1);
    let is_quick = |method: &str| matches!(method, "btree" | "hash" | "brin");
    let slowness = match method {
        Some(Token::Word(method)) if is_quick(&method) => 1,
        // GIN, GiST, and the indexes of vectors.
        _ => 8,
    };
    IndexKind { is_unique, slowness }
}

/// What the index of [`key_in_two`] is.
pub(super) fn index_of_key(table: &str, index: &InTwo) -> What {
    match what(&index.first) {
        What::Create { kind, name, .. } => What::Create {
            kind,
            name: qualified(&schema_of(table), &name_of(&name)),
            on: Some(table.to_owned()),
        },
        other => other,
    }
}

fn after_comments(sql: &str) -> &str {
    let mut rest = sql.trim_start();
    while rest.starts_with("--") {
        rest = rest.find('\n').map_or("", |end| &rest[end..]).trim_start();
    }
    rest
}

/// Reads the few forms that pg_dump writes, and keeps their text.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn keyword(&mut self, keyword: &str) -> Option<()> {
        let rest = self.rest.trim_start();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        rest[..end].eq_ignore_ascii_case(keyword).then(|| self.rest = &rest[end..])
    }

    /// One identifier, as it is written.
    fn part(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = if let Some(inner) = rest.strip_prefix('"') {
            let mut from = 0;
            loop {
                let at = inner[from..].find('"')? + from;
                if !inner[at + 1..].starts_with('"') {
                    break at + 2;
                }
                from = at + 2;
            }
        } else {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(rest.len())
        };
        self.rest = &rest[end..];
        (end > 0).then(|| &rest[..end])
    }

    /// `schema.name`, as it is written.
    fn name(&mut self) -> Option<&'a str> {
        let start = self.rest.trim_start();
        self.part()?;
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            self.part()?;
        }
        Some(&start[..start.len() - self.rest.len()])
    }

    /// `(a, "b c")`: names and nothing else.
    fn columns(&mut self) -> Option<&'a str> {
        let start = self.rest.trim_start();
        self.rest = start.strip_prefix('(')?;
        loop {
            self.part()?;
            let rest = self.rest.trim_start();
            if let Some(rest) = rest.strip_prefix(')') {
                self.rest = rest;
                return Some(&start[..start.len() - rest.len()]);
            }
            self.rest = rest.strip_prefix(',')?;
        }
    }

    /// `(…)` without quotes or parentheses inside.
    fn parentheses(&mut self) -> Option<&'a str> {
        let start = self.rest.trim_start();
        let inner = start.strip_prefix('(')?;
        let end = inner.find([')', '(', '\'', '"'])?;
        let rest = inner[end..].strip_prefix(')')?;
        self.rest = rest;
        Some(&start[..start.len() - rest.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_an_index_and_a_constraint_that_uses_it() {
        let cases = [
            (
                "-- Name: a\n\nALTER TABLE ONLY public.a\n    ADD CONSTRAINT a_pkey PRIMARY KEY (id)",
                "CREATE UNIQUE INDEX a_pkey ON public.a USING btree (id)",
                "ALTER TABLE ONLY public.a ADD CONSTRAINT a_pkey PRIMARY KEY USING INDEX a_pkey",
            ),
            (
                "ALTER TABLE ONLY \"Odd \"\"s\".\"t.t\" ADD CONSTRAINT \"k 1\" UNIQUE NULLS NOT DISTINCT (a, \"b,)\") \
                 INCLUDE (c) WITH (fillfactor='70')",
                "",
                "",
            ),
            (
                "ALTER TABLE ONLY \"Odd \"\"s\".\"t.t\" ADD CONSTRAINT \"k 1\" UNIQUE NULLS NOT DISTINCT (a, \"b,)\") \
                 INCLUDE (c) WITH (fillfactor=70) DEFERRABLE INITIALLY DEFERRED",
                "CREATE UNIQUE INDEX \"k 1\" ON \"Odd \"\"s\".\"t.t\" USING btree (a, \"b,)\") INCLUDE (c) NULLS NOT DISTINCT \
                 WITH (fillfactor=70)",
                "ALTER TABLE ONLY \"Odd \"\"s\".\"t.t\" ADD CONSTRAINT \"k 1\" UNIQUE USING INDEX \"k 1\" DEFERRABLE INITIALLY DEFERRED",
            ),
            ("ALTER TABLE ONLY a ADD CONSTRAINT k PRIMARY KEY (id, valid WITHOUT OVERLAPS)", "", ""),
            ("ALTER TABLE ONLY a ADD CONSTRAINT k EXCLUDE USING gist (r WITH &&)", "", ""),
            ("ALTER TABLE ONLY a ADD CONSTRAINT k CHECK ((x > 0))", "", ""),
            ("ALTER TABLE ONLY a ADD CONSTRAINT k UNIQUE (id) USING INDEX TABLESPACE fast", "", ""),
            ("ALTER TABLE ONLY a ADD CONSTRAINT k PRIMARY KEY USING INDEX i", "", ""),
            ("CREATE TABLE a (id int)", "", ""),
        ];
        for (sql, first, second) in cases {
            let wanted = (!first.is_empty()).then(|| InTwo { first: first.into(), second: second.into() });
            assert_eq!(key_in_two(sql), wanted, "{sql}");
        }
    }

    #[test]
    fn a_foreign_key_is_added_and_checked_later() {
        let sql = "ALTER TABLE ONLY public.\"a b\" ADD CONSTRAINT f FOREIGN KEY (x, \"references\") REFERENCES auth.\"Users\"(id, n) \
                   ON DELETE CASCADE DEFERRABLE";
        let two = foreign_key_in_two(sql).unwrap();
        assert_eq!(two.first, format!("{sql} NOT VALID"));
        assert_eq!(two.second, "ALTER TABLE public.\"a b\" VALIDATE CONSTRAINT f");
        assert_eq!(foreign_key_parent(sql).unwrap(), "\"auth\".\"Users\"");
        for sql in [
            "ALTER TABLE ONLY a ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES b(id) NOT VALID",
            "ALTER TABLE ONLY a ADD CONSTRAINT f FOREIGN KEY (x) REFERENCES b(id) NOT ENFORCED",
            "ALTER TABLE ONLY a ADD CONSTRAINT f PRIMARY KEY (x)",
        ] {
            assert_eq!(foreign_key_in_two(sql), None, "{sql}");
        }
        assert_eq!(foreign_key_parent("ALTER TABLE a ADD CONSTRAINT f PRIMARY KEY (x)"), None);
    }

    #[test]
    fn only_a_plain_list_of_columns_makes_a_table_that_begins_empty() {
        assert!(is_plain_table("CREATE TABLE a (x int DEFAULT f(1), partition text)"));
        assert!(is_plain_table("CREATE TABLE a (x int)\nINHERITS (b)"));
        for sql in [
            "CREATE TABLE a (x int)\nPARTITION BY RANGE (x)",
            "CREATE TABLE a AS SELECT 1",
            "CREATE TABLE a (x) AS SELECT 1",
            "CREATE TABLE a PARTITION OF b FOR VALUES IN (1)",
            "CREATE TABLE a OF t",
        ] {
            assert!(!is_plain_table(sql), "{sql}");
        }
        assert!(
            refers("CREATE TABLE a (x int REFERENCES b)")
                && !refers("CREATE TABLE a (x text DEFAULT 'references')")
        );
    }

    #[test]
    fn the_kind_of_an_index_is_read_from_its_statement() {
        let kind = |create| {
            let IndexKind { is_unique, slowness } = index_kind(create);
            (is_unique, slowness)
        };
        assert_eq!(kind("-- Name: i\nCREATE INDEX i ON public.t USING gin (a jsonb_path_ops)"), (false, 8));
        assert_eq!(kind("CREATE INDEX \"using\" ON public.t USING btree (gin)"), (false, 1));
        assert_eq!(kind("CREATE UNIQUE INDEX gin ON public.t USING btree (a)"), (true, 1));
    }

    #[test]
    fn the_index_of_a_key_stands_in_its_tables_schema() {
        let two = key_in_two("ALTER TABLE ONLY s.a ADD CONSTRAINT \"k\"\"1\" UNIQUE (id)").unwrap();
        let found = index_of_key("\"s\".\"a\"", &two);
        let on = Some("\"s\".\"a\"".to_owned());
        assert_eq!(found, What::Create { kind: "index", name: "\"s\".\"k\"\"1\"".into(), on });
    }
}
