//! Splits SQL text of a file or of an archive's entry into statements. psql's commands and COPY are refused.

use runbook_dump::{DumpError, Event, Limits, SqlReader};

/// One statement and the line it begins on, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) line: u64,
    pub(super) sql: String,
}

/// What the reader of dumps takes for the end; a `;` first, since the last statement may lack it.
const END: &str = "\n;\n--\n-- PostgreSQL database dump complete\n--\n";

/// The statements of a text, without their `;`.
pub(super) fn statements(text: &str) -> Result<Vec<Statement>, DumpError> {
    let whole = format!("{}{END}", text.replace("\r\n", "\n"));
    let mut reader = SqlReader::new(std::io::Cursor::new(whole), Limits::default());
    let mut found = Vec::new();
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Statement(statement) => {
                let sql = statement.sql.trim_end().trim_end_matches(';').trim_end().to_string();
                if !sql.is_empty() {
                    found.push(Statement { line: statement.line, sql });
                }
            }
            Event::CopyStart(copy) => {
                return Err(DumpError::Unsupported {
                    what: format!("COPY FROM stdin on line {}", copy.line),
                });
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_keep_their_text_and_line() {
        let text = "-- one\ncreate table a (x int);\r\n\ncreate function f() returns int language sql as $$ select 1; $$;\nselect ';' -- end";
        let found = statements(text).unwrap();
        let heads: Vec<_> = found.iter().map(|s| (s.line, &s.sql[..12])).collect();
        assert_eq!(heads, [(2, "create table"), (4, "create funct"), (5, "select ';' -")]);
        assert_eq!(statements("  \n-- nothing\n").unwrap(), []);
        assert!(statements("select 1;\n\\! touch x\n").is_err());
        assert!(statements("select 'open").is_err());
    }
}
