//! `cargo xtask test`: cheap checks first, the test runner's own summary last.

use std::path::PathBuf;
use std::process::Command;

use crate::shell::{Failure, answers, cargo, output, root, run, say};

/// Formatting, clippy, tests.
pub(crate) fn test() -> Result<(), Failure> {
    say("1/4 formatting");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    say("2/4 PostgreSQL");
    crate::postgres::ensure()?;
    say("3/4 clippy");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]))?;
    say("4/4 tests");
    let mut tests = cargo();
    if let Some(folder) = memory() {
        say(&format!("the tests' databases live in `{}`", folder.display()));
        tests.env("TMPDIR", folder);
    }
    if answers("cargo", &["nextest", "--version"]) {
        run(tests.args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]))
    } else {
        say("cargo-nextest is not installed; `cargo test` runs the same tests, one binary after another");
        run(tests.args(["test", "--workspace", "--locked", "--no-fail-fast"]))
    }
}

/// Room in memory for the tests' databases, where the machine has it and nobody has said where they shall be. Each
/// is a thousand files that a file system on a disk makes and forgets, which costs a quarter of the time of tests there.
fn memory() -> Option<PathBuf> {
    let folder = PathBuf::from("/dev/shm");
    if std::env::var_os("TMPDIR").is_some() || !folder.is_dir() {
        return None;
    }
    // POSIX prints kilobytes, the free ones in the fourth column of the second line.
    let told = output(Command::new("df").arg("-Pk").arg(&folder)).ok()?;
    let free: u64 = told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    (free >= MEMORY_KIB_MIN).then_some(folder)
}

/// Three tests at a time, each with some clusters of 50 to 150 MB, and dumps beside them.
const MEMORY_KIB_MIN: u64 = 4 * 1024 * 1024;

/// Writes `schemas/` anew.
pub(crate) fn schemas() -> Result<(), Failure> {
    run(cargo().args(["build", "--package", "runbook-cli", "--locked"]))?;
    let folder = root().join("schemas");
    std::fs::create_dir_all(&folder).map_err(|error| format!("create `{}`: {error}", folder.display()))?;
    for name in ["runbook", "environment", "events"] {
        let text =
            output(cargo().args(["run", "--quiet", "--package", "runbook-cli", "--", "schema", name]))?;
        let path = folder.join(format!("{name}.schema.json"));
        std::fs::write(&path, text).map_err(|error| format!("write `{}`: {error}", path.display()))?;
        say(&format!("wrote schemas/{name}.schema.json"));
    }
    Ok(())
}
