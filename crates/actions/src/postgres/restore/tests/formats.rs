//! What pg_dump writes comes out as it went in.

use std::io::Write as _;

use super::*;
use crate::typed::Typed as _;
use runbook_core::action::Preview;

fn zipped(program: &str, bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(bytes).unwrap();
    let out = std::process::Command::new(program).args(["-c", "-q"]).arg(file.path()).output();
    let out = out.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

async fn comes_out_the_same(args: &[&str], zip: Option<&str>) {
    let stage = Stage::new().await;
    let mut bytes = stage.source.dump(args);
    if let Some(program) = zip {
        bytes = zipped(program, &bytes);
    }
    let case = format!("{args:?} {zip:?}");
    let outputs = stage.restore(1, &stage.dumped(&bytes)).await.unwrap_or_else(|e| panic!("{case}: {e:#?}"));
    stage.assert_same(&case).await;
    assert_eq!(outputs.rows, 500 + 30_003 + 2 + 100, "{case}");
    assert_eq!(outputs.bytes, bytes.len() as u64);
    assert_eq!(outputs.verified_by, "stream");
    assert_eq!(outputs.skipped, [], "{case}");
}

#[tokio::test]
async fn a_plain_dump_comes_out_the_same() {
    comes_out_the_same(&[], None).await;
}

#[tokio::test]
async fn a_gzipped_dump_comes_out_the_same() {
    comes_out_the_same(&[], Some("gzip")).await;
}

#[tokio::test]
async fn a_zstd_dump_comes_out_the_same() {
    comes_out_the_same(&[], Some("zstd")).await;
}

#[tokio::test]
async fn a_dump_of_inserts_comes_out_the_same() {
    comes_out_the_same(&["--inserts", "--rows-per-insert=100"], None).await;
}

#[tokio::test]
async fn an_archive_comes_out_the_same() {
    comes_out_the_same(&["-Fc"], None).await;
}

#[tokio::test]
async fn an_archive_in_gzip_with_inserts_comes_out_the_same() {
    comes_out_the_same(&["-Fc", "-Z0", "--inserts"], Some("gzip")).await;
}

#[tokio::test]
async fn a_finished_restore_asked_for_again_gives_the_same_outputs_and_does_nothing() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&["-Fc"]));
    let first = stage.restore(1, &params).await.unwrap();
    stage.target.sql("delete from messages where id = 7").await;
    let again = stage.restore(2, &params).await.unwrap();
    assert_eq!(serde_json::to_value(&first).unwrap(), serde_json::to_value(&again).unwrap());
    assert_eq!(stage.target.text("select count(*) from messages").await, "30002");
    let other = Restore.run(&stage.world.at(3, "other"), params).await.unwrap_err();
    assert_eq!(other.code, Some("target-not-empty"), "another step finds data: {other}");
}

#[tokio::test]
async fn a_target_that_holds_data_is_refused_or_emptied_and_the_plan_says_so() {
    let stage = Stage::new().await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    stage.target.sql("create table precious (x int); insert into precious values (1), (2)").await;
    stage.target.sql("create schema more; create table more.t as select 1; create function f() returns int language sql as 'select 1'").await;
    let ctx = stage.world.at(1, "k1");

    let refused = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(refused.code, Some("target-not-empty"));
    assert!(refused.attempted.contains("public.precious (2 rows)"), "{refused}");
    assert_eq!(Restore.plan(&ctx, params.clone()).await.unwrap_err().code, Some("target-not-empty"));
    assert_eq!(stage.target.text("select count(*) from precious").await, "2");

    params.overwrite = true;
    let Preview::Changes { destroys, .. } = Restore.plan(&ctx, params.clone()).await.unwrap() else {
        panic!("a plan")
    };
    assert!(destroys.unwrap().starts_with("3 rows in 2 tables"));
    let outputs = stage.restore(1, &params).await.unwrap();
    assert_eq!(outputs.verified_by, "first", "what holds data waits for the hash");
    stage.assert_same("overwritten").await;
}

#[tokio::test]
async fn a_file_is_restored_like_an_object() {
    let stage = Stage::new().await;
    let bytes = stage.source.dump(&["-Fc"]);
    let mut params = stage.dumped(&bytes);
    let path = stage.cluster.folder.path().join("dump");
    std::fs::write(&path, &bytes).unwrap();
    params.backup.url = format!("file://{}", path.display());
    params.verify = Verify::First;
    let outputs = stage.restore(1, &params).await.unwrap();
    stage.assert_same("file").await;
    assert_eq!(outputs.verified_by, "first");
}

#[tokio::test]
async fn a_checksum_that_the_store_keeps_is_proof_enough_to_overwrite_without_reading_twice() {
    let stage = Stage::new().await;
    let bytes = stage.source.dump(&["-Fc"]);
    let mut params = stage.dumped(&bytes);
    let ctx = stage.world.at(1, "k1");
    let store = crate::s3::Store::of(&ctx).await.unwrap();
    store.put_with_sum("d", &bytes).await;
    assert_eq!(store.head("d").await.unwrap().unwrap().store_sha256, params.backup.sha256);
    stage.target.sql("create table precious (x int); insert into precious values (1)").await;
    params.overwrite = true;
    let outputs = stage.restore(1, &params).await.unwrap();
    assert_eq!(outputs.verified_by, "store");
    stage.assert_same("by the store's checksum").await;

    store.put_with_sum("d", b"another").await;
    params.into = stage.cluster.database("another").await.connection;
    let error = Restore.run(&stage.world.at(1, "k2"), params).await.unwrap_err();
    assert_eq!(error.code, Some("checksum-mismatch"));
}
