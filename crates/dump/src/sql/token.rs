//! Words, names, literals and marks of one statement, each with its place. Knows no grammar and refuses nothing: a
//! quote that never closes goes to the end.

use std::ops::Range;

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A bare word or number, folded as the server folds it.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// A literal in single quotes or dollar quotes.
    Text(String),
    /// One other character.
    Mark(char),
}

impl Token {
    /// Whether it is this bare word, given in lower case.
    pub(crate) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found == word)
    }

    /// Whether it is this character.
    pub(crate) fn is_mark(&self, mark: char) -> bool {
        *self == Self::Mark(mark)
    }
}

/// The tokens of a statement, comments and spaces left out.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(sql: &'a str) -> Self {
        Self { sql, at: 0 }
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            self.at += rest.len() - rest.trim_start().len();
            let rest = &self.sql[self.at..];
            let end = if rest.starts_with("--") {
                rest.find('\n')
            } else if rest.starts_with("/*") {
                rest.find("*/").map(|end| end + 2)
            } else {
                return;
            };
            self.at = end.map_or(self.sql.len(), |end| self.at + end);
        }
    }

    /// What stands between a mark here and the next one of its kind; a doubled one stands for itself.
    fn enclosed(&mut self, mark: char) -> String {
        let mut text = String::new();
        self.at += 1;
        while let Some(end) = self.sql[self.at..].find(mark) {
            text.push_str(&self.sql[self.at..self.at + end]);
            self.at += end + 1;
            if !self.sql[self.at..].starts_with(mark) {
                return text;
            }
            text.push(mark);
            self.at += 1;
        }
        text.push_str(&self.sql[self.at..]);
        self.at = self.sql.len();
        text
    }

    fn dollar(&mut self) -> Option<String> {
        let rest = &self.sql[self.at..];
        let end = rest[1..].find('$')? + 2;
        let tag = &rest[..end];
        if !tag[1..end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let close = rest[end..].find(tag)?;
        self.at += end + close + tag.len();
        Some(rest[end..end + close].to_owned())
    }
}

impl Iterator for Tokens<'_> {
    type Item = (Token, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blank();
        let start = self.at;
        let first = self.sql[start..].chars().next()?;
        let token = match first {
            '"' => Token::Quoted(self.enclosed('"')),
            '\'' => Token::Text(self.enclosed('\'')),
            '$' => match self.dollar() {
                Some(text) => Token::Text(text),
                None => {
                    self.at += 1;
                    Token::Mark('$')
                }
            },
            c if c.is_alphanumeric() || c == '_' => {
                let rest = &self.sql[start..];
                let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '$')));
                self.at = start + end.unwrap_or(rest.len());
                Token::Word(self.sql[start..self.at].to_ascii_lowercase())
            }
            c => {
                self.at += c.len_utf8();
                Token::Mark(c)
            }
        };
        Some((token, start..self.at))
    }
}
