//! Finds a `pg_dump` that can read a server. Runs only `pg_dump --version`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runbook_core::action::ActionError;

/// A program that does not say its version within this is no pg_dump.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// One pg_dump of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its path.
    pub path: PathBuf,
    /// Such as `15.18`.
    pub version: String,
    /// Such as 15.
    pub major: u32,
}

/// Every pg_dump that is found: only that of `RUNBOOK_PG_BIN` when that is set, else those where systems and people
/// put PostgreSQL.
pub async fn tools() -> Vec<Tool> {
    let mut found: Vec<Tool> = Vec::new();
    for path in candidates() {
        if let Some(tool) = ask(&path).await
            && !found.iter().any(|known| known.version == tool.version)
        {
            found.push(tool);
        }
    }
    found
}

/// The pg_dump for a server: of the server's own version, else the oldest of those that are newer.
///
/// # Errors
/// When there is none; says how to install it.
pub async fn tool_for(server_major: u32) -> Result<Tool, ActionError> {
    let mut found = tools().await;
    found.sort_by_key(|tool| tool.major);
    if let Some(at) = found.iter().position(|tool| tool.major >= server_major) {
        return Ok(found.swap_remove(at));
    }
    let here = match found.last() {
        None => "there is none on this machine".to_owned(),
        Some(newest) => format!("the newest here is {} (`{}`)", newest.version, newest.path.display()),
    };
    Err(ActionError::refused(format!("find a pg_dump for PostgreSQL {server_major}: {here}"))
        .code("no-pg-dump")
        .hint(install(server_major)))
}

/// How to get one.
fn install(major: u32) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is = |names: &[&str]| {
        let ids = release.lines().filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
        ids.flat_map(|line| line.split(['=', ' ', '"'])).any(|word| names.contains(&word))
    };
    let command = if is(&["debian", "ubuntu"]) {
        format!("apt-get install postgresql-client-{major}")
    } else if is(&["fedora", "rhel", "centos"]) {
        format!("dnf install postgresql{major}")
    } else if is(&["alpine"]) {
        format!("apk add postgresql{major}-client")
    } else if cfg!(target_os = "macos") {
        format!("brew install postgresql@{major}")
    } else {
        format!("apt-get install postgresql-client-{major}, or what your system calls it")
    };
    format!(
        "Install it: `{command}` (from PostgreSQL's own package repository where the system is older), or set \
         RUNBOOK_PG_BIN to the folder that holds it."
    )
}

fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = std::env::var_os("RUNBOOK_PG_BIN") {
        return vec![PathBuf::from(folder).join("pg_dump")];
    }
    // Debian's pg_dump on the PATH is a script that chooses among the versions; the programs themselves come first.
    let mut found = Vec::new();
    for base in ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"] {
        let folders = std::fs::read_dir(base).into_iter().flatten().flatten().map(|entry| entry.path());
        let wanted = folders.filter(|folder| base != "/usr" || is_pgdg(folder));
        found.extend(wanted.map(|folder| folder.join("bin/pg_dump")));
    }
    found.sort();
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    found.extend(std::env::split_paths(&on_path).map(|folder| folder.join("pg_dump")));
    found.retain(|path| path.is_absolute() && path.is_file());
    found
}

/// `/usr/pgsql-17`
fn is_pgdg(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pgsql-"))
}

async fn ask(path: &Path) -> Option<Tool> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(VERSION_TIMEOUT, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = text.trim().strip_prefix("pg_dump (PostgreSQL) ")?;
    let version = text.split_whitespace().next()?.to_owned();
    let major = version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(Tool { path: path.to_owned(), version, major })
}
