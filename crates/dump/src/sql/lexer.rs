//! Finds where a statement ends, as psql does (facts: src/fe_utils/psqlscan.l). Sees bytes in pieces and never goes back.

/// What the lexer met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The bytes given so far do not end the statement.
    More,
    /// Inside the lexer only: go on with the next token.
    Go,
    /// The statement is this many bytes long, `;` included.
    End(usize),
    /// A backslash outside of every literal, at this byte.
    Backslash(usize),
    /// CR LF outside of every literal, at this byte.
    CarriageReturn(usize),
    /// A dollar quote's tag longer than [`TAG_MAX`], at this byte.
    LongTag(usize),
}

/// pg_dump's tags have a few bytes; one that never ends must not be scanned again with every refill.
const TAG_MAX: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    /// `''` is the only escape.
    Plain,
    /// A backslash escapes too.
    Escape,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Normal,
    Word { start: usize },
    Number,
    Literal(Quote),
    Identifier,
    Dollar,
    LineComment,
    BlockComment { depth: u32 },
}

/// The state of one statement. `scan` is called with all bytes of the statement so far, again and again as they grow.
#[derive(Debug, Clone)]
pub(crate) struct Lexer {
    at: usize,
    state: State,
    parens: u32,
    tag: Vec<u8>,
    /// The string literal that ended last, and whether a line end followed: then a quote continues it, escapes and all.
    ended: Option<Quote>,
    newline: bool,
    body: Body,
    standard_strings: bool,
}

/// `BEGIN ATOMIC … END` in a CREATE FUNCTION or PROCEDURE holds semicolons that end nothing.
#[derive(Debug, Clone, Default)]
struct Body {
    words: u32,
    head: [u8; 4],
    begin: bool,
    depth: u32,
}

impl Body {
    fn word(&mut self, word: &[u8], parens: u32) {
        let is = |keyword: &str| word.eq_ignore_ascii_case(keyword.as_bytes());
        if self.words < 4 {
            let known = ["create", "function", "procedure", "or", "replace"].into_iter().find(|k| is(k));
            self.head[self.words as usize] = known.map_or(0, |k| k.as_bytes()[0]);
        }
        self.words = self.words.saturating_add(1);
        let routine = matches!(self.head, [b'c', b'f' | b'p', ..] | [b'c', b'o', b'r', b'f' | b'p']);
        if !routine || parens > 0 {
            return;
        }
        // psql counts every BEGIN, and so loses itself in a function that is named `begin`; a body always has ATOMIC.
        if self.depth == 0 {
            self.depth = u32::from(self.begin && is("atomic"));
        } else if is("case") {
            self.depth += 1;
        } else if is("end") {
            self.depth -= 1;
        }
        self.begin = is("begin");
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn goes_on_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

impl Lexer {
    pub(crate) fn new(standard_strings: bool) -> Self {
        Self {
            at: 0,
            state: State::Normal,
            parens: 0,
            tag: Vec::new(),
            ended: None,
            newline: false,
            body: Body::default(),
            standard_strings,
        }
    }

    /// What is open now, for the message about a dump that ends here.
    pub(crate) fn open(&self) -> &'static str {
        match self.state {
            State::Literal(_) => "inside a string literal",
            State::Identifier => "inside a quoted identifier",
            State::Dollar => "inside a dollar-quoted string",
            State::LineComment | State::BlockComment { .. } => "inside a comment",
            State::Normal | State::Word { .. } | State::Number => "inside a statement",
        }
    }

    /// Looks at the bytes it has not seen yet. `last` says that no more will come.
    pub(crate) fn scan(&mut self, bytes: &[u8], last: bool) -> Step {
        while self.at < bytes.len() {
            let step = match self.state {
                State::Normal => self.normal(bytes, last),
                State::Word { start } => self.word(bytes, start, last),
                State::Number => self.number(bytes),
                State::Literal(quote) => self.literal(bytes, quote, last),
                State::Identifier => self.identifier(bytes, last),
                State::Dollar => self.dollar(bytes),
                State::LineComment => self.line_comment(bytes),
                State::BlockComment { depth } => self.block_comment(bytes, depth, last),
            };
            if step != Step::Go {
                return step;
            }
        }
        Step::More
    }

    /// One token of ordinary text; stays where it is when it must see the byte after.
    fn normal(&mut self, bytes: &[u8], last: bool) -> Step {
        let byte = bytes[self.at];
        let next = bytes.get(self.at + 1).copied();
        if next.is_none() && !last && matches!(byte, b'\r' | b'-' | b'/' | b'$') {
            return Step::More;
        }
        match (byte, next) {
            (b'\r', Some(b'\n')) => return Step::CarriageReturn(self.at),
            (b'\n' | b'\r', _) => self.newline = true,
            (b' ' | b'\t' | 0x0b | 0x0c, _) => {}
            (b'-', Some(b'-')) => return self.enter(State::LineComment, 2),
            (b'/', Some(b'*')) => {
                self.ended = None;
                return self.enter(State::BlockComment { depth: 1 }, 2);
            }
            (b'\'', _) => {
                let default = if self.standard_strings { Quote::Plain } else { Quote::Escape };
                let quote = self.ended.take().filter(|_| self.newline).unwrap_or(default);
                return self.enter(State::Literal(quote), 1);
            }
            _ => {
                self.ended = None;
                return self.token(bytes, last);
            }
        }
        self.at += 1;
        Step::Go
    }

    /// A token that is neither space, comment nor plain literal.
    fn token(&mut self, bytes: &[u8], last: bool) -> Step {
        let byte = bytes[self.at];
        match byte {
            b'"' => return self.enter(State::Identifier, 1),
            b'$' => return self.open_dollar(bytes, last),
            b'\\' => return Step::Backslash(self.at),
            b'(' => self.parens = self.parens.saturating_add(1),
            b')' => self.parens = self.parens.saturating_sub(1),
            b';' if self.parens == 0 && self.body.depth == 0 => return Step::End(self.at + 1),
            _ if byte.is_ascii_digit() => return self.enter(State::Number, 1),
            _ if begins_word(byte) => return self.enter(State::Word { start: self.at }, 0),
            _ => {}
        }
        self.at += 1;
        Step::Go
    }

    fn enter(&mut self, state: State, skip: usize) -> Step {
        self.state = state;
        self.at += skip;
        Step::Go
    }

    fn leave(&mut self, skip: usize) -> Step {
        self.enter(State::Normal, skip)
    }

    fn word(&mut self, bytes: &[u8], start: usize, last: bool) -> Step {
        let rest = &bytes[self.at..];
        let Some(len) = rest.iter().position(|b| !goes_on_word(*b)) else {
            self.at = bytes.len();
            return Step::More;
        };
        self.at += len;
        let word = &bytes[start..self.at];
        if let [letter] = word {
            let after = &bytes[self.at..];
            match (letter.to_ascii_lowercase(), after) {
                (b'e', [b'\'', ..]) => return self.enter(State::Literal(Quote::Escape), 1),
                (b'b' | b'x', [b'\'', ..]) => return self.enter(State::Literal(Quote::Plain), 1),
                (b'u', [b'&']) if !last => {
                    // The byte after decides; the word is begun again when it is there.
                    self.at = start;
                    self.state = State::Normal;
                    return Step::More;
                }
                (b'u', [b'&', b'\'', ..]) => return self.enter(State::Literal(Quote::Plain), 2),
                (b'u', [b'&', b'"', ..]) => return self.enter(State::Identifier, 2),
                _ => {}
            }
        }
        self.body.word(word, self.parens);
        self.leave(0)
    }

    /// Digits; letters straight after them are no word of their own, but a `$` opens a dollar quote.
    fn number(&mut self, bytes: &[u8]) -> Step {
        match bytes[self.at..].iter().position(|b| !b.is_ascii_digit()) {
            None => self.at = bytes.len(),
            Some(len) => {
                self.at += len;
                let is_word = begins_word(bytes[self.at]);
                // The word begins at a digit's place, so that no prefix or keyword is seen in it.
                self.state = if is_word { State::Word { start: self.at - 1 } } else { State::Normal };
            }
        }
        Step::Go
    }

    fn literal(&mut self, bytes: &[u8], quote: Quote, last: bool) -> Step {
        let rest = &bytes[self.at..];
        let found = match quote {
            Quote::Plain => memchr::memchr(b'\'', rest),
            Quote::Escape => memchr::memchr2(b'\'', b'\\', rest),
        };
        let Some(at) = found else {
            self.at = bytes.len();
            return Step::More;
        };
        self.at += at;
        match (bytes[self.at], bytes.get(self.at + 1)) {
            (_, None) if !last => Step::More,
            (b'\\', _) => self.skip(2, bytes),
            (_, Some(b'\'')) => self.skip(2, bytes),
            _ => {
                (self.ended, self.newline) = (Some(quote), false);
                self.leave(1)
            }
        }
    }

    fn skip(&mut self, n: usize, bytes: &[u8]) -> Step {
        self.at = (self.at + n).min(bytes.len());
        Step::Go
    }

    fn identifier(&mut self, bytes: &[u8], last: bool) -> Step {
        let Some(at) = memchr::memchr(b'"', &bytes[self.at..]) else {
            self.at = bytes.len();
            return Step::More;
        };
        self.at += at;
        match bytes.get(self.at + 1) {
            None if !last => Step::More,
            Some(b'"') => self.skip(2, bytes),
            _ => {
                // A quoted name counts as a word, so that `CREATE "function"` is none.
                self.body.word(b"\"", self.parens);
                self.leave(1)
            }
        }
    }

    /// At a `$`: a quote's tag, or a parameter, or nothing.
    fn open_dollar(&mut self, bytes: &[u8], last: bool) -> Step {
        let rest = &bytes[self.at + 1..];
        let len = rest.iter().position(|b| *b == b'$' || !goes_on_word(*b));
        match len {
            Some(len) if rest[len] == b'$' && !rest[0].is_ascii_digit() => {
                self.tag = bytes[self.at..self.at + len + 2].to_vec();
                self.enter(State::Dollar, len + 2)
            }
            None if rest.len() > TAG_MAX => Step::LongTag(self.at),
            None if !last => Step::More,
            _ => {
                self.at += 1;
                Step::Go
            }
        }
    }

    fn dollar(&mut self, bytes: &[u8]) -> Step {
        let Some(at) = memchr::memmem::find(&bytes[self.at..], &self.tag) else {
            // The tag may be cut in two by the end of what is here.
            self.at = self.at.max((bytes.len() + 1).saturating_sub(self.tag.len()));
            return Step::More;
        };
        self.leave(at + self.tag.len())
    }

    fn line_comment(&mut self, bytes: &[u8]) -> Step {
        match memchr::memchr2(b'\n', b'\r', &bytes[self.at..]) {
            None => self.at = bytes.len(),
            Some(at) => return self.leave(at),
        }
        Step::More
    }

    fn block_comment(&mut self, bytes: &[u8], depth: u32, last: bool) -> Step {
        let Some(at) = memchr::memchr2(b'*', b'/', &bytes[self.at..]) else {
            self.at = bytes.len();
            return Step::More;
        };
        self.at += at;
        match (bytes[self.at], bytes.get(self.at + 1)) {
            (_, None) if !last => Step::More,
            (b'*', Some(b'/')) if depth == 1 => self.leave(2),
            (b'*', Some(b'/')) => self.enter(State::BlockComment { depth: depth - 1 }, 2),
            (b'/', Some(b'*')) => self.enter(State::BlockComment { depth: depth.saturating_add(1) }, 2),
            _ => self.skip(1, bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first statement ends, fed whole and fed byte by byte.
    fn end_of(sql: &str, standard_strings: bool) -> Step {
        let mut lexer = Lexer::new(standard_strings);
        let whole = lexer.scan(sql.as_bytes(), true);
        let mut lexer = Lexer::new(standard_strings);
        let mut parts = Step::More;
        for len in 1..=sql.len() {
            parts = lexer.scan(&sql.as_bytes()[..len], len == sql.len());
            if parts != Step::More {
                break;
            }
        }
        assert_eq!(whole, parts, "{sql}");
        whole
    }

    /// In each, `;!` marks the one semicolon that ends the statement.
    #[test]
    fn a_semicolon_inside_anything_ends_nothing() {
        for sql in [
            r"SELECT ';';!",
            r"SELECT ''';';!",
            r"SELECT '\';!';",
            r"SELECT E'\';';!",
            "SELECT E'a'\n'\\';';!",
            "SELECT E'a' -- x\n  '\\';';!",
            r"SELECT E'a' '\';!';",
            "SELECT 'a'\n'\\';!';",
            r"SELECT foo_e'\';!",
            r"SELECT U&'\';!",
            r#"SELECT u&"\";!";"#,
            r"SELECT B'\', x'\', N'\';!",
            r#"SELECT "a;b""c;";!"#,
            r"SELECT $$;$$;!",
            r"SELECT $a$;$$;$b$;$a$;!",
            r"SELECT $a$ $b$a$;!",
            "SELECT $\u{e9}$;$\u{e9}$;!",
            r"SELECT foo$a$;!$a$;",
            r"SELECT 1$a$;$a$;!",
            r"SELECT $1;!$1;",
            r"SELECT $a;!$a$",
            "SELECT 1 -- ;\n;!",
            r"SELECT 1 /* ; /* ; */ ; */;!",
            "SELECT 1 +-- ;\n 2;!",
            r"SELECT 1 */* ; */ 2;!",
            r"SELECT (1;2);!",
            r"CREATE RULE r AS ON INSERT TO t DO (INSERT INTO u VALUES (1); DELETE FROM u;);!",
            r"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END;!",
            r"create or replace procedure p() begin atomic select 1; end;!",
            r"CREATE FUNCTION f(a int DEFAULT CASE 1 END) BEGIN ATOMIC SELECT (CASE 1 WHEN 1 THEN 2 END); END;!",
            r"CREATE FUNCTION begin() RETURNS int LANGUAGE sql RETURN 1;!",
            r"CREATE FUNCTION f() BEGIN ATOMIC SELECT begin FROM t; END;!",
            r"BEGIN;!",
            r"CREATE TABLE atomic (begin int);!",
            r"CREATE VIEW v AS SELECT CASE WHEN a THEN 1 END;!",
        ] {
            let end = sql.find(";!").expect("a mark") + 1;
            assert_eq!(end_of(sql, true), Step::End(end), "{sql}");
        }
    }

    #[test]
    fn a_backslash_escapes_in_plain_literals_when_standard_strings_are_off() {
        for sql in [r"SELECT '\';';!", "SELECT U&'\\';!';", "SELECT B'a'\n'\\';!'", "SELECT 'a'\n'\\';';!"] {
            let end = sql.find(";!").expect("a mark") + 1;
            assert_eq!(end_of(sql, false), Step::End(end), "{sql}");
        }
    }

    #[test]
    fn a_backslash_outside_of_literals_is_reported() {
        assert_eq!(end_of("SELECT 1 \\gexec\n;", true), Step::Backslash(9));
        assert_eq!(end_of("SELECT (\n\\! touch pwned\n);", true), Step::Backslash(9));
        assert_eq!(end_of("CREATE FUNCTION f() BEGIN ATOMIC \\! x\n END;", true), Step::Backslash(33));
    }

    #[test]
    fn what_is_open_at_the_end_is_named() {
        for (sql, open) in [
            ("SELECT 'a", "inside a string literal"),
            ("SELECT \"a", "inside a quoted identifier"),
            ("SELECT $x$ $", "inside a dollar-quoted string"),
            ("SELECT /* /* */", "inside a comment"),
            ("SELECT (1;", "inside a statement"),
            ("CREATE FUNCTION f() BEGIN ATOMIC SELECT 1;", "inside a statement"),
        ] {
            let mut lexer = Lexer::new(true);
            assert_eq!(lexer.scan(sql.as_bytes(), true), Step::More);
            assert_eq!(lexer.open(), open);
        }
    }

    #[test]
    fn a_tag_without_end_is_not_scanned_for_ever() {
        let sql = format!("SELECT ${}", "a".repeat(2000));
        assert_eq!(Lexer::new(true).scan(sql.as_bytes(), false), Step::LongTag(7));
    }
}
