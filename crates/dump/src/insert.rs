//! The rows of an INSERT statement as `pg_dump --inserts` writes it. Any other form is refused: a reader that guessed
//! would put values under the wrong columns.

use crate::sql::{QualifiedName, Token, Tokens};

/// Why an INSERT cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an INSERT statement that pg_dump would not write: {0}")]
pub struct InsertError(&'static str);

/// One value of an INSERT, as COPY text would have it before escaping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// `NULL`.
    Null,
    /// `DEFAULT`: a generated column.
    Default,
    /// Anything else.
    Value(String),
}

/// An INSERT statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insert {
    /// The table.
    pub table: QualifiedName,
    /// The columns, when they are named (`--column-inserts`).
    pub columns: Option<Vec<String>>,
    /// The rows.
    pub rows: Vec<Vec<Inserted>>,
}

impl Insert {
    /// The table that an INSERT fills, without reading its values. None when it is no INSERT.
    pub fn table_of(sql: &str) -> Option<QualifiedName> {
        let mut at = Reader { sql, tokens: Tokens::new(sql).peekable() };
        (at.word("insert") && at.word("into")).then(|| at.name().ok()).flatten()
    }

    /// Reads a whole statement.
    ///
    /// # Errors
    /// When it is not what pg_dump writes.
    pub fn parse(sql: &str) -> Result<Self, InsertError> {
        let mut at = Reader { sql, tokens: Tokens::new(sql).peekable() };
        if !(at.word("insert") && at.word("into")) {
            return Err(InsertError("it is none"));
        }
        let table = at.name()?;
        let columns = if at.mark('(') { Some(at.names()?) } else { None };
        if at.word("overriding") && !(at.word("system") && at.word("value")) {
            return Err(InsertError("OVERRIDING without SYSTEM VALUE"));
        }
        if at.word("default") && at.word("values") {
            return Ok(Self { table, columns, rows: vec![Vec::new()] });
        }
        if !at.word("values") {
            return Err(InsertError("it has no VALUES"));
        }
        let mut rows = Vec::new();
        loop {
            rows.push(at.row()?);
            if !at.mark(',') {
                break;
            }
        }
        if at.word("on") && !(at.word("conflict") && at.word("do") && at.word("nothing")) {
            return Err(InsertError("a clause after its values"));
        }
        at.mark(';');
        match at.tokens.next() {
            None => Ok(Self { table, columns, rows }),
            Some(_) => Err(InsertError("a clause after its values")),
        }
    }
}

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

    fn part(&mut self) -> Result<String, InsertError> {
        match self.tokens.next() {
            Some((Token::Word(name) | Token::Quoted(name), _)) => Ok(name),
            _ => Err(InsertError("a name is missing")),
        }
    }

    fn name(&mut self) -> Result<QualifiedName, InsertError> {
        let first = self.part()?;
        if self.mark('.') {
            return Ok(QualifiedName { schema: Some(first), name: self.part()? });
        }
        Ok(QualifiedName { schema: None, name: first })
    }

    fn names(&mut self) -> Result<Vec<String>, InsertError> {
        let mut names = Vec::new();
        loop {
            names.push(self.part()?);
            if self.mark(')') {
                return Ok(names);
            }
            if !self.mark(',') {
                return Err(InsertError("its columns do not end"));
            }
        }
    }

    fn row(&mut self) -> Result<Vec<Inserted>, InsertError> {
        if !self.mark('(') {
            return Err(InsertError("a row is missing"));
        }
        let mut row = Vec::new();
        loop {
            row.push(self.value()?);
            if self.mark(')') {
                return Ok(row);
            }
            if !self.mark(',') {
                return Err(InsertError("a value is more than a literal"));
            }
        }
    }

    fn value(&mut self) -> Result<Inserted, InsertError> {
        let (token, place) = self.tokens.next().ok_or(InsertError("a value is missing"))?;
        match token {
            Token::Text(text) if self.sql[place.start..].starts_with('\'') => Ok(Inserted::Value(text)),
            Token::Word(word) => match word.as_str() {
                "null" => Ok(Inserted::Null),
                "default" => Ok(Inserted::Default),
                "true" => Ok(Inserted::Value("t".into())),
                "false" => Ok(Inserted::Value("f".into())),
                "b" | "x" => match self.tokens.next() {
                    Some((Token::Text(bits), next)) if next.start == place.end => Ok(Inserted::Value(bits)),
                    _ => Err(InsertError("a value is no literal")),
                },
                _ if word.starts_with(|c: char| c.is_ascii_digit()) => self.number(place.start, place.end),
                _ => Err(InsertError("a value is no literal")),
            },
            Token::Mark('-' | '.' | '+') => self.number(place.start, place.end),
            _ => Err(InsertError("a value is no literal")),
        }
    }

    /// A number, which may be several tokens (`-1.5e+10`): they stand together.
    fn number(&mut self, start: usize, mut end: usize) -> Result<Inserted, InsertError> {
        let part = |token: &Token| matches!(token, Token::Word(_) | Token::Mark('.' | '-' | '+'));
        while let Some((_, place)) = self.tokens.next_if(|(token, place)| place.start == end && part(token)) {
            end = place.end;
        }
        let text = &self.sql[start..end];
        let good = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e' | 'E');
        if text.chars().all(good) && text.contains(|c: char| c.is_ascii_digit()) {
            Ok(Inserted::Value(text.to_owned()))
        } else {
            Err(InsertError("a value is no number"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Inserted {
        Inserted::Value(text.to_owned())
    }

    #[test]
    fn rows_are_read_as_pg_dump_writes_them() {
        let sql = "INSERT INTO \"public\".\"t \"\"x\" OVERRIDING SYSTEM VALUE VALUES\n\t(1, 'it''s; (a,\n\\n', NULL, \
                   DEFAULT, -1.50e-10, true, B'101'),\n\t('', 'NaN', 'NULL', '\\x00', 0, false, '{}');\n";
        let found = Insert::parse(sql).expect("it is one");
        assert_eq!(found.table, QualifiedName { schema: Some("public".into()), name: "t \"x".into() });
        assert_eq!(Insert::table_of(sql), Some(found.table.clone()));
        assert_eq!(found.columns, None);
        let first = [
            value("1"),
            value("it's; (a,\n\\n"),
            Inserted::Null,
            Inserted::Default,
            value("-1.50e-10"),
            value("t"),
            value("101"),
        ];
        assert_eq!(found.rows[0], first);
        assert_eq!(found.rows[1][2], value("NULL"));
        let named = Insert::parse("INSERT INTO t (a, \"B c\") VALUES (1, 2) ON CONFLICT DO NOTHING;");
        assert_eq!(named.expect("it is one").columns.expect("columns"), ["a", "B c"]);
        assert_eq!(Insert::parse("INSERT INTO t DEFAULT VALUES;").expect("it is one").rows, [vec![]]);
    }

    #[test]
    fn other_forms_are_refused() {
        for sql in [
            "INSERT INTO t SELECT 1;",
            "INSERT INTO t VALUES (now());",
            "INSERT INTO t VALUES (1 + 1);",
            "INSERT INTO t VALUES (E'a\\n');",
            "INSERT INTO t VALUES ($$a$$);",
            "INSERT INTO t VALUES ('a' || 'b');",
            "INSERT INTO t VALUES (1) RETURNING a;",
            "INSERT INTO t VALUES (1), ;",
            "INSERT INTO t VALUES (1",
            "INSERT INTO t VALUES (1); INSERT INTO t VALUES (2);",
            "UPDATE t SET a = 1;",
        ] {
            assert!(Insert::parse(sql).is_err(), "{sql}");
        }
    }
}
