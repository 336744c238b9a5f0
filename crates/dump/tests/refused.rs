//! What a plain dump may not hold, refused by name and never executed.

use runbook_dump::{Dump, DumpError, Event, Format, Limits, Meta, SqlReader, open};

const HEAD: &str = "--\n-- PostgreSQL database dump\n--\n\n";
const END: &str = "--\n-- PostgreSQL database dump complete\n--\n\n";

/// Reads all; the texts of statements and the rows.
fn read(bytes: &[u8]) -> Result<Vec<String>, DumpError> {
    let mut seen = Vec::new();
    let mut reader = SqlReader::new(bytes, Limits::default());
    while let Some(event) = reader.next_event()? {
        match event {
            Event::Statement(statement) => seen.push(statement.sql.to_owned()),
            Event::CopyRows(rows) => seen.push(String::from_utf8_lossy(rows).into_owned()),
            Event::Meta(meta) => seen.push(format!("{meta:?}")),
            Event::CopyStart(_) | Event::CopyEnd | Event::Complete => {}
        }
    }
    Ok(seen)
}

fn dump(middle: &str) -> Result<Vec<String>, DumpError> {
    read(format!("{HEAD}{middle}{END}").as_bytes())
}

#[test]
fn psql_commands_are_refused_and_no_file_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let pwned = dir.path().join("pwned");
    let touch = format!("\\! touch {}\n", pwned.display());
    for middle in [
        touch.clone(),
        format!("SELECT 1;\n{touch}"),
        format!("SELECT 1 {touch};\n"),
        format!("SELECT 1; {touch}"),
        format!("  {touch}"),
        format!("CREATE TABLE t (\n{touch});\n"),
        format!("\\restrict key\n{touch}\\unrestrict key\n"),
        format!("COPY t FROM stdin;\na\n\\.\n{touch}"),
    ] {
        match dump(&middle) {
            Err(DumpError::MetaCommand { command, .. }) => assert_eq!(command, "\\!"),
            other => panic!("{middle}: {other:?}"),
        }
    }
    let unrestrict = format!("\\restrict key\n\\unrestrict `touch {}`\n", pwned.display());
    assert!(matches!(dump(&unrestrict), Err(DumpError::MetaCommand { .. })));
    assert!(!pwned.exists());
}

#[test]
fn commands_inside_literals_and_rows_are_data() {
    let seen = dump(
        "SELECT '\n\\! touch pwned\n\\.\n\\connect evil\n';\nCOPY t FROM stdin;\n\\\\! touch pwned\n\\.\n",
    );
    assert_eq!(
        seen.expect("it is whole"),
        ["SELECT '\n\\! touch pwned\n\\.\n\\connect evil\n';", "\\\\! touch pwned\n"]
    );
}

#[test]
fn restrict_and_unrestrict_must_belong_together() {
    assert!(
        dump("\\restrict a\nSELECT 1;\n\\unrestrict a\n\\connect db\n\\restrict b\n\\unrestrict b\n").is_ok()
    );
    assert!(matches!(dump("\\restrict a\n\\unrestrict b\n"), Err(DumpError::Restrict { line: 6, .. })));
    assert!(matches!(dump("\\unrestrict b\n"), Err(DumpError::Restrict { .. })));
    assert!(matches!(dump("\\restrict a\n"), Err(DumpError::CutOff { .. })));
    assert!(matches!(dump("\\restrict a\n\\connect db\n"), Err(DumpError::MetaCommand { .. })));
    assert!(matches!(dump("\\restrict a\n\\restrict a\n"), Err(DumpError::MetaCommand { .. })));
}

#[test]
fn a_database_with_an_odd_name_is_connected_to() {
    let seen = dump("\\connect -reuse-previous=on \"dbname='odd '\"\n").expect("it is whole");
    assert_eq!(seen, [format!("{:?}", Meta::Connect { database: "odd ".into() })]);
}

#[test]
fn converted_line_ends_are_refused_wherever_they_show() {
    let whole = format!("{HEAD}CREATE TABLE t (\n a text);\nCOPY t FROM stdin;\na\n\\.\n{END}");
    assert!(read(whole.as_bytes()).is_ok());
    let crlf = whole.replace('\n', "\r\n");
    assert!(matches!(read(crlf.as_bytes()), Err(DumpError::CarriageReturn { line: 1 })));
    for (wrong, at) in [
        ("SELECT 1\r\n;\n", 5),
        ("SELECT 1;\r\n", 5),
        ("COPY t FROM stdin;\r\na\n\\.\n", 5),
        ("COPY t FROM stdin;\na\nb\r\n\\.\n", 7),
        ("COPY t FROM stdin;\na\n\\.\r\n", 7),
        ("-- x\r\n", 5),
        ("\\restrict a\r\n", 5),
    ] {
        match dump(wrong) {
            Err(DumpError::CarriageReturn { line }) => assert_eq!(line, at, "{wrong:?}"),
            other => panic!("{wrong:?}: {other:?}"),
        }
    }
    // Inside a literal it is the author's own.
    assert!(dump("SELECT 'a\r\nb', $$\r\n$$;\n").is_ok());
}

#[test]
fn bytes_that_no_dump_holds_are_refused() {
    for wrong in ["SELECT '\0';\n", "\0", "-- \0\n", "/* \0 */"] {
        assert!(matches!(dump(wrong), Err(DumpError::Nul { line: 5 })), "{wrong:?}");
    }
    for wrong in
        ["COPY t FROM stdin;\n\\.x\n\\.\n", "COPY t FROM '/etc/passwd';\n", "COPY t FROM stdin; SELECT 1;\n"]
    {
        assert!(matches!(dump(wrong), Err(DumpError::Malformed { .. })), "{wrong:?}");
    }
}

#[test]
fn another_encoding_is_named() {
    let latin = |set: &str, text: &[u8]| {
        read(&[HEAD.as_bytes(), set.as_bytes(), b"\nSELECT '", text, b"';\n", END.as_bytes()].concat())
    };
    assert!(matches!(latin("", b"\xe9"), Err(DumpError::Encoding { encoding: None, .. })));
    assert!(latin("SET client_encoding = 'LATIN1';", b"e").is_ok());
    match latin("SET client_encoding = 'LATIN1';", b"\xe9") {
        Err(error @ DumpError::Encoding { .. }) => assert!(error.to_string().contains("LATIN1"), "{error}"),
        other => panic!("{other:?}"),
    }
    match latin("SET client_encoding TO SJIS;", b"e") {
        Err(error @ DumpError::Unsupported { .. }) => assert!(error.to_string().contains("SJIS"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn limits_hold() {
    let limits = Limits { statement_bytes: 1000, row_bytes: 1000, rows_bytes: 64, ..Limits::default() };
    let long = "x".repeat(200_000);
    for (text, too_long) in [
        (format!("SELECT '{long}';\n"), "a statement"),
        (format!("COPY t FROM stdin;\n{long}\n\\.\n"), "a row"),
        (format!("/* {long} */"), "a comment"),
    ] {
        // All in one read it may be seen whole; from a stream in small pieces it must not be kept.
        let bytes = format!("{HEAD}{text}{}{END}", "-- more\n".repeat(100_000));
        let mut reader = SqlReader::new(bytes.as_bytes(), limits);
        let error = loop {
            match reader.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{too_long} passed"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DumpError::TooLarge { what, .. } if what == too_long), "{error}");
    }
}

#[test]
fn data_that_explodes_is_refused() {
    let spaces = [HEAD.as_bytes(), &vec![b' '; 200 << 20]].concat();
    let bomb = zstd::encode_all(&spaces[..], 3).expect("memory takes it");
    let Dump::Plain(mut reader) =
        open(std::io::Cursor::new(bomb), Limits::default()).expect("it is SQL so far")
    else {
        panic!("not an archive");
    };
    assert!(matches!(reader.next_event(), Err(DumpError::TooLarge { .. })));
}

#[test]
fn formats_are_told_by_their_bytes() {
    let mut tar = vec![0; 600];
    tar[..7].copy_from_slice(b"toc.dat");
    tar[257..262].copy_from_slice(b"ustar");
    for (bytes, expected) in [
        (&b""[..], Format::Empty),
        (b"<html>", Format::Unknown),
        (b"{\"error\": 1}", Format::Unknown),
        (b"\x04\x22\x4d\x18rest", Format::Lz4),
        (&tar, Format::Tar),
        (b"--\n-- PostgreSQL database cluster dump\n--\n", Format::Cluster),
    ] {
        let Err(DumpError::Format { found }) = open(std::io::Cursor::new(bytes.to_vec()), Limits::default())
        else {
            panic!("{expected} was not refused");
        };
        assert_eq!(found, expected);
    }
    for text in ["SET session_replication_role = replica;\n", "\n\n--\n", "/* x */", "\\restrict x\n", HEAD] {
        assert_eq!(Format::of(text.as_bytes()), Format::Plain);
    }
    let mut layers = HEAD.as_bytes().to_vec();
    for _ in 0..3 {
        layers = zstd::encode_all(&layers[..], 1).expect("memory takes it");
    }
    assert!(matches!(
        open(std::io::Cursor::new(layers), Limits::default()),
        Err(DumpError::Unsupported { .. })
    ));
}

#[test]
fn a_dump_without_comments_ends_with_reset_all() {
    assert!(read(b"SET x = 1;\nSELECT 1;\nRESET ALL;\n").is_ok());
    assert!(matches!(read(b"SET x = 1;\nSELECT 1;\n"), Err(DumpError::CutOff { .. })));
    assert!(matches!(read(b"RESET ALL;\nSELECT 1;\n"), Err(DumpError::CutOff { .. })));
    // With pg_dump's own comments in place, only its own end counts.
    assert!(matches!(read(format!("{HEAD}RESET ALL;\n").as_bytes()), Err(DumpError::CutOff { .. })));
    assert!(read(format!("{HEAD}SELECT 1;\n{END}RESET ALL;\n").as_bytes()).is_ok());
    assert!(matches!(
        read(format!("{HEAD}{END}{HEAD}SELECT 1;\n").as_bytes()),
        Err(DumpError::CutOff { .. })
    ));
}

#[test]
fn a_failing_source_is_not_called_a_damaged_dump() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "connection lost"))
        }
    }
    use std::io::Read;
    let gzip = &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..];
    for head in [&b""[..], HEAD.as_bytes(), gzip, b"PGDMP\x01\x0e"] {
        let source = std::io::Cursor::new(head.to_vec()).chain(Broken);
        let error = match open(source, Limits::default()) {
            Ok(Dump::Plain(mut reader)) => reader.next_event().map(|_| ()).expect_err("it fails"),
            Ok(Dump::Archive(_)) => panic!("there is no archive"),
            Err(error) => error,
        };
        assert!(matches!(error, DumpError::Read { .. }), "{error}");
    }
}
