//! Broken runbooks, one family of mistakes each: every mistake of a file is found at once, with its
//! code and at its place. `broken/expected.txt` has one line for each mistake.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use runbook_core::decode;
use runbook_core::diagnostic::Sources;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/broken")
}

/// `file code line:column` of every mistake of every file, in the order of file and text.
fn found() -> std::io::Result<Vec<String>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut sources = Sources::default();
        let id = sources.add(name.clone(), std::fs::read_to_string(&path)?);
        let (_, mistakes) = decode::runbook(&sources, id);
        for mistake in mistakes {
            let (line, column) = mistake.span.map_or((0, 0), |span| sources.line_column(span));
            lines.push(format!("{name} {} {line}:{column}", mistake.code));
        }
    }
    Ok(lines)
}

#[test]
fn every_mistake_is_found_with_its_code_and_place() {
    let expected = std::fs::read_to_string(folder().join("expected.txt")).unwrap();
    let found = found().unwrap();
    let found = found.join("\n") + "\n";
    assert_eq!(found, expected, "what was found:\n{found}");
}

#[test]
fn every_mistake_says_what_to_write_instead_and_no_file_is_without_one() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let mut sources = Sources::default();
        let id = sources.add("a.yaml", std::fs::read_to_string(&path).unwrap());
        let (_, mistakes) = decode::runbook(&sources, id);
        assert!(!mistakes.is_empty(), "{}", path.display());
        for mistake in mistakes {
            let obvious = mistake.code == "wrong-type";
            assert!(obvious || mistake.help.is_some(), "{}: {mistake:?}", path.display());
            assert!(!mistake.message.ends_with('.'), "{mistake:?}");
        }
    }
}

#[test]
fn an_alias_bomb_is_refused_at_once() {
    let mut sources = Sources::default();
    let text = std::fs::read_to_string(folder().join("16-alias-bomb.yaml")).unwrap();
    let id = sources.add("bomb.yaml", text);
    let started = Instant::now();
    let (document, mistakes) = decode::runbook(&sources, id);
    // A tenth of this on an idle machine; expanding the bomb would take hours.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(document.is_none());
    assert_eq!(mistakes[0].code, "yaml-limit");
}
