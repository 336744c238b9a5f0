//! Restores against a real PostgreSQL and a real S3 server.

mod ahead;
mod faults;
mod formats;
mod losses;
mod oddities;
mod resume;
mod supabase;

use runbook_core::types::Backup;
use sha2::{Digest as _, Sha256};

use super::action::Restore;
use super::params::{RestoreOutputs, RestoreParams, Verify};
use super::platform::Profile;
use crate::testing::{Bucket, Database, World, cluster};
use crate::typed::Typed as _;
use runbook_core::action::ActionError;

/// A source, an empty target, and a bucket between them.
struct Stage {
    source: Database,
    target: Database,
    bucket: Bucket,
    world: World,
    cluster: crate::testing::Cluster,
}

impl Stage {
    async fn new() -> Self {
        let cluster = cluster().await;
        let source = cluster.database("source").await;
        source.sql(include_str!("source.sql")).await;
        let target = cluster.database("target").await;
        let bucket = Bucket::start().await;
        let world = World::new(cluster.folder.path(), Some(bucket.settings()));
        Self { source, target, bucket, world, cluster }
    }

    /// Puts a dump into the bucket and says how to restore it.
    fn dumped(&self, bytes: &[u8]) -> RestoreParams {
        self.bucket.put_dump("d", bytes);
        RestoreParams {
            backup: Backup {
                url: "s3://backups/d".into(),
                sha256: Some(hex::encode(Sha256::digest(bytes))),
                size_bytes: None,
                etag: None,
                store_sha256: None,
                taken_at: None,
                source: None,
                data: None,
            },
            into: self.target.connection.clone(),
            profile: Profile::Plain,
            overwrite: false,
            verify: Verify::Auto,
            jobs: None,
            priority: Vec::new(),
            chunk_mib: Some(1),
            mask: None,
            mask_key: None,
        }
    }

    async fn restore(&self, epoch: u64, params: &RestoreParams) -> Result<RestoreOutputs, ActionError> {
        Restore.run(&self.world.at(epoch, "k1"), params.clone()).await.map(|done| done.outputs)
    }

    async fn assert_same(&self, case: &str) {
        assert_eq!(self.source.contents().await, self.target.contents().await, "{case}: rows");
        similar(&self.source.schema(), &self.target.schema(), case);
        let sum = "select md5(string_agg(md5(lo_get(oid)), '' order by oid)) from pg_largeobject_metadata";
        assert_eq!(self.source.text(sum).await, self.target.text(sum).await, "{case}: large objects");
    }

    /// Nothing at all is in the target.
    async fn assert_untouched(&self, case: &str) {
        let objects = "select count(*) || '' from pg_class c join pg_namespace n on n.oid = relnamespace \
                       where nspname not like 'pg\\_%' and nspname <> 'information_schema'";
        assert_eq!(self.target.text(objects).await, "0", "{case}");
        let rest = "select (select count(*) from pg_largeobject_metadata) + (select count(*) from pg_proc p \
                    join pg_namespace n on n.oid = pronamespace where nspname = 'public') + \
                    (select count(*) from pg_namespace where nspname = '_runbook')";
        assert_eq!(self.target.text(rest).await, "0", "{case}");
    }
}

/// Compares two schemas as sets of lines, and shows the first that differ.
#[track_caller]
fn similar(left: &str, right: &str, case: &str) {
    let only = |a: &str, b: &str| {
        let b: std::collections::HashSet<_> = b.lines().collect();
        a.lines().filter(|line| !b.contains(line)).take(5).collect::<Vec<_>>().join("\n")
    };
    assert!(
        left == right,
        "{case}: only in the source:\n{}\nonly in the target:\n{}",
        only(left, right),
        only(right, left)
    );
}
