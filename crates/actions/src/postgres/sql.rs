//! Looks at the head of a statement: what it makes or changes, and on which object. Not a parser: what it
//! does not know is [`What::Other`], and nothing is lost by that but a name in an error.

use std::iter::Peekable;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::words::{Token, Words};

/// Tokens looked at: the names stand at the head of every statement that matters, after a function's
/// arguments at most.
const TOKENS_MAX: usize = 500;

/// An identifier as SQL, always quoted.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`: names an object in SQL and in the catalog's maps.
pub(super) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quoted(schema), quoted(name))
}

/// A text as an SQL literal.
pub(super) fn literal(text: &str) -> String {
    if text.contains('\\') {
        format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// How a person reads a quoted name: `public.users`. Control characters are shown escaped.
pub(super) fn plain(name: &str) -> String {
    name.replace('"', "")
        .chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

/// The schema of a quoted qualified name, unquoted.
pub(super) fn schema_of(name: &str) -> String {
    let mut words = Words::new(name);
    match words.next() {
        Some(Token::Quoted(schema) | Token::Word(schema)) => schema,
        _ => String::new(),
    }
}

/// The name itself of a quoted qualified name, unquoted.
pub(super) fn name_of(name: &str) -> String {
    match Words::new(name).last() {
        Some(Token::Quoted(own) | Token::Word(own)) => own,
        _ => String::new(),
    }
}

/// What a statement does, as far as a restore wants to know. Names are quoted, with their schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// `SET`, `RESET`, `set_config`: belongs to the session.
    Session { setting: String },
    /// Opens a transaction.
    Begin,
    /// Ends one.
    Commit,
    /// Makes, changes or drops the database itself.
    Database,
    /// Makes an object; `on` is the table of an index, trigger, policy or rule.
    Create {
        #[serde(deserialize_with = "keyword")]
        kind: Keyword,
        name: String,
        on: Option<String>,
    },
    /// `ALTER TABLE … ADD CONSTRAINT`.
    AddConstraint { table: String, name: String },
    /// `ALTER TABLE … VALIDATE CONSTRAINT` of a foreign key to `parent`; made by a restore, not found in a dump.
    Validate { table: String, name: String, parent: String },
    /// `ANALYZE`, or `VACUUM` with it, which cannot be part of a transaction; made by a restore, not found in a dump.
    Analyze { table: String },
    /// `ALTER TABLE … ENABLE ROW LEVEL SECURITY`.
    EnableRls { table: String },
    /// `ALTER … OWNER TO role`.
    Owner { kind: String, name: String, role: String },
    /// Any other `ALTER` or `COMMENT`, `GRANT`, `REVOKE`, `SECURITY LABEL` on an object.
    On {
        #[serde(deserialize_with = "keyword")]
        verb: Keyword,
        kind: String,
        name: String,
    },
    /// `ALTER DEFAULT PRIVILEGES FOR ROLE role`.
    DefaultPrivileges { role: String },
    /// `INSERT INTO`.
    Insert { table: String },
    /// `COPY … FROM`.
    Copy { table: String },
    /// `SELECT setval('sequence', …)`.
    Setval { sequence: String },
    /// `SELECT lo_open`, `lowrite`, `lo_close`, `lo_create` and so on.
    LargeObject,
    /// Anything else.
    Other,
}

/// A word of SQL that this program knows: a kind of object, or a verb.
pub(super) type Keyword = &'static str;

/// Those that [`What`] holds.
const KEYWORDS: [Keyword; 21] = [
    "alter",
    "comment",
    "event trigger",
    "extension",
    "foreign table",
    "function",
    "grant",
    "index",
    "materialized view",
    "policy",
    "publication",
    "refresh",
    "revoke",
    "rule",
    "schema",
    "sequence",
    "subscription",
    "table",
    "trigger",
    "type",
    "view",
];

fn keyword<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Keyword, D::Error> {
    let word = String::deserialize(deserializer)?;
    let known = KEYWORDS.into_iter().find(|known| *known == word);
    known.ok_or_else(|| de::Error::custom(format!("`{}` is no known word", word.escape_debug())))
}

type Cursor<'a> = Peekable<std::iter::Take<Words<'a>>>;

/// Looks at a statement.
pub(super) fn what(sql: &str) -> What {
    let mut at = Words::new(sql).take(TOKENS_MAX).peekable();
    let Some(Token::Word(verb)) = at.next() else { return What::Other };
    match verb.as_str() {
        "set" | "reset" => {
            let _ = word(&mut at, "session") || word(&mut at, "local");
            What::Session { setting: name_part(&mut at).unwrap_or_default() }
        }
        "begin" | "start" => What::Begin,
        "commit" | "end" => What::Commit,
        "create" => create(&mut at),
        "alter" => alter(&mut at),
        "drop" if word(&mut at, "database") => What::Database,
        "comment" | "security" => on(&mut at, "comment"),
        "grant" => on(&mut at, "grant"),
        "revoke" => on(&mut at, "revoke"),
        "insert" => {
            word(&mut at, "into");
            What::Insert { table: name(&mut at) }
        }
        "copy" => What::Copy { table: name(&mut at) },
        "refresh" => {
            word(&mut at, "materialized");
            word(&mut at, "view");
            What::On { verb: "refresh", kind: "materialized view".into(), name: name(&mut at) }
        }
        "select" => select(&mut at),
        _ => What::Other,
    }
}

fn word(at: &mut Cursor<'_>, wanted: &str) -> bool {
    at.next_if(|t| matches!(t, Token::Word(w) if w == wanted)).is_some()
}

fn name_part(at: &mut Cursor<'_>) -> Option<String> {
    match at.next_if(|t| matches!(t, Token::Word(_) | Token::Quoted(_)))? {
        Token::Word(name) | Token::Quoted(name) => Some(name),
        _ => None,
    }
}

/// A name, quoted; one without a schema stays so (`"x"`), for schemas and the like.
fn bare(at: &mut Cursor<'_>) -> String {
    name_part(at).map(|n| quoted(&n)).unwrap_or_default()
}

/// A name with its schema; `public` when it has none.
fn name(at: &mut Cursor<'_>) -> String {
    let Some(first) = name_part(at) else { return String::new() };
    if at.next_if_eq(&Token::Mark('.')).is_some() {
        return qualified(&first, &name_part(at).unwrap_or_default());
    }
    qualified("public", &first)
}

fn if_not_exists(at: &mut Cursor<'_>) {
    if word(at, "if") {
        word(at, "not");
        word(at, "exists");
    }
}

/// Goes on to the word and past it.
fn past(at: &mut Cursor<'_>, wanted: &str) -> bool {
    at.by_ref().any(|t| matches!(t, Token::Word(w) if w == wanted))
}

fn create(at: &mut Cursor<'_>) -> What {
    if word(at, "or") {
        word(at, "replace");
    }
    for skip in [
        "unique",
        "unlogged",
        "global",
        "local",
        "temporary",
        "trusted",
        "procedural",
        "constraint",
        "recursive",
        "default",
    ] {
        word(at, skip);
    }
    let Some(kind) = name_part(at) else { return What::Other };
    let create = |kind, name, on| What::Create { kind, name, on };
    match kind.as_str() {
        "database" => What::Database,
        "schema" => {
            if_not_exists(at);
            create("schema", bare(at), None)
        }
        "extension" => {
            if_not_exists(at);
            create("extension", bare(at), None)
        }
        "publication" => create("publication", bare(at), None),
        "subscription" => create("subscription", bare(at), None),
        "event" => {
            word(at, "trigger");
            create("event trigger", bare(at), None)
        }
        "materialized" => {
            word(at, "view");
            if_not_exists(at);
            create("materialized view", name(at), None)
        }
        "foreign" => match name_part(at).as_deref() {
            Some("table") => {
                if_not_exists(at);
                create("foreign table", name(at), None)
            }
            _ => What::Other,
        },
        "table" | "sequence" | "view" | "type" | "domain" | "function" | "procedure" | "aggregate" => {
            if_not_exists(at);
            let kind = match kind.as_str() {
                "table" => "table",
                "sequence" => "sequence",
                "view" => "view",
                "type" | "domain" => "type",
                _ => "function",
            };
            create(kind, name(at), None)
        }
        "index" => {
            word(at, "concurrently");
            if_not_exists(at);
            let index = name_part(at).unwrap_or_default();
            past(at, "on");
            word(at, "only");
            let table = name(at);
            create("index", qualified(&schema_of(&table), &index), Some(table))
        }
        "trigger" | "policy" | "rule" => {
            let kind = match kind.as_str() {
                "trigger" => "trigger",
                "policy" => "policy",
                _ => "rule",
            };
            let own = bare(at);
            past(at, if kind == "rule" { "to" } else { "on" });
            create(kind, own, Some(name(at)))
        }
        _ => What::Other,
    }
}

fn alter(at: &mut Cursor<'_>) -> What {
    let Some(kind) = kind(at) else { return What::Other };
    if kind == "database" {
        return What::Database;
    }
    if kind == "default" {
        word(at, "privileges");
        let role = if word(at, "for") {
            let _ = word(at, "role") || word(at, "user");
            bare(at)
        } else {
            String::new()
        };
        return What::DefaultPrivileges { role };
    }
    if_not_exists(at);
    word(at, "only");
    let object = if without_schema(&kind) { bare(at) } else { name(at) };
    if kind == "table" {
        if word(at, "add") && word(at, "constraint") {
            return What::AddConstraint { table: object, name: bare(at) };
        }
        if word(at, "enable") && word(at, "row") {
            return What::EnableRls { table: object };
        }
    }
    if past(at, "owner") && word(at, "to") {
        return What::Owner { kind, name: object, role: bare(at) };
    }
    What::On { verb: "alter", kind, name: object }
}

fn without_schema(kind: &str) -> bool {
    matches!(
        kind,
        "schema" | "extension" | "publication" | "subscription" | "event trigger" | "role" | "server"
    )
}

/// `TABLE`, `EVENT TRIGGER`, `MATERIALIZED VIEW` …
fn kind(at: &mut Cursor<'_>) -> Option<String> {
    let first = name_part(at)?;
    Some(match first.as_str() {
        "event" if word(at, "trigger") => "event trigger".into(),
        "materialized" if word(at, "view") => "materialized view".into(),
        "foreign" if word(at, "table") => "foreign table".into(),
        "large" if word(at, "object") => "large object".into(),
        _ => first,
    })
}

fn on(at: &mut Cursor<'_>, verb: &'static str) -> What {
    if !past(at, "on") {
        return What::Other;
    }
    let known = [
        "table",
        "schema",
        "function",
        "procedure",
        "sequence",
        "type",
        "domain",
        "view",
        "index",
        "extension",
        "event",
        "materialized",
        "foreign",
        "large",
        "publication",
        "column",
        "database",
        "trigger",
        "policy",
        "constraint",
        "language",
        "aggregate",
        "rule",
        "all",
    ];
    let kind = match at.peek() {
        Some(Token::Word(w)) if known.contains(&w.as_str()) => kind(at).unwrap_or_default(),
        _ => "table".into(),
    };
    if kind == "database" {
        return What::Database;
    }
    // The trigger's own name is followed by its table; the table says whose it is.
    let name = if matches!(kind.as_str(), "trigger" | "policy" | "constraint" | "rule") {
        past(at, "on");
        name(at)
    } else if kind == "all" {
        past(at, "schema");
        bare(at)
    } else if without_schema(&kind) || kind == "language" {
        bare(at)
    } else {
        name(at)
    };
    What::On { verb, kind, name }
}

fn select(at: &mut Cursor<'_>) -> What {
    if word(at, "pg_catalog") {
        at.next();
    }
    match name_part(at).as_deref() {
        Some("set_config") => {
            at.next();
            let setting = match at.next() {
                Some(Token::Text(setting)) => setting,
                _ => String::new(),
            };
            What::Session { setting }
        }
        Some("setval") => {
            at.next();
            let Some(Token::Text(sequence)) = at.next() else { return What::Other };
            What::Setval { sequence: name(&mut Words::new(&sequence).take(4).peekable()) }
        }
        Some(f) if f.starts_with("lo_") || f == "lowrite" => What::LargeObject,
        _ => What::Other,
    }
}

/// The word by which a statement begins or ends a transaction; going back to a savepoint does neither.
pub(super) fn ends_transaction(sql: &str) -> Option<&'static str> {
    let mut words = Words::new(sql);
    let Some(Token::Word(head)) = words.next() else { return None };
    let second = words.next();
    let is = |wanted: &str| matches!(&second, Some(Token::Word(word)) if word == wanted);
    match head.as_str() {
        "rollback" if is("to") => None,
        "prepare" if !is("transaction") => None,
        _ => ["begin", "start", "commit", "end", "rollback", "abort", "prepare"]
            .into_iter()
            .find(|w| *w == head),
    }
}

/// The name of a statement that PostgreSQL refuses inside a transaction.
pub(super) fn outside_transactions(sql: &str) -> Option<&'static str> {
    let head: Vec<_> = Words::new(sql)
        .take(8)
        .map(|token| match token {
            Token::Word(word) => word,
            _ => String::new(),
        })
        .collect();
    let word = |at: usize| head.get(at).map_or("", String::as_str);
    let concurrently = head.iter().any(|w| w == "concurrently");
    match (word(0), word(1)) {
        ("create" | "drop" | "reindex", _)
            if concurrently && head.iter().any(|w| w == "index" || w == "table" || w == "schema") =>
        {
            Some("INDEX CONCURRENTLY")
        }
        ("create" | "drop", "database") => Some("CREATE or DROP DATABASE"),
        ("create" | "drop", "tablespace") => Some("CREATE or DROP TABLESPACE"),
        ("alter", "system") => Some("ALTER SYSTEM"),
        ("vacuum", _) => Some("VACUUM"),
        ("reindex", "database" | "system") => Some("REINDEX DATABASE"),
        _ => None,
    }
}

/// How many columns a `CREATE TABLE` lists; none when it takes them from elsewhere.
pub(super) fn column_count(create_table: &str) -> Option<usize> {
    let mut depth = 0usize;
    let (mut columns, mut fresh) = (0, false);
    for token in Words::new(create_table) {
        match token {
            Token::Mark('(') => {
                depth += 1;
                fresh = depth == 1;
            }
            Token::Mark(')') if depth == 1 => return Some(columns),
            Token::Mark(')') => depth = depth.saturating_sub(1),
            Token::Mark(',') if depth == 1 => fresh = true,
            Token::Word(w) if depth == 0 && matches!(w.as_str(), "partition" | "of" | "as") => return None,
            Token::Word(w)
                if fresh
                    && depth == 1
                    && matches!(
                        w.as_str(),
                        "constraint" | "primary" | "unique" | "check" | "foreign" | "exclude" | "like"
                    ) =>
            {
                if w == "like" {
                    return None;
                }
                fresh = false;
            }
            Token::Word(_) | Token::Quoted(_) if fresh => {
                columns += 1;
                fresh = false;
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests;
