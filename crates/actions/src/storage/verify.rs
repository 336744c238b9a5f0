//! `storage.verify`: reads files of Supabase Storage from their first byte to their last and compares size and
//! sha256 with the manifest. Reads only.

use std::collections::{BTreeMap, HashSet};

use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::compare::{State, compare};
use super::crew::{Crew, Job};
use super::manifest::{Entry, Manifest, ManifestRef};
use super::service::{Row, Service};
use super::vault::Vault;
use super::which::Which;
use crate::typed::{About, Done, Typed};

/// Names in the outputs.
const NAMES_MAX: usize = 100;

/// Parameters of `storage.verify`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Storage buckets; all that have a manifest when left out.
    #[serde(default)]
    pub buckets: Option<Vec<String>>,
    /// The manifests to hold the files against, as `storage.diff` or `storage.restore` give them.
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
    /// Read so many objects of each bucket, drawn by the hash of their names; all when left out.
    #[serde(default)]
    pub sample: Option<u64>,
    /// Whether the step fails when an object fails. `false` leaves the judgement to a condition on `failed`.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub fail: bool,
}

fn yes() -> bool {
    true
}

/// Outputs of `storage.verify`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// Objects whose every byte was read.
    pub verified: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Objects that are not there, or have other bytes without anybody having changed them.
    pub failed: u64,
    /// Objects of which a newer version is there: not the manifest's business.
    pub changed: u64,
    /// The first of the failed, as `bucket/name: why`.
    pub failures: Vec<String>,
    /// Objects in Storage that the manifest does not have.
    pub extra: u64,
    /// The first rows without bytes among them, as `bucket/name`.
    pub rows_without_files: Vec<String>,
    /// The first objects of the manifest that have no row, as `bucket/name`.
    pub files_without_rows: Vec<String>,
}

/// The action `storage.verify`.
pub struct Verify;

impl Typed for Verify {
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
            "storage.verify",
            "Proves files of Supabase Storage by size and sha256, reading every byte.",
            Effect::Read,
            r"id: files
uses: storage.verify
tags: [validate]
with:
  buckets: [avatars]
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let which = which(&params);
        which.range()?;
        let manifests = which.manifests(&Vault::open(ctx).await?).await?;
        let lines = manifests.iter().map(|manifest| {
            let count = params.sample.map_or(manifest.at.objects, |n| n.min(manifest.at.objects));
            format!("reads {count} of {} objects of bucket {}", manifest.at.objects, manifest.at.bucket)
        });
        Ok(Preview::Changes { lines: lines.collect(), destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let which = which(&params);
        let range = which.range()?;
        let manifests = which.manifests(&Vault::open(ctx).await?).await?;
        let service = Service::open(ctx, params.project.clone()).await?;
        let mut outputs = Outputs { project: service.project.clone(), ..Outputs::default() };
        for manifest in &manifests {
            let meant = manifest.entries.iter().filter(|entry| range.holds(entry));
            bucket(&service, manifest, drawn(meant, params.sample), &mut outputs).await?;
        }
        outputs.failures.sort();
        if params.fail && outputs.failed > 0 {
            let first = outputs.failures.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
            return Err(ActionError::refused(format!(
                "prove the files: {} of {} failed: {first}",
                outputs.failed,
                outputs.failed + outputs.verified
            ))
            .code("verification-failed")
            .hint("`storage.diff` tells what is wrong with each, `storage.restore` brings it back."));
        }
        let summary = format!(
            "{} objects proven by hash, {} failed, {} newer, {} rows without files",
            outputs.verified,
            outputs.failed,
            outputs.changed,
            outputs.rows_without_files.len()
        );
        Ok(Done::new(outputs, summary))
    }
}

fn which(params: &Params) -> Which<'_> {
    Which {
        buckets: params.buckets.as_deref(),
        at_or_before: params.at_or_before.as_deref(),
        manifests: params.manifests.as_deref(),
        from: params.from.as_deref(),
        to: params.to.as_deref(),
    }
}

/// The sample: the same objects on each attempt, and no neighbours.
fn drawn<'a>(entries: impl Iterator<Item = &'a Entry>, sample: Option<u64>) -> Vec<&'a Entry> {
    let mut entries: Vec<&Entry> = entries.collect();
    if let Some(count) = sample.and_then(|n| usize::try_from(n).ok()).filter(|n| *n < entries.len()) {
        entries.sort_by_cached_key(|entry| -> [u8; 32] { Sha256::digest(&entry.name).into() });
        entries.truncate(count);
    }
    entries
}

enum Seen<'a> {
    Entry(&'a Entry, State),
    Extra(&'a Row, bool),
}

async fn bucket(
    service: &Service<'_>,
    manifest: &Manifest,
    entries: Vec<&Entry>,
    outputs: &mut Outputs,
) -> Result<(), ActionError> {
    let name = manifest.at.bucket.as_str();
    let rows = service.rows(name).await?.unwrap_or_default();
    let by_name: BTreeMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
    let known: HashSet<&str> = manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
    let total = entries.len() as u64;
    let mut waiting = entries.into_iter();
    let mut extras = rows.iter().filter(|row| !known.contains(row.name.as_str()));
    let mut crew = Crew::new(service.ctx, &service.pace);
    let mut begin = || -> Option<Job<'_, Seen<'_>>> {
        if let Some(entry) = waiting.next() {
            let row = by_name.get(entry.name.as_str()).copied();
            let look = async move { Ok(Seen::Entry(entry, compare(service, name, entry, row, true).await?)) };
            return Some(Job::on(entry.size, look));
        }
        let row = extras.next()?;
        let look = async move { Ok(Seen::Extra(row, service.probe(name, &row.name).await?.is_some())) };
        Some(Job::on(0, look))
    };
    let mut done = 0;
    while let Some(seen) = crew.next(&mut begin).await? {
        done += u64::from(matches!(seen, Seen::Entry(..)));
        note(name, seen, outputs);
        let message = format!("reading bucket {name}");
        service.ctx.progress.report(Progress { done, total: Some(total), unit: "objects", message });
    }
    Ok(())
}

fn note(bucket: &str, seen: Seen<'_>, outputs: &mut Outputs) {
    let keep = |list: &mut Vec<String>, text: String| {
        if list.len() < NAMES_MAX {
            list.push(text);
        }
    };
    match seen {
        Seen::Extra(row, there) => {
            outputs.extra += 1;
            if !there {
                keep(&mut outputs.rows_without_files, format!("{bucket}/{}", row.name));
            }
        }
        Seen::Entry(entry, state) => {
            let place = format!("{bucket}/{}", entry.name);
            let why = match state {
                State::Same => {
                    outputs.verified += 1;
                    outputs.bytes += entry.size;
                    return;
                }
                State::Changed => {
                    outputs.changed += 1;
                    return;
                }
                State::Missing => {
                    keep(&mut outputs.files_without_rows, place.clone());
                    "it is not there"
                }
                State::Lost => {
                    keep(&mut outputs.rows_without_files, place.clone());
                    "its bytes are gone"
                }
                State::Damaged => "it has other bytes",
            };
            outputs.failed += 1;
            keep(&mut outputs.failures, format!("{place}: {why}"));
        }
    }
}
