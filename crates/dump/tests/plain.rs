//! Plain dumps by the real pg_dump, read back with every byte accounted for.

mod support;

use runbook_dump::{Dump, DumpError, Event, Kind, Limits, Meta, SqlReader, open};
use support::Postgres;

/// What was read, put back where it stood: all else must be white space and comments.
#[derive(Default)]
struct Read {
    statements: Vec<String>,
    kinds: Vec<Kind>,
    copies: Vec<(String, Vec<u8>)>,
    metas: Vec<Meta>,
    complete: usize,
    gaps: Vec<u8>,
}

fn read_all(bytes: &[u8]) -> Result<Read, DumpError> {
    let mut reader = SqlReader::new(bytes, Limits::default());
    let (mut read, mut at) = (Read::default(), 0);
    loop {
        let before = usize::try_from(reader.position().byte).expect("small");
        let Some(event) = reader.next_event()? else { break };
        match event {
            Event::Statement(statement) => {
                let offset = usize::try_from(statement.offset).expect("small");
                assert_eq!(&bytes[offset..offset + statement.sql.len()], statement.sql.as_bytes());
                let line = 1 + bytes[..offset].iter().filter(|b| **b == b'\n').count();
                assert_eq!(statement.line, line as u64);
                read.gaps.extend_from_slice(&bytes[at..offset]);
                at = offset + statement.sql.len();
                read.statements.push(statement.sql.to_owned());
                read.kinds.push(statement.kind);
            }
            Event::CopyStart(copy) => {
                let offset = usize::try_from(copy.offset).expect("small");
                read.gaps.extend_from_slice(&bytes[at..offset]);
                at = usize::try_from(copy.data_offset).expect("small");
                assert_eq!(&bytes[offset..at], format!("{}\n", copy.statement).as_bytes());
                read.copies.push((copy.statement, Vec::new()));
            }
            Event::CopyRows(rows) => {
                assert_eq!(before, at);
                assert_eq!(&bytes[at..at + rows.len()], rows);
                assert!(rows.ends_with(b"\n"));
                at += rows.len();
                read.copies.last_mut().expect("begun").1.extend_from_slice(rows);
            }
            Event::CopyEnd => {
                assert_eq!(&bytes[at..at + 3], b"\\.\n");
                at += 3;
            }
            Event::Meta(meta) => {
                let start = at + bytes[at..].windows(2).position(|w| w == b"\n\\").expect("a command") + 1;
                read.gaps.extend_from_slice(&bytes[at..start]);
                at = start + bytes[start..].iter().position(|b| *b == b'\n').expect("its end");
                read.metas.push(meta);
            }
            Event::Complete => read.complete += 1,
        }
    }
    read.gaps.extend_from_slice(&bytes[at..]);
    Ok(read)
}

#[test]
fn every_byte_of_a_plain_dump_is_accounted_for() {
    let postgres = Postgres::nasty();
    for arguments in [&[][..], &["--create"], &["--clean", "--if-exists"], &["--no-owner", "--no-privileges"]]
    {
        let bytes = postgres.dump("nasty", arguments);
        let read = read_all(&bytes).expect("the dump is whole");
        assert_eq!(read.complete, 1);
        for line in String::from_utf8(read.gaps).expect("UTF-8").lines() {
            assert!(line.trim().is_empty() || line.starts_with("--"), "not read: {line}");
        }
        let rows = postgres.ask("nasty", "COPY app.plain TO STDOUT");
        let copy = read.copies.iter().find(|(statement, _)| statement.starts_with("COPY app.plain ("));
        assert_eq!(copy.expect("it was dumped").1, format!("{rows}\n").as_bytes());
        assert_eq!(
            read.metas.contains(&Meta::Connect { database: "nasty".into() }),
            arguments == ["--create"]
        );
        assert!(read.metas.contains(&Meta::Restrict));
    }
}

#[test]
fn psql_splits_a_dump_in_the_same_places() {
    let postgres = Postgres::nasty();
    for arguments in [&[][..], &["--inserts"], &["--column-inserts", "--rows-per-insert=7"]] {
        let bytes = postgres.dump("nasty", arguments);
        let mut reader = SqlReader::new(&bytes[..], Limits::default());
        let (mut ours, mut inserts) = (String::new(), 0);
        while let Some(event) = reader.next_event().expect("the dump is whole") {
            let sql = match &event {
                Event::Statement(statement) => statement.sql,
                Event::CopyStart(copy) => &copy.statement,
                _ => continue,
            };
            inserts += usize::from(sql.starts_with("INSERT "));
            ours.push_str(sql);
            ours.push('\n');
        }
        assert_eq!(inserts > 700, !arguments.is_empty());
        assert!(ours == postgres.echo_of_psql(&bytes), "psql sends other statements");
    }
}

#[test]
fn kinds_say_what_statements_are() {
    let postgres = Postgres::nasty();
    let read = read_all(&postgres.dump("nasty", &[])).expect("the dump is whole");
    let count = |kind: Kind| read.kinds.iter().filter(|k| **k == kind).count();
    assert_eq!(count(Kind::CreateTable), 9);
    assert_eq!(count(Kind::ForeignKey), 1);
    assert_eq!(count(Kind::Constraint), 2);
    assert_eq!(count(Kind::CreateIndex), 1);
    assert_eq!(count(Kind::CreatePolicy), 1);
    assert_eq!(count(Kind::RowSecurity), 1);
    assert_eq!(count(Kind::CreateTrigger), 1);
    assert_eq!(count(Kind::CreateEventTrigger), 1);
    assert_eq!(count(Kind::SetSequence), 2);
    assert_eq!(count(Kind::Refresh), 1);
    assert_eq!(count(Kind::SetConfig), 1);
    assert_eq!(count(Kind::CreateSchema), 2);
}

#[test]
fn a_dump_is_opened_through_gzip_and_zstd() {
    use std::io::Write;
    let postgres = Postgres::nasty();
    let bytes = postgres.dump("nasty", &[]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).expect("memory takes it");
    let gzip = gzip.finish().expect("memory takes it");
    let zstd = zstd::encode_all(&bytes[..], 1).expect("memory takes it");
    let both = zstd::encode_all(&gzip[..], 1).expect("memory takes it");
    let parts = [&gzip[..], &gzip[..]].concat();
    for (wrapped, times) in [(bytes.clone(), 1), (gzip, 1), (zstd, 1), (both, 1), (parts, 2)] {
        let Dump::Plain(mut reader) =
            open(std::io::Cursor::new(wrapped), Limits::default()).expect("it opens")
        else {
            panic!("a plain dump");
        };
        let mut complete = 0;
        while let Some(event) = reader.next_event().expect("the dump is whole") {
            complete += usize::from(event == Event::Complete);
        }
        assert_eq!(complete, times);
    }
}

#[test]
fn rows_can_be_passed_over() {
    let postgres = Postgres::nasty();
    let bytes = postgres.dump("nasty", &[]);
    let mut reader = SqlReader::new(&bytes[..], Limits::default());
    let (mut skipped, mut statements) = (0, 0);
    while let Some(event) = reader.next_event().expect("the dump is whole") {
        match event {
            Event::CopyStart(_) => skipped += reader.skip_copy().expect("the rows are whole"),
            Event::Statement(_) => statements += 1,
            Event::CopyRows(_) | Event::CopyEnd => panic!("they were passed over"),
            Event::Meta(_) | Event::Complete => {}
        }
    }
    let read = read_all(&bytes).expect("the dump is whole");
    assert_eq!(statements, read.statements.len());
    assert_eq!(skipped, read.copies.iter().map(|(_, rows)| rows.len() as u64).sum::<u64>());
}

#[test]
fn psql_splits_in_the_same_places_when_backslashes_escape() {
    let postgres = Postgres::nasty();
    postgres.sql("nasty", "ALTER DATABASE nasty SET standard_conforming_strings = off");
    let bytes = postgres.dump("nasty", &["--inserts"]);
    let mut reader = SqlReader::new(&bytes[..], Limits::default());
    let mut ours = String::new();
    while let Some(event) = reader.next_event().expect("the dump is whole") {
        if let Event::Statement(statement) = event {
            ours.push_str(statement.sql);
            ours.push('\n');
        }
    }
    assert!(ours.contains("SET standard_conforming_strings = off;"));
    assert!(ours == postgres.echo_of_psql(&bytes), "psql sends other statements");
}
