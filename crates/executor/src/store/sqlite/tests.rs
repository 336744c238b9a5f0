//! What only a file can show: damage, torn writes, other processes, a full disk.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::store::contract::{at, row};

fn journal() -> (TempDir, SqliteJournal) {
    let directory = tempfile::tempdir().unwrap();
    let journal = SqliteJournal::open(directory.path()).unwrap();
    (directory, journal)
}

fn with_records(count: u64) -> (TempDir, SqliteJournal) {
    let (directory, journal) = journal();
    journal.create(&row("r1"), b"record 1", at(0)).unwrap();
    for seq in 1..count {
        let body = format!("record {}", seq + 1).into_bytes();
        journal.append("r1", seq, &[(at(1), body)], None).unwrap();
    }
    (directory, journal)
}

/// Changes the file as somebody with `sqlite3` in hand would, and says which record the proof stumbles over.
fn broken_by(sql: &str) -> u64 {
    let (directory, journal) = with_records(5);
    drop(journal);
    let intruder = Connection::open(directory.path().join(SqliteJournal::FILE)).unwrap();
    intruder.execute_batch(sql).unwrap();
    drop(intruder);
    let journal = SqliteJournal::open(directory.path()).unwrap();
    let (Err(verified), Err(read)) = (journal.verify("r1"), journal.read("r1", 0)) else {
        panic!("not seen: {sql}")
    };
    assert_eq!(verified.to_string(), read.to_string());
    match verified {
        JournalError::Broken { run, seq, .. } if run == "r1" => seq,
        other => panic!("{sql}: {other}"),
    }
}

#[test]
fn whatever_is_changed_in_the_file_breaks_the_chain_at_that_record() {
    for (sql, seq) in [
        ("UPDATE records SET body = CAST('record X' AS BLOB) WHERE seq = 3", 3),
        ("UPDATE records SET at = '2027-01-15T08:00:02Z' WHERE seq = 3", 3),
        ("UPDATE records SET at = '2027-01-15T08:00:01.0Z' WHERE seq = 3", 3),
        ("UPDATE records SET at = 'once' WHERE seq = 3", 3),
        ("UPDATE records SET hash = zeroblob(32) WHERE seq = 3", 3),
        ("UPDATE records SET hash = x'00' WHERE seq = 3", 3),
        ("UPDATE records SET hash = zeroblob(32) WHERE seq = 5", 5),
        ("DELETE FROM records WHERE seq = 1", 1),
        ("DELETE FROM records WHERE seq = 3", 3),
        ("DELETE FROM records WHERE seq = 5", 5),
        ("DELETE FROM records", 1),
        ("DELETE FROM records WHERE seq = 3; UPDATE records SET seq = seq - 1 WHERE seq > 3", 3),
        (
            "UPDATE records SET seq = 100 WHERE seq = 2; UPDATE records SET seq = 2 WHERE seq = 3;
             UPDATE records SET seq = 3 WHERE seq = 100",
            2,
        ),
        ("UPDATE runs SET environment = 'production'", 1),
        ("UPDATE runs SET runbook = 'path-a'", 1),
        ("UPDATE runs SET writes = 0", 1),
        ("UPDATE runs SET created_at = '2027-01-15T09:00:00Z'", 1),
        ("INSERT INTO records SELECT run, 6, at, hash, body FROM records WHERE seq = 5", 6),
        ("UPDATE runs SET head = zeroblob(32)", 5),
        ("UPDATE runs SET head_seq = 4", 4),
        ("UPDATE runs SET head_seq = 6", 6),
    ] {
        assert_eq!(broken_by(sql), seq, "{sql}");
    }
}

#[test]
fn a_record_of_another_run_does_not_fit_into_this_one() {
    let (directory, journal) = with_records(2);
    journal.create(&row("r2"), b"record 1", at(0)).unwrap();
    journal.append("r2", 1, &[(at(1), b"record 2".to_vec())], None).unwrap();
    let intruder = Connection::open(directory.path().join(SqliteJournal::FILE)).unwrap();
    let swap = "UPDATE records SET (at, hash, body) =
        (SELECT at, hash, body FROM records WHERE run = 'r2' AND seq = 2) WHERE run = 'r1' AND seq = 2;
        UPDATE runs SET head = (SELECT head FROM runs WHERE id = 'r2') WHERE id = 'r1'";
    intruder.execute_batch(swap).unwrap();
    assert!(matches!(journal.verify("r1"), Err(JournalError::Broken { seq: 2, .. })));
    assert_eq!(journal.verify("r2").unwrap().records, 2);
}

#[test]
fn a_log_that_was_torn_anywhere_opens_to_a_shorter_history() {
    let (directory, journal) = with_records(12);
    let whole = journal.read("r1", 0).unwrap();
    let file = fs::read(journal.path()).unwrap();
    let log = fs::read(directory.path().join("journal.db-wal")).unwrap();
    let frame = 4096 + 24;
    assert!(log.len() > 24 * frame, "the log holds all commits: {}", log.len());

    let mut lengths = std::collections::BTreeSet::new();
    let edges =
        (0..16).flat_map(|frames| [0, 1, 23, 24, 25, 2000].map(|off| log.len() - frames * frame - off));
    for cut in edges {
        lengths.insert(opens_to_a_beginning(&file, &log[..cut], &whole, cut));
    }
    assert!(lengths.len() > 4 && lengths.contains(&whole.len()), "cuts gave lengths {lengths:?}");
    for at in (log.len() - 6 * frame..log.len()).step_by(997) {
        let mut flipped = log.clone();
        flipped[at] ^= 0x10;
        opens_to_a_beginning(&file, &flipped, &whole, at);
    }
}

/// Opens a copy whose log is `log`, and gives how many records it has. A run can go on from there.
#[track_caller]
fn opens_to_a_beginning(file: &[u8], log: &[u8], whole: &[Stored], case: usize) -> usize {
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join("journal.db"), file).unwrap();
    fs::write(copy.path().join("journal.db-wal"), log).unwrap();
    let journal = SqliteJournal::open(copy.path()).unwrap();
    let records = journal.read("r1", 0).unwrap();
    assert_eq!(records, whole[..records.len()], "damaged at {case}");
    assert_eq!(journal.verify("r1").unwrap().records, records.len() as u64, "damaged at {case}");
    journal.append("r1", records.len() as u64, &[(at(9), b"goes on".to_vec())], None).unwrap();
    records.len()
}

#[test]
fn a_full_disk_is_said_and_loses_nothing() {
    let (_directory, journal) = with_records(3);
    {
        let store = journal.store();
        let pages: i64 = store.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        store.connection.pragma_update_and_check(None, "max_page_count", pages + 2, |_| Ok(())).unwrap();
    }
    let big = vec![(at(2), vec![b'x'; 100]), (at(2), vec![b'x'; 100_000])];
    let error = journal.append("r1", 3, &big, None).unwrap_err();
    assert!(matches!(error, AppendError::Store(JournalError::Full { .. })), "{error}");
    assert!(error.to_string().contains("the disk is full; make room, then resume"), "{error}");
    assert_eq!(journal.verify("r1").unwrap().records, 3);
    journal.append("r1", 3, &[(at(2), b"small".to_vec())], None).unwrap();
    assert_eq!(journal.verify("r1").unwrap().records, 4);
}

#[test]
fn a_file_that_is_no_journal_is_said_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(SqliteJournal::FILE);
    let text = "this is somebody's diary\n".repeat(100);
    fs::write(&path, &text).unwrap();
    assert!(matches!(SqliteJournal::open(directory.path()), Err(JournalError::Damaged { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn damage_inside_the_file_is_an_error_by_name() {
    let (directory, journal) = with_records(400);
    drop(journal);
    let path = directory.path().join(SqliteJournal::FILE);
    let mut bytes = fs::read(&path).unwrap();
    let from = bytes.len() / 2 / 4096 * 4096;
    bytes[from..from + 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let journal = SqliteJournal::open(directory.path()).unwrap();
    let error = journal.verify("r1").unwrap_err();
    assert!(matches!(error, JournalError::Damaged { .. } | JournalError::Broken { .. }), "{error}");
}

#[test]
fn a_newer_format_is_refused() {
    let (directory, journal) = with_records(1);
    journal.store().connection.pragma_update(None, "user_version", 7).unwrap();
    drop(journal);
    let error = SqliteJournal::open(directory.path()).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 7, known: 1, .. }), "{error}");
}

#[test]
fn files_are_private_to_the_user() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("a/state");
    let journal = SqliteJournal::open(&directory).unwrap();
    journal.create(&row("r1"), b"first", at(0)).unwrap();
    let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    drop(journal);
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    SqliteJournal::open(&directory).unwrap();
    assert_eq!(mode(""), 0o700, "our own is closed again");
}

#[test]
fn a_directory_that_is_shared_with_others_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("somebody's file"), "").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(SqliteJournal::open(directory.path()), Err(JournalError::Shared { .. })));
    assert_eq!(fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn another_connection_sees_what_this_one_wrote() {
    let (directory, journal) = with_records(2);
    let other = SqliteJournal::open(directory.path()).unwrap();
    let seen = journal.changed().unwrap();
    other.append("r1", 2, &[(at(2), b"an approval".to_vec())], None).unwrap();
    assert_ne!(journal.changed().unwrap(), seen);
    assert_eq!(journal.read("r1", 2).unwrap()[0].body, b"an approval");
    assert!(matches!(
        journal.append("r1", 2, &[(at(2), b"stale".to_vec())], None),
        Err(AppendError::Moved { head: 3 })
    ));
}

#[test]
fn ten_thousand_records_are_read_quickly() {
    let (directory, journal) = with_records(1);
    let records: Vec<_> =
        (0..10_000).map(|n| (at(n), format!("record {n} {}", "x".repeat(300)).into_bytes())).collect();
    for (index, part) in records.chunks(1_000).enumerate() {
        journal.append("r1", 1 + 1_000 * index as u64, part, None).unwrap();
    }
    drop(journal);
    let journal = SqliteJournal::open(directory.path()).unwrap();
    let start = Instant::now();
    assert_eq!(journal.read("r1", 0).unwrap().len(), 10_001);
    let took = start.elapsed();
    assert!(took.as_secs() < 2, "took {took:?}");
    println!("10,001 records proven in {took:?}");
}

const ROLE: &str = "RUNBOOK_TEST_ROLE";
const STATE: &str = "RUNBOOK_TEST_STATE";

/// Not a test of its own: what the processes do that the tests below start, which are this same program.
#[test]
fn as_another_process() {
    let (Ok(role), Some(state)) = (std::env::var(ROLE), std::env::var_os(STATE)) else { return };
    let journal = SqliteJournal::open(Path::new(&state)).unwrap();
    let mut out = std::io::stdout();
    match role.as_str() {
        "take" => {
            let taken = journal.take_lease("r1", "staging", &Holder::me("child"), true, at(1));
            writeln!(out, "\n{}", if taken.is_ok() { "WON" } else { "LOST" }).unwrap();
            // Lives until it is told to end: the others must find it alive.
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        "append" => {
            writeln!(out).unwrap();
            for seq in 1.. {
                journal.append("r1", seq, &[(at(1), vec![b'x'; 700])], None).unwrap();
                writeln!(out, "DURABLE {}", seq + 1).unwrap();
                out.flush().unwrap();
            }
        }
        other => panic!("no role `{other}`"),
    }
}

fn process(role: &str, state: &Path) -> Child {
    let name = "store::sqlite::tests::as_another_process";
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(STATE, state)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn of_four_processes_one_gets_the_lease_and_loses_it_when_it_dies() {
    let (directory, journal) = with_records(1);
    let mut children: Vec<_> = (0..4).map(|_| process("take", directory.path())).collect();
    let mut answers = Vec::new();
    for child in &mut children {
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
        answers.extend(lines.filter(|line| line == "WON" || line == "LOST").take(1));
    }
    answers.sort();
    assert_eq!(answers, ["LOST", "LOST", "LOST", "WON"]);
    let winner = journal.lease("r1").unwrap().unwrap();
    assert_eq!(winner.alive, crate::holder::Liveness::Alive);
    assert!(children.iter().any(|child| child.id() == winner.holder.pid));
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let lease = journal.take_lease("r1", "staging", &Holder::me("ada"), true, at(1)).unwrap();
    assert_eq!(lease, Lease { epoch: 2, taken_from: Some(winner.holder) });
}

#[test]
fn what_a_killed_process_called_durable_is_there() {
    let (directory, journal) = with_records(1);
    drop(journal);
    let mut child = process("append", directory.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut durable = 0;
    while durable < 40 {
        if let Some(seq) = lines.next().expect("it goes on").strip_prefix("DURABLE ") {
            durable = seq.parse().unwrap();
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    for line in lines {
        durable = line.strip_prefix("DURABLE ").and_then(|seq| seq.parse().ok()).unwrap_or(durable);
    }
    let journal = SqliteJournal::open(directory.path()).unwrap();
    let records = journal.verify("r1").unwrap().records;
    assert!(records == durable || records == durable + 1, "{durable} were said durable, {records} are there");
}

/// Runs `work` in eight threads at once, each with a connection of its own, as eight processes would have.
fn by_eight<T: Send>(directory: &Path, work: impl Fn(u64, SqliteJournal) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(8);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|name| {
                let (start, work) = (&start, &work);
                scope.spawn(move || {
                    start.wait();
                    work(name, SqliteJournal::open(directory).unwrap())
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn eight_may_make_the_file_at_once() {
    for _ in 0..10 {
        let directory = tempfile::tempdir().unwrap();
        by_eight(directory.path(), |name, journal| {
            journal.create(&row(&format!("r{name}")), b"first", at(0)).unwrap();
        });
        assert_eq!(SqliteJournal::open(directory.path()).unwrap().runs().unwrap().len(), 8);
    }
}

#[test]
fn of_eight_connections_that_append_the_same_record_one_wins_every_time() {
    let (directory, journal) = with_records(1);
    let wins: Vec<Vec<u64>> = by_eight(directory.path(), |name, journal| {
        let mut wins = Vec::new();
        for seq in 1..=25 {
            match journal.append("r1", seq, &[(at(1), vec![b'0' + name as u8])], None) {
                Ok(_) => wins.push(seq),
                Err(AppendError::Moved { head }) => assert!(head > seq),
                Err(other) => panic!("neither appended nor moved: {other}"),
            }
        }
        wins
    });
    let mut wins = wins.concat();
    wins.sort_unstable();
    assert_eq!(wins, (1..=25).collect::<Vec<_>>());
    assert_eq!(journal.verify("r1").unwrap().records, 26);
}
