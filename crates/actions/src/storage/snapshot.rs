//! `storage.snapshot`: copies the files of Supabase Storage into the backup bucket and writes a manifest for each
//! bucket. Bytes that are there already are not sent again; nothing is ever deleted.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::compare::hash;
use super::crew::{Crew, Job, stopped};
use super::manifest::{Entry, ManifestRef, check_bucket, check_name, new_head, write};
use super::service::{Bucket, CHUNK, Row, Service};
use super::vault::{Vault, part_size};
use crate::typed::{About, Done, Typed};

/// What was newly read is made durable after so many objects, or so long.
const SAVE_OBJECTS: usize = 500;
const SAVE_AFTER: Duration = Duration::from_secs(20);
/// An object that changes while it is read is read again so often.
const READS_MAX: u32 = 3;
/// Names in the outputs.
const NAMES_MAX: usize = 100;

/// Parameters of `storage.snapshot`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Storage buckets; all when left out.
    #[serde(default)]
    pub buckets: Option<Vec<String>>,
}

/// One bucket.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// Objects in the manifest.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects whose bytes were new to the backup bucket.
    pub copied: u64,
    /// Rows whose bytes are gone and were never copied: not in the manifest.
    pub lost: u64,
    /// Where the manifest is; `storage.diff` and `storage.restore` find it by its moment.
    pub manifest: ManifestRef,
}

/// Outputs of `storage.snapshot`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// Each bucket.
    pub buckets: BTreeMap<String, Taken>,
    /// Objects in all manifests.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects whose bytes were new to the backup bucket.
    pub copied: u64,
    /// Rows whose bytes are gone and were never copied: look at them with `storage.diff`.
    pub lost: u64,
    /// The first of them, as `bucket/name`.
    pub lost_names: Vec<String>,
}

/// The action `storage.snapshot`.
pub struct Snapshot;

impl Typed for Snapshot {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: api_gateway_keys_read (OAuth secrets:read)",
            "s3:ListBucket",
            "s3:GetObject",
            "s3:PutObject",
        ],
        has_plan: true,
        ..About::new(
            "storage.snapshot",
            "Copies the files of Supabase Storage into the backup bucket, with a manifest for each bucket.",
            Effect::Idempotent,
            r"id: files
uses: storage.snapshot
with:
  buckets: [avatars, recordings]
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let service = Service::open(ctx, params.project).await?;
        let vault = Vault::open(ctx).await?;
        let mut lines = Vec::new();
        for bucket in chosen(&service, params.buckets.as_deref()).await? {
            let rows = service.rows(&bucket.name).await?.unwrap_or_default();
            let known = known(&vault, &bucket.name).await?;
            let fresh = rows.iter().filter(|row| unchanged(row, &known).is_none());
            let (mut count, mut bytes) = (0_u64, 0_u64);
            for row in fresh {
                count += 1;
                bytes += row.metadata.as_ref().and_then(|metadata| metadata.size).unwrap_or(0);
            }
            lines.push(format!(
                "reads {count} of {} objects of bucket {} ({bytes} bytes) and copies what is new",
                rows.len(),
                bucket.name
            ));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let service = Service::open(ctx, params.project).await?;
        let vault = Vault::open(ctx).await?;
        let mut outputs = Outputs {
            project: service.project.clone(),
            buckets: BTreeMap::new(),
            objects: 0,
            bytes: 0,
            copied: 0,
            lost: 0,
            lost_names: Vec::new(),
        };
        for bucket in chosen(&service, params.buckets.as_deref()).await? {
            let work = Work { ctx, service: &service, vault: &vault, bucket: &bucket };
            let (taken, lost) = work.run().await?;
            outputs.objects += taken.objects;
            outputs.bytes += taken.bytes;
            outputs.copied += taken.copied;
            outputs.lost += taken.lost;
            let room = NAMES_MAX.saturating_sub(outputs.lost_names.len());
            outputs
                .lost_names
                .extend(lost.into_iter().take(room).map(|name| format!("{}/{name}", bucket.name)));
            outputs.buckets.insert(bucket.name.clone(), taken);
        }
        let mut summary = format!("{} objects, {} copied", outputs.objects, outputs.copied);
        if outputs.lost > 0 {
            summary.push_str(&format!(", {} rows WITHOUT FILES and without a copy", outputs.lost));
        }
        Ok(Done::new(outputs, summary))
    }
}

/// The buckets that were named, or all.
async fn chosen(service: &Service<'_>, named: Option<&[String]>) -> Result<Vec<Bucket>, ActionError> {
    let there = service.buckets().await?;
    if let Some(absent) = named.into_iter().flatten().find(|name| there.iter().all(|b| b.name != **name)) {
        let names: Vec<&str> = there.iter().map(|bucket| bucket.name.as_str()).collect();
        return Err(ActionError::refused(format!("find bucket `{}` in Storage", absent.escape_debug()))
            .hint(format!("It has: {}.", names.join(", "))));
    }
    let mut chosen: Vec<Bucket> =
        there.into_iter().filter(|bucket| named.is_none_or(|named| named.contains(&bucket.name))).collect();
    chosen.sort_by(|a, b| a.name.cmp(&b.name));
    chosen.iter().try_for_each(|bucket| check_bucket(&bucket.name))?;
    Ok(chosen)
}

/// What the newest manifest says, by name.
async fn known(vault: &Vault, bucket: &str) -> Result<HashMap<String, Entry>, ActionError> {
    let entries = vault.newest(bucket, None).await?.map(|manifest| manifest.entries).unwrap_or_default();
    Ok(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
}

/// What is known of an object whose row was not touched since. Any upload touches the row.
fn unchanged<'k>(row: &Row, known: &'k HashMap<String, Entry>) -> Option<&'k Entry> {
    let entry = known.get(&row.name)?;
    let says = row.metadata.clone().unwrap_or_default();
    let same = row.updated_at.is_some()
        && row.updated_at == entry.updated_at
        && says.size == Some(entry.size)
        && says.etag == entry.etag;
    same.then_some(entry)
}

/// How one object ended.
enum End {
    /// Its bytes were there already, and it did not have to be read.
    Known(Entry),
    /// It was read; whether its bytes were new.
    Read(Entry, bool),
    Lost(String),
    /// It was deleted while the snapshot was taken.
    Gone,
}

struct Work<'a> {
    ctx: &'a Context,
    service: &'a Service<'a>,
    vault: &'a Vault,
    bucket: &'a Bucket,
}

impl Work<'_> {
    /// The moment of the first attempt: a repeat writes the same manifest.
    async fn moment(&self) -> Result<Timestamp, ActionError> {
        let mark = format!("moment-{}", self.bucket.name);
        let saved = self.ctx.checkpoints.get(&mark).and_then(|at| at.as_str().and_then(|at| at.parse().ok()));
        if let Some(at) = saved {
            return Ok(at);
        }
        // The key has whole seconds, and must say the same as the head.
        let now = Timestamp::now();
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.ctx.checkpoints.save(&mark, json!(now)).await?;
        Ok(now)
    }

    /// What earlier attempts read, and how many checkpoints it took.
    fn read_before(&self) -> (Vec<Entry>, u64) {
        let (mut entries, mut parts) = (Vec::new(), 0);
        while let Some(saved) = self.ctx.checkpoints.get(&self.mark(parts)) {
            entries.extend(serde_json::from_value::<Vec<Entry>>(saved).unwrap_or_default());
            parts += 1;
        }
        (entries, parts)
    }

    fn mark(&self, part: u64) -> String {
        format!("read-{}-{part}", self.bucket.name)
    }

    async fn run(&self) -> Result<(Taken, Vec<String>), ActionError> {
        let at = self.moment().await?;
        let rows = self.service.rows(&self.bucket.name).await?.unwrap_or_default();
        let mut known = known(self.vault, &self.bucket.name).await?;
        let (before, mut parts) = self.read_before();
        let mut copied = before.len() as u64;
        known.extend(before.into_iter().map(|entry| (entry.name.clone(), entry)));
        let (mut entries, mut lost) = (BTreeMap::new(), Vec::new());
        let mut unsaved: Vec<Entry> = Vec::new();
        let mut saved_at = Instant::now();
        let mut waiting = rows.iter();
        let mut crew = Crew::new(self.ctx, &self.service.pace);
        let known = &known;
        let mut begin = || -> Option<Job<'_, End>> {
            let row = waiting.next()?;
            // A row that does not say its size may be as large as any.
            let size = row.metadata.as_ref().and_then(|says| says.size).unwrap_or(u64::MAX);
            Some(Job::on(size, self.object(row, known)))
        };
        let outcome = loop {
            match crew.next(&mut begin).await {
                Ok(Some(End::Known(entry))) => drop(entries.insert(entry.name.clone(), entry)),
                Ok(Some(End::Read(entry, new))) => {
                    copied += u64::from(new);
                    unsaved.push(entry.clone());
                    entries.insert(entry.name.clone(), entry);
                }
                Ok(Some(End::Lost(name))) => lost.push(name),
                Ok(Some(End::Gone)) => {}
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
            self.report(entries.len(), rows.len());
            let due = unsaved.len() >= SAVE_OBJECTS || saved_at.elapsed() >= SAVE_AFTER;
            if due && !unsaved.is_empty() {
                self.save(&mut parts, &mut unsaved).await?;
                saved_at = Instant::now();
            }
        };
        if let Err(error) = outcome {
            if !unsaved.is_empty() {
                self.save(&mut parts, &mut unsaved).await?;
            }
            return Err(error);
        }
        lost.sort();
        let entries: Vec<Entry> = entries.into_values().collect();
        let head = new_head(self.bucket, &self.service.project, at, &entries);
        let manifest = self.vault.keep(&self.bucket.name, at, write(&head, &entries)?).await?;
        let (objects, bytes) = (head.objects, head.bytes);
        Ok((Taken { objects, bytes, copied, lost: lost.len() as u64, manifest }, lost))
    }

    async fn save(&self, parts: &mut u64, unsaved: &mut Vec<Entry>) -> Result<(), ActionError> {
        self.ctx.checkpoints.save(&self.mark(*parts), json!(std::mem::take(unsaved))).await?;
        *parts += 1;
        Ok(())
    }

    fn report(&self, done: usize, total: usize) {
        self.ctx.progress.report(Progress {
            done: done as u64,
            total: Some(total as u64),
            unit: "objects",
            message: format!("copying bucket {}", self.bucket.name),
        });
    }

    async fn object(&self, row: &Row, known: &HashMap<String, Entry>) -> Result<End, ActionError> {
        check_name(&row.name)?;
        if let Some(entry) = unchanged(row, known)
            && self.vault.has(&entry.sha256, entry.size).await?
        {
            return Ok(End::Known(entry.clone()));
        }
        for _ in 0..READS_MAX {
            match self.read(row).await {
                Err(error) if error.code == Some("object-changed") => {}
                ended => return ended,
            }
        }
        Err(ActionError::unchanged(format!(
            "copy `{}/{}`: it changes all the time",
            self.bucket.name, row.name
        )))
    }

    async fn read(&self, row: &Row) -> Result<End, ActionError> {
        let (bucket, name) = (self.bucket.name.as_str(), row.name.as_str());
        let Some(info) = self.service.info(bucket, name).await? else { return Ok(End::Gone) };
        let Some(found) = self.service.probe(bucket, name).await? else {
            return Ok(End::Lost(name.to_owned()));
        };
        let copied = if found.size > CHUNK {
            self.copy_large(name, found.size).await?
        } else {
            self.copy_small(name, found.size).await?
        };
        let Some((sha256, new)) = copied else { return Ok(End::Lost(name.to_owned())) };
        let entry = Entry {
            name: name.to_owned(),
            size: found.size,
            sha256,
            etag: found.etag,
            content_type: info.content_type,
            cache_control: info.cache_control,
            metadata: info.metadata,
            version: info.version,
            created_at: info.created_at,
            updated_at: row.updated_at,
        };
        Ok(End::Read(entry, new))
    }

    async fn copy_small(&self, name: &str, size: u64) -> Result<Option<(String, bool)>, ActionError> {
        let Some(bytes) = self.service.part((&self.bucket.name, name), (0, size)).await? else {
            return Ok(None);
        };
        let sha256 = hex::encode(Sha256::digest(&bytes));
        let new = !self.vault.has(&sha256, size).await?;
        if new {
            self.vault.put(&sha256, bytes).await?;
        }
        Ok(Some((sha256, new)))
    }

    /// Reads twice: the copy's name is the hash of its bytes, which must be known before they are sent, and they
    /// fit nowhere in between.
    async fn copy_large(&self, name: &str, size: u64) -> Result<Option<(String, bool)>, ActionError> {
        let Some(sha256) = hash(self.service, &self.bucket.name, name, size).await? else { return Ok(None) };
        if self.vault.has(&sha256, size).await? {
            return Ok(Some((sha256, false)));
        }
        let mut upload = self.vault.begin(&sha256).await?;
        let sent = self.send(name, size, &sha256, &mut upload).await;
        match sent {
            Ok(true) => upload.complete().await?,
            Ok(false) => {
                upload.abandon().await;
                return Ok(None);
            }
            Err(error) => {
                upload.abandon().await;
                return Err(error);
            }
        }
        self.vault.prove(&sha256, size).await?;
        Ok(Some((sha256, true)))
    }

    /// Whether all bytes were sent, and were those of the first reading.
    async fn send(
        &self,
        name: &str,
        size: u64,
        sha256: &str,
        upload: &mut crate::s3::PartedUpload,
    ) -> Result<bool, ActionError> {
        let (mut from, step) = (0, part_size(size));
        let mut hash = Sha256::new();
        while from < size {
            let to = (from + step).min(size);
            let part: Option<Bytes> = self.service.part((&self.bucket.name, name), (from, to)).await?;
            let Some(part) = part else { return Ok(false) };
            hash.update(&part);
            upload.part(part).await?;
            from = to;
            if self.ctx.stop.requested() {
                return Err(stopped());
            }
        }
        if hex::encode(hash.finalize()) == sha256 {
            return Ok(true);
        }
        let text = format!("copy `{}/{name}`: it changed while it was read", self.bucket.name);
        Err(ActionError::unchanged(text).code("object-changed"))
    }
}
