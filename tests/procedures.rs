//! The table of runbooks/README.md: every runbook and every step that it names is there.

use std::collections::BTreeSet;

use crate::world::root;

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

/// The ids of a runbook's own steps, and those of the runbooks that it uses behind the id of the step that does.
fn steps_of(file: &str) -> BTreeSet<String> {
    let path = root().join("runbooks").join(file);
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("runbooks/README.md or a runbook names {file}, which is not there"));
    let mut steps = BTreeSet::new();
    let mut last = String::new();
    for line in text.lines() {
        if let Some(id) = line.strip_prefix("  - id: ") {
            last = id.trim().to_owned();
            steps.insert(last.clone());
        } else if let Some(used) = line.strip_prefix("    uses: ./") {
            steps.extend(steps_of(used.trim()).into_iter().map(|inner| format!("{last}/{inner}")));
        }
    }
    steps
}
