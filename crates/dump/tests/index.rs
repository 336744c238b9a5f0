//! The side-car index against real archives: each block is found again by its place, and hashes and counts are those of
//! the rows.

mod support;

use runbook_dump::{ArchiveReader, Block, Contents, DumpError, Index, Indexer, Limits, contents};
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
