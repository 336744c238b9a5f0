//! Sees to it that PostgreSQL server binaries are there, by the system's package manager.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{Failure, answers, output, run, say};

/// The oldest server version that the sandbox runs on.
const VERSION_MIN: u32 = 14;

/// Installs the server binaries when there are none of version 14 or newer.
pub(crate) fn ensure() -> Result<(), Failure> {
    if let Some(found) = newest(&[]) {
        say(&format!("PostgreSQL {} is here: {}", found.0, found.1.display()));
        return Ok(());
    }
    let Some(steps) = package_manager() else {
        return Err(format!(
            "no PostgreSQL server binaries ({VERSION_MIN} or newer) and no package manager that this knows; \
             install them, or set RUNBOOK_PG_BIN to the folder that holds `initdb` and `postgres`"
        ));
    };
    say("No PostgreSQL server binaries found. Installing them with the system's package manager:");
    for words in steps {
        say(&format!("  {}", words.join(" ")));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("DEBIAN_FRONTEND", "noninteractive");
        run(&mut command)?;
    }
    match newest(&[]) {
        Some((version, folder)) => {
            say(&format!("PostgreSQL {version} is here: {}", folder.display()));
            Ok(())
        }
        None => Err(format!(
            "the package manager installed no PostgreSQL server of version {VERSION_MIN} or newer"
        )),
    }
}

/// The newest server of a usable version, in a folder that also holds these programs: major version and folder.
pub(crate) fn newest(also: &[&str]) -> Option<(u32, PathBuf)> {
    let mut folders: Vec<PathBuf> = Vec::new();
    folders.extend(std::env::var_os("RUNBOOK_PG_BIN").map(PathBuf::from));
    if let Ok(folder) = output(Command::new("pg_config").arg("--bindir")) {
        folders.push(PathBuf::from(folder.trim()));
    }
    for parent in ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        folders.extend(entries.map(|entry| entry.path().join("bin")));
    }
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    folders.retain(|folder| also.iter().all(|program| folder.join(program).is_file()));
    folders.iter().filter_map(|folder| Some((major(folder)?, folder.clone()))).max_by_key(|(major, _)| *major)
}

fn major(folder: &Path) -> Option<u32> {
    let postgres = folder.join("postgres");
    if !postgres.is_file() || !folder.join("initdb").is_file() {
        return None;
    }
    let text = output(Command::new(postgres).arg("--version")).ok()?;
    let number: String =
        text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    number.parse().ok().filter(|major| *major >= VERSION_MIN)
}

/// The commands that install a server, by the first package manager that answers.
fn package_manager() -> Option<Vec<Vec<&'static str>>> {
    let known: [(&str, Vec<Vec<&'static str>>); 7] = [
        ("apt-get", vec![vec!["apt-get", "update"], vec!["apt-get", "install", "-y", "postgresql"]]),
        ("dnf", vec![vec!["dnf", "install", "-y", "postgresql-server", "postgresql-contrib"]]),
        ("yum", vec![vec!["yum", "install", "-y", "postgresql-server", "postgresql-contrib"]]),
        ("zypper", vec![vec!["zypper", "-n", "install", "postgresql-server", "postgresql-contrib"]]),
        ("pacman", vec![vec!["pacman", "-Sy", "--noconfirm", "postgresql"]]),
        ("apk", vec![vec!["apk", "add", "postgresql", "postgresql-contrib"]]),
        ("brew", vec![vec!["brew", "install", "postgresql@17"]]),
    ];
    let needs_root = |program: &str| program != "brew";
    let root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    known.into_iter().find(|(program, _)| answers(program, &["--version"])).map(|(program, mut steps)| {
        if needs_root(program) && !root {
            steps.iter_mut().for_each(|words| words.insert(0, "sudo"));
        }
        steps
    })
}
