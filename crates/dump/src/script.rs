//! The SQL of an archive's entries, as `pg_restore -f -` writes it, without comments and rows.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::archive::Entry;

/// Writes the statements of entries one after the other. Remembers the settings that entries share.
#[derive(Debug, Default)]
pub struct Script<'a> {
    large_objects: HashMap<u32, &'a str>,
    tablespace: Option<&'a str>,
    tableam: Option<&'a str>,
    schema: Option<&'a str>,
    /// Archives before 1.13 set the search path for each entry.
    sets_schema: bool,
    without_owner: bool,
}

impl<'a> Script<'a> {
    /// For the entries of one archive.
    pub fn new(toc: &'a [Entry]) -> Self {
        let metadata = toc.iter().filter(|entry| entry.desc == "BLOB METADATA");
        Self {
            large_objects: metadata.map(|entry| (entry.dump_id, entry.defn.as_str())).collect(),
            sets_schema: !toc.iter().any(|entry| entry.desc == "SEARCHPATH"),
            ..Self::default()
        }
    }

    /// Leaves out `ALTER … OWNER TO`.
    #[must_use]
    pub fn without_owner(self) -> Self {
        Self { without_owner: true, ..self }
    }

    /// The settings that pg_restore sends first on every connection.
    pub fn preamble(toc: &[Entry]) -> String {
        let mut sql = String::from(
            "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n",
        );
        for entry in toc.iter().filter(|entry| entry.is_setting()) {
            sql.push_str(entry.defn.trim_ascii());
            sql.push('\n');
        }
        sql.push_str(
            "SET check_function_bodies = false;\nSET xmloption = content;\nSET client_min_messages = warning;\n\
             SET row_security = off;\n",
        );
        sql
    }

    /// The statements of one entry, settings that it needs before them. Empty for an entry that has rows only.
    pub fn entry(&mut self, entry: &'a Entry) -> String {
        let mut sql = String::new();
        if entry.is_setting() {
            return sql;
        }
        self.settings(entry, &mut sql);
        match entry.desc.as_str() {
            "BLOB METADATA" => per_object(&entry.defn, "SELECT pg_catalog.lo_create('", "')", &mut sql),
            "ACL" if entry.tag.starts_with("LARGE OBJECTS") => self.grants(entry, &mut sql),
            _ if !entry.defn.is_empty() => {
                sql.push_str(&entry.defn);
                sql.push_str("\n\n");
            }
            _ => {}
        }
        self.owner(entry, &mut sql);
        if entry.relkind == Some('p')
            && let Some(tableam) = &entry.tableam
        {
            let table = qualified(entry);
            write_line(&mut sql, format_args!("ALTER TABLE {table} SET ACCESS METHOD {};", quoted(tableam)));
        }
        sql
    }

    fn settings(&mut self, entry: &'a Entry, sql: &mut String) {
        if self.sets_schema && self.schema != entry.namespace.as_deref() {
            self.schema = entry.namespace.as_deref();
            if let Some(schema) = self.schema {
                let rest = if schema == "pg_catalog" { "" } else { ", pg_catalog" };
                write_line(sql, format_args!("SET search_path = {}{rest};", quoted(schema)));
            }
        }
        if let Some(want) = entry.tablespace.as_deref()
            && self.tablespace != Some(want)
        {
            self.tablespace = Some(want);
            let name = if want.is_empty() { "''".to_owned() } else { quoted(want) };
            write_line(sql, format_args!("SET default_tablespace = {name};"));
        }
        if let Some(want) = entry.tableam.as_deref()
            && entry.relkind != Some('p')
            && self.tableam != Some(want)
        {
            self.tableam = Some(want);
            write_line(sql, format_args!("SET default_table_access_method = {};", quoted(want)));
        }
    }

    fn owner(&self, entry: &Entry, sql: &mut String) {
        if self.without_owner || entry.owner.is_empty() || entry.drop.is_empty() {
            return;
        }
        let owner = quoted(&entry.owner);
        if entry.desc == "BLOB METADATA" {
            per_object(&entry.defn, "ALTER LARGE OBJECT ", &format!(" OWNER TO {owner}"), sql);
        } else if let Some(object) = owned_object(entry) {
            write_line(sql, format_args!("ALTER {object} OWNER TO {owner};"));
        }
    }

    /// Grants on several large objects are written for one of them; here they are written for each.
    fn grants(&self, entry: &Entry, sql: &mut String) {
        let objects = entry.dependencies.iter().find_map(|id| self.large_objects.get(id));
        let mut rest = entry.defn.as_str();
        while let Some(end) = outside_quotes(rest, ";") {
            let statement = rest[..end].trim_ascii_start();
            rest = &rest[end + 1..];
            let mark = "LARGE OBJECT ";
            match (outside_quotes(statement, mark), objects) {
                (Some(at), Some(objects)) => {
                    let (before, after) = statement.split_at(at + mark.len());
                    per_object(objects, before, after.trim_start_matches(|c: char| c.is_ascii_digit()), sql);
                }
                _ => write_line(sql, format_args!("{statement};")),
            }
        }
    }
}

/// Where `wanted` stands outside of double quotes.
fn outside_quotes(text: &str, wanted: &str) -> Option<usize> {
    let mut quoted = false;
    text.char_indices().find_map(|(at, c)| {
        quoted ^= c == '"';
        (!quoted && text[at..].starts_with(wanted)).then_some(at)
    })
}

fn per_object(oids: &str, before: &str, after: &str, sql: &mut String) {
    for oid in oids.lines() {
        for part in [before, oid, after, ";\n"] {
            sql.push_str(part);
        }
    }
    sql.push('\n');
}

/// What stands between `ALTER` and `OWNER TO` (facts: `_getObjectDescription` of pg_backup_archiver.c).
fn owned_object(entry: &Entry) -> Option<String> {
    match entry.desc.as_str() {
        "COLLATION"
        | "CONVERSION"
        | "DOMAIN"
        | "FOREIGN TABLE"
        | "MATERIALIZED VIEW"
        | "SEQUENCE"
        | "STATISTICS"
        | "TABLE"
        | "TEXT SEARCH DICTIONARY"
        | "TEXT SEARCH CONFIGURATION"
        | "TYPE"
        | "VIEW"
        | "DATABASE"
        | "PROCEDURAL LANGUAGE"
        | "SCHEMA"
        | "EVENT TRIGGER"
        | "FOREIGN DATA WRAPPER"
        | "SERVER"
        | "PUBLICATION"
        | "SUBSCRIPTION" => Some(format!("{} {}", entry.desc, qualified(entry))),
        "BLOB" => Some(format!("LARGE OBJECT {}", entry.tag)),
        "AGGREGATE" | "FUNCTION" | "OPERATOR" | "OPERATOR CLASS" | "OPERATOR FAMILY" | "PROCEDURE" => {
            let object = entry.drop.strip_prefix("DROP ")?;
            Some(object.trim_end_matches(['\n', ';']).to_owned())
        }
        _ => None,
    }
}

fn qualified(entry: &Entry) -> String {
    let schema = entry.namespace.as_deref().map(|schema| format!("{}.", quoted(schema)));
    format!("{}{}", schema.unwrap_or_default(), quoted(&entry.tag))
}

/// Always quotes: whether a word is reserved depends on the server's version.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn write_line(sql: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = sql.write_fmt(line);
    sql.push_str("\n\n");
}
