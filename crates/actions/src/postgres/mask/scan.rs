//! A look through a dump before it is loaded with masking: which tables have rows, and which columns refer to
//! which, since foreign keys come after the rows. Reads only; an archive says it all at its beginning.

use std::collections::BTreeSet;

use runbook_dump::{Dump, DumpError, Event, Limits};

use crate::postgres::sql::{What, qualified, what};
use crate::postgres::words::{Token, Words};
use crate::s3::Tap;

/// A column that refers to another one; tables quoted, columns plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) child: (String, String),
    pub(super) parent: (String, String),
}

/// What a dump says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Scanned {
    /// Tables with rows, quoted.
    pub(super) tables: BTreeSet<String>,
    pub(super) references: Vec<Reference>,
    /// A table whose rows are INSERT statements.
    pub(super) inserts: Option<String>,
    /// The dump was read to its end.
    pub(super) is_whole: bool,
}

/// Reads as much as it takes. Blocks.
pub(super) fn scan(tap: Tap) -> Result<Scanned, DumpError> {
    let mut scanned = Scanned::default();
    match runbook_dump::open(tap, Limits::default())? {
        Dump::Archive(reader) => {
            for entry in reader.toc() {
                let schema = entry.namespace.as_deref().unwrap_or("public");
                if entry.desc == "FK CONSTRAINT" {
                    scanned.references.extend(references(&entry.defn));
                } else if entry.is_inserts() {
                    scanned.inserts = Some(qualified(schema, &entry.tag));
                } else if let Some(copy) = entry.copy() {
                    let schema = copy.table.schema.as_deref().unwrap_or(schema);
                    scanned.tables.insert(qualified(schema, &copy.table.name));
                }
            }
        }
        Dump::Plain(mut reader) => {
            scanned.is_whole = true;
            while let Some(event) = reader.next_event()? {
                match event {
                    Event::CopyStart(copy) => {
                        let schema = copy.table.schema.as_deref().unwrap_or("public");
                        scanned.tables.insert(qualified(schema, &copy.table.name));
                    }
                    Event::Statement(statement) => match what(statement.sql) {
                        What::AddConstraint { .. } => {
                            scanned.references.extend(references(statement.sql));
                        }
                        What::Insert { table } => scanned.inserts = Some(table),
                        _ => {}
                    },
                    _ => {}
                }
            }
        }
    }
    Ok(scanned)
}

/// The columns of `ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY (…) REFERENCES … (…)`.
fn references(sql: &str) -> Vec<Reference> {
    let mut tokens = Words::new(sql).peekable();
    let is = |token: &Token, wanted: &str| matches!(token, Token::Word(word) if word == wanted);
    // Skips to a word; a name that is one would be quoted by pg_dump.
    let to = |wanted: &str, tokens: &mut std::iter::Peekable<Words<'_>>| tokens.any(|t| is(&t, wanted));
    if !to("table", &mut tokens) {
        return Vec::new();
    }
    tokens.next_if(|token| is(token, "only"));
    let child = table(&mut tokens);
    if !to("foreign", &mut tokens) || !to("key", &mut tokens) {
        return Vec::new();
    }
    let columns = list(&mut tokens);
    if !to("references", &mut tokens) {
        return Vec::new();
    }
    let parent = table(&mut tokens);
    let keys = list(&mut tokens);
    columns
        .into_iter()
        .zip(keys)
        .map(|(column, key)| Reference { child: (child.clone(), column), parent: (parent.clone(), key) })
        .collect()
}

fn name(tokens: &mut std::iter::Peekable<Words<'_>>) -> String {
    match tokens.next() {
        Some(Token::Word(name) | Token::Quoted(name)) => name,
        _ => String::new(),
    }
}

fn table(tokens: &mut std::iter::Peekable<Words<'_>>) -> String {
    let first = name(tokens);
    if tokens.next_if_eq(&Token::Mark('.')).is_some() {
        return qualified(&first, &name(tokens));
    }
    qualified("public", &first)
}

/// `(a, "B")`
pub(super) fn list(tokens: &mut std::iter::Peekable<Words<'_>>) -> Vec<String> {
    let mut names = Vec::new();
    if tokens.next_if_eq(&Token::Mark('(')).is_none() {
        return names;
    }
    for token in tokens {
        match token {
            Token::Word(name) | Token::Quoted(name) => names.push(name),
            Token::Mark(',') => {}
            _ => break,
        }
    }
    names
}

/// The columns of `COPY schema.table (a, "B") FROM stdin`; none where it lists none, or has options.
pub(super) fn copy_columns(copy: &str) -> Option<Vec<String>> {
    let mut tokens = Words::new(copy).peekable();
    tokens.next();
    table(&mut tokens);
    let columns = list(&mut tokens);
    let rest: Vec<Token> = tokens.collect();
    let is_plain = matches!(rest.as_slice(), [Token::Word(from), Token::Word(stdin)] if from == "from" && stdin == "stdin");
    (is_plain && !columns.is_empty()).then_some(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_and_copy_lists_are_read_with_their_quotes() {
        let sql = "ALTER TABLE ONLY app.\"Child\"\n    ADD CONSTRAINT c FOREIGN KEY (a, \"B b\") REFERENCES public.parent(x, y) ON DELETE CASCADE;";
        let pair = |child: &str, parent: &str| Reference {
            child: ("\"app\".\"Child\"".into(), child.into()),
            parent: ("\"public\".\"parent\"".into(), parent.into()),
        };
        assert_eq!(references(sql), [pair("a", "x"), pair("B b", "y")]);
        assert_eq!(references("ALTER TABLE a ADD CONSTRAINT c PRIMARY KEY (id)"), []);
        let columns = |copy| copy_columns(copy).unwrap_or_default();
        assert_eq!(columns("COPY public.t (a, \"Colour\") FROM stdin"), ["a", "Colour"]);
        assert_eq!(columns("COPY public.t (a) FROM stdin WITH (FORMAT csv)"), Vec::<String>::new());
        assert_eq!(columns("COPY public.t FROM stdin"), Vec::<String>::new());
    }
}
