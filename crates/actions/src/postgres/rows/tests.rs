//! Rows out of dumps of a real pg_dump, in a real S3 protocol.

use runbook_core::types::Backup;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::file::{CsvReader, Field, RowsFile};
use super::*;
use crate::s3::Store;
use crate::testing::{Bucket, Cluster, Database, World, cluster};
use crate::typed::Typed as _;
use runbook_core::action::ActionError;

const SOURCE: &str = r#"
create schema app;
create type app.mood as enum ('good', 'bad');
create table app.people (id uuid primary key, name text, mood app.mood, size numeric(8,2),
  shout text generated always as (upper(name)) stored);
create table app.notes (id bigint generated always as identity primary key,
  owner uuid references app.people (id), other bigint references app.notes (id), "Odd ""name" text, ok boolean);
create table app.pairs (a int, b text, c text, primary key (a, b));
create table app.logs (id int, at date, primary key (id, at)) partition by range (at);
create table app.logs_1 partition of app.logs for values from ('2026-01-01') to ('2026-02-01');
create table app.logs_2 partition of app.logs for values from ('2026-02-01') to ('2026-03-01');
create table app.filler (n int, t text);
insert into app.people (id, name, mood, size)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid,
    (array['', null, E'it''s "q", a\\b\n\tc\r;', '\N', '🚀 Đại'])[1 + n % 5], 'good', n from generate_series(1, 40) n;
insert into app.notes (owner, other, "Odd ""name", ok)
  select ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, case when n > 1 then n - 1 end, 'note ' || n, n % 2 = 0
  from generate_series(1, 30) n;
insert into app.pairs values (1, 'x'',y', 'one'), (1, E'x\ny', 'two'), (2, '\N', 'three');
insert into app.logs select n, date '2026-01-20' + n from generate_series(1, 30) n;
insert into app.filler select n, repeat(md5(n::text), 40) from generate_series(1, 200) n;
"#;

struct Stage {
    cluster: Cluster,
    source: Database,
    bucket: Bucket,
    world: World,
}

fn id(n: u32) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

impl Stage {
    async fn new() -> Self {
        let cluster = cluster().await;
        let source = cluster.database("source").await;
        source.sql(SOURCE).await;
        let bucket = Bucket::start().await;
        let world = World::new(cluster.folder.path(), Some(bucket.settings()));
        Self { cluster, source, bucket, world }
    }

    /// What pg_dump writes to a file: it can go back and record where the tables are.
    fn seekable(&self) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("runbook-{}.dump", uuid::Uuid::now_v7()));
        self.source.dump(&["-Fc", &format!("--file={}", path.display())]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        bytes
    }

    async fn put(&self, bytes: &[u8], store_sum: bool) -> Backup {
        // The server goes on knowing the checksum that it once kept of a key.
        let key = if store_sum { format!("s{}", uuid::Uuid::now_v7()) } else { "d".to_owned() };
        let sum = self.bucket.put_dump(&key, bytes);
        if store_sum {
            Store::of(&self.world.at(1, "k")).await.unwrap().put_with_sum(&key, bytes).await;
        }
        Backup { url: format!("s3://backups/{key}"), ..backup(sum) }
    }

    async fn extract(&self, backup: &Backup, with: Value) -> Result<ExtractOutputs, ActionError> {
        let mut with = with;
        with["backup"] = serde_json::to_value(backup).unwrap();
        let params = serde_json::from_value(with).unwrap();
        ExtractRows.run(&self.world.at(1, "k"), params).await.map(|done| done.outputs)
    }
}

fn backup(sum: String) -> Backup {
    serde_json::from_value(
        json!({ "url": "s3://backups/d", "sha256": sum, "taken_at": "2026-03-01T00:00:00Z" }),
    )
    .unwrap()
}

fn file(outputs: &ExtractOutputs) -> RowsFile {
    serde_json::from_value(serde_json::to_value(outputs).unwrap()).unwrap()
}

fn rows(file: &RowsFile) -> Vec<Vec<Option<String>>> {
    let mut reader = CsvReader::open(file).unwrap();
    let mut found = Vec::new();
    let text = |field: Field| field.map(|bytes| String::from_utf8(bytes).unwrap());
    while let Some(row) = reader.next_row().unwrap() {
        found.push(row.into_iter().map(text).collect());
    }
    found
}

fn people(keys: &[&str]) -> Value {
    json!({ "table": "app.people", "key": "id", "keys": keys, "columns": ["id", "name", "mood", "size"] })
}

#[tokio::test]
async fn rows_come_out_of_every_kind_of_dump_as_the_database_has_them() {
    let stage = Stage::new().await;
    let dumps = [
        ("plain", stage.source.dump(&[])),
        ("plain gz", stage.source.dump(&["--compress=6"])),
        ("inserts", stage.source.dump(&["--inserts"])),
        ("column inserts", stage.source.dump(&["--column-inserts", "--rows-per-insert=7"])),
        ("custom from a pipe", stage.source.dump(&["-Fc"])),
        ("custom inserts", stage.source.dump(&["-Fc", "--inserts"])),
        ("custom with offsets", stage.seekable()),
        ("custom without compression", stage.source.dump(&["-Fc", "-Z0"])),
    ];
    let keys = [id(1).to_uppercase(), id(2), id(3), format!("{{{}}}", id(4)), id(5), id(99)];
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    for (kind, dump) in &dumps {
        for store_sum in [false, true] {
            let backup = stage.put(dump, store_sum).await;
            let found =
                stage.extract(&backup, people(&keys)).await.unwrap_or_else(|e| panic!("{kind}: {e:#?}"));
            assert_eq!((found.rows, found.missing), (5, 1), "{kind}");
            assert_eq!(found.restore_point, backup.taken_at);
            let names: Vec<_> = rows(&file(&found)).into_iter().map(|mut row| row.swap_remove(1)).collect();
            let wanted = [None, Some("it's \"q\", a\\b\n\tc\r;"), Some("\\N"), Some("🚀 Đại"), Some("")];
            assert_eq!(names, wanted.map(|name| name.map(str::to_owned)), "{kind}");
            let missing: Value =
                serde_json::from_slice(&std::fs::read(found.missing_file.as_deref().unwrap()).unwrap())
                    .unwrap();
            assert_eq!(missing["missing"], json!([{ "id": id(99) }]));
            let way = if store_sum && kind.contains("offsets") { "store" } else { "whole" };
            assert_eq!(found.verified_by, way, "{kind}");
            assert!(found.bytes_read <= dump.len() as u64 * 2 + 1000);

            let pairs = json!({ "table": "app.pairs", "key": ["a", "b"],
                "keys": [{ "a": 1, "b": "x',y" }, { "b": "x\ny", "a": "01" }, [2, "\\N"], [3, "x"]] });
            let found = stage.extract(&backup, pairs).await.unwrap();
            let values: Vec<_> =
                rows(&file(&found)).into_iter().map(|mut row| row.pop().unwrap().unwrap()).collect();
            assert_eq!(
                (values, found.missing),
                (vec!["one".into(), "two".into(), "three".into()], 1),
                "{kind}"
            );

            let logs = json!({ "table": "app.logs", "key": "id", "keys": [1, 20, 500] });
            let found = stage.extract(&backup, logs).await.unwrap();
            assert_eq!((found.rows, found.missing), (2, 1), "{kind}: rows of partitions");
        }
    }
}

#[tokio::test]
async fn only_what_is_needed_is_read_where_the_store_vouches_for_the_object() {
    let stage = Stage::new().await;
    stage.source.sql("insert into app.filler select n, md5(n::text) || md5((n * 7)::text) from generate_series(1, 60000) n").await;
    let dump = stage.seekable();
    let backup = stage.put(&dump, true).await;
    let found = stage.extract(&backup, people(&[&id(7)])).await.unwrap();
    assert_eq!((found.rows, found.verified_by.as_str()), (1, "store"));
    assert!(found.bytes_read < dump.len() as u64 / 4, "{} of {}", found.bytes_read, dump.len());
    // A plain dump is read until all keys are found, when somebody says that they are unique.
    let dump = stage.source.dump(&[]);
    let backup = stage.put(&dump, true).await;
    let mut with = json!({ "table": "app.filler", "key": "n", "keys": [3] });
    assert_eq!(stage.extract(&backup, with.clone()).await.unwrap().verified_by, "whole");
    with["unique"] = json!(true);
    let found = stage.extract(&backup, with).await.unwrap();
    assert_eq!((found.rows, found.verified_by.as_str()), (1, "store"));
    assert!(found.bytes_read < dump.len() as u64, "{} of {}", found.bytes_read, dump.len());
}

#[tokio::test]
async fn nothing_comes_out_of_bytes_that_cannot_be_trusted() {
    let stage = Stage::new().await;
    for dump in [stage.source.dump(&[]), stage.seekable(), stage.source.dump(&["--compress=6"])] {
        let backup = stage.put(&dump, false).await;
        let with = people(&[&id(1)]);
        for at in [dump.len() / 2, dump.len() - 30] {
            let mut turned = dump.clone();
            turned[at] ^= 1;
            stage.bucket.put("d", &turned);
            let error = stage.extract(&backup, with.clone()).await.unwrap_err();
            assert_eq!(error.code, Some("checksum-mismatch"), "{error:#?}");
        }
        stage.bucket.put("d", &dump[..dump.len() / 2]);
        assert_eq!(stage.extract(&backup, with.clone()).await.unwrap_err().code, Some("checksum-mismatch"));
        // What was cut off before its sha256 was recorded is an error of its own.
        let cut = stage.put(&dump[..dump.len() / 2], false).await;
        assert_eq!(stage.extract(&cut, with.clone()).await.unwrap_err().code, Some("bad-dump"));
        let unproven = Backup { sha256: None, ..backup };
        assert_eq!(stage.extract(&unproven, with).await.unwrap_err().code, Some("unverified"));
        let left: Vec<_> =
            std::fs::read_dir(stage.cluster.folder.path().join("artifacts")).into_iter().flatten().collect();
        assert!(left.is_empty(), "no rows are left: {left:?}");
    }
}

/// The index that a backup writes beside a dump.
fn index(stage: &Stage, dump: &[u8], table: &str, covered: bool, spoil: &str) {
    let mut reader = runbook_dump::ArchiveReader::new(dump, runbook_dump::Limits::default()).unwrap();
    let mut place = json!({});
    let mut sums = Vec::new();
    while let Some(block) = reader.next_block().unwrap() {
        if let runbook_dump::Block::Table { entry, mut rows } = block {
            let mut text = Vec::new();
            let (id, name, copy) = (entry.dump_id, entry.tag.clone(), entry.copy().unwrap());
            while let Some(piece) = rows.next_rows().unwrap() {
                text.extend_from_slice(piece);
            }
            sums.push((id, name, copy, hex::encode(Sha256::digest(&text))));
        }
    }
    for (id, name, copy, sum) in sums.into_iter().filter(|(_, name, ..)| name == table) {
        let span = reader.spans().iter().find(|span| span.dump_id == id).unwrap();
        place = json!({ "schema": "app", "name": name, "columns": copy.columns.unwrap(), "rows": 40,
            "offset": span.offset, "length": span.length.unwrap(), "sha256": sum });
    }
    let mut all = json!({ "version": 1, "dump": { "sha256": hex::encode(Sha256::digest(dump)), "size_bytes": dump.len() },
        "format": "custom", "tables": [place] });
    match spoil {
        "" => {}
        "dump" => all["dump"]["sha256"] = json!("0".repeat(64)),
        "offset" => all["tables"][0]["offset"] = json!(4096),
        "end" => all["tables"][0]["length"] = json!(u64::MAX),
        "sum" => all["tables"][0]["sha256"] = json!("0".repeat(64)),
        "columns" => all["tables"][0]["columns"] = json!(["id", "size", "mood", "name"]),
        other => panic!("{other}"),
    }
    let text = if spoil == "json" { "{".to_owned() } else { all.to_string() };
    stage.bucket.put("d.index.json", text.as_bytes());
    let sum = if covered { hex::encode(Sha256::digest(text.as_bytes())) } else { "0".repeat(64) };
    stage.bucket.put("d.index.json.sha256", format!("{sum}  d.index.json\n").as_bytes());
}

#[tokio::test]
async fn an_index_saves_reading_and_is_believed_only_as_far_as_it_proves_itself() {
    let stage = Stage::new().await;
    let dump = stage.source.dump(&["-Fc"]);
    let backup = stage.put(&dump, false).await;
    let extract = async |keys: &[&str]| stage.extract(&backup, people(keys)).await.unwrap();
    index(&stage, &dump, "people", true, "");
    let by = extract(&[&id(3)]).await;
    assert_eq!((by.rows, by.verified_by.as_str()), (1, "index"));
    // Types are not covered by it: another spelling is looked for in the whole.
    let by = extract(&[&format!("{{{}}}", id(3))]).await;
    assert_eq!((by.rows, by.verified_by.as_str()), (1, "whole"));
    for spoil in ["dump", "offset", "end", "sum", "columns"] {
        index(&stage, &dump, "people", true, spoil);
        let found = extract(&[&id(3)]).await;
        assert_eq!((found.rows, found.verified_by.as_str()), (1, "whole"), "{spoil}");
    }
    index(&stage, &dump, "people", false, "");
    assert_eq!(extract(&[&id(3)]).await.verified_by, "whole", "an index without a checksum");
    // Rows that were changed under the index, or a whole dump that was: nothing comes out.
    index(&stage, &dump, "people", true, "");
    for at in (0..dump.len()).step_by(dump.len() / 40) {
        let mut turned = dump.clone();
        turned[at] ^= 4;
        stage.bucket.put("d", &turned);
        match stage.extract(&backup, people(&[&id(3)])).await {
            Ok(found) => {
                assert_eq!(found.verified_by, "index");
                assert_eq!(rows(&file(&found))[0][1].as_deref(), Some("\\N"), "turned at {at}");
            }
            Err(error) => assert_eq!(error.code, Some("checksum-mismatch"), "turned at {at}: {error:#?}"),
        }
    }
    // With the store's own checksum the index only says where to read.
    let backup = stage.put(&dump, true).await;
    let index = std::fs::read(stage.bucket.path("d.index.json")).unwrap();
    stage.bucket.put(&format!("{}.index.json", backup.url.trim_start_matches("s3://backups/")), &index);
    let found = stage.extract(&backup, people(&[&id(3)])).await.unwrap();
    assert_eq!((found.rows, found.verified_by.as_str()), (1, "store"));
}

#[tokio::test]
async fn of_a_large_table_only_the_parts_that_may_have_a_key_are_read_and_each_must_prove_itself() {
    let stage = Stage::new().await;
    let large = "create table app.large (id bigint primary key, code uuid not null unique, t text);
        insert into app.large select n, md5(n::text)::uuid, repeat(md5(n::text), 10) from generate_series(1, 40000) n";
    stage.source.sql(large).await;
    let dump = stage.source.dump(&["-Fc"]);
    let backup = stage.put(&dump, false).await;
    let mut indexer = runbook_dump::Indexer::start(runbook_dump::Limits::default()).unwrap();
    dump.chunks(1 << 16).for_each(|piece| indexer.push(piece.to_vec()).unwrap());
    let sum = hex::encode(Sha256::digest(&dump));
    let index = runbook_dump::Index::new(indexer.finish().unwrap(), sum, dump.len() as u64);
    let index = serde_json::to_value(index).unwrap();
    let place = index["tables"].as_array().unwrap().iter().position(|t| t["name"] == "large").unwrap();
    let parts = index["tables"][place]["cuts"]["parts"].as_array().unwrap().len();
    assert!(parts > 3, "{parts}");
    let put = |index: &Value| {
        let text = index.to_string();
        let sum = hex::encode(Sha256::digest(text.as_bytes()));
        stage.bucket.put("d.index.json", text.as_bytes());
        stage.bucket.put("d.index.json.sha256", sum.as_bytes());
        text.len() as u64
    };
    let with = |key: &str, value: Value| json!({ "table": "app.large", "key": key, "keys": [value] });
    // The md5 of 20000, in the middle.
    let code = "d9798cdf31c02d86b8b81cc119d94836";
    let code = format!("{}-{}-{}-{}-{}", &code[..8], &code[8..12], &code[12..16], &code[16..20], &code[20..]);

    let beside = put(&index);
    let ways = [("id", json!(1)), ("id", json!(39_999)), ("code", json!(code))];
    for (key, value) in ways.clone() {
        let found = stage.extract(&backup, with(key, value)).await.unwrap();
        assert_eq!((found.rows, found.verified_by.as_str()), (1, "index"), "{key}");
        // What the head of the archive takes comes on top, and of a filter one part in a hundred for nothing.
        let most = beside + (256 << 10) + dump.len() as u64 / 2;
        assert!(found.bytes_read < most, "{key}: {} of {}", found.bytes_read, dump.len());
    }
    let none = stage.extract(&backup, with("id", json!(40_001))).await.unwrap();
    assert_eq!(
        (none.rows, none.missing, none.verified_by.as_str()),
        (0, 1, "whole"),
        "it is looked for everywhere"
    );

    // An index that says what is not so costs reading, and no row.
    for (name, value) in [
        ("sha256", json!("0".repeat(64))),
        ("text", json!(7)),
        ("text_bytes", json!(1)),
        ("upto", json!(1)),
        ("values", json!(["none", "none"])),
    ] {
        let mut wrong = index.clone();
        for part in wrong["tables"][place]["cuts"]["parts"].as_array_mut().unwrap() {
            part[name] = value.clone();
        }
        // The table as a whole is not to be believed either, so that only the dump itself is left.
        wrong["tables"][place]["sha256"] = json!("0".repeat(64));
        put(&wrong);
        let (key, value) = ways[2].clone();
        let found = stage.extract(&backup, with(key, value)).await.unwrap();
        assert_eq!((found.rows, found.verified_by.as_str()), (1, "whole"), "{name}");
    }
}

#[tokio::test]
async fn rows_that_foreign_keys_point_at_come_along() {
    let stage = Stage::new().await;
    let dumps = [
        stage.source.dump(&[]),
        stage.seekable(),
        stage.source.dump(&["--inserts", "--exclude-table=app.people"]),
    ];
    for (n, dump) in dumps.into_iter().enumerate() {
        let backup = stage.put(&dump, false).await;
        let with = json!({ "table": "app.notes", "key": "id", "keys": [1, 5], "with_parents": true });
        let found = stage.extract(&backup, with).await.unwrap();
        let mut parents: Vec<_> =
            found.parents.iter().map(|p| (p.file.table.as_str(), p.file.rows, p.missing)).collect();
        parents.sort_unstable();
        let people = if n < 2 { ("app.people", 2, 0) } else { ("app.people", 0, 2) };
        let wanted = [("app.notes", 1, 0), people];
        assert_eq!(parents, wanted);
        assert_eq!(
            rows(&found.parents.iter().find(|p| p.file.table == "app.notes").unwrap().file)[0][0].as_deref(),
            Some("4")
        );
    }
}

#[tokio::test]
async fn what_cannot_be_extracted_is_said() {
    let stage = Stage::new().await;
    let backup = stage.put(&stage.source.dump(&["-Fc"]), true).await;
    for (with, code) in [
        (json!({ "table": "app.nobody", "key": "id", "keys": [1] }), Some("no-such-table")),
        (json!({ "table": "people", "key": "id", "keys": [1] }), None),
        (json!({ "table": "app.people", "key": "nope", "keys": [1] }), Some("no-such-column")),
        (
            json!({ "table": "app.people", "key": "id", "keys": [id(1)], "columns": ["shout"] }),
            Some("no-such-column"),
        ),
        (
            json!({ "table": "app.people", "key": "mood", "keys": ["good"], "max_rows": 3 }),
            Some("too-many-rows"),
        ),
        (json!({ "table": "app.people", "key": "id", "keys": [null] }), None),
        (json!({ "table": "app.people", "key": "id", "keys": [id(1)], "via": "database" }), None),
    ] {
        let error = stage.extract(&backup, with.clone()).await.unwrap_err();
        assert_eq!(error.code, code, "{with}: {error:#?}");
    }
    let other = Backup { etag: Some("\"x\"".into()), ..backup };
    assert_eq!(stage.extract(&other, people(&[&id(1)])).await.unwrap_err().code, Some("object-changed"));
}

#[tokio::test]
async fn a_huge_row_comes_out_whole() {
    let stage = Stage::new().await;
    stage.source.sql("insert into app.pairs values (9, 'big', repeat(E'a\\n\"', 1000000))").await;
    let backup = stage.put(&stage.source.dump(&["-Fc"]), false).await;
    let with = json!({ "table": "app.pairs", "key": ["a", "b"], "keys": [[9, "big"]] });
    let found = stage.extract(&backup, with).await.unwrap();
    assert_eq!(rows(&file(&found))[0][2].as_ref().unwrap().len(), 3_000_000);
}

#[tokio::test]
async fn a_database_is_asked_by_its_own_types() {
    let stage = Stage::new().await;
    let backup = backup("0".repeat(64));
    let mut with = json!({ "table": "app.people", "key": ["id", "size"], "via": "database",
        "keys": [[id(3).to_uppercase(), "3e0"], [id(4), "5"], [id(5), "5.000"]] });
    with["connection"] = serde_json::to_value(&stage.source.connection).unwrap();
    let found = stage.extract(&backup, with.clone()).await.unwrap();
    assert_eq!((found.rows, found.missing, found.verified_by.as_str()), (2, 1, "load"));
    assert_eq!(found.columns, ["id", "name", "mood", "size"]);
    assert_eq!(rows(&file(&found))[0][1].as_deref(), Some("\\N"));
    with["max_rows"] = json!(1);
    assert_eq!(stage.extract(&backup, with).await.unwrap_err().code, Some("too-many-rows"));
}

#[tokio::test]
async fn one_table_is_loaded_into_a_scratch_database_with_the_types_that_it_knows() {
    let stage = Stage::new().await;
    let scratch = stage.cluster.database("scratch").await;
    for (dump, table, rows) in [
        (stage.source.dump(&[]), "app.people", "40"),
        (stage.seekable(), "app.people", "40"),
        (stage.source.dump(&["-Fc"]), "app.logs", "30"),
    ] {
        let backup = stage.put(&dump, false).await;
        let params = || {
            let with = json!({ "backup": backup, "table": table, "into": scratch.connection });
            serde_json::from_value::<RestoreTableParams>(with).unwrap()
        };
        for _ in 0..2 {
            let done = RestoreTable.run(&stage.world.at(1, "k"), params()).await.unwrap().outputs;
            assert_eq!(done.rows.to_string(), rows);
            assert_eq!(done.as_text, if table == "app.people" { vec!["mood"] } else { vec![] });
        }
        assert_eq!(scratch.text(&format!("select count(*) || '' from {table}")).await, rows);
        stage.bucket.put("d", &dump[..dump.len() - 100]);
        let error = RestoreTable.run(&stage.world.at(1, "k"), params()).await.unwrap_err();
        assert_eq!(error.code, Some("checksum-mismatch"));
    }
    let mut with =
        json!({ "table": "app.people", "key": ["id", "size"], "via": "database", "keys": [[id(3), "3e0"]] });
    with["connection"] = serde_json::to_value(&scratch.connection).unwrap();
    let found = stage.extract(&backup("0".repeat(64)), with).await.unwrap();
    assert_eq!(
        rows(&file(&found)),
        [[Some(id(3)), Some("\\N".into()), Some("good".into()), Some("3.00".into())]]
    );
    let backup = stage.put(&stage.source.dump(&[]), false).await;
    let with = json!({ "backup": backup, "table": "app.people", "into": stage.source.connection });
    let error =
        RestoreTable.run(&stage.world.at(1, "k"), serde_json::from_value(with).unwrap()).await.unwrap_err();
    assert_eq!(error.code, Some("target-not-empty"));
}
