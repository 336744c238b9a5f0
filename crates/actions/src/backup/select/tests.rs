//! The selection against a real S3 server.

use super::*;
use crate::testing::{Bucket, World};

fn params(moment: &str) -> SelectParams {
    SelectParams { at_or_before: moment.into(), require_checksum: true, source: None }
}

async fn world() -> (Bucket, World, tempfile::TempDir) {
    let bucket = Bucket::start().await;
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(folder.path(), Some(bucket.settings()));
    (bucket, world, folder)
}

#[tokio::test]
async fn the_newest_verified_dump_is_taken_and_an_unverified_newer_one_is_said() {
    let (bucket, world, _folder) = world().await;
    let old = bucket.put_dump("db/local/2026/11/20/app-2026-11-20T03-00-00Z.sql.gz", b"old");
    let new = bucket.put_dump("db/local/2026/11/21/app-20261121T030000Z.dump", b"newer");
    bucket.put("db/local/2026/11/22/app-2026-11-22T03-00-00Z.sql.gz", b"newest");
    bucket.put("db/local/README.txt", b"");
    let ctx = world.at(1, "k");

    let newest = Select.run(&ctx, params("latest")).await.unwrap();
    let earlier = Select.run(&ctx, params("2026-11-21T02:59:59Z")).await.unwrap();
    let exact = Select.run(&ctx, params("2026-11-21T03:00:00Z")).await.unwrap();

    assert_eq!(newest.outputs.sha256.as_deref(), Some(new.as_str()));
    assert_eq!(newest.outputs.url, "s3://backups/db/local/2026/11/21/app-20261121T030000Z.dump");
    assert_eq!(newest.outputs.size_bytes, Some(5));
    assert!(newest.outputs.etag.is_some());
    assert!(newest.summary.contains("passed over 1 newer dump without a checksum"), "{}", newest.summary);
    assert!(newest.summary.contains("as its name says"), "{}", newest.summary);
    assert_eq!(earlier.outputs.sha256.as_deref(), Some(old.as_str()));
    assert_eq!(exact.outputs.url, newest.outputs.url);
}

#[tokio::test]
async fn what_cannot_be_selected_is_refused_with_what_was_seen() {
    let (bucket, world, _folder) = world().await;
    let ctx = world.at(1, "k");
    let empty = Select.run(&ctx, params("latest")).await.unwrap_err();
    bucket.put("db/local/2026/11/22/a.sql", b"x");
    let unverified = Select.run(&ctx, params("latest")).await.unwrap_err();
    bucket.put("db/local/2026/11/22/a.sql.sha256", b"not a sum");
    let garbled = Select.run(&ctx, params("latest")).await.unwrap_err();
    bucket.put_dump("db/local/2026/11/22/a.sql", b"x");
    let early = Select.run(&ctx, params("2020-01-01T00:00:00Z")).await.unwrap_err();
    let nonsense = Select.run(&ctx, params("yesterday")).await.unwrap_err();

    assert_eq!(empty.code, Some("no-backup"));
    assert!(empty.attempted.contains("s3://backups/db/local/"), "{empty}");
    assert_eq!(unverified.code, Some("unverified"));
    assert_eq!(garbled.code, Some("unverified"));
    assert!(early.attempted.contains("the oldest of"), "{early}");
    assert!(nonsense.attempted.contains("yesterday"));
    let loose = SelectParams { at_or_before: "latest".into(), require_checksum: false, source: None };
    assert!(Select.run(&ctx, loose).await.is_ok());
}

#[test]
fn a_recorded_sum_is_read_in_both_forms_and_only_for_its_own_name() {
    let sum = "A".repeat(64);
    let low = "a".repeat(64);
    assert_eq!(recorded_sum(&sum, "x.gz"), Some(low.clone()));
    assert_eq!(recorded_sum(&format!("{sum}  x.gz\n"), "x.gz"), Some(low.clone()));
    assert_eq!(recorded_sum(&format!("{sum} *dir/x.gz\n"), "x.gz"), Some(low.clone()));
    assert_eq!(recorded_sum(&format!("{}  y.gz\n{sum}  x.gz\n", "b".repeat(64)), "x.gz"), Some(low));
    assert_eq!(recorded_sum(&format!("{sum}  y.gz\n"), "x.gz"), None);
    assert_eq!(recorded_sum("", "x.gz"), None);
    assert_eq!(recorded_sum(&format!("\u{feff}{sum}\r\n"), "x.gz"), Some("a".repeat(64)));
    assert_eq!(recorded_sum(&format!("{sum}  a b.gz\r\n"), "a b.gz"), Some("a".repeat(64)));
    assert_eq!(recorded_sum(&format!("{sum}  a b.gz\n"), "b.gz"), None);
}
