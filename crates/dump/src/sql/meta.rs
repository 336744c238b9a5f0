//! The psql commands in a dump: three are understood, none is executed.

/// As much of a refused command as a message shows.
pub(crate) const NAME_MAX: usize = 24;

/// A command that pg_dump writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Connect(String),
    Restrict(String),
    Unrestrict(String),
}

/// Reads one line, from its backslash on and without its line end. None for everything else, also for a known command
/// with arguments that pg_dump would not write (psql executes backquotes in them).
pub(crate) fn parse(line: &[u8]) -> Option<Command> {
    let line = std::str::from_utf8(line).ok()?;
    let (command, argument) = line.split_once(' ')?;
    let argument = argument.trim_ascii();
    match command {
        "\\restrict" => key(argument).map(Command::Restrict),
        "\\unrestrict" => key(argument).map(Command::Unrestrict),
        "\\connect" => database(argument).map(Command::Connect),
        _ => None,
    }
}

fn key(argument: &str) -> Option<String> {
    let well_formed = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_alphanumeric());
    well_formed.then(|| argument.to_owned())
}

/// `name`, `"Name"`, or `-reuse-previous=on "dbname='any name'"`.
fn database(argument: &str) -> Option<String> {
    if let Some(connection) = argument.strip_prefix("-reuse-previous=on ") {
        let value = unquote(connection.trim_ascii_start(), '"')?;
        return connection_value(value.strip_prefix("dbname=")?);
    }
    if argument.starts_with('"') {
        return unquote(argument, '"').filter(|name| !name.is_empty());
    }
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    (!argument.is_empty() && argument.bytes().all(bare)).then(|| argument.to_owned())
}

/// Takes the quotes off, if they enclose all of it.
fn unquote(text: &str, quote: char) -> Option<String> {
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let doubled = format!("{quote}{quote}");
    let single = inner.replace(&doubled, "\u{0}");
    (!single.contains(quote)).then(|| single.replace('\u{0}', &quote.to_string()))
}

/// A value of a libpq connection string: `'…'` with `\'` and `\\`, or a bare word.
fn connection_value(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\'')) else {
        let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        return bare.then(|| text.to_owned());
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?),
            '\'' => return None,
            _ => value.push(c),
        }
    }
    (!value.is_empty()).then_some(value)
}

/// Whether this is the beginning of one of the three, as a cut leaves it.
pub(crate) fn may_be_cut(line: &[u8]) -> bool {
    ["\\connect ", "\\restrict ", "\\unrestrict "]
        .iter()
        .any(|known| known.as_bytes().starts_with(line) || line.starts_with(known.as_bytes()))
}

/// The command's name for a message: short, printable, without its arguments.
pub(crate) fn display_name(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(NAME_MAX)];
    if bytes.starts_with(b"\\!") {
        return "\\!".to_owned();
    }
    let name = bytes[1..].split(|b| b.is_ascii_whitespace() || *b == b'\\').next().unwrap_or_default();
    format!("\\{}", name.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_commands_are_understood_as_pg_dump_writes_them() {
        assert_eq!(parse(b"\\restrict aB3"), Some(Command::Restrict("aB3".into())));
        assert_eq!(parse(b"\\unrestrict aB3"), Some(Command::Unrestrict("aB3".into())));
        for (argument, name) in [
            ("plain.name_1", "plain.name_1"),
            (r#""Upper""#, "Upper"),
            (r#"-reuse-previous=on "dbname='a b'""#, "a b"),
            (r#"-reuse-previous=on "dbname='it\'s a ""test"" \\'""#, r#"it's a "test" \"#),
            (r#"-reuse-previous=on "dbname=a-b""#, "a-b"),
        ] {
            let line = format!("\\connect {argument}");
            assert_eq!(parse(line.as_bytes()), Some(Command::Connect(name.into())), "{line}");
        }
    }

    #[test]
    fn anything_that_psql_would_execute_is_not_understood() {
        for line in [
            r"\! touch pwned",
            r"\unrestrict `touch pwned`",
            r"\unrestrict key`touch pwned`",
            r"\connect `touch pwned`",
            r"\connect a b",
            r#"\connect -reuse-previous=on "dbname='x' host=evil""#,
            r#"\connect -reuse-previous=on "dbname=x host=evil""#,
            r#"\connect "a"`touch pwned`"b""#,
            r"\connect",
            r"\copy t from program 'touch pwned'",
            r"\i other.sql",
            r"\gexec",
            r"\restrict a\! touch pwned",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_refused_command_is_named_without_its_arguments() {
        assert_eq!(display_name(b"\\!touch pwned\n"), r"\!");
        assert_eq!(display_name(b"\\copy t from x"), r"\copy");
        assert_eq!(display_name(b"\\\x1b[31m x"), r"\\x1b[31m");
    }
}
