//! The dump against a real server, a real pg_dump and a real S3 protocol.

use std::os::unix::process::CommandExt as _;

use runbook_core::action::{Aftermath, Context};
use runbook_dump::Index;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::backup::verify::{Level, verify};
use crate::period::Period;
use crate::testing::{Bucket, Cluster, Database, World, cluster};
use crate::typed::Typed as _;

struct Bench {
    bucket: Bucket,
    world: World,
    cluster: Cluster,
    database: Database,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let (bucket, cluster) = tokio::join!(Bucket::start(), cluster());
    let database = cluster.database("app").await;
    database
        .sql(
            "create table public.people (id int primary key, name text); \
             insert into public.people select g, 'name ' || g from generate_series(1, 1000) g; \
             create table public.\"odd name\" (a text); insert into public.\"odd name\" values (E'x\\ny'), (null)",
        )
        .await;
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), Some(bucket.settings()));
    Bench { bucket, world, cluster, database, _folder: folder }
}

impl Bench {
    fn params(&self) -> DumpParams {
        DumpParams {
            connection: self.database.connection.clone(),
            name: "app".into(),
            schemas: Vec::new(),
            exclude_schemas: Vec::new(),
            exclude_rows: Vec::new(),
            privileges: false,
            compress: 6,
            lock_wait: Period::seconds(5),
            part_mib: 5,
        }
    }

    fn text(&self, key: &str) -> String {
        std::fs::read_to_string(self.bucket.path(key)).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    /// Whatever the bucket's folder holds, objects and what the server keeps of unfinished uploads.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.bucket.path("").parent().unwrap().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    found.push(path.to_string_lossy().into_owned())
                }
            }
        }
        found
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test]
async fn a_dump_is_read_back_indexed_and_has_its_sha256_beside_it() {
    let bench = bench().await;
    let ctx = bench.world.at(1, "k");
    let plan = Dump.plan(&ctx, bench.params()).await.unwrap();
    let done = Dump.run(&ctx, bench.params()).await.unwrap().outputs;

    let bytes = std::fs::read(bench.bucket.path(&done.key)).unwrap();
    assert_eq!((hash(&bytes), bytes.len() as u64), (done.sha256.clone(), done.size_bytes));
    assert_eq!((done.tables, done.rows, done.write_once), (2, 1002, true), "{done:?}");
    assert!(done.key.starts_with("db/local/") && done.key.ends_with("Z.dump"), "{}", done.key);
    let name = done.key.rsplit('/').next().unwrap();
    assert_eq!(bench.text(&format!("{}.sha256", done.key)), format!("{}  {name}\n", done.sha256));
    assert_eq!(done.backup.store_sha256, Some(done.sha256.clone()), "the store checked the whole object");
    assert!(format!("{plan:?}").contains("pg_dump"), "{plan:?}");

    let index_key = format!("{}.index.json", done.key);
    let index: Index = serde_json::from_str(&bench.text(&index_key)).unwrap();
    assert_eq!(index.dump.sha256, done.sha256);
    let people = index.tables.iter().find(|table| table.name == "people").unwrap();
    assert_eq!((people.rows, people.columns.as_slice()), (1000, &["id".to_owned(), "name".to_owned()][..]));
    let text = bench
        .database
        .client
        .query_one("select string_agg(id || E'\\t' || name || E'\\n', '' order by id) from people", &[]);
    assert_eq!(people.sha256, hash(text.await.unwrap().get::<_, String>(0).as_bytes()));
    let sum = bench.text(&format!("{index_key}.sha256"));
    assert!(sum.starts_with(&hash(bench.text(&index_key).as_bytes())), "{sum}");

    let found = verify(&ctx, done.backup.clone(), &["public.people".into()]).await.unwrap();
    assert_eq!(found.level, Some(Level::V2), "{:?}", found.checks);
    let missing = verify(&ctx, done.backup, &["public.nothing".into()]).await.unwrap();
    assert_eq!(missing.level, Some(Level::V1));
}

#[tokio::test]
async fn a_large_dump_goes_in_parts_and_is_the_same_bytes() {
    let bench = bench().await;
    bench
        .database
        .sql("create table big as select g, repeat(md5(g::text), 40) as t from generate_series(1, 13000) g")
        .await;
    let ctx = bench.world.at(1, "k");
    let params = DumpParams { compress: 0, ..bench.params() };
    let done = Dump.run(&ctx, params).await.unwrap().outputs;
    assert!(done.size_bytes > 15 << 20, "{}", done.size_bytes);
    let info = crate::s3::Store::of(&ctx).await.unwrap().head(&done.key).await.unwrap().unwrap();
    assert!(info.etag.unwrap().contains("-4"), "four parts");
    let found = verify(&ctx, done.backup, &[]).await.unwrap();
    assert_eq!((found.level, found.rows), (Some(Level::V2), 14_002), "{:?}", found.checks);
}

#[tokio::test]
async fn an_attempt_that_died_before_the_sha256_is_finished_without_dumping_again() {
    let bench = bench().await;
    let first = Dump.run(&bench.world.at(1, "k"), bench.params()).await.unwrap().outputs;
    for ending in [".sha256", ".index.json", ".index.json.sha256"] {
        std::fs::remove_file(bench.bucket.path(&format!("{}{ending}", first.key))).unwrap();
    }
    bench.database.sql("insert into people values (5000, 'later')").await;
    let again = Dump.run(&bench.world.at(2, "k"), bench.params()).await.unwrap().outputs;
    assert_eq!((&again.key, &again.sha256, again.rows), (&first.key, &first.sha256, 1002));
    assert_eq!(again.pg_dump_version, first.pg_dump_version);
    assert!(bench.text(&format!("{}.sha256", first.key)).starts_with(&first.sha256));
    // And once more, with nothing missing.
    let third = Dump.run(&bench.world.at(3, "k"), bench.params()).await.unwrap().outputs;
    assert_eq!(third.key, first.key);
}

#[tokio::test]
async fn bytes_that_the_store_changed_get_no_sha256() {
    let bench = bench().await;
    let done = Dump.run(&bench.world.at(1, "k"), bench.params()).await.unwrap().outputs;
    std::fs::remove_file(bench.bucket.path(&format!("{}.sha256", done.key))).unwrap();
    let path = bench.bucket.path(&done.key);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Dump.run(&bench.world.at(2, "k"), bench.params()).await.unwrap_err();
    assert_eq!((error.code, error.aftermath), (Some("checksum-mismatch"), Aftermath::Refused));
    assert!(!bench.bucket.path(&format!("{}.sha256", done.key)).exists());
}

#[tokio::test]
async fn a_pg_dump_that_fails_leaves_no_object_and_says_why() {
    let bench = bench().await;
    bench.database.sql("create role reader login; grant connect on database app to reader").await;
    let reader = bench.cluster.open("app", "reader").await;
    let params = DumpParams { connection: reader.connection.clone(), ..bench.params() };
    let ctx = bench.world.at(1, "k");
    let error = Dump.run(&ctx, params).await.unwrap_err();
    assert_eq!((error.code, &error.aftermath), (Some("not-permitted"), &Aftermath::Refused), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("permission denied for table"), "{cause}");
    let left: Vec<String> = bench.files().into_iter().filter(|file| file.contains(".dump")).collect();
    assert_eq!(left, Vec::<String>::new());
    let kept = std::fs::read_to_string(ctx.artifacts.join("pg_dump-1.txt")).unwrap();
    assert!(kept.contains("permission denied"), "{kept}");
}

#[tokio::test]
async fn a_table_that_is_locked_is_waited_for_and_then_told() {
    let bench = bench().await;
    bench.database.sql("begin; lock table people in access exclusive mode").await;
    let params = DumpParams { lock_wait: Period(std::time::Duration::from_millis(300)), ..bench.params() };
    let error = Dump.run(&bench.world.at(1, "k"), params).await.unwrap_err();
    assert_eq!(error.code, Some("locked"), "{error}: {:?}", error.source);
}

#[tokio::test]
async fn the_fence_ends_an_old_process_and_leaves_others_alone() {
    let bench = bench().await;
    let (old, new): (Context, Context) = (bench.world.at(1, "k"), bench.world.at(2, "k"));
    let sleeper = |name: &str| {
        let mut command = std::process::Command::new("sleep");
        command.arg("600").env("PGAPPNAME", name).process_group(0).spawn().unwrap()
    };
    let (mut stray, mut other) = (sleeper(&old.session_name()), sleeper("runbook/ffffffff/dump/1"));
    let ended = Dump.fence(&new, bench.params()).await.unwrap();
    assert_eq!(ended, 1);
    assert!(!stray.wait().unwrap().success());
    assert!(other.try_wait().unwrap().is_none(), "it belongs to somebody else");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn a_server_that_is_newer_than_every_pg_dump_gets_the_command_to_install_one() {
    let error = tool_for(99).await.unwrap_err();
    assert_eq!(error.code, Some("no-pg-dump"));
    assert!(error.attempted.contains("PostgreSQL 99"), "{error}");
    assert!(error.hint.unwrap().contains("99"));
    assert!(!tools().await.is_empty());
}
