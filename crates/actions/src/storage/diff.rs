//! `storage.diff`: which objects are missing or differ from the manifest of a moment. Reads only, and reads bytes:
//! a row whose file is gone looks healthy to everything else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compare::{Kind, State, compare};
use super::crew::{Crew, Job};
use super::manifest::{Entry, Manifest, ManifestRef};
use super::service::{Row, Service};
use super::vault::Vault;
use super::which::{Range, Which};
use crate::typed::{About, Done, Typed};

/// Names of each kind that stand in the outputs; all of them are in the report.
const EXAMPLES: usize = 25;

/// Parameters of `storage.diff`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Storage buckets; all that have a manifest when left out.
    #[serde(default)]
    pub buckets: Option<Vec<String>>,
    /// The newest manifest of this moment or before: a day, a timestamp, or `latest`.
    #[serde(default)]
    pub at_or_before: Option<String>,
    /// Only objects last changed at this moment or later: a day or a timestamp.
    #[serde(default)]
    pub from: Option<String>,
    /// Only objects last changed at this moment or before: a day or a timestamp.
    #[serde(default)]
    pub to: Option<String>,
    /// Read every byte, also where size and tag agree with the manifest.
    #[serde(default)]
    pub full_hash: bool,
}

/// How the objects of a bucket, or of all, stand against the manifest.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counts {
    /// Objects of the manifest that were looked at.
    pub objects: u64,
    /// Their bytes are those of the manifest.
    pub same: u64,
    /// No row and no bytes: deleted since.
    pub missing: u64,
    /// A row whose bytes are gone.
    pub lost: u64,
    /// Other bytes, although nobody put a newer version there.
    pub damaged: u64,
    /// A newer version, put there since.
    pub changed: u64,
    /// Objects in Storage that the manifest does not have: uploaded since.
    pub extra: u64,
    /// Those of them whose bytes are gone: this manifest cannot bring them back.
    pub orphans: u64,
    /// Objects that are missing, lost or damaged and have no copy in the backup bucket.
    pub without_copy: u64,
    /// Size of what is missing, lost or damaged, in bytes.
    pub bytes: u64,
}

/// Outputs of `storage.diff`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// The manifests that were compared with; `storage.restore` takes them.
    pub manifests: Vec<ManifestRef>,
    /// Each bucket.
    pub buckets: BTreeMap<String, Counts>,
    /// Objects of the manifests that were looked at.
    pub objects: u64,
    /// Their bytes are those of the manifest.
    pub same: u64,
    /// No row and no bytes.
    pub missing: u64,
    /// A row whose bytes are gone.
    pub lost: u64,
    /// Other bytes, although nobody put a newer version there.
    pub damaged: u64,
    /// A newer version, put there since.
    pub changed: u64,
    /// In Storage and not in the manifest.
    pub extra: u64,
    /// Those of them whose bytes are gone.
    pub orphans: u64,
    /// To be brought back and without a copy in the backup bucket.
    pub without_copy: u64,
    /// Missing, lost and damaged objects together.
    pub to_restore: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The first names of each kind, as `bucket/name`.
    pub examples: BTreeMap<String, Vec<String>>,
    /// File with every object that is not the same, one JSON line each.
    #[serde(default)]
    pub report: Option<String>,
}

/// The action `storage.diff`.
pub struct Diff;

impl Typed for Diff {
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
            "storage.diff",
            "Finds the files of Supabase Storage that are missing or differ from the manifest of a moment.",
            Effect::Read,
            r"id: diff
uses: storage.diff
with:
  buckets: [recordings]
  at_or_before: latest
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let which = which(&params);
        which.range()?;
        let manifests = which.manifests(&Vault::open(ctx).await?).await?;
        let lines = manifests
            .iter()
            .map(|m| {
                format!(
                    "compares {} objects with the manifest of bucket {} of {}",
                    m.at.objects, m.at.bucket, m.at.taken_at
                )
            })
            .collect();
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let which = which(&params);
        let range = which.range()?;
        let vault = Vault::open(ctx).await?;
        let manifests = which.manifests(&vault).await?;
        let service = Service::open(ctx, params.project.clone()).await?;
        let survey = survey(&service, Some(&vault), &manifests, range, params.full_hash).await?;
        let report = survey.write(ctx)?;
        let outputs = survey.outputs(&service.project, &manifests, report);
        let summary = format!(
            "{} of {} objects to bring back: {} missing, {} lost, {} damaged; {} newer, {} extra",
            outputs.to_restore,
            outputs.objects,
            outputs.missing,
            outputs.lost,
            outputs.damaged,
            outputs.changed,
            outputs.extra
        );
        Ok(Done::new(outputs, summary))
    }
}

fn which(params: &Params) -> Which<'_> {
    Which {
        buckets: params.buckets.as_deref(),
        at_or_before: params.at_or_before.as_deref(),
        manifests: None,
        from: params.from.as_deref(),
        to: params.to.as_deref(),
    }
}

/// One object that is not as the manifest says.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    pub(super) bucket: String,
    pub(super) name: String,
    /// A [`State`], `extra` or `orphan`.
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) without_copy: bool,
}

/// What a look at some buckets found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) buckets: BTreeMap<String, Counts>,
    pub(super) differences: Vec<Difference>,
}

impl Survey {
    pub(super) fn total(&self) -> Counts {
        self.buckets.values().fold(Counts::default(), |sum, one| Counts {
            objects: sum.objects + one.objects,
            same: sum.same + one.same,
            missing: sum.missing + one.missing,
            lost: sum.lost + one.lost,
            damaged: sum.damaged + one.damaged,
            changed: sum.changed + one.changed,
            extra: sum.extra + one.extra,
            orphans: sum.orphans + one.orphans,
            without_copy: sum.without_copy + one.without_copy,
            bytes: sum.bytes + one.bytes,
        })
    }

    /// The first names of each kind.
    pub(super) fn examples(&self) -> BTreeMap<String, Vec<String>> {
        let mut examples: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for found in &self.differences {
            let names = examples.entry(found.kind.to_owned()).or_default();
            if names.len() < EXAMPLES {
                names.push(format!("{}/{}", found.bucket, found.name));
            }
        }
        examples
    }

    /// Writes all differences down as evidence; none when there are none.
    pub(super) fn write(&self, ctx: &Context) -> Result<Option<String>, ActionError> {
        if self.differences.is_empty() {
            return Ok(None);
        }
        let path = ctx.artifacts.join("differences.jsonl");
        let written = || -> std::io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&ctx.artifacts)?;
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)?;
            let mut file = std::io::BufWriter::new(file);
            for found in &self.differences {
                serde_json::to_writer(&mut file, found)?;
                file.write_all(b"\n")?;
            }
            file.flush()
        };
        written().map_err(|error| {
            ActionError::unchanged(format!("write the report `{}`", path.display())).because(error)
        })?;
        Ok(Some(path.display().to_string()))
    }

    fn outputs(&self, project: &str, manifests: &[Manifest], report: Option<String>) -> Outputs {
        let total = self.total();
        Outputs {
            project: project.into(),
            manifests: manifests.iter().map(|manifest| manifest.at.clone()).collect(),
            buckets: self.buckets.clone(),
            objects: total.objects,
            same: total.same,
            missing: total.missing,
            lost: total.lost,
            damaged: total.damaged,
            changed: total.changed,
            extra: total.extra,
            orphans: total.orphans,
            without_copy: total.without_copy,
            to_restore: total.missing + total.lost + total.damaged,
            bytes: total.bytes,
            examples: self.examples(),
            report,
        }
    }
}

/// What one job looked at, and what it saw.
enum Seen<'a> {
    Entry(&'a Entry, State, bool),
    /// A row that the manifest does not have; whether its bytes are there.
    Extra(&'a Row, bool),
}

/// Looks at every object of the manifests within the range, and at every row that they do not have. With a vault,
/// also whether what is to be brought back has a copy.
pub(super) async fn survey(
    service: &Service<'_>,
    vault: Option<&Vault>,
    manifests: &[Manifest],
    range: Range,
    full: bool,
) -> Result<Survey, ActionError> {
    let mut survey = Survey::default();
    for manifest in manifests {
        survey_bucket(service, vault, (manifest, range, full), &mut survey).await?;
    }
    survey.differences.sort_by(|a, b| (&a.bucket, a.kind, &a.name).cmp(&(&b.bucket, b.kind, &b.name)));
    Ok(survey)
}

async fn survey_bucket(
    service: &Service<'_>,
    vault: Option<&Vault>,
    (manifest, range, full): (&Manifest, Range, bool),
    survey: &mut Survey,
) -> Result<(), ActionError> {
    let bucket = manifest.at.bucket.as_str();
    let rows = service.rows(bucket).await?.unwrap_or_default();
    let by_name: HashMap<&str, &Row> = rows.iter().map(|row| (row.name.as_str(), row)).collect();
    let known: HashSet<&str> = manifest.entries.iter().map(|entry| entry.name.as_str()).collect();
    let mut entries = manifest.entries.iter().filter(|entry| range.holds(entry));
    let mut extras = rows.iter().filter(|row| !known.contains(row.name.as_str()));
    let total = manifest.entries.iter().filter(|entry| range.holds(entry)).count() as u64;
    let mut counts = Counts::default();
    let mut crew = Crew::new(service.ctx, &service.pace);
    let mut begin = || -> Option<Job<'_, Seen<'_>>> {
        if let Some(entry) = entries.next() {
            let row = by_name.get(entry.name.as_str()).copied();
            let look = async move {
                let state = compare(service, bucket, entry, row, full).await?;
                let brings_back = matches!(state, State::Missing | State::Lost | State::Damaged);
                let copied = match vault.filter(|_| brings_back) {
                    Some(vault) => vault.has(&entry.sha256, entry.size).await?,
                    None => true,
                };
                Ok(Seen::Entry(entry, state, copied))
            };
            return Some(Job::on(if full { entry.size } else { 0 }, look));
        }
        let row = extras.next()?;
        let look = async move { Ok(Seen::Extra(row, service.probe(bucket, &row.name).await?.is_some())) };
        Some(Job::on(0, look))
    };
    while let Some(seen) = crew.next(&mut begin).await? {
        note(bucket, seen, &mut counts, &mut survey.differences);
        let message = format!("comparing bucket {bucket}");
        service.ctx.progress.report(Progress {
            done: counts.objects,
            total: Some(total),
            unit: "objects",
            message,
        });
    }
    survey.buckets.insert(bucket.to_owned(), counts);
    Ok(())
}

fn note(bucket: &str, seen: Seen<'_>, counts: &mut Counts, differences: &mut Vec<Difference>) {
    let mut differs = |name: &str, kind, entry: Option<&Entry>, without_copy| {
        differences.push(Difference {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            kind,
            size: entry.map(|entry| entry.size),
            sha256: entry.map(|entry| entry.sha256.clone()),
            without_copy,
        });
    };
    match seen {
        Seen::Extra(row, there) => {
            counts.extra += 1;
            counts.orphans += u64::from(!there);
            differs(&row.name, if there { "extra" } else { "orphan" }, None, false);
        }
        Seen::Entry(entry, state, copied) => {
            counts.objects += 1;
            let (count, kind) = match state.kind() {
                None => {
                    counts.same += 1;
                    return;
                }
                Some(Kind::Missing) => (&mut counts.missing, "missing"),
                Some(Kind::Lost) => (&mut counts.lost, "lost"),
                Some(Kind::Damaged) => (&mut counts.damaged, "damaged"),
                Some(Kind::Changed) => (&mut counts.changed, "changed"),
            };
            *count += 1;
            if state != State::Changed {
                counts.bytes += entry.size;
            }
            counts.without_copy += u64::from(!copied);
            differs(&entry.name, kind, Some(entry), !copied);
        }
    }
}
