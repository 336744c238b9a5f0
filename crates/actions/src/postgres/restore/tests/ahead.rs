//! Tables of an archive whose rows come before their turn.

use runbook_dump::{ArchiveReader, DataOffset, Limits};

use super::*;
use crate::testing::Fault;

/// A table of some length, and behind it one that takes longer than all others.
const LONG: &str = "create table a_before (id int primary key, body text);
    insert into a_before select n, repeat('before ', 20) || n from generate_series(1, 8000) n;
    create table z_long (id int primary key, before int references a_before, body text, words tsvector);
    insert into z_long select n, n % 8000 + 1, repeat('long ', 20) || n, to_tsvector('simple', 'w' || n)
        from generate_series(1, 24000) n;
    create index z_long_words on z_long using gin (words);";

async fn staged(args: &[&str], priority: &[&str]) -> (Stage, RestoreParams, Vec<u8>) {
    let stage = Stage::new().await;
    stage.source.sql(LONG).await;
    let bytes = stage.source.dump_to_file(args);
    let mut params = stage.dumped(&bytes);
    params.priority = priority.iter().map(|table| (*table).to_owned()).collect();
    (stage, params, bytes)
}

/// The entry of a table's rows, and where they stand.
fn rows_of(bytes: &[u8], table: &str) -> (u32, u64) {
    let reader = ArchiveReader::new(bytes, Limits::default()).unwrap();
    let entry = reader.toc().iter().find(|entry| entry.is_table_data() && entry.tag == table).unwrap();
    let DataOffset::At(at) = entry.offset else { panic!("{entry:?}") };
    (entry.dump_id, at)
}

async fn came_first(stage: &Stage) -> Vec<u32> {
    serde_json::from_str(&stage.target.text("select first::text from _runbook.restores").await).unwrap()
}

#[tokio::test]
async fn the_table_that_takes_longest_comes_first_and_the_rest_as_before() {
    for args in [&["-Fc"][..], &["-Fc", "-Z0"]] {
        let (stage, params, bytes) = staged(args, &[]).await;
        let outputs = stage.restore(1, &params).await.unwrap();
        assert_eq!(outputs.rows, 500 + 30_003 + 2 + 100 + 32_000);
        assert_eq!(came_first(&stage).await, [rows_of(&bytes, "z_long").0]);
        stage.assert_same("the longest first").await;
    }
}

#[tokio::test]
async fn tables_that_are_wanted_first_come_in_that_order_over_all_stops() {
    let (stage, params, bytes) = staged(&["-Fc"], &["public.users", "parts_us"]).await;
    let mut stops = 0;
    loop {
        stage.world.stop.after_reports(2);
        match stage.restore(stops + 1, &params).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.code, Some("stopped"), "{error:#?}"),
        }
        if stops == 0 {
            let first = "select string_agg(t, ',') from (select jsonb_object_keys(chunk -> 'rows') t \
                         from _runbook.chunks where chunk ->> 'rows' <> '{}' order by seq limit 1) first";
            assert_eq!(stage.target.text(first).await, "\"public\".\"users\"");
        }
        stage.world.stop.calm();
        stops += 1;
        assert!(stops < 60, "it gets nowhere");
    }
    assert!(stops >= 2, "stopped {stops} times");
    let wanted = ["users", "parts_us", "z_long"].map(|table| rows_of(&bytes, table).0);
    assert_eq!(came_first(&stage).await, wanted);
    stage.assert_same("over stops").await;
}

#[tokio::test]
async fn a_plain_dump_and_one_through_a_pipe_are_read_from_front_to_back() {
    let (mut stage, _, _) = staged(&["-Fc"], &[]).await;
    // What goes through a pipe cannot say where its rows are.
    for (n, bytes) in [stage.source.dump(&[]), stage.source.dump(&["-Fc"])].into_iter().enumerate() {
        stage.target = stage.cluster.database(&format!("target_{n}")).await;
        let mut params = stage.dumped(&bytes);
        params.priority = vec!["public.users".into()];
        stage.restore(1, &params).await.unwrap();
        assert!(came_first(&stage).await.is_empty());
        stage.assert_same("front to back").await;
    }
}

#[tokio::test]
async fn a_store_that_gives_other_bytes_the_second_time_leaves_nothing_behind() {
    let (stage, params, bytes) = staged(&["-Fc", "-Z0"], &[]).await;
    let (_, from) = rows_of(&bytes, "z_long");
    let start = usize::try_from(from).unwrap();
    // A letter of a row: it goes in as well as the right one.
    let at = bytes[start..].windows(9).position(|nine| nine == b"long long").unwrap();
    stage.bucket.fails(Some(Fault::Altered { from, at }));
    let error = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(error.code, Some("checksum-mismatch"), "{error:#?}");
    assert!(error.attempted.contains("read twice"), "{error}");
    stage.assert_untouched("other bytes").await;
    stage.bucket.fails(None);
    stage.restore(2, &params).await.unwrap();
    stage.assert_same("afterwards").await;
}

#[tokio::test]
async fn what_a_version_with_other_rules_for_cutting_began_is_taken_back() {
    let (stage, params, _) = staged(&["-Fc"], &[]).await;
    stage.world.stop.after_reports(2);
    stage.restore(1, &params).await.unwrap_err();
    stage.world.stop.calm();
    stage.target.sql("alter table _runbook.restores drop column cuts, drop column first").await;
    let error = stage.restore(2, &params).await.unwrap_err();
    assert_eq!(error.code, Some("other-version"), "{error:#?}");
    stage.assert_untouched("another version").await;
    stage.restore(3, &params).await.unwrap();
    stage.assert_same("begun again").await;
}
