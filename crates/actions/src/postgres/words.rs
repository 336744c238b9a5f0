//! Takes SQL text apart into tokens, comments and spaces left out. Knows no grammar.

/// One token of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word, in lower case.
    Word(String),
    /// An identifier that was quoted.
    Quoted(String),
    /// Any literal.
    Text(String),
    /// One other character.
    Mark(char),
}

/// Iterates over tokens; comments and spaces are left out.
pub(super) struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    pub(super) fn new(sql: &'a str) -> Self {
        Self { rest: sql }
    }

    fn skip_blank(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.starts_with("--") {
                self.rest = self.rest.find('\n').map_or("", |end| &self.rest[end..]);
            } else if self.rest.starts_with("/*") {
                self.rest = self.rest.find("*/").map_or("", |end| &self.rest[end + 2..]);
            } else {
                return;
            }
        }
    }

    /// Takes up to the closing mark; a doubled mark stands for itself.
    fn enclosed(&mut self, mark: char) -> String {
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if c != mark {
                text.push(c);
            } else if chars.next_if(|&(_, next)| next == mark).is_some() {
                text.push(mark);
            } else {
                self.rest = &self.rest[1 + at + 1..];
                return text;
            }
        }
        self.rest = "";
        text
    }

    fn dollar(&mut self) -> Option<String> {
        let end = self.rest[1..].find('$')? + 2;
        let tag = &self.rest[..end];
        if !tag[1..end - 1].chars().all(|c| c.is_alphanumeric() || c == '_') {
            return None;
        }
        let close = self.rest[end..].find(tag)?;
        let text = self.rest[end..end + close].to_string();
        self.rest = &self.rest[end + close + tag.len()..];
        Some(text)
    }
}

impl Iterator for Words<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.skip_blank();
        let first = self.rest.chars().next()?;
        if first == '"' {
            return Some(Token::Quoted(self.enclosed('"')));
        }
        if first == '\'' {
            return Some(Token::Text(self.enclosed('\'')));
        }
        if first == '$'
            && let Some(text) = self.dollar()
        {
            return Some(Token::Text(text));
        }
        if first.is_alphanumeric() || first == '_' {
            let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
            let word = self.rest[..end].to_lowercase();
            self.rest = &self.rest[end..];
            return Some(Token::Word(word));
        }
        self.rest = &self.rest[first.len_utf8()..];
        Some(Token::Mark(first))
    }
}
