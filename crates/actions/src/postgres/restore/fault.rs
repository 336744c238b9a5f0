//! Why a restore stops, and what a statement is called when it does. Words only.

use runbook_core::action::{ActionError, Aftermath};
use runbook_dump::DumpError;

use crate::postgres::sql::{What, plain};
use crate::s3::Failure;

use super::batch::Line;

/// Why loading stopped.
#[derive(Debug)]
pub(super) struct Stopped {
    pub(super) error: ActionError,
    /// The dump is at fault: what was loaded must go.
    pub(super) spoiled: bool,
}

impl From<ActionError> for Stopped {
    fn from(error: ActionError) -> Self {
        Self { error, spoiled: false }
    }
}

/// What a dump that cannot be read means: the source failed (`failure`), the object changed, or the dump is bad.
pub(super) fn dump_fault(failure: Option<Failure>, error: DumpError) -> Stopped {
    match failure {
        Some(Failure::Changed) => {
            let error = ActionError::refused("read the dump: the object changed while it was read");
            return Stopped { error: error.code("object-changed"), spoiled: true };
        }
        Some(failure @ (Failure::Broken(_) | Failure::Cancelled)) => {
            return ActionError::unchanged("read the dump to its end").because(failure).into();
        }
        None => {}
    }
    let code = match &error {
        DumpError::CutOff { .. } => "cut-off",
        DumpError::MetaCommand { .. } | DumpError::Restrict { .. } => "meta-command",
        _ => "dump-malformed",
    };
    let attempted = error.to_string();
    let mut made = ActionError::refused(attempted).code(code);
    made.source = std::error::Error::source(&error).map(|cause| cause.to_string().into());
    Stopped { error: made, spoiled: true }
}

/// The dump and the rules do not fit: what was loaded must go.
pub(super) fn spoiled(error: ActionError) -> Stopped {
    // A thing that may pass is tried again on what is there.
    let spoiled = error.aftermath == Aftermath::Refused;
    Stopped { error, spoiled }
}

pub(super) fn collision(error: ActionError) -> ActionError {
    error.code("mask-collision").hint(
        "Two masked values of a unique column are the same. Give it a pseudonym (`text` where another format is too \
         narrow) and no constant; two spellings of one address count as the same address.",
    )
}

/// `SET client_encoding = 'UTF8'`
pub(super) fn is_utf8(sql: &str) -> bool {
    let sql = sql.to_ascii_lowercase();
    sql.contains("utf8") || sql.contains("utf-8") || sql.contains("unicode")
}

/// Whether the server's words may quote a value: complaints about data do.
pub(super) fn may_quote(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| said.code().code().starts_with("22"))
}

/// The complaint about masked rows, without the server's words.
pub(super) fn withheld(table: &str, error: &tokio_postgres::Error) -> ActionError {
    let code = error.as_db_error().map(|said| said.code().code().to_owned()).unwrap_or_default();
    ActionError::refused(format!(
        "restore masked rows of {}: the database refuses a value (SQLSTATE {code}; its words may quote the value)",
        plain(table)
    ))
    .code("statement-failed")
    .hint("Look at the table's rules: does each column take what its rule gives?")
}

/// `COPY users, line 17, column a: …` says 17.
pub(super) fn line_of(context: &str) -> Option<u64> {
    let rest = &context[context.find(", line ")? + 7..];
    rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())].parse().ok()
}

/// What a statement is about, for people.
pub(super) fn object(line: &Line) -> String {
    if let Some(object) = &line.object {
        return object.clone();
    }
    match &line.what {
        What::Create { kind, name, on: Some(table) } => format!("{kind} {} on {}", plain(name), plain(table)),
        What::Create { kind, name, .. } => format!("{kind} {}", plain(name)),
        What::AddConstraint { table, name } => format!("constraint {} on {}", plain(name), plain(table)),
        What::Analyze { table } => format!("the statistics of {}", plain(table)),
        What::Validate { table, name, .. } => format!("constraint {} on {}", plain(name), plain(table)),
        What::EnableRls { table } => format!("row-level security of {}", plain(table)),
        What::Owner { kind, name, role } => format!("owner {} of {kind} {}", plain(role), plain(name)),
        What::On { verb, kind, name } => format!("{verb} on {kind} {}", plain(name)),
        What::DefaultPrivileges { role } => format!("default privileges of {}", plain(role)),
        What::Session { setting } => format!("setting {setting}"),
        What::Insert { table } | What::Copy { table } => format!("rows of {}", plain(table)),
        What::Setval { sequence } => format!("value of sequence {}", plain(sequence)),
        What::Database => "the database itself".into(),
        What::LargeObject => "a large object".into(),
        What::Begin | What::Commit | What::Other => {
            let head: String = line.sql.chars().take(60).collect();
            format!("`{}`", plain(&head))
        }
    }
}

pub(super) fn place(line: &Line) -> String {
    if line.line > 0 { format!("{} (line {} of the dump)", object(line), line.line) } else { object(line) }
}
