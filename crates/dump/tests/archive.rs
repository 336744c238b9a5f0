//! Archives by the real pg_dump, against what the real pg_restore makes of them.

mod support;

use std::collections::BTreeMap;

use runbook_dump::order::{Part, Plan};
use runbook_dump::script::Script;
use runbook_dump::{
    ArchiveReader, Block, Compression, DataOffset, Dump, DumpError, Event, LargeObjectEvent, Limits,
    SqlReader, open,
};
use support::Postgres;

/// All data of an archive.
#[derive(Default, Debug, PartialEq)]
struct Data {
    rows: BTreeMap<String, Vec<u8>>,
    inserts: Vec<String>,
    objects: BTreeMap<u32, Vec<u8>>,
}

fn data_of(archive: &[u8]) -> Result<Data, DumpError> {
    let mut reader = ArchiveReader::new(archive, Limits::default())?;
    let mut data = Data::default();
    while let Some(block) = reader.next_block()? {
        match block {
            Block::Table { entry, mut rows } => {
                let mut all = Vec::new();
                while let Some(some) = rows.next_rows()? {
                    assert!(some.ends_with(b"\n"));
                    all.extend_from_slice(some);
                }
                assert!(data.rows.insert(entry.copy_stmt.trim_end().to_owned(), all).is_none());
            }
            Block::Inserts { mut statements, .. } => {
                while let Some(statement) = statements.next_statement()? {
                    data.inserts.push(statement.sql.to_owned());
                }
            }
            Block::LargeObjects { mut objects, .. } => {
                let mut now = 0;
                while let Some(event) = objects.next_event()? {
                    match event {
                        LargeObjectEvent::Start { oid } => {
                            now = oid;
                            assert!(data.objects.insert(oid, Vec::new()).is_none());
                        }
                        LargeObjectEvent::Bytes(bytes) => {
                            data.objects.get_mut(&now).expect("begun").extend_from_slice(bytes);
                        }
                        LargeObjectEvent::End => now = 0,
                    }
                }
            }
        }
    }
    Ok(data)
}

/// The same, read from the script that pg_restore writes; and all other statements of that script.
fn data_of_script(script: &[u8]) -> (Data, Vec<String>) {
    let mut reader = SqlReader::new(script, Limits::default());
    let (mut data, mut statements, mut table, mut object) = (Data::default(), Vec::new(), String::new(), 0);
    while let Some(event) = reader.next_event().expect("pg_restore writes a whole script") {
        match event {
            Event::CopyStart(copy) => {
                table = copy.statement;
                data.rows.insert(table.clone(), Vec::new());
            }
            Event::CopyRows(rows) => data.rows.get_mut(&table).expect("begun").extend_from_slice(rows),
            Event::Statement(statement) => match statement.sql {
                sql if sql.starts_with("INSERT ") => data.inserts.push(sql.to_owned()),
                "BEGIN;" | "COMMIT;" => {}
                sql => match sql.strip_prefix("SELECT pg_catalog.lo") {
                    Some(call) if !call.starts_with("_create") => lo_call(call, &mut object, &mut data),
                    _ => statements.push(sql.to_owned()),
                },
            },
            Event::CopyEnd | Event::Meta(_) | Event::Complete => {}
        }
    }
    (data, statements)
}

fn lo_call(call: &str, object: &mut u32, data: &mut Data) {
    if let Some(rest) = call.strip_prefix("_open('") {
        *object = rest.split('\'').next().and_then(|oid| oid.parse().ok()).expect("an OID");
        data.objects.insert(*object, Vec::new());
    } else if let Some(rest) = call.strip_prefix("write(0, '\\x") {
        let hex = rest.trim_end_matches("');").as_bytes();
        let byte =
            |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex");
        data.objects.get_mut(object).expect("open").extend(hex.chunks(2).map(byte));
    }
}

/// pg_restore quotes a name only where it must, and before PostgreSQL 16 says TABLE for all relations; ours never.
fn plain_names(sql: &str) -> String {
    let owner = sql.starts_with("ALTER ") && sql.contains(" OWNER TO ");
    if !owner && !sql.contains(" SET ACCESS METHOD ") {
        return sql.to_owned();
    }
    let relations = ["ALTER MATERIALIZED VIEW ", "ALTER VIEW ", "ALTER SEQUENCE ", "ALTER FOREIGN TABLE "];
    let rest = relations.iter().find_map(|relation| sql.strip_prefix(relation));
    let sql = rest.map_or(sql.to_owned(), |rest| format!("ALTER TABLE {rest}"));
    let simple = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b == b'1')
    };
    let odd = |(index, part): (usize, &str)| match index % 2 == 1 && !simple(part) {
        true => format!("\"{part}\""),
        false => part.to_owned(),
    };
    sql.split('"').enumerate().map(odd).collect()
}

fn statements_of(archive: &[u8], with_database: bool) -> Vec<String> {
    let reader = ArchiveReader::new(archive, Limits::default()).expect("it opens");
    let plan = Plan::new(reader.toc(), with_database);
    let mut script = Script::new(reader.toc());
    let sql: String = plan.iter().map(|item| script.entry(item.entry)).collect();
    let sql = format!("{sql}\n--\n-- PostgreSQL database dump complete\n--\n");
    data_of_script(sql.as_bytes()).1
}

#[test]
fn data_and_statements_are_those_of_pg_restore() {
    let postgres = Postgres::nasty();
    for arguments in
        [&["-Fc"][..], &["-Fc", "-Z0"], &["-Fc", "-Z9"], &["-Fc", "--inserts"], &["-Fc", "--clean"]]
    {
        let archive = postgres.dump("nasty", arguments);
        let ours = data_of(&archive).expect("the archive is whole");
        let (theirs, statements) = data_of_script(&postgres.restore_script(&archive, &[]));
        assert!(ours == theirs, "other data with {arguments:?}");
        assert_eq!(ours.objects.len(), 5);
        assert_eq!(ours.rows.is_empty(), arguments.contains(&"--inserts"));
        let set =
            |sql: &&String| !sql.starts_with("SET ") && !sql.starts_with("SELECT pg_catalog.set_config");
        let theirs: Vec<_> = statements.iter().filter(set).map(|sql| plain_names(sql)).collect();
        let ours = statements_of(&archive, false);
        let ours: Vec<_> = ours.iter().filter(set).map(|sql| plain_names(sql)).collect();
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(ours.len(), theirs.len());
    }
}

/// pg_dump 16 and later, when built with them; archives made by hand are read in `damage.rs` in any case.
#[test]
fn every_compression_of_this_pg_dump_is_read_as_pg_restore_reads_it() {
    let postgres = Postgres::nasty();
    let rows: String = (0..60_000).map(|n| format!("{n}\trow {} of many\n", n % 1013)).collect();
    postgres.sql(
        "nasty",
        &format!("CREATE TABLE public.many (n integer, t text);\nCOPY public.many FROM stdin;\n{rows}\\.\n"),
    );
    for method in ["gzip", "lz4", "lz4:9", "zstd", "zstd:1"] {
        let arguments = ["-Fc", &format!("--compress={method}")];
        let Some(archive) = postgres.try_dump("nasty", &arguments) else { continue };
        let ours = data_of(&archive).expect("the archive is whole");
        assert!(ours.rows.values().any(|found| found == rows.as_bytes()), "{method}");
        let (theirs, _) = data_of_script(&postgres.restore_script(&archive, &[]));
        assert!(ours == theirs, "other data with {method}");
    }
}

#[test]
fn a_file_has_offsets_and_a_pipe_has_none() {
    let postgres = Postgres::nasty();
    for (archive, seekable) in
        [(postgres.dump_to_file("nasty", &["-Fc"]), true), (postgres.dump("nasty", &["-Fc"]), false)]
    {
        let mut reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it opens");
        // Nothing is read from the blocks: they are passed over.
        while reader.next_block().expect("the archive is whole").is_some() {}
        let mut end = reader.data_start();
        for span in reader.spans() {
            let entry = reader.entry(span.dump_id).expect("it has an entry");
            let expected = if seekable { DataOffset::At(span.offset) } else { DataOffset::Unknown };
            assert_eq!(entry.offset, expected);
            assert_eq!(span.offset, end, "blocks follow each other");
            end += span.length.expect("it was read");
        }
        assert_eq!(end, archive.len() as u64);
        assert_eq!(reader.spans().len(), reader.toc().iter().filter(|entry| entry.had_dumper).count());
    }
}

#[test]
fn the_header_says_what_was_dumped() {
    let postgres = Postgres::nasty();
    let archive = postgres.dump("nasty", &["-Fc", "-Z0"]);
    let reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it opens");
    let header = reader.header();
    assert_eq!(header.database, "nasty");
    assert_eq!(header.compression, Compression::None);
    assert!(postgres.ask("nasty", "SHOW server_version").starts_with(&header.server_version));
    assert_eq!(header.created_at.year.to_string(), postgres.ask("nasty", "SELECT extract(year FROM now())"));
    assert_eq!(reader.encoding(), None);
    let entry = reader.toc().iter().find(|entry| entry.desc == "TABLE DATA" && entry.tag.contains('\n'));
    let copy = entry.expect("the table with the odd name").copy().expect("a COPY statement");
    assert_eq!(copy.table.schema.as_deref(), Some("odd;schema"));
    assert_eq!(copy.table.name, "new\nline; \"quoted\" $x$ -- name");
    assert_eq!(copy.columns.expect("columns"), ["column;\none", "Select", "a,b)(c"]);
}

#[test]
fn an_archive_is_opened_through_gzip_and_zstd() {
    use std::io::Write;
    let postgres = Postgres::nasty();
    let archive = postgres.dump("nasty", &["-Fc", "-Z0"]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive).expect("memory takes it");
    let gzip = gzip.finish().expect("memory takes it");
    let zstd = zstd::encode_all(&archive[..], 1).expect("memory takes it");
    for wrapped in [gzip, zstd] {
        let Dump::Archive(mut reader) =
            open(std::io::Cursor::new(wrapped), Limits::default()).expect("it opens")
        else {
            panic!("an archive");
        };
        let mut blocks = 0;
        while reader.next_block().expect("the archive is whole").is_some() {
            blocks += 1;
        }
        assert!(blocks > 8);
    }
}

#[test]
fn the_whole_archive_restores_from_the_plan_and_the_rows() {
    let postgres = Postgres::nasty();
    let archive = postgres.dump("nasty", &["-Fc"]);
    let data = data_of(&archive).expect("the archive is whole");
    let reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it opens");
    let mut script = Script::new(reader.toc());
    let mut sql = Script::preamble(reader.toc()).into_bytes();
    for item in Plan::new(reader.toc(), false).iter() {
        sql.extend_from_slice(script.entry(item.entry).as_bytes());
        if let Some(rows) = data.rows.get(item.entry.copy_stmt.trim_end()) {
            sql.extend_from_slice(format!("{}\n", item.entry.copy_stmt.trim_end()).as_bytes());
            sql.extend_from_slice(rows);
            sql.extend_from_slice(b"\\.\n");
        }
    }
    postgres.sql("postgres", "CREATE DATABASE again");
    postgres.sql_bytes("again", &sql);
    for arguments in [&["--schema-only"][..], &["--data-only", "--no-blobs"]] {
        let strip = |dump: Vec<u8>| {
            let text = String::from_utf8(dump).expect("UTF-8");
            text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
        };
        assert!(strip(postgres.dump("nasty", arguments)) == strip(postgres.dump("again", arguments)));
    }
}

#[test]
fn escapes_in_plain_literals_are_read_as_the_dump_was_written() {
    let postgres = Postgres::nasty();
    postgres.sql("nasty", "ALTER DATABASE nasty SET standard_conforming_strings = off");
    let archive = postgres.dump("nasty", &["-Fc", "--inserts"]);
    let ours = data_of(&archive).expect("the archive is whole");
    let (theirs, _) = data_of_script(&postgres.restore_script(&archive, &[]));
    assert!(ours.inserts == theirs.inserts, "other statements");
    assert!(ours.inserts.iter().any(|sql| sql.contains("\\\\.")), "backslashes are doubled");
}

#[test]
fn rows_that_go_in_through_the_partition_root_are_known() {
    let postgres = Postgres::nasty();
    for (arguments, expected) in [(&["-Fc"][..], 0), (&["-Fc", "--load-via-partition-root"], 2)] {
        let archive = postgres.dump("nasty", arguments);
        let reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it opens");
        let data = reader.toc().iter().filter(|entry| entry.is_table_data());
        assert_eq!(data.filter(|entry| entry.is_via_partition_root()).count(), expected);
    }
}

#[test]
fn the_parts_of_a_plan_come_in_order() {
    let postgres = Postgres::nasty();
    let archive = postgres.dump("nasty", &["-Fc"]);
    let reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it opens");
    let plan = Plan::new(reader.toc(), false);
    let parts: Vec<Part> = plan.iter().map(|item| item.part).collect();
    assert!(parts.is_sorted());
    let descs = |part: Part| plan.part(part).map(|entry| entry.desc.as_str()).collect::<Vec<_>>();
    assert!(descs(Part::PreData).contains(&"TABLE"));
    assert!(descs(Part::Data).contains(&"SEQUENCE SET"));
    assert!(descs(Part::PostData).contains(&"POLICY"));
    assert!(descs(Part::Acl).iter().all(|desc| desc.ends_with("ACL")));
    assert_eq!(descs(Part::Refresh), ["EVENT TRIGGER", "COMMENT", "MATERIALIZED VIEW DATA"]);
    assert!(plan.iter().all(|item| !item.entry.is_setting() && !item.entry.is_database()));
    assert_eq!(Plan::new(reader.toc(), true).iter().filter(|item| item.entry.is_database()).count(), 1);
}
