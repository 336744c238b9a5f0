//! What pg_dump says on standard error, made into an error that tells what to do. Text in, error out.

use runbook_core::action::ActionError;

/// Lines that are kept of a failure.
const LINES_MAX: usize = 6;
/// Warnings that are kept of a success.
const WARNINGS_MAX: usize = 20;

/// What a failed pg_dump means.
pub(super) fn failure(label: &str, status: &str, said: &str) -> ActionError {
    let attempted = format!("dump `{label}`: pg_dump ended with {status}");
    let has = |needle: &str| said.contains(needle);
    // `--lock-wait-timeout` is a statement timeout while pg_dump locks its tables.
    let waited = has("statement timeout") && has("LOCK TABLE");
    let made = if has("server version mismatch") {
        ActionError::refused(attempted).code("no-pg-dump").hint(
            "This pg_dump is older than the server. Install one of the server's version, or set RUNBOOK_PG_BIN.",
        )
    } else if has("row-level security policy") {
        ActionError::refused(attempted).code("not-permitted").hint(
            "The role may not see all rows. Dump as the owner of the tables, or as a role with BYPASSRLS.",
        )
    } else if has("permission denied") || has("must be owner") {
        ActionError::refused(attempted).code("not-permitted").hint(
            "Give the role the right to read what is named below (`pg_read_all_data`), or leave its schema out \
             with `exclude_schemas`.",
        )
    } else if has("password authentication failed") || has("no pg_hba.conf entry") {
        ActionError::refused(attempted)
            .code("not-permitted")
            .hint("Look at user and password of the connection in the environment file.")
    } else if has("certificate") {
        ActionError::refused(attempted)
            .hint("Name the authority's certificate as the connection's `ca`, or in PGSSLROOTCERT.")
    } else if waited || has("lock timeout") || has("could not obtain lock") {
        ActionError::unchanged(attempted).code("locked").hint(
            "Somebody holds a lock on a table, such as a migration. It is tried again; see `lock_wait`.",
        )
    } else if has("No space left on device") {
        ActionError::refused(attempted).hint("The server's disk is full.")
    } else {
        ActionError::unchanged(attempted)
    };
    made.because(last_lines(said))
}

/// Warnings of a dump that succeeded.
pub(super) fn warnings(said: &str) -> Vec<String> {
    let lines = said.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.take(WARNINGS_MAX).map(|line| line.trim_start_matches("pg_dump: ").to_owned()).collect()
}

fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    let from = lines.len().saturating_sub(LINES_MAX);
    lines[from..].join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use runbook_core::action::Aftermath;

    #[test]
    fn what_pg_dump_says_tells_whether_trying_again_helps() {
        let refused = [
            "pg_dump: error: aborting because of server version mismatch",
            "pg_dump: error: query failed: ERROR:  permission denied for table users",
            "pg_dump: error: query would be affected by row-level security policy for table \"t\"",
            "pg_dump: error: connection to server failed: FATAL:  password authentication failed for user \"x\"",
        ];
        for said in refused {
            let error = failure("db", "exit status: 1", said);
            assert_eq!(error.aftermath, Aftermath::Refused, "{said}");
            assert!(error.hint.is_some() && error.source.is_some());
        }
        for said in [
            "",
            "pg_dump: error: server closed the connection",
            "ERROR: canceling statement due to lock timeout",
        ] {
            let error = failure("db", "exit status: 1", said);
            assert_eq!(error.aftermath, Aftermath::Unchanged { retry_after: None }, "{said}");
        }
    }
}
