//! Finds PostgreSQL's programs and runs them, never as root.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::place::Account;
use crate::error::SandboxError;

/// Older servers lack SQL-standard function bodies, which the sample application uses.
const MAJOR_MIN: u32 = 14;
/// What the sandbox cannot do without.
const PROGRAMS: [&str; 4] = ["initdb", "postgres", "pg_ctl", "pg_dump"];

/// A folder with the server programs of one version.
#[derive(Debug, Clone)]
pub(crate) struct Binaries {
    folder: PathBuf,
}

impl Binaries {
    /// `RUNBOOK_PG_BIN`, else the newest of what `pg_config`, `PATH` and Debian's folders offer.
    pub(crate) async fn find() -> Result<Self, SandboxError> {
        if let Some(folder) = std::env::var_os("RUNBOOK_PG_BIN") {
            let folder = PathBuf::from(folder);
            return match major(&folder).await {
                Some(found) if found >= MAJOR_MIN => Ok(Self { folder }),
                _ => Err(SandboxError::NoPostgres {
                    looked: format!("RUNBOOK_PG_BIN (`{}`)", folder.display()),
                }),
            };
        }
        let mut best: Option<(u32, PathBuf)> = None;
        let candidates = candidates().await;
        for folder in &candidates {
            let Some(found) = major(folder).await else { continue };
            if found >= MAJOR_MIN && best.as_ref().is_none_or(|(known, _)| found > *known) {
                best = Some((found, folder.clone()));
            }
        }
        match best {
            Some((_, folder)) => Ok(Self { folder }),
            None => {
                let looked: Vec<_> = candidates.iter().map(|p| format!("`{}`", p.display())).collect();
                Err(SandboxError::NoPostgres { looked: looked.join(", ") })
            }
        }
    }

    /// Full path of one program.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A command that runs as `account` and inherits nothing that could redirect PostgreSQL.
    pub(crate) fn command(&self, name: &str, account: &Account, folder: &Path) -> Command {
        let mut command = Command::new(self.program(name));
        command.stdin(Stdio::null()).current_dir(folder);
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_some_and(|key| key.starts_with("PG") && key != "PGTZ") {
                command.env_remove(key);
            }
        }
        if let Some((uid, gid)) = account.ids() {
            command.uid(uid).gid(gid).env("HOME", folder);
        }
        command
    }
}

/// Runs a command to its end; its standard error becomes part of the error.
pub(crate) async fn run(mut command: Command) -> Result<Output, SandboxError> {
    let program = command.as_std().get_program().to_owned();
    let name = Path::new(&program).file_name().unwrap_or(OsStr::new("?")).to_string_lossy().into_owned();
    let output = command.output().await.map_err(SandboxError::disk("run", PathBuf::from(&program)))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let stderr: String = said.trim().chars().take(2000).collect();
    Err(SandboxError::Program { program: name, status: output.status.to_string(), stderr })
}

async fn candidates() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().await {
        folders.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    if let Some(path) = std::env::var_os("PATH") {
        folders.extend(std::env::split_paths(&path).filter(|folder| folder.join("initdb").exists()));
    }
    for base in ["/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let Ok(entries) = std::fs::read_dir(base) else { continue };
        folders.extend(entries.flatten().map(|entry| entry.path().join("bin")));
    }
    folders.retain(|folder| folder.is_absolute() && PROGRAMS.iter().all(|p| folder.join(p).exists()));
    folders.dedup();
    folders
}

async fn major(folder: &Path) -> Option<u32> {
    if PROGRAMS.iter().any(|p| std::fs::metadata(folder.join(p)).map_or(true, |m| m.mode() & 0o111 == 0)) {
        return None;
    }
    let output =
        Command::new(folder.join("postgres")).arg("--version").stdin(Stdio::null()).output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let digits = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}
