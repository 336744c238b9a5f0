//! `evidence.record`: one JSON document that says what a drill did and proved, chained to the one of the drill before.
//! Judges nothing that the steps did not: an outcome is `passed` when every check that it was given was done and held.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::evidence;
use runbook_core::types::Backup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files;
use crate::period::Period;
use crate::s3::Store;
use crate::typed::{About, Done, Typed};

/// What every record says it is.
const SCHEMA: &str = "runbook-evidence/1";

/// Parameters of `evidence.record`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of the runbook. Records of one runbook in one environment form a chain.
    pub runbook: String,
    /// What it was run by: `schedule`, `manual`, an incident's id.
    #[serde(default = "manual")]
    #[schemars(default = "manual")]
    pub trigger: String,
    /// The backup that was proven.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// What was looked at and what was left out, with reasons: schemas, tables, buckets.
    #[serde(default)]
    pub scope: Value,
    /// How the target was kept apart from what is live, and when it was removed.
    #[serde(default)]
    pub isolation: Value,
    /// Data that may be lost at most.
    #[serde(default)]
    pub rpo: Option<Period>,
    /// Time that it may take at most.
    #[serde(default)]
    pub rto: Option<Period>,
    /// Outputs of `objectives.measure`; null when it came to none.
    #[serde(default)]
    pub measured: Value,
    /// The steps that prove something, in the order in which they should have been done.
    #[schemars(length(min = 1, max = 100))]
    pub checks: Vec<Proof>,
    /// What was done in another way than the runbook says.
    #[serde(default)]
    pub deviations: Vec<String>,
    /// Requirements that this is evidence for: `SOC 2 A1.2`.
    #[serde(default)]
    pub controls: Vec<String>,
    /// Who signed it off, and when: outputs of an `approval`.
    #[serde(default)]
    pub sign_off: Value,
    /// Key prefix in the backup bucket under which a copy is kept, such as `evidence`. Without it the record stays among
    /// the artifacts of the run.
    #[serde(default)]
    pub bucket_prefix: Option<String>,
}

fn manual() -> String {
    "manual".into()
}

/// A step that proves something.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// How the record names it: the step's id.
    pub id: String,
    /// The action that the step calls: says how to read its outputs.
    pub action: String,
    /// The step's outputs; null when it was not done.
    #[serde(default)]
    pub of: Value,
    /// What it was asked to expect, where the outputs do not say.
    #[serde(default)]
    pub expected: Option<String>,
}

/// Outputs of `evidence.record`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// `passed` or `failed`.
    pub outcome: String,
    /// The record's file.
    pub path: String,
    /// sha256 of its bytes: what the next record carries as `prev_hash`.
    pub sha256: String,
    /// That of the record before; null for the first.
    #[serde(default)]
    pub prev_hash: Option<String>,
    /// Where the copy is.
    #[serde(default)]
    pub url: Option<String>,
    /// Levels that were proven.
    pub levels: Vec<String>,
    /// Checks that held.
    pub passed: u64,
    /// Checks that did not, and steps that were not done.
    pub failed: u64,
}

/// The action `evidence.record`.
pub struct Record;

impl Typed for Record {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "s3:ListBucket, s3:GetObject and s3:PutObject under `bucket_prefix`, where that is set",
        ],
        has_plan: true,
        ..About::new(
            "evidence.record",
            "Writes down what a drill proved, chained to the record of the one before.",
            Effect::Idempotent,
            r#"id: evidence
uses: evidence.record
with:
  runbook: drill
  backup: "{{ steps.backup }}"
  checks:
    - { id: backup, action: backup.select, of: "{{ steps.backup }}" }
  bucket_prefix: evidence
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let mut lines = vec![format!("writes {} among the artifacts of the run", files::RECORD)];
        if let Some(prefix) = prefix(ctx, &params) {
            lines.push(format!("keeps a copy in the backup bucket under {prefix}"));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let kept = Kept::of(ctx, &params).await?;
        // A repeat writes the very bytes of the first attempt: the clock has moved since.
        let record = match ctx.checkpoints.get("record") {
            Some(record) => record,
            None => {
                let record = record(ctx, &params, kept.prev_hash(ctx).await?).await;
                ctx.checkpoints.save("record", record.clone()).await?;
                record
            }
        };
        let mut text = serde_json::to_string_pretty(&record)
            .map_err(|error| ActionError::refused("write the evidence as JSON").because(error))?;
        text.push('\n');
        let path = files::write(&ctx.artifacts, text.as_bytes())?;
        let url = kept.keep(text.as_bytes()).await?;
        let outputs = outputs(&record, path.display().to_string(), files::sha256(text.as_bytes()), url);
        let summary = format!(
            "{}: {} checks held, {} did not; levels {}",
            outputs.outcome,
            outputs.passed,
            outputs.failed,
            if outputs.levels.is_empty() { "none".to_owned() } else { outputs.levels.join(" ") }
        );
        Ok(Done::new(outputs, summary))
    }
}

fn prefix(ctx: &Context, params: &Params) -> Option<String> {
    let given =
        params.bucket_prefix.as_deref().map(|prefix| prefix.trim_matches('/')).filter(|p| !p.is_empty())?;
    Some(format!("{given}/{}/{}/", ctx.environment.name, slug(&params.runbook)))
}

fn slug(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect()
}

/// Where records are kept, and which chain they form.
struct Kept {
    chain: String,
    /// The bucket, the prefix, and the key of this record.
    bucket: Option<(Store, String, String)>,
}

impl Kept {
    async fn of(ctx: &Context, params: &Params) -> Result<Self, ActionError> {
        let chain = format!("{}/{}", ctx.environment.name, params.runbook);
        let bucket = match prefix(ctx, params) {
            None => None,
            Some(prefix) => {
                // The moment comes first, so that the order of keys is the order of drills.
                let at = ctx.started_at.strftime("%Y-%m-%dT%H-%M-%SZ");
                let key = format!("{prefix}{at}-{}.json", ctx.run_short);
                Some((Store::of(ctx).await?, prefix, key))
            }
        };
        Ok(Self { chain, bucket })
    }

    /// The hash of the record before: of the bucket's where there is a bucket, since several machines may run drills.
    async fn prev_hash(&self, ctx: &Context) -> Result<Option<String>, ActionError> {
        let Some((store, prefix, own)) = &self.bucket else {
            let before = files::local_before(&ctx.artifacts, &self.chain, &ctx.started_at.to_string());
            return Ok(before.map(|(_, bytes)| files::sha256(&bytes)));
        };
        let listed = store.list(prefix).await?;
        let newest = listed.into_iter().map(|object| object.key).filter(|key| key < own).max();
        let Some(newest) = newest else { return Ok(None) };
        let text = store.text(&newest, files::RECORD_BYTES_MAX).await?;
        Ok(text.map(|text| files::sha256(text.as_bytes())))
    }

    /// Puts the copy. What another run put under this key is never replaced.
    async fn keep(&self, bytes: &[u8]) -> Result<Option<String>, ActionError> {
        let Some((store, _, key)) = &self.bucket else { return Ok(None) };
        let url = format!("s3://{}/{key}", store.name());
        match store.text(key, files::RECORD_BYTES_MAX).await? {
            Some(text) if text.as_bytes() == bytes => {}
            Some(_) => {
                return Err(ActionError::refused(format!(
                    "keep the evidence at `{url}`: another record is there"
                )));
            }
            None => store.put_record(key, bytes).await?,
        }
        Ok(Some(url))
    }
}

async fn record(ctx: &Context, params: &Params, prev_hash: Option<String>) -> Value {
    let now = Timestamp::now();
    let checks: Vec<Value> = params.checks.iter().flat_map(proof).collect();
    let holds = |check: &&Value| check["verdict"] == "pass";
    let passed = checks.iter().filter(holds).count();
    let outcome = if passed == checks.len() { "passed" } else { "failed" };
    let mut levels: Vec<&str> =
        params.checks.iter().flat_map(|proof| evidence::levels_of(&proof.action, &proof.of)).collect();
    levels.sort_unstable();
    levels.dedup();
    let errors: Vec<&Value> = checks.iter().filter(|check| check["verdict"] != "pass").collect();
    let file = ctx.base.join(format!("{}.yaml", params.runbook));
    let run = ctx.artifacts.parent().unwrap_or(&ctx.artifacts).to_owned();
    let hashed = tokio::task::spawn_blocking(move || {
        let program = std::env::current_exe().and_then(|path| files::sha256_of(&path)).ok();
        (program, files::sha256_of(&file).ok(), files::attachments(&run))
    });
    let (program, file_sha256, attachments) = hashed.await.unwrap_or((None, None, json!([])));
    let environment = &ctx.environment;
    json!({
        "schema": SCHEMA,
        "chain": format!("{}/{}", environment.name, params.runbook),
        "drill_id": ctx.run,
        "outcome": outcome,
        "runbook": { "name": params.runbook, "file_sha256": file_sha256 },
        "tool": { "name": "runbook", "version": env!("CARGO_PKG_VERSION"), "binary_sha256": program },
        "operator": ctx.actor,
        "trigger": params.trigger,
        "started_at": ctx.started_at,
        "finished_at": now,
        "environment": { "name": environment.name, "kind": environment.kind, "isolation": params.isolation },
        "backup": params.backup.as_ref().map(|backup| backup_of(backup, ctx.started_at)),
        "scope": params.scope,
        "objectives": {
            "rpo_seconds": params.rpo.map(|period| period.0.as_secs()),
            "rto_seconds": params.rto.map(|period| period.0.as_secs()),
        },
        "measured": params.measured,
        "levels": levels,
        "checks": checks,
        "errors": errors,
        "deviations": params.deviations,
        "controls": params.controls,
        "attachments": attachments,
        "sign_off": params.sign_off,
        "prev_hash": prev_hash,
    })
}

fn backup_of(backup: &Backup, started_at: Timestamp) -> Value {
    let age = backup.taken_at.map(|at| started_at.duration_since(at).as_secs());
    json!({
        "uri": backup.url, "etag": backup.etag, "size_bytes": backup.size_bytes, "sha256": backup.sha256,
        "store_sha256": backup.store_sha256, "created_at": backup.taken_at, "age_seconds": age,
    })
}

/// The checks of one step; a step that was not done is a check that does not hold.
fn proof(proof: &Proof) -> Vec<Value> {
    let entry = |name: &str, expected: &str, observed: &str, verdict: &str, levels: &[&str]| {
        json!({ "id": proof.id, "name": name, "levels": levels, "expected": expected, "observed": observed,
                "verdict": verdict })
    };
    let expected = proof.expected.as_deref().unwrap_or("done");
    if proof.of.is_null() {
        return vec![entry(&proof.action, expected, "not done, or failed", "fail", &[])];
    }
    let levels = evidence::levels_of(&proof.action, &proof.of);
    // What the step was called with is not known here; where that matters, the step succeeds only when it held.
    let found = evidence::checks_of(&proof.action, &Value::Null, &proof.of);
    if found.is_empty() {
        let observed = proof.of.get("value").filter(|value| !value.is_null()).map(Value::to_string);
        return vec![entry(&proof.action, expected, observed.as_deref().unwrap_or("done"), "pass", &levels)];
    }
    let verdict = |ok| if ok { "pass" } else { "fail" };
    found.iter().map(|c| entry(&c.name, &c.expected, &c.observed, verdict(c.ok), &levels)).collect()
}

fn outputs(record: &Value, path: String, sha256: String, url: Option<String>) -> Outputs {
    let list = |name: &str| record[name].as_array().map_or(&[][..], Vec::as_slice);
    let failed = list("errors").len() as u64;
    Outputs {
        outcome: record["outcome"].as_str().unwrap_or("failed").to_owned(),
        path,
        sha256,
        prev_hash: record["prev_hash"].as_str().map(str::to_owned),
        url,
        levels: list("levels").iter().filter_map(|level| level.as_str().map(str::to_owned)).collect(),
        passed: list("checks").len() as u64 - failed,
        failed,
    }
}
