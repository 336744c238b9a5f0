//! There and back, and every way to spoil the file in between.

use super::*;
use crate::store::{MemoryJournal, SqliteJournal};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn source() -> MemoryJournal {
    let journal = MemoryJournal::new();
    let row = RunRow {
        id: "r1".to_owned(),
        runbook: "path-b".to_owned(),
        environment: "staging".to_owned(),
        created_at: at(0),
        writes: true,
    };
    journal.create(&row, b"{\"kind\":\"started\"}", at(0)).unwrap();
    let more =
        [(at(1), vec![0xff, 0, b'\n']), (at(2), "lines\nand \"quotes\" ä".into()), (at(3), Vec::new())];
    journal.append("r1", 1, &more, None).unwrap();
    journal
}

fn exported(journal: &dyn Journal) -> Vec<u8> {
    let mut file = Vec::new();
    export_run(journal, "r1", 2, &mut file).unwrap();
    file
}

fn import(file: &[u8]) -> (MemoryJournal, Result<Carried, PortableError>) {
    let journal = MemoryJournal::new();
    let carried = import_run(&journal, &mut &file[..]);
    (journal, carried)
}

#[test]
fn a_run_goes_to_another_store_and_goes_on_there() {
    let source = source();
    let directory = tempfile::tempdir().unwrap();
    let target = SqliteJournal::open(directory.path()).unwrap();
    let carried = import_run(&target, &mut exported(&source).as_slice()).unwrap();
    assert_eq!(carried.made_secrets_left_out, 2);
    assert_eq!(carried.verified, source.verify("r1").unwrap());
    assert_eq!(target.read("r1", 0).unwrap(), source.read("r1", 0).unwrap());
    assert_eq!(target.run("r1").unwrap(), source.run("r1").unwrap());
    target.append("r1", 4, &[(at(9), b"here".to_vec())], None).unwrap();
    let mut again = Vec::new();
    export_run(&target, "r1", 0, &mut again).unwrap();
    assert!(again.starts_with(b"{\"format\":\"runbook run\",\"version\":1,\"run\":{\"id\":\"r1\""));
    assert_eq!(again.iter().filter(|byte| **byte == b'\n').count(), 7, "one line each, and two around them");
}

#[test]
fn a_run_that_is_already_there_is_refused_and_left_alone() {
    let source = source();
    let file = exported(&source);
    let refused = import_run(&source, &mut file.as_slice());
    assert!(matches!(refused, Err(PortableError::Journal(JournalError::Exists { run })) if run == "r1"));
    assert_eq!(source.verify("r1").unwrap().records, 4);
}

#[test]
fn a_file_that_was_cut_at_any_byte_is_refused() {
    let file = exported(&source());
    for length in 0..file.len() {
        let (journal, refused) = import(&file[..length]);
        assert!(refused.is_err(), "cut to {length} of {} bytes", file.len());
        assert_eq!(journal.runs().unwrap(), [], "cut to {length} bytes");
    }
}

#[test]
fn a_file_that_was_changed_at_any_byte_is_refused() {
    let file = exported(&source());
    // Not covered by the chain, and says so little that a lie about it cannot hurt: it is a note for people.
    let note = b"\"made_secrets_left_out\":";
    let unproven = file.windows(note.len()).position(|window| window == note).unwrap() + note.len();
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        let (journal, imported) = import(&changed);
        if imported.is_ok() {
            assert_eq!(at, unproven, "changed: {}", String::from_utf8_lossy(&changed));
        } else {
            assert_eq!(journal.runs().unwrap(), [], "changed at {at}");
        }
    }
}

#[test]
fn lines_that_were_removed_swapped_or_doubled_are_refused() {
    let file = exported(&source());
    let lines: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        let mut removed = lines.clone();
        removed.remove(at);
        assert!(import(&removed.concat()).1.is_err(), "line {} removed", at + 1);
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        assert!(import(&doubled.concat()).1.is_err(), "line {} doubled", at + 1);
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at, at - 1);
            assert!(import(&swapped.concat()).1.is_err(), "line {} swapped", at + 1);
        }
    }
}

#[test]
fn what_is_no_export_is_said() {
    let said = |text: &str| import(text.as_bytes()).1.unwrap_err().to_string();
    assert_eq!(said(""), "understand line 1 of the export: the file is empty");
    assert!(said("hello\n").contains("understand line 1"), "{}", said("hello\n"));
    let first = String::from_utf8(exported(&source())).unwrap();
    let other = first.replacen("\"version\":1", "\"version\":2", 1);
    assert_eq!(said(&other), "understand line 1 of the export: it has version 2, this program knows 1");
    let other = first.replacen("runbook run", "recipe", 1);
    assert_eq!(said(&other), "understand line 1 of the export: it is not the export of a run");
}

#[test]
fn a_broken_chain_is_not_exported() {
    let source = source();
    source.tamper("r1", |records| records[2].body.push(b'!'));
    let mut file = Vec::new();
    let refused = export_run(&source, "r1", 0, &mut file);
    assert!(matches!(refused, Err(PortableError::Journal(JournalError::Broken { seq: 3, .. }))));
    assert_eq!(file, b"");
}
