//! The table of runbooks/README.md: every runbook and every step that it names is there.

use std::collections::BTreeSet;

use crate::world::{binary, root};

#[test]
fn every_runbook_and_step_of_the_table_exists() {
    let text = std::fs::read_to_string(root().join("runbooks/README.md")).unwrap();
    let mut rows = 0;
    let mut missing = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [_, file, steps] = cells.as_slice() else { panic!("three columns: {line}") };
        if !file.starts_with('`') {
            continue;
        }
        rows += 1;
        let known = steps_of(file.trim_matches('`'));
        for step in steps.split(',').map(|step| step.trim().trim_matches('`')) {
            if !known.contains(step) {
                missing.push(format!("{file} has no step `{step}`"));
            }
        }
    }
    assert!(rows > 20, "the table was read: {rows} rows");
    assert_eq!(missing, [] as [String; 0]);
}

/// The steps as the runbook's file has them, and those of runbooks that it uses by their path.
fn steps_of(file: &str) -> BTreeSet<String> {
    let path = root().join("runbooks").join(file);
    assert!(path.is_file(), "runbooks/README.md names {file}, which is not there");
    let output = binary().args(["--json", "graph"]).arg(&path).output().unwrap();
    let line: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{file}: {}", String::from_utf8_lossy(&output.stdout)));
    let steps = line["steps"].as_array().unwrap_or_else(|| panic!("{line}"));
    steps.iter().map(|step| step["step"].as_str().unwrap().trim_end_matches("/(begin)").to_owned()).collect()
}
