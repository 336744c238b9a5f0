//! `cargo xtask test`: cheap checks first, the test runner's own summary last.

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
    if answers("cargo", &["nextest", "--version"]) {
        run(cargo().args(["nextest", "run", "--workspace", "--locked", "--no-fail-fast"]))
    } else {
        say("cargo-nextest is not installed; `cargo test` runs the same tests, one binary after another");
        run(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast"]))
    }
}

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
