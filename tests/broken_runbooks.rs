//! Thirty and more broken runbooks: what `runbook check` says of each, word for word. A snapshot that should
//! change is accepted with `cargo insta accept`, or by running with `INSTA_UPDATE=always`.

use crate::world::{binary, root};

#[test]
fn every_broken_runbook_is_refused_with_its_mend() {
    let folder = root().join("tests/broken");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".yaml").map(str::to_owned))
        .collect();
    names.sort();
    assert!(names.len() >= 30, "only {} broken runbooks", names.len());
    insta::with_settings!({ snapshot_path => folder.join("snapshots"), prepend_module_to_snapshot => false, omit_expression => true }, {
        for name in names {
            let file = format!("{name}.yaml");
            let output = binary().current_dir(&folder).args(["check", &file]).output().unwrap();
            let said = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(3), "{file}:\n{said}");
            assert!(output.stderr.is_empty(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
            insta::assert_snapshot!(name.as_str(), said);
        }
    });
}
