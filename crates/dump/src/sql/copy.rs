//! Reads the one form of COPY that pg_dump writes, and refuses every other.

/// A table's name as a dump writes it, unquoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QualifiedName {
    /// The schema; pg_dump has always written it since 2018.
    pub schema: Option<String>,
    /// The name inside the schema.
    pub name: String,
}

impl std::fmt::Display for QualifiedName {
    /// Quoted where it must be, so that it can stand in SQL.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quoted(schema))?;
        }
        write!(f, "{}", quoted(&self.name))
    }
}

/// Always quotes: whether a word is reserved depends on the server's version.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A COPY statement whose rows follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// The statement as it stands in the dump, `;` included.
    pub statement: String,
    /// The table.
    pub table: QualifiedName,
    /// The columns in the order of the rows' fields; generated columns are never among them.
    pub columns: Option<Vec<String>>,
    /// The line of the statement, from 1; 0 for a statement from an archive.
    pub line: u64,
    /// Where the statement begins, in bytes of decompressed text; 0 for a statement from an archive.
    pub offset: u64,
    /// Where the first row begins, in bytes of decompressed text; 0 for a statement from an archive.
    pub data_offset: u64,
}

impl Copy {
    /// Reads `COPY name [(columns)] FROM stdin;`. None for any other form: options, files, programs and queries are not
    /// what pg_dump writes, and a reader that guessed would lose its place among the rows.
    pub fn parse(statement: &str) -> Option<Self> {
        let mut words = Words { rest: statement };
        words.keyword("COPY")?;
        let mut table = QualifiedName { schema: None, name: words.name()? };
        if words.symbol('.').is_some() {
            table = QualifiedName { schema: Some(table.name), name: words.name()? };
        }
        let mut columns = None;
        if words.symbol('(').is_some() {
            columns = Some(words.columns()?);
        }
        words.keyword("FROM")?;
        words.keyword("STDIN")?;
        words.symbol(';')?;
        let at_end = words.rest.trim_ascii().is_empty();
        let statement = statement.trim_ascii().to_owned();
        at_end.then_some(Self { statement, table, columns, line: 0, offset: 0, data_offset: 0 })
    }
}

struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn symbol(&mut self, symbol: char) -> Option<()> {
        self.rest = self.rest.trim_ascii_start().strip_prefix(symbol)?;
        Some(())
    }

    fn keyword(&mut self, keyword: &str) -> Option<()> {
        let rest = self.rest.trim_ascii_start();
        let (word, rest) = rest.split_at(bare_len(rest));
        word.eq_ignore_ascii_case(keyword).then(|| self.rest = rest)
    }

    /// A name, quoted or bare. A bare one is folded as the server folds it; `U&"…"` is refused (it has an `&`).
    fn name(&mut self) -> Option<String> {
        let rest = self.rest.trim_ascii_start();
        if let Some(mut inner) = rest.strip_prefix('"') {
            let mut name = String::new();
            loop {
                let (part, after) = inner.split_once('"')?;
                name.push_str(part);
                match after.strip_prefix('"') {
                    Some(more) => {
                        name.push('"');
                        inner = more;
                    }
                    None => {
                        self.rest = after;
                        return (!name.is_empty()).then_some(name);
                    }
                }
            }
        }
        let (word, after) = rest.split_at(bare_len(rest));
        let starts_well = word.starts_with(|c: char| !c.is_ascii_digit() && c != '$');
        self.rest = after;
        starts_well.then(|| word.to_ascii_lowercase())
    }

    /// Names up to `)`. A table without columns has an empty list.
    fn columns(&mut self) -> Option<Vec<String>> {
        let mut columns = Vec::new();
        if self.symbol(')').is_some() {
            return Some(columns);
        }
        loop {
            columns.push(self.name()?);
            if self.symbol(')').is_some() {
                return Some(columns);
            }
            self.symbol(',')?;
        }
    }
}

/// The length of the bare word at the start.
fn bare_len(text: &str) -> usize {
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unquoted_and_folded_as_the_server_does() {
        let copy =
            Copy::parse("COPY \"a\"\"b;\".T (x, \"Y z\", \"a,b)(\") FROM stdin;\n").expect("it is one");
        assert_eq!(copy.table, QualifiedName { schema: Some("a\"b;".into()), name: "t".into() });
        assert_eq!(copy.columns.expect("columns"), ["x", "Y z", "a,b)("]);
        assert_eq!(copy.table.to_string(), r#""a""b;"."t""#);
        assert_eq!(Copy::parse("copy t from STDIN;").expect("it is one").columns, None);
        assert_eq!(Copy::parse("COPY t () FROM stdin;").expect("it is one").columns, Some(vec![]));
    }

    #[test]
    fn other_forms_of_copy_are_not_understood() {
        for sql in [
            "COPY t FROM '/etc/passwd';",
            "COPY t FROM PROGRAM 'touch pwned';",
            "COPY t TO stdout;",
            "COPY t FROM stdin WITH (FORMAT csv);",
            "COPY t (a) WITH OIDS FROM stdin;",
            "COPY (SELECT 1) TO stdout;",
            "COPY t (a b) FROM stdin;",
            "COPY t (a,) FROM stdin;",
            "COPY t /* x */ FROM stdin;",
            "COPY U&\"t\" FROM stdin;",
            "COPY \"\" FROM stdin;",
            "COPY t FROM stdin; SELECT 1;",
        ] {
            assert_eq!(Copy::parse(sql), None, "{sql}");
        }
    }
}
