//! Rules of the repository, held by code: which crate may depend on which, that schemas equal the types, that
//! every runbook and example checks clean, and that no test file is forgotten.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::world::{binary, root};

/// The edges of ARCHITECTURE.md.
const ALLOWED: [(&str, &[&str]); 7] = [
    ("core", &[]),
    ("dump", &[]),
    ("sandbox", &[]),
    ("executor", &["core"]),
    ("actions", &["core", "dump"]),
    ("cli", &["core", "executor", "actions", "sandbox"]),
    ("xtask", &[]),
];

#[test]
fn dependencies_point_one_way() {
    for (name, allowed) in ALLOWED {
        let manifest = std::fs::read_to_string(root().join("crates").join(name).join("Cargo.toml")).unwrap();
        let normal = manifest.split("[dev-dependencies]").next().unwrap();
        let found: BTreeSet<&str> = normal
            .lines()
            .filter_map(|line| line.strip_prefix("runbook-")?.split(['.', ' ', '=']).next())
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        assert!(found.is_subset(&allowed), "`{name}` depends on {found:?}, it may on {allowed:?}");
    }
}

#[test]
fn every_crate_stands_in_the_table_of_edges() {
    let crates: BTreeSet<String> = names(&root().join("crates"));
    let listed: BTreeSet<String> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(crates, listed);
}

#[test]
fn schemas_equal_the_types() {
    for name in ["runbook", "environment", "events"] {
        let output = binary().args(["schema", name]).output().unwrap();
        assert!(output.status.success());
        let path = root().join("schemas").join(format!("{name}.schema.json"));
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == String::from_utf8(output.stdout).unwrap(),
            "schemas/{name}.schema.json is stale: run `cargo xtask schemas`"
        );
    }
}

/// Freezes and does not reopen: for use as a step.
const PART: &str = "triage.yaml";

#[test]
fn every_runbook_and_example_checks_clean() {
    for folder in ["runbooks", "examples"] {
        for file in yaml(&root().join(folder)) {
            let output = binary().arg("check").arg(&file).output().unwrap();
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            if file.ends_with(PART) {
                assert_eq!(shown.matches("error[").count(), shown.matches("error[G06]").count(), "{shown}");
            } else {
                assert!(output.status.success() && shown.is_empty(), "{}:\n{shown}", file.display());
            }
        }
    }
}

#[test]
fn no_test_file_is_forgotten() {
    let main = std::fs::read_to_string(root().join("tests/main.rs")).unwrap();
    for name in names(&root().join("tests")) {
        if let Some(module) = name.strip_suffix(".rs").filter(|module| *module != "main") {
            assert!(main.contains(&format!("mod {module};")), "tests/main.rs does not name `{module}`");
        }
    }
}

#[test]
fn the_readme_names_the_two_commands_and_every_exit_status() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("cargo xtask demo") && readme.contains("cargo xtask test"));
    for status in 0..=8 {
        let output = binary().args(["explain", &status.to_string()]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let meaning = said.lines().next().unwrap().split_once(": ").unwrap().1;
        let row = format!("| {status} | {meaning} |");
        assert!(readme.contains(&row), "README.md lacks `{row}`");
    }
}

fn yaml(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = names(folder)
        .into_iter()
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "yaml"))
        .map(|name| folder.join(name))
        .collect();
    files.sort();
    files
}

fn names(folder: &Path) -> BTreeSet<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
