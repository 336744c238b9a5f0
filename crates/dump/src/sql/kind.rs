//! Judges a statement by its first words. A hint for planning: it never decides where a statement ends.

/// What a statement is, as far as its first words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// `SET …` and `RESET …`.
    Set,
    /// `SELECT pg_catalog.set_config(…)`.
    SetConfig,
    /// `SELECT pg_catalog.setval(…)`: belongs to the data.
    SetSequence,
    /// `SELECT pg_catalog.lo_…`: must run in order on one connection.
    LargeObject,
    /// `INSERT …` of an `--inserts` dump.
    Insert,
    /// `BEGIN`, `COMMIT` and the like.
    Transaction,
    /// `CREATE SCHEMA`.
    CreateSchema,
    /// `CREATE EXTENSION`.
    CreateExtension,
    /// `CREATE TABLE`, also unlogged and foreign.
    CreateTable,
    /// `CREATE SEQUENCE`.
    CreateSequence,
    /// `CREATE FUNCTION`, `PROCEDURE`, `AGGREGATE`.
    CreateFunction,
    /// `CREATE VIEW` and `CREATE MATERIALIZED VIEW`.
    CreateView,
    /// `CREATE [UNIQUE] INDEX`.
    CreateIndex,
    /// `CREATE TRIGGER`, constraint triggers too.
    CreateTrigger,
    /// `CREATE EVENT TRIGGER`.
    CreateEventTrigger,
    /// `CREATE POLICY`.
    CreatePolicy,
    /// `CREATE PUBLICATION` or `CREATE SUBSCRIPTION`.
    CreateReplication,
    /// Any other `CREATE`.
    CreateOther,
    /// `ALTER … OWNER TO`.
    Owner,
    /// `ALTER TABLE … ADD CONSTRAINT … FOREIGN KEY`.
    ForeignKey,
    /// `ALTER TABLE … ADD CONSTRAINT`, all others.
    Constraint,
    /// `ALTER TABLE … ENABLE | FORCE ROW LEVEL SECURITY`.
    RowSecurity,
    /// `GRANT`, `REVOKE`, `ALTER DEFAULT PRIVILEGES`.
    Grant,
    /// Any other `ALTER`.
    AlterOther,
    /// `COMMENT ON` and `SECURITY LABEL`.
    Comment,
    /// `REFRESH MATERIALIZED VIEW`.
    Refresh,
    /// Anything else.
    Other,
}

impl Kind {
    /// Judges a statement that begins with its first word.
    pub fn of(sql: &str) -> Self {
        let mut words = sql.split_ascii_whitespace();
        let mut next = || words.next().unwrap_or_default().trim_end_matches(';').to_ascii_uppercase();
        match next().as_str() {
            "SET" | "RESET" => Self::Set,
            "SELECT" => select(&next()),
            "INSERT" => Self::Insert,
            "BEGIN" | "COMMIT" | "START" | "END" | "ROLLBACK" => Self::Transaction,
            "CREATE" => create(next),
            "ALTER" => alter(sql, &next()),
            "GRANT" | "REVOKE" => Self::Grant,
            "COMMENT" | "SECURITY" => Self::Comment,
            "REFRESH" => Self::Refresh,
            _ => Self::Other,
        }
    }
}

fn select(word: &str) -> Kind {
    let call = word.strip_prefix("PG_CATALOG.").unwrap_or(word);
    if call.starts_with("SET_CONFIG(") {
        Kind::SetConfig
    } else if call.starts_with("SETVAL(") {
        Kind::SetSequence
    } else if call.starts_with("LO_") || call.starts_with("LOWRITE(") {
        Kind::LargeObject
    } else {
        Kind::Other
    }
}

fn create(mut next: impl FnMut() -> String) -> Kind {
    loop {
        return match next().as_str() {
            "OR" | "REPLACE" | "UNLOGGED" | "UNIQUE" | "CONSTRAINT" | "RECURSIVE" | "MATERIALIZED"
            | "FOREIGN" => continue,
            "SCHEMA" => Kind::CreateSchema,
            "EXTENSION" => Kind::CreateExtension,
            "TABLE" => Kind::CreateTable,
            "SEQUENCE" => Kind::CreateSequence,
            "FUNCTION" | "PROCEDURE" | "AGGREGATE" => Kind::CreateFunction,
            "VIEW" => Kind::CreateView,
            "INDEX" => Kind::CreateIndex,
            "TRIGGER" => Kind::CreateTrigger,
            "EVENT" => Kind::CreateEventTrigger,
            "POLICY" => Kind::CreatePolicy,
            "PUBLICATION" | "SUBSCRIPTION" => Kind::CreateReplication,
            _ => Kind::CreateOther,
        };
    }
}

fn alter(sql: &str, object: &str) -> Kind {
    // The tail settles most: an ALTER that pg_dump writes is short, a CHECK may be long.
    let tail = sql.trim_ascii_end().trim_end_matches(';');
    let tail = tail.get(tail.len().saturating_sub(256)..).unwrap_or(tail);
    if object == "DEFAULT" {
        Kind::Grant
    } else if tail.contains(" OWNER TO ") {
        Kind::Owner
    } else if object == "TABLE" && tail.ends_with(" ROW LEVEL SECURITY") {
        Kind::RowSecurity
    } else if object == "TABLE" && sql.contains("ADD CONSTRAINT ") {
        if sql.contains(" FOREIGN KEY (") { Kind::ForeignKey } else { Kind::Constraint }
    } else {
        Kind::AlterOther
    }
}
