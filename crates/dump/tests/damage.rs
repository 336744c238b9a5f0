//! Damaged dumps: cut at every byte, bits turned over, bytes at random. An error, never a panic, never a short success.

mod support;

use std::io::Write;

use proptest::prelude::*;
use runbook_dump::{ArchiveReader, DumpError, Event, Limits, SqlReader};
use support::Postgres;
use support::build::Archive;
use support::read::{Trickle, archive, plain, read};

const SMALL: &str = "CREATE TABLE public.t (a text, b integer);
    INSERT INTO public.t VALUES (E'a\\n\\\\.\\n', 1), ('it''s', 2);
    CREATE FUNCTION public.f() RETURNS text LANGUAGE sql AS 'SELECT ''x;''::text';
    COMMENT ON TABLE public.t IS E'\\\\! touch pwned\\n--\\n-- PostgreSQL database dump complete\\n--\\n';
    SELECT lo_from_bytea(4711, 'object'), lo_from_bytea(4712, '');";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(bytes).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

/// Every dump of the small database, and archives of all versions and compressions.
fn dumps() -> Vec<Vec<u8>> {
    let postgres = Postgres::start();
    postgres.sql("postgres", SMALL);
    let text = postgres.dump("postgres", &[]);
    let archive = postgres.dump("postgres", &["-Fc"]);
    let mut dumps =
        vec![gzip(&text), zstd::encode_all(&text[..], 3).expect("memory takes it"), gzip(&archive)];
    dumps.extend([text, archive]);
    for arguments in [&["-Fc", "-Z0"][..], &["-Fc", "--inserts"], &["--inserts"]] {
        dumps.push(postgres.dump("postgres", arguments));
    }
    dumps.push(postgres.dump_to_file("postgres", &["-Fc"]));
    dumps.extend(built().into_iter().map(|archive| archive.bytes()));
    dumps
}

fn built() -> Vec<Archive> {
    let shapes = [
        (12, 0),
        (13, 1),
        (14, 0),
        (14, 1),
        (15, 0),
        (15, 1),
        (15, 2),
        (15, 3),
        (16, 0),
        (16, 1),
        (16, 2),
        (16, 3),
    ];
    let archive = |(minor, compression)| Archive {
        minor,
        compression,
        tables: vec![b"one\ntwo\\nlines\n", b"", b"\\\\.\n"],
        objects: vec![(7, b"seven"), (8, b""), (-1, b"the last OID")],
    };
    shapes.into_iter().map(archive).collect()
}

#[test]
fn a_dump_cut_at_any_byte_is_an_error() {
    for dump in dumps() {
        read(&dump, Limits::default()).expect("the dump is whole");
        let end = dump.trim_ascii_end().len();
        let is_text = dump.starts_with(b"--");
        for cut in 0..dump.len() {
            // The empty lines at the end of SQL text are no loss.
            let harmless = is_text && cut >= end;
            let result = read(&dump[..cut], Limits::default());
            assert_eq!(result.is_ok(), harmless, "cut at {cut} of {}", dump.len());
        }
    }
}

#[test]
fn a_cut_is_called_a_cut() {
    for dump in dumps() {
        // Within the first bytes one cannot know what it would have been.
        let called = (16..dump.trim_ascii_end().len()).filter(|cut| {
            let error = read(&dump[..*cut], Limits::default()).expect_err("it is cut");
            matches!(error, DumpError::CutOff { .. })
        });
        let all = dump.trim_ascii_end().len() - 16;
        // What is left: a key of `\unrestrict` cut short, which is a wrong key; an end mark or CR LF cut in two.
        assert!(called.count() + 80 >= all);
    }
}

#[test]
fn turned_bits_never_panic() {
    for dump in dumps() {
        for at in 0..dump.len() {
            for bit in [0, 6] {
                let mut damaged = dump.clone();
                damaged[at] ^= 1 << bit;
                let _ = read(&damaged, Limits::default());
            }
        }
    }
}

#[test]
fn archives_of_all_versions_hold_the_same() {
    for archive in built() {
        let seen = read(&archive.bytes(), Limits::default()).expect("the archive is whole");
        let rows = seen.iter().filter(|seen| seen.starts_with('[')).count();
        assert_eq!(rows, 2 + 1, "two tables have rows, and there are the spans");
        assert!(seen.contains(&"Start { oid: 4294967295 }".to_owned()));
        for object in ["seven End", " End", "the last OID End"] {
            assert!(seen.contains(&object.to_owned()));
        }
    }
}

#[test]
fn other_versions_and_compressions_are_refused_by_name() {
    for (minor, compression, name) in
        [(15, 4, "compression algorithm 4"), (17, 1, "archive version 1.17"), (11, 1, "version 1.11")]
    {
        let archive = Archive { minor, compression, tables: vec![b"one\n"], objects: vec![] };
        let error = read(&archive.bytes(), Limits::default()).expect_err("it is refused");
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// Pieces of which SQL that is hard to split is made.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "'",
        "''",
        "\"",
        "$",
        "$$",
        "$a$",
        "$a",
        "E'",
        "e'\\'",
        "\\",
        "\\\\",
        "U&'",
        "U&\"",
        "b'",
        "N'",
        ";",
        ";\n",
        "(",
        ")",
        "--",
        "--\n",
        "-- x\n",
        "/*",
        "*/",
        "\n",
        "\r",
        "\r\n",
        " ",
        "CREATE ",
        "OR REPLACE ",
        "FUNCTION ",
        "BEGIN ",
        "ATOMIC ",
        "CASE ",
        "END",
        "a",
        "x$1",
        "1",
        "1e",
        "COPY t FROM stdin;\n",
        "COPY \"a\"\"b\".t (x, \"y z\") FROM stdin;\n",
        "row\n",
        "\\.\n",
        "\\.",
        "\\restrict k\n",
        "\\unrestrict k\n",
        "\\connect d\n",
        "\\! touch pwned\n",
        "SET standard_conforming_strings = off;\n",
        "SET client_encoding = 'LATIN1';\n",
        "RESET ALL;\n",
        "é",
        "\0",
        "-- PostgreSQL database dump\n",
        "-- PostgreSQL database dump complete\n--\n",
        "INSERT INTO t VALUES ('",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat().into_bytes())
}

/// What a reader saw, and how it ended.
fn outcome(bytes: &[u8], step: usize, limits: Limits) -> String {
    let mut seen = Vec::new();
    let mut reader = SqlReader::new(Trickle { bytes, step }, limits);
    let end = plain(&mut reader, &mut seen);
    format!("{seen:?} {end:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sql_is_split_alike_however_its_bytes_arrive(bytes in pieces(), step in 1_usize..9, rows in 1_usize..40) {
        let limits = Limits { rows_bytes: rows, ..Limits::default() };
        prop_assert_eq!(outcome(&bytes, step, limits), outcome(&bytes, usize::MAX, limits));
    }

    #[test]
    fn bytes_at_random_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), known in 0_usize..4) {
        let heads: [&[u8]; 4] = [b"", b"PGDMP\x01\x0e\x00\x04\x08\x01", b"PGDMP\x01\x10\x00\x04\x08\x01\x01", b"-- x\n"];
        let _ = read(&[heads[known], &bytes].concat(), Limits::default());
    }

    #[test]
    fn a_damaged_archive_reads_alike_however_its_bytes_arrive(
        which in 0_usize..10, at in any::<prop::sample::Index>(), byte in any::<u8>(), step in 1_usize..9
    ) {
        let mut bytes = built()[which].bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let outcome = |step| {
            let mut seen = Vec::new();
            let reader = ArchiveReader::new(Trickle { bytes: &bytes, step }, Limits::default());
            let end = reader.and_then(|mut reader| archive(&mut reader, &mut seen));
            format!("{:?} {:?}", seen.get(1..), end.map_err(|error| error.to_string()))
        };
        prop_assert_eq!(outcome(step), outcome(usize::MAX));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_in_parts_are_the_same_rows(
        rows in prop::collection::vec("[a-c.\\\\\\\\\t]{0,60}", 0..12), step in 1_usize..9, bytes in 1_usize..40
    ) {
        let text: String = rows.iter().filter(|row| !row.starts_with("\\.")).map(|row| format!("{row}\n")).collect();
        let head = "--\n-- PostgreSQL database dump\n--\n\n";
        let end = "--\n-- PostgreSQL database dump complete\n--\n";
        let dump = format!("{head}COPY t (a) FROM stdin;\n{text}\\.\n{end}");
        let limits = Limits { rows_bytes: bytes, parts: true, ..Limits::default() };
        let mut reader = SqlReader::new(Trickle { bytes: dump.as_bytes(), step }, limits);
        let (mut found, mut longest) = (Vec::new(), 0);
        while let Some(event) = reader.next_event().map_err(|error| TestCaseError::fail(error.to_string()))? {
            if let Event::CopyRows(part) = event {
                longest = longest.max(part.len());
                found.extend_from_slice(part);
            }
        }
        prop_assert_eq!(String::from_utf8(found).unwrap(), text);
        prop_assert!(longest <= bytes.max(4), "{}", longest);
    }
}
