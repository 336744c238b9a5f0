//! Pruning against a real S3 protocol.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::*;
use crate::period::Period;
use crate::testing::{Bucket, World};
use crate::typed::Typed as _;

fn params(daily: usize, monthly: usize) -> PruneParams {
    PruneParams { daily, monthly, min_age: Period(Duration::from_secs(86_400)), dry_run: false, only: None }
}

struct Bench {
    bucket: Bucket,
    world: World,
    _folder: tempfile::TempDir,
}

impl Bench {
    /// A dump a day, for so many days up to today.
    async fn with_days(count: i64) -> Self {
        let bucket = Bucket::start().await;
        let folder = tempfile::tempdir().unwrap();
        let world = World::new(folder.path(), Some(bucket.settings()));
        let bench = Self { bucket, world, _folder: folder };
        for back in 0..count {
            bench.day(back);
        }
        bench
    }

    fn key(back: i64) -> String {
        let at = Timestamp::now() - SignedDuration::from_hours(24 * back);
        format!("db/local/{}/app-{}.dump", at.strftime("%Y/%m/%d"), at.strftime("%Y%m%dT000000Z"))
    }

    fn day(&self, back: i64) {
        let key = Self::key(back);
        self.bucket.put_dump(&key, b"bytes");
        self.bucket.put(&format!("{key}.index.json"), b"{}");
        for ending in ["", ".sha256", ".index.json"] {
            self.date(&format!("{key}{ending}"), back);
        }
    }

    fn date(&self, key: &str, back: i64) {
        let at = Timestamp::now() - SignedDuration::from_hours(24 * back);
        let file = std::fs::File::options().write(true).open(self.bucket.path(key)).unwrap();
        file.set_modified(at.into()).unwrap();
    }

    fn there(&self, back: i64) -> bool {
        let key = Self::key(back);
        let all =
            ["", ".sha256", ".index.json"].map(|ending| self.bucket.path(&format!("{key}{ending}")).exists());
        assert!(all.iter().all(|there| *there == all[0]), "a day goes whole: {key}");
        all[0]
    }
}

#[tokio::test]
async fn a_day_goes_whole_and_twice_is_once() {
    let bench = Bench::with_days(10).await;
    let ctx = bench.world.at(1, "k");
    let dry = Prune.run(&ctx, PruneParams { dry_run: true, ..params(4, 0) }).await.unwrap().outputs;
    assert_eq!((dry.objects, dry.days.len(), dry.deleted), (18, 6, false), "{}", dry.shown);
    assert!((0..10).all(|back| bench.there(back)), "a dry run deletes nothing");
    let sums: Vec<bool> = dry.go.iter().take(3).map(|key| key.ends_with(".sha256")).collect();
    assert_eq!(sums, [true, false, false], "checksums go first");

    let done = Prune.run(&ctx, params(4, 0)).await.unwrap().outputs;
    assert_eq!(done.go, dry.go);
    assert!((0..4).all(|back| bench.there(back)) && !(4..10).any(|back| bench.there(back)));
    let again = Prune.run(&ctx, params(4, 0)).await.unwrap().outputs;
    assert_eq!((again.objects, again.deleted), (0, false), "{}", again.shown);
}

#[tokio::test]
async fn only_what_a_person_has_seen_goes_and_never_what_is_kept() {
    let bench = Bench::with_days(6).await;
    let ctx = bench.world.at(1, "k");
    let newest = Bench::key(0);
    let oldest = ["", ".sha256", ".index.json"].map(|ending| format!("{}{ending}", Bench::key(5)));
    let only = Some([oldest.to_vec(), vec![newest.clone(), "db/local/elsewhere".into()]].concat());
    let done = Prune.run(&ctx, PruneParams { only, ..params(2, 0) }).await.unwrap().outputs;
    assert_eq!(done.objects, 3);
    assert!((0..5).all(|back| bench.there(back)) && !bench.there(5));
    assert_eq!(done.newest_verified, Some(newest));
}

#[tokio::test]
async fn a_lock_and_the_minimum_age_keep_a_day() {
    let bench = Bench::with_days(6).await;
    let ctx = bench.world.at(1, "k");
    let locked = format!("{}.lock", Bench::key(4));
    bench.bucket.put(&locked, b"");
    bench.date(&locked, 4);
    // Copied here just now, whatever its name says.
    bench.date(&Bench::key(3), 0);
    let done = Prune.run(&ctx, params(1, 0)).await.unwrap().outputs;
    assert_eq!(done.locked.len(), 1, "{}", done.shown);
    let left: Vec<i64> = (0..6).filter(|back| bench.there(*back)).collect();
    // The day before today is not over for a day yet: it is young whatever its objects say.
    assert_eq!(left, [0, 1, 3, 4]);
}

#[tokio::test]
async fn a_store_that_is_ahead_of_this_clock_or_hides_the_newest_dump_deletes_nothing() {
    let bench = Bench::with_days(6).await;
    let ctx = bench.world.at(1, "k");
    bench.date(&Bench::key(0), -3);
    let error = Prune.run(&ctx, params(1, 0)).await.unwrap_err();
    assert_eq!(error.code, Some("wrong-clock"));
    bench.date(&Bench::key(0), 0);
    std::fs::write(bench.bucket.path(&format!("{}.sha256", Bench::key(0))), b"").unwrap();
    bench.date(&format!("{}.sha256", Bench::key(0)), 0);
    let done = Prune.run(&ctx, params(1, 0)).await.unwrap().outputs;
    assert_eq!(done.newest_verified, Some(Bench::key(1)), "an empty checksum verifies nothing");
    assert!(bench.bucket.path(&Bench::key(0)).exists() && bench.there(1));
}
