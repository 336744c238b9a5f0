//! One table out of a range of an archive: whole or an error, wherever the range is cut and whatever stands there.

mod support;

use runbook_dump::{ArchiveReader, Block, DataOffset, DumpError, Limits};
use support::Postgres;

const SMALL: &str = "CREATE TABLE public.a (x text, n integer);
    INSERT INTO public.a SELECT 'row ' || g, g FROM generate_series(1, 30) g;
    CREATE TABLE public.b (x text);
    INSERT INTO public.b VALUES (E'a\\n\\\\.\\n'), ('it''s');";

/// Reads the rows of the block that a range of an archive holds.
fn rows(archive: &[u8], range: &[u8], offset: u64, dump_id: u32) -> Result<Vec<u8>, DumpError> {
    let mut reader = ArchiveReader::new(archive, Limits::default())?.at_block(range, offset);
    let mut seen = Vec::new();
    match reader.next_block()? {
        Some(Block::Table { entry, mut rows }) if entry.dump_id == dump_id => {
            while let Some(piece) = rows.next_rows()? {
                seen.extend_from_slice(piece);
            }
        }
        Some(Block::Inserts { entry, mut statements }) if entry.dump_id == dump_id => {
            while let Some(statement) = statements.next_statement()? {
                seen.extend_from_slice(statement.sql.as_bytes());
            }
        }
        _ => return Err(DumpError::Unsupported { what: "another block".into() }),
    }
    Ok(seen)
}

#[test]
fn a_table_is_read_out_of_its_range_alone_and_a_cut_range_is_an_error() {
    let postgres = Postgres::start();
    postgres.sql("postgres", SMALL);
    for arguments in [&["-Fc"][..], &["-Fc", "-Z0"], &["-Fc", "--inserts"]] {
        let archive = postgres.dump_to_file("postgres", arguments);
        let reader = ArchiveReader::new(&archive[..], Limits::default()).expect("it is whole");
        let places: Vec<(u32, u64)> = reader
            .toc()
            .iter()
            .filter_map(|entry| match entry.offset {
                DataOffset::At(at) if entry.is_table_data() => Some((entry.dump_id, at)),
                _ => None,
            })
            .collect();
        assert_eq!(places.len(), 2);
        let prefix = usize::try_from(reader.data_start()).expect("it is small");
        for (dump_id, at) in &places {
            let next = places.iter().map(|(_, other)| *other).filter(|other| other > at).min();
            let end = next.unwrap_or(archive.len() as u64);
            let range = &archive[usize::try_from(*at).expect("small")..usize::try_from(end).expect("small")];
            let head = &archive[..prefix];
            let whole = rows(head, range, *at, *dump_id).expect("the range is whole");
            assert!(whole.len() > 10);
            for cut in 0..range.len() {
                assert!(rows(head, &range[..cut], *at, *dump_id).is_err(), "cut at {cut} of {}", range.len());
                assert!(cut == 0 || rows(head, &range[cut..], *at, *dump_id).ok() != Some(whole.clone()));
            }
            assert!(rows(head, range, at + 1, *dump_id).is_err(), "a block at another place");
            for cut in 0..prefix {
                assert!(ArchiveReader::new(&archive[..cut], Limits::default()).is_err());
            }
        }
    }
}
