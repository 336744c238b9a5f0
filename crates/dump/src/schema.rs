//! What a dump says of its tables: columns, keys, references, partitions. Learned from the statements as they pass; what
//! is not understood is left out, so that nothing is known that the dump does not say.

use std::collections::BTreeMap;

use crate::error::{DumpError, Place};
use crate::sql::{QualifiedName, Token, Tokens};

/// Columns, constraints and partitions that are kept at most: a dump is no reason to run out of memory.
const FACTS_MAX: u64 = 2_000_000;

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name, unquoted.
    pub name: String,
    /// Its type as the dump writes it: `character varying(20)`.
    pub type_name: String,
    /// It is computed from others, and no row of the dump has it.
    pub generated: bool,
}

/// Rows of one table that refer to rows of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The columns that refer.
    pub columns: Vec<String>,
    /// The table referred to.
    pub parent: QualifiedName,
    /// The columns referred to; empty for the parent's primary key.
    pub parent_columns: Vec<String>,
}

/// What is known of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// Its columns in order. Empty until its CREATE TABLE has passed.
    pub columns: Vec<Column>,
    /// Its primary key.
    pub primary_key: Option<Vec<String>>,
    /// Its unique constraints, the primary key included.
    pub unique: Vec<Vec<String>>,
    /// Its references.
    pub foreign_keys: Vec<ForeignKey>,
    /// The table that it is a partition of.
    pub partition_of: Option<QualifiedName>,
}

impl Table {
    /// The column's type.
    pub fn type_of(&self, column: &str) -> Option<&str> {
        self.columns.iter().find(|c| c.name == column).map(|c| c.type_name.as_str())
    }

    /// Whether a constraint lets at most one row have the same values in these columns.
    pub fn is_unique(&self, columns: &[String]) -> bool {
        self.unique.iter().any(|unique| unique.iter().all(|column| columns.contains(column)))
    }
}

/// What is known so far.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    tables: BTreeMap<QualifiedName, Table>,
    facts: u64,
}

impl Schema {
    /// Knows nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known of a table.
    pub fn table(&self, name: &QualifiedName) -> Option<&Table> {
        self.tables.get(name)
    }

    /// Whether rows of a table are rows of another, because it is that table or a partition of it.
    pub fn is_part_of(&self, table: &QualifiedName, whole: &QualifiedName) -> bool {
        let mut now = table;
        // No dump has partitions so deep; one that says that it goes round in circles ends here as well.
        for _ in 0..64 {
            if now == whole {
                return true;
            }
            match self.tables.get(now).and_then(|table| table.partition_of.as_ref()) {
                Some(parent) => now = parent,
                None => return false,
            }
        }
        false
    }

    /// Takes in a statement.
    ///
    /// # Errors
    /// When a dump has more tables than anybody keeps.
    pub fn learn(&mut self, sql: &str) -> Result<(), DumpError> {
        let mut at = Reader { sql, tokens: Tokens::new(sql).peekable() };
        if at.word("create") {
            for skip in ["unlogged", "foreign", "global", "local"] {
                at.word(skip);
            }
            if at.word("table") {
                self.create(&mut at);
            }
        } else if at.word("alter") {
            at.word("foreign");
            if at.word("table") {
                self.alter(&mut at);
            }
        }
        if self.facts > FACTS_MAX {
            let (what, place) = ("the schema", Place::Byte(0));
            return Err(DumpError::TooLarge { what, place, limit: FACTS_MAX });
        }
        Ok(())
    }

    fn create(&mut self, at: &mut Reader<'_>) {
        if at.word("if") {
            at.word("not");
            at.word("exists");
        }
        let Some(name) = at.name() else { return };
        let mut table = self.tables.remove(&name).unwrap_or_default();
        if at.word("partition") && at.word("of") {
            table.partition_of = at.name();
        } else if at.mark('(') {
            while let Some(item) = at.item() {
                match item {
                    Item::Column(column, own) => {
                        table.unique.extend(own.then(|| vec![column.name.clone()]));
                        table.columns.push(column);
                    }
                    Item::Constraint(constraint) => self.facts += add(&mut table, constraint),
                    Item::Other => {}
                }
            }
        }
        self.facts += 1 + table.columns.len() as u64;
        self.tables.insert(name, table);
    }

    fn alter(&mut self, at: &mut Reader<'_>) {
        at.word("only");
        let Some(name) = at.name() else { return };
        if at.word("add") && at.word("constraint") {
            let constraint_name = at.part().unwrap_or_default();
            if let Some(constraint) = at.constraint(constraint_name) {
                self.facts += add(self.tables.entry(name).or_default(), constraint);
            }
        } else if at.word("attach")
            && at.word("partition")
            && let Some(child) = at.name()
        {
            self.facts += 1;
            self.tables.entry(child).or_default().partition_of = Some(name);
        }
    }
}

fn add(table: &mut Table, constraint: Constraint) -> u64 {
    match constraint {
        Constraint::PrimaryKey(columns) => {
            table.primary_key = Some(columns.clone());
            table.unique.push(columns);
        }
        Constraint::Unique(columns) => table.unique.push(columns),
        Constraint::ForeignKey(key) => table.foreign_keys.push(key),
    }
    1
}

enum Constraint {
    PrimaryKey(Vec<String>),
    Unique(Vec<String>),
    ForeignKey(ForeignKey),
}

/// What stands between two commas of a CREATE TABLE.
enum Item {
    /// A column, and whether it is unique by a constraint of its own.
    Column(Column, bool),
    Constraint(Constraint),
    Other,
}

/// Words that end a column's type.
const AFTER_TYPE: [&str; 12] = [
    "default",
    "not",
    "null",
    "generated",
    "collate",
    "constraint",
    "primary",
    "unique",
    "check",
    "references",
    "compression",
    "storage",
];

struct Reader<'a> {
    sql: &'a str,
    tokens: std::iter::Peekable<Tokens<'a>>,
}

impl Reader<'_> {
    fn word(&mut self, word: &str) -> bool {
        self.tokens.next_if(|(token, _)| token.is(word)).is_some()
    }

    fn mark(&mut self, mark: char) -> bool {
        self.tokens.next_if(|(token, _)| token.is_mark(mark)).is_some()
    }

    fn part(&mut self) -> Option<String> {
        match self.tokens.next_if(|(token, _)| matches!(token, Token::Word(_) | Token::Quoted(_)))? {
            (Token::Word(name) | Token::Quoted(name), _) => Some(name),
            _ => None,
        }
    }

    fn name(&mut self) -> Option<QualifiedName> {
        let first = self.part()?;
        if self.mark('.') {
            return Some(QualifiedName { schema: Some(first), name: self.part()? });
        }
        Some(QualifiedName { schema: None, name: first })
    }

    /// `(a, b)`; none for anything but names, such as `(a WITHOUT OVERLAPS)`.
    fn names(&mut self) -> Option<Vec<String>> {
        if !self.mark('(') {
            return None;
        }
        let mut names = Vec::new();
        loop {
            names.push(self.part()?);
            if self.mark(')') {
                return Some(names);
            }
            if !self.mark(',') {
                return None;
            }
        }
    }

    /// What follows a constraint's name.
    fn constraint(&mut self, name: String) -> Option<Constraint> {
        if self.word("primary") && self.word("key") {
            return self.names().map(Constraint::PrimaryKey);
        }
        if self.word("unique") {
            if self.word("nulls") {
                self.word("not");
                self.word("distinct");
            }
            return self.names().map(Constraint::Unique);
        }
        if !(self.word("foreign") && self.word("key")) {
            return None;
        }
        let columns = self.names()?;
        if !self.word("references") {
            return None;
        }
        let parent = self.name()?;
        let named = matches!(self.tokens.peek(), Some((token, _)) if token.is_mark('('));
        let parent_columns = if named { self.names()? } else { Vec::new() };
        Some(Constraint::ForeignKey(ForeignKey { name, columns, parent, parent_columns }))
    }

    /// The next item of a CREATE TABLE; none at its end.
    fn item(&mut self) -> Option<Item> {
        let (first, _) = self.tokens.peek()?;
        let item = match first {
            Token::Mark(')') => return None,
            Token::Word(word) => match word.as_str() {
                "constraint" => {
                    self.tokens.next();
                    let name = self.part().unwrap_or_default();
                    self.constraint(name).map_or(Item::Other, Item::Constraint)
                }
                "primary" | "unique" | "foreign" => {
                    self.constraint(String::new()).map_or(Item::Other, Item::Constraint)
                }
                "check" | "exclude" | "like" => Item::Other,
                _ => self.column(),
            },
            Token::Quoted(_) => self.column(),
            _ => Item::Other,
        };
        self.rest();
        Some(item)
    }

    fn column(&mut self) -> Item {
        let Some(name) = self.part() else { return Item::Other };
        let (mut start, mut end, mut depth) = (None, 0, 0_u32);
        while let Some((_, place)) = self.tokens.next_if(|(token, _)| {
            let over = depth == 0
                && match token {
                    Token::Mark(',' | ')') => true,
                    Token::Word(word) => AFTER_TYPE.contains(&word.as_str()),
                    _ => false,
                };
            match token {
                Token::Mark('(') if !over => depth += 1,
                Token::Mark(')') if !over => depth -= 1,
                _ => {}
            }
            !over
        }) {
            start.get_or_insert(place.start);
            end = place.end;
        }
        let type_name = start.map(|start| self.sql[start..end].to_owned()).unwrap_or_default();
        let (mut generated, mut unique) = (false, false);
        let mut last = [String::new(), String::new()];
        depth = 0;
        while let Some((token, _)) =
            self.tokens.next_if(|(token, _)| depth > 0 || !matches!(token, Token::Mark(',' | ')')))
        {
            match &token {
                Token::Mark('(') => {
                    generated |= depth == 0 && last == ["always", "as"];
                    depth += 1;
                }
                Token::Mark(')') => depth -= 1,
                Token::Word(word) if depth == 0 => {
                    unique |= word == "unique" || (word == "key" && last[1] == "primary");
                }
                _ => {}
            }
            let word = if let Token::Word(word) = token { word } else { String::new() };
            last = [std::mem::take(&mut last[1]), word];
        }
        Item::Column(Column { name, type_name, generated }, unique)
    }

    /// Passes over what is left of an item and the comma behind it.
    fn rest(&mut self) {
        let mut depth = 0_u32;
        while let Some((token, _)) = self.tokens.next_if(|(token, _)| depth > 0 || !token.is_mark(')')) {
            match token {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth -= 1,
                Token::Mark(',') if depth == 0 => return,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(schema: &str, name: &str) -> QualifiedName {
        QualifiedName { schema: Some(schema.into()), name: name.into() }
    }

    fn learned(statements: &[&str]) -> Schema {
        let mut schema = Schema::new();
        for sql in statements {
            schema.learn(sql).expect("it is small");
        }
        schema
    }

    #[test]
    fn columns_keys_and_references_are_learned() {
        let schema = learned(&[
            "CREATE TABLE public.\"T x\" (\n    id uuid DEFAULT gen_random_uuid() NOT NULL,\n    \"a,(b\" character varying(20) \
             DEFAULT 'x, (y'::character varying,\n    n numeric(5,2),\n    s tsvector GENERATED ALWAYS AS (f(a, 'b')) STORED,\n    \
             tags text[] DEFAULT '{}'::text[] NOT NULL,\n    k bigint GENERATED ALWAYS AS IDENTITY,\n    \
             CONSTRAINT c CHECK ((length(a) > 0)),\n    UNIQUE (n)\n);",
            "ALTER TABLE ONLY public.\"T x\" ADD CONSTRAINT t_pkey PRIMARY KEY (id, \"a,(b\");",
            "ALTER TABLE ONLY public.\"T x\" ADD CONSTRAINT t_fk FOREIGN KEY (n) REFERENCES auth.users(id) ON DELETE CASCADE;",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'create table x (a int)';",
        ]);
        let table = schema.table(&name("public", "T x")).expect("it is known");
        let columns: Vec<_> =
            table.columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str(), c.generated)).collect();
        let wanted = [
            ("id", "uuid", false),
            ("a,(b", "character varying(20)", false),
            ("n", "numeric(5,2)", false),
            ("s", "tsvector", true),
            ("tags", "text[]", false),
            ("k", "bigint", false),
        ];
        assert_eq!(columns, wanted);
        assert_eq!(table.primary_key.as_ref().expect("a key"), &["id", "a,(b"]);
        assert!(table.is_unique(&["n".into()]) && !table.is_unique(&["id".into()]));
        assert!(table.is_unique(&["a,(b".into(), "id".into(), "n".into()]));
        let key = &table.foreign_keys[0];
        assert_eq!(
            (&key.parent, &key.columns[..], &key.parent_columns[..]),
            (&name("auth", "users"), &["n".to_owned()][..], &["id".to_owned()][..])
        );
    }

    #[test]
    fn partitions_belong_to_their_table() {
        let schema = learned(&[
            "ALTER TABLE ONLY s.a ATTACH PARTITION s.b FOR VALUES IN (1);",
            "ALTER TABLE ONLY s.b ATTACH PARTITION s.c FOR VALUES IN (1);",
            "ALTER TABLE ONLY s.x ATTACH PARTITION s.y DEFAULT;",
            "ALTER TABLE ONLY s.y ATTACH PARTITION s.x DEFAULT;",
        ]);
        assert!(schema.is_part_of(&name("s", "c"), &name("s", "a")));
        assert!(schema.is_part_of(&name("s", "a"), &name("s", "a")));
        assert!(!schema.is_part_of(&name("s", "a"), &name("s", "c")));
        assert!(!schema.is_part_of(&name("s", "x"), &name("s", "a")));
    }

    #[test]
    fn cut_and_odd_statements_are_no_trouble() {
        let sql =
            "CREATE TABLE public.t (a text DEFAULT 'x' NOT NULL, b numeric(5,2), CONSTRAINT c UNIQUE (a));";
        for cut in 0..sql.len() {
            let mut schema = Schema::new();
            schema.learn(&sql[..cut]).expect("it is small");
            schema.learn(&sql[cut..]).expect("it is small");
        }
        learned(&[
            "ALTER TABLE",
            "CREATE TABLE (",
            "create table a)(",
            "ALTER TABLE t ADD CONSTRAINT x UNIQUE (a",
            "CREATE TABLE t (a ))))",
        ]);
    }
}
