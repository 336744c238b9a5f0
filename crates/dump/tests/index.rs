//! The side-car index against real archives: each block is found again by its place, and hashes and counts are those of
//! the rows.

mod support;

use runbook_dump::{
    ArchiveReader, Block, Contents, CutPart, DumpError, Index, IndexedTable, Indexer, Limits, RowStream,
    contents,
};
use sha2::{Digest as _, Sha256};
use support::Postgres;
use support::build::Archive;

fn indexed(archive: &[u8], piece: usize) -> Result<Contents, DumpError> {
    let mut indexer = Indexer::start(Limits::default()).expect("a thread");
    for bytes in archive.chunks(piece) {
        indexer.push(bytes.to_vec())?;
    }
    indexer.finish()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn each_table_of_a_real_archive_is_found_at_its_place_with_its_rows_and_hash() {
    let postgres = Postgres::nasty();
    for arguments in [&["-Fc"][..], &["-Fc", "-Z0"]] {
        let archive = postgres.dump("nasty", arguments);
        let found = indexed(&archive, 1000).unwrap();
        let index = Index::new(found.clone(), "a".repeat(64), archive.len() as u64);

        let mut reader = ArchiveReader::new(&archive[..], Limits::default()).unwrap();
        let mut tables = index.tables.iter();
        while let Some(block) = reader.next_block().unwrap() {
            let Block::Table { entry, mut rows } = block else { continue };
            let table = tables.next().unwrap();
            let (mut text, mut count) = (Vec::new(), 0);
            while let Some(lines) = rows.next_rows().unwrap() {
                text.extend_from_slice(lines);
                count += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            }
            assert_eq!((&table.name, Some(&table.schema)), (&entry.tag, entry.namespace.as_ref()));
            assert_eq!(table.columns, entry.copy().unwrap().columns.unwrap_or_default());
            assert_eq!((table.rows, &table.sha256), (count, &hex(&Sha256::digest(&text))));
            let at = usize::try_from(table.offset).unwrap();
            let end = at + usize::try_from(table.length).unwrap();
            // The block's own header: its type and its number, and at its end the chunk of length zero.
            assert_eq!(archive[at], 1);
            assert_eq!(archive[at + 2..at + 6], entry.dump_id.to_le_bytes());
            assert_eq!(archive[end - 5..end], [0; 5]);
        }
        assert_eq!(tables.next(), None);
        assert!(index.tables.len() > 3 && found.large_objects > 0, "{found:?}");
        let count = postgres.ask("nasty", "select count(*) from pg_largeobject_metadata");
        assert_eq!(found.large_objects.to_string(), count);

        let text = serde_json::to_string(&index).unwrap();
        assert!(text.starts_with(r#"{"version":1,"dump":{"sha256":"aaa"#), "{text}");
        assert_eq!(serde_json::from_str::<Index>(&text).unwrap(), index);
    }
}

#[test]
fn plain_and_packed_dumps_of_the_same_database_hold_the_same() {
    let postgres = Postgres::nasty();
    let of = |arguments: &[&str]| {
        let bytes = postgres.dump("nasty", arguments);
        contents(std::io::Cursor::new(bytes), Limits::default()).unwrap()
    };
    let (plain, packed, archive) = (of(&["-Fp"]), of(&["-Fp", "-Z6"]), of(&["-Fc"]));
    assert_eq!(plain, packed);
    assert_eq!((plain.rows(), plain.large_objects), (archive.rows(), archive.large_objects));
    let named = |found: &Contents| {
        let mut all: Vec<_> = found.tables.iter().map(|t| (t.name.clone(), t.sha256.clone())).collect();
        all.sort();
        all
    };
    assert_eq!(named(&plain), named(&archive));
}

#[test]
fn an_archive_that_is_cut_at_any_byte_has_no_index() {
    let archive =
        Archive { minor: 16, compression: 1, tables: vec![b"one\ntwo\n", b""], objects: vec![(7, b"x")] };
    let bytes = archive.bytes();
    assert_eq!(indexed(&bytes, 3).unwrap().rows(), 2);
    for end in 0..bytes.len() {
        assert!(indexed(&bytes[..end], 16).is_err(), "cut at {end} of {}", bytes.len());
    }
    let mut longer = bytes.clone();
    longer.push(b'x');
    assert!(indexed(&longer, 16).is_err(), "bytes after the last block");
}

/// Rows of a table, from one part alone.
fn part(archive: &[u8], table: &IndexedTable, part: &CutPart) -> Vec<u8> {
    let at = |offset: u64| usize::try_from(offset).expect("it fits");
    let reader = ArchiveReader::new(archive, Limits::default()).expect("a part");
    let wanted = at(part.text_bytes);
    let collect = |mut rows: RowStream<'_, &[u8]>, skip: u64| {
        let mut text = Vec::new();
        while text.len() < at(skip) + wanted {
            text.extend_from_slice(rows.next_rows().expect("a part").expect("the part goes on"));
        }
        text[at(skip)..at(skip) + wanted].to_vec()
    };
    match &part.begin {
        None => {
            let mut reader = reader.at_block(&archive[at(table.offset)..at(part.upto)], table.offset);
            let Some(Block::Table { rows, .. }) = reader.next_block().expect("a part") else {
                panic!("no rows")
            };
            collect(rows, 0)
        }
        Some(landmark) => {
            let mut resumed =
                reader.at_landmark(&archive[at(landmark.offset)..at(part.upto)], landmark).expect("a part");
            collect(resumed.rows(), part.text - landmark.text)
        }
    }
}

#[test]
fn a_large_table_is_read_in_parts_one_without_the_other_and_each_says_which_keys_it_has() {
    let postgres = Postgres::start();
    let sql = "create table big (id bigint primary key, key uuid not null unique, body text, wide text);
        insert into big select n, md5(n::text)::uuid, repeat(md5(n::text) || E'\\t\\\\', 1 + n % 20),
            case when n % 20000 = 0 then repeat('wide', 100000) end from generate_series(1, 90000) n;";
    postgres.ask("postgres", "create database big");
    postgres.ask("big", sql);
    let archive = postgres.dump("big", &["-Fc"]);
    let found = indexed(&archive, 100_000).unwrap();
    let index = Index::new(found, "a".repeat(64), archive.len() as u64);
    let index: Index = serde_json::from_str(&serde_json::to_string(&index).unwrap()).unwrap();
    let [table] = index.tables.as_slice() else { panic!("one table") };
    let cuts = table.cuts.as_ref().expect("it is large");
    assert!(cuts.parts.len() > 3 && cuts.parts[1..].iter().all(|part| part.begin.is_some()));
    let at = |column| cuts.keys.iter().position(|key| key == column).expect("it names a row");
    let (id, key) = (at("id"), at("key"));

    let (mut whole, mut elsewhere) = (Sha256::new(), 0);
    for (n, of) in cuts.parts.iter().enumerate() {
        let text = part(&archive, table, of);
        assert_eq!(hex(&Sha256::digest(&text)), of.sha256, "part {n}");
        whole.update(&text);
        for row in text.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()) {
            let values: Vec<_> = row.split(|byte| *byte == b'\t').take(2).collect();
            assert!(of.values[id].may_have(values[0]) && of.values[key].may_have(values[1]), "part {n}");
            let with =
                |at: usize, value| cuts.parts.iter().filter(|part| part.values[at].may_have(value)).count();
            // PostgreSQL fills gaps in earlier pages, so the parts' ranges overlap at their ends.
            assert!(with(id, values[0]) <= 2, "part {n}");
            elsewhere += with(key, values[1]) - 1;
        }
    }
    assert_eq!(hex(&whole.finalize()), table.sha256, "the parts are the table");
    assert!(
        elsewhere < 90_000 * cuts.parts.len() / 30,
        "{elsewhere} keys seem to be in a part that lacks them"
    );
}

/// Rows from the parts that an index names; an error, or other rows than the index says, is all that may come of a bad one.
fn read_all(archive: &[u8], index: &Index) {
    for (table, part) in index
        .tables
        .iter()
        .flat_map(|table| table.cuts.iter().flat_map(|cuts| &cuts.parts).map(move |part| (table, part)))
    {
        let range = |from: u64, to: u64| {
            archive
                .get(usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX))
        };
        let reader = ArchiveReader::new(archive, Limits::default()).expect("its table of contents");
        let Some(landmark) = &part.begin else { continue };
        let Some(bytes) = range(landmark.offset, part.upto.min(table.offset + table.length)) else {
            continue;
        };
        let Ok(mut resumed) = reader.at_landmark(bytes, landmark) else { continue };
        let mut rows = resumed.rows();
        while let Ok(Some(_)) = rows.next_rows() {}
    }
}

#[test]
fn an_index_that_was_written_by_somebody_else_is_an_error_and_no_more() {
    let postgres = Postgres::start();
    postgres.ask("postgres", "create database big");
    postgres.ask(
        "big",
        "create table big (id bigint primary key, body text);
         insert into big select n, repeat(md5(n::text), 5) from generate_series(1, 60000) n",
    );
    let archive = postgres.dump("big", &["-Fc"]);
    let found = indexed(&archive, 100_000).unwrap();
    let text = serde_json::to_string(&Index::new(found, "a".repeat(64), archive.len() as u64)).unwrap();
    assert!(text.contains("\"window\""), "{text}");
    // Another digit or letter at many places: numbers, base64, hashes.
    let mut turned = text.clone().into_bytes();
    let mut seed = 1_u64;
    for _ in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = usize::try_from(seed >> 33).unwrap() % turned.len();
        let was = turned[at];
        if was.is_ascii_alphanumeric() {
            turned[at] = if was.is_ascii_digit() { b'0' + (was - b'0' + 1) % 10 } else { b'a' + was % 26 };
            if let Ok(index) = serde_json::from_slice::<Index>(&turned) {
                read_all(&archive, &index);
            }
            turned[at] = was;
        }
    }
    for (name, value) in [
        ("text", "18446744073709551615"),
        ("left", "18446744073709551615"),
        ("left", "0"),
        ("bits", "255"),
        ("bit_buf", "255"),
        ("window", "\"\""),
        ("window", "\"not base64\""),
        ("upto", "18446744073709551615"),
    ] {
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let value: serde_json::Value = serde_json::from_str(value).unwrap();
        for part in json["tables"][0]["cuts"]["parts"].as_array_mut().unwrap() {
            if part[name].is_number() {
                part[name] = value.clone();
            }
            if part["begin"].is_object() {
                part["begin"][name] = value.clone();
            }
        }
        read_all(&archive, &serde_json::from_value(json).unwrap());
    }
}
