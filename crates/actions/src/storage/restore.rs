//! `storage.restore`: brings missing and differing files back from the backup bucket. What is as it should be is
//! left alone, so a repeated attempt uploads nothing twice. Deletes nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::compare::{Kind, compare};
use super::crew::{Crew, Job};
use super::diff::survey;
use super::large;
use super::manifest::{Entry, Manifest, ManifestRef};
use super::service::{CHUNK, Row, Service};
use super::vault::Vault;
use super::which::{Range, Which};
use crate::typed::{About, Done, Typed};

/// Progress is made durable after so many objects, or so long.
const SAVE_OBJECTS: u64 = 400;
const SAVE_AFTER: Duration = Duration::from_secs(3);
/// Name of the checkpoint.
const MARK: &str = "done";
/// A preview looks at the bytes of so many objects and no more.
const PREVIEW_OBJECTS: u64 = 2000;

/// Parameters of `storage.restore`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Storage buckets; all that have a manifest when left out.
    #[serde(default)]
    pub buckets: Option<Vec<String>>,
    /// The manifests to restore, as `storage.diff` gives them: what is brought back is what was looked at.
    #[serde(default)]
    pub manifests: Option<Vec<ManifestRef>>,
    /// Without `manifests`: the newest manifest of this moment or before: a day, a timestamp, or `latest`.
    #[serde(default)]
    pub at_or_before: Option<String>,
    /// Only objects last changed at this moment or later: a day or a timestamp.
    #[serde(default)]
    pub from: Option<String>,
    /// Only objects last changed at this moment or before: a day or a timestamp.
    #[serde(default)]
    pub to: Option<String>,
    /// What is brought back. `changed` is left out by default: it would put an old version over a newer one.
    #[serde(default = "kinds")]
    #[schemars(default = "kinds")]
    pub kinds: Vec<Kind>,
    /// Read every byte of what seems to be there, also where size and tag agree with the manifest.
    #[serde(default)]
    pub full_hash: bool,
}

fn kinds() -> Vec<Kind> {
    vec![Kind::Missing, Kind::Lost, Kind::Damaged]
}

/// Outputs of `storage.restore`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// The manifests that were restored.
    pub manifests: Vec<ManifestRef>,
    /// Objects that were brought back.
    pub restored: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects that were as they should be.
    pub same: u64,
    /// Objects that differ and were left alone, because `kinds` does not name them.
    pub left: u64,
    /// Buckets that were made.
    pub buckets_created: Vec<String>,
}

/// What is counted, over all attempts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Tally {
    restored: u64,
    bytes: u64,
    same: u64,
    left: u64,
    created: Vec<String>,
}

/// The checkpoint: everything before this place is done.
#[derive(Debug, Serialize, Deserialize)]
struct Progressed {
    /// The manifests it is about.
    manifests: Vec<String>,
    bucket: usize,
    /// Objects of that bucket, in the manifest's order.
    objects: usize,
    tally: Tally,
}

/// The action `storage.restore`.
pub struct Restore;

impl Typed for Restore {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: api_gateway_keys_read (OAuth secrets:read)",
            "s3:ListBucket",
            "s3:GetObject",
        ],
        has_plan: true,
        ..About::new(
            "storage.restore",
            "Brings missing and differing files of Supabase Storage back from the backup bucket.",
            Effect::Idempotent,
            r"id: files
uses: storage.restore
with:
  buckets: [recordings]
  at_or_before: latest
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let (vault, manifests, range) = chosen(ctx, &params).await?;
        let objects: u64 = manifests.iter().map(|manifest| manifest.at.objects).sum();
        if objects > PREVIEW_OBJECTS {
            return Ok(Preview::Unknown(format!(
                "{objects} objects would have to be read; `storage.diff` does that as a step"
            )));
        }
        let service = Service::open(ctx, params.project.clone()).await?;
        let survey = survey(&service, Some(&vault), &manifests, range, false).await?;
        let lines = survey.buckets.iter().map(|(bucket, counts)| {
            let chosen = |kind: Kind, count: u64| if params.kinds.contains(&kind) { count } else { 0 };
            format!(
                "brings back into bucket {bucket}: {} missing, {} lost, {} damaged, {} newer ones (of {} objects)",
                chosen(Kind::Missing, counts.missing),
                chosen(Kind::Lost, counts.lost),
                chosen(Kind::Damaged, counts.damaged),
                chosen(Kind::Changed, counts.changed),
                counts.objects
            )
        });
        let changed = survey.total().changed;
        let destroys = (params.kinds.contains(&Kind::Changed) && changed > 0)
            .then(|| format!("{changed} newer versions of files are replaced by old ones"));
        Ok(Preview::Changes { lines: lines.collect(), destroys })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let (vault, manifests, range) = chosen(ctx, &params).await?;
        let service = Service::open(ctx, params.project.clone()).await?;
        let work = Work { service: &service, vault: &vault, params: &params, range };
        let tally = work.all(&manifests).await?;
        let summary = format!(
            "{} objects brought back, {} were as they should be, {} left alone",
            tally.restored, tally.same, tally.left
        );
        let outputs = Outputs {
            project: service.project.clone(),
            manifests: manifests.into_iter().map(|manifest| manifest.at).collect(),
            restored: tally.restored,
            bytes: tally.bytes,
            same: tally.same,
            left: tally.left,
            buckets_created: tally.created,
        };
        Ok(Done::new(outputs, summary))
    }
}

async fn chosen(ctx: &Context, params: &Params) -> Result<(Vault, Vec<Manifest>, Range), ActionError> {
    let which = Which {
        buckets: params.buckets.as_deref(),
        at_or_before: params.at_or_before.as_deref(),
        manifests: params.manifests.as_deref(),
        from: params.from.as_deref(),
        to: params.to.as_deref(),
    };
    let range = which.range()?;
    let vault = Vault::open(ctx).await?;
    let manifests = which.manifests(&vault).await?;
    Ok((vault, manifests, range))
}

/// How one object ended.
enum End {
    Restored(u64),
    Same,
    Left,
}

struct Work<'a> {
    service: &'a Service<'a>,
    vault: &'a Vault,
    params: &'a Params,
    range: Range,
}

impl Work<'_> {
    async fn all(&self, manifests: &[Manifest]) -> Result<Tally, ActionError> {
        let sums: Vec<String> = manifests.iter().map(|manifest| manifest.at.sha256.clone()).collect();
        let saved = self.service.ctx.checkpoints.get(MARK);
        let saved = saved.and_then(|saved| serde_json::from_value::<Progressed>(saved).ok());
        // Progress through other manifests says nothing about these.
        let saved = saved.filter(|saved| saved.manifests == sums);
        let mut progressed = saved.unwrap_or_else(|| Progressed {
            manifests: sums,
            bucket: 0,
            objects: 0,
            tally: Tally::default(),
        });
        let there: BTreeMap<String, _> =
            self.service.buckets().await?.into_iter().map(|bucket| (bucket.name.clone(), bucket)).collect();
        for (index, manifest) in manifests.iter().enumerate().skip(progressed.bucket) {
            if index > progressed.bucket {
                (progressed.bucket, progressed.objects) = (index, 0);
            }
            let bucket = manifest.at.bucket.clone();
            if !there.contains_key(&bucket) && !progressed.tally.created.contains(&bucket) {
                self.service.create_bucket(&manifest.head).await?;
                progressed.tally.created.push(bucket);
            }
            self.bucket(manifest, &mut progressed).await?;
        }
        Ok(progressed.tally)
    }

    async fn bucket(&self, manifest: &Manifest, progressed: &mut Progressed) -> Result<(), ActionError> {
        let ctx = self.service.ctx;
        let bucket = manifest.at.bucket.as_str();
        let rows = self.service.rows(bucket).await?.unwrap_or_default();
        let before = self.before(bucket, &rows).await?;
        let rows: HashMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
        let entries: Vec<&Entry> = manifest.entries.iter().filter(|entry| self.range.holds(entry)).collect();
        let mut next = progressed.objects;
        let mut crew = Crew::new(ctx, &self.service.pace);
        let mut begin = || -> Option<Job<'_, (usize, End)>> {
            let (index, entry) = (next, *entries.get(next)?);
            next += 1;
            let row = rows.get(entry.name.as_str()).copied();
            Some(Job::on(
                entry.size,
                async move { Ok((index, self.object(bucket, entry, row, before).await?)) },
            ))
        };
        let mut saver = Saver { unsaved: 0, last: Instant::now(), beyond: BTreeMap::new() };
        let outcome = loop {
            match crew.next(&mut begin).await {
                Ok(Some((index, end))) => {
                    saver.note(index, end, progressed);
                    let total = Some(entries.len() as u64);
                    let message = format!("restoring bucket {bucket}");
                    let done = progressed.objects as u64;
                    ctx.progress.report(Progress { done, total, unit: "objects", message });
                    saver.save_if_due(ctx, progressed).await?;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if outcome.is_err() && saver.unsaved > 0 {
            saver.save(ctx, progressed).await?;
        }
        outcome
    }

    /// When a bucket's rows were changed last before this step changed any, by the service's own clock.
    async fn before(&self, bucket: &str, rows: &[Row]) -> Result<Option<Timestamp>, ActionError> {
        let checkpoints = &self.service.ctx.checkpoints;
        let mark = format!("before-{bucket}");
        if let Some(saved) = checkpoints.get(&mark).and_then(|saved| serde_json::from_value(saved).ok()) {
            return Ok(saved);
        }
        let newest = rows.iter().filter_map(|row| row.updated_at).max();
        checkpoints.save(&mark, json!(newest)).await?;
        Ok(newest)
    }

    async fn object(
        &self,
        bucket: &str,
        entry: &Entry,
        row: Option<&Row>,
        before: Option<Timestamp>,
    ) -> Result<End, ActionError> {
        let state = compare(self.service, bucket, entry, row, self.params.full_hash).await?;
        let kind = match state.kind() {
            // An earlier attempt of this step brought it back, after its last checkpoint: it is counted so.
            None if row.and_then(|row| row.updated_at) > before => return Ok(End::Restored(entry.size)),
            None => return Ok(End::Same),
            Some(kind) => kind,
        };
        if !self.params.kinds.contains(&kind) {
            return Ok(End::Left);
        }
        if entry.size <= CHUNK {
            // One request with its length: the service says yes when bytes and row are there, and not before.
            let bytes = self.vault.small(&entry.sha256, entry.size).await?;
            self.service.upload(bucket, entry, &bytes).await?;
            return Ok(End::Restored(entry.size));
        }
        large::upload(self.service, self.vault, bucket, entry).await?;
        let there = self.service.probe(bucket, &entry.name).await?;
        if there.is_none_or(|found| found.size != entry.size) {
            return Err(ActionError::unchanged(format!(
                "see `{bucket}/{}` restored: it was uploaded, and its bytes are not all there",
                entry.name
            )));
        }
        Ok(End::Restored(entry.size))
    }
}

/// Turns results that come in any order into a place before which everything is done.
struct Saver {
    unsaved: u64,
    last: Instant,
    /// Done beyond the place, and how.
    beyond: BTreeMap<usize, End>,
}

impl Saver {
    fn note(&mut self, index: usize, end: End, progressed: &mut Progressed) {
        self.beyond.insert(index, end);
        while let Some(end) = self.beyond.remove(&progressed.objects) {
            progressed.objects += 1;
            self.unsaved += 1;
            let tally = &mut progressed.tally;
            match end {
                End::Restored(bytes) => {
                    tally.restored += 1;
                    tally.bytes += bytes;
                }
                End::Same => tally.same += 1,
                End::Left => tally.left += 1,
            }
        }
    }

    async fn save_if_due(&mut self, ctx: &Context, progressed: &Progressed) -> Result<(), ActionError> {
        let due = self.unsaved >= SAVE_OBJECTS || (self.unsaved > 0 && self.last.elapsed() >= SAVE_AFTER);
        if due { self.save(ctx, progressed).await } else { Ok(()) }
    }

    async fn save(&mut self, ctx: &Context, progressed: &Progressed) -> Result<(), ActionError> {
        ctx.checkpoints.save(MARK, json!(progressed)).await?;
        (self.unsaved, self.last) = (0, Instant::now());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_no_gap_before_it_counts_as_done() {
        let mut progressed =
            Progressed { manifests: Vec::new(), bucket: 0, objects: 0, tally: Tally::default() };
        let mut saver = Saver { unsaved: 0, last: Instant::now(), beyond: BTreeMap::new() };
        saver.note(1, End::Restored(5), &mut progressed);
        saver.note(3, End::Same, &mut progressed);
        assert_eq!((progressed.objects, progressed.tally.restored), (0, 0));
        saver.note(0, End::Left, &mut progressed);
        assert_eq!((progressed.objects, progressed.tally.bytes, progressed.tally.left), (2, 5, 1));
        saver.note(2, End::Same, &mut progressed);
        assert_eq!((progressed.objects, progressed.tally.same, saver.unsaved), (4, 2, 4));
    }
}
