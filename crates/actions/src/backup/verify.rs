//! `backup.verify`: reads a backup to its end and says how far it can be trusted, level by level (V0 to V2). What only
//! a restore can show is a drill's affair. Changes nothing.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::types::Backup;
use runbook_dump::{Contents, DumpError, Index};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::catalog::{INDEX_BYTES_MAX, INDEX_ENDING, SUM_BYTES_MAX, SUM_ENDING, find, recorded_sum};
use super::reading::{Depth, read_whole};
use crate::s3::{Location, ObjectInfo, Store, inspect};
use crate::typed::{About, Done, Typed};

/// Parameters of `backup.verify`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyParams {
    /// The backup; the newest one with a recorded sha256 when left out.
    #[serde(default)]
    pub backup: Option<Backup>,
    /// Tables (`schema.table`) that it must hold.
    #[serde(default)]
    pub tables: Vec<String>,
}

/// How far a backup can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Level {
    /// The object is there, with the size and the checksum that were recorded.
    V0,
    /// Its bytes are those that were recorded, and can be read to their end.
    V1,
    /// What is in it fits together: every table has its data, as the index says.
    V2,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As expected.
    Passed,
    /// Otherwise.
    Failed,
    /// There is nothing to compare with.
    Left,
}

/// One check, as evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckResult {
    /// What was looked at: `sha256`.
    pub id: String,
    /// The level that it belongs to.
    pub level: Level,
    /// What was expected.
    pub expected: String,
    /// What was seen.
    pub observed: String,
    /// How it came out.
    pub verdict: Verdict,
}

/// Outputs of `backup.verify`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Verification {
    /// The backup that was looked at.
    pub backup: Backup,
    /// Where it is.
    pub url: String,
    /// The moment whose data it holds.
    pub taken_at: Option<Timestamp>,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// sha256 of its bytes, as they were read.
    pub sha256: String,
    /// The highest level of which all checks passed, and all below; none when V0 did not.
    pub level: Option<Level>,
    /// How many tables have rows in it.
    pub tables: u64,
    /// How many rows it holds.
    pub rows: u64,
    /// Every check.
    pub checks: Vec<CheckResult>,
}

impl Verification {
    /// The checks that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CheckResult> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Failed)
    }
}

/// `backup.verify`.
#[derive(Debug)]
pub struct Verify;

impl Typed for Verify {
    type Params = VerifyParams;
    type Outputs = Verification;
    const ABOUT: About = About {
        permissions: &["s3:ListBucket", "s3:GetObject"],
        has_plan: true,
        ..About::new(
            "backup.verify",
            "Reads a backup to its end and proves its bytes and what it holds, levels V0 to V2.",
            Effect::Read,
            "- id: verify\n  uses: backup.verify\n  with:\n    backup: \"{{ steps.backup }}\"\n    tables: [public.profiles]\n",
        )
    };

    async fn run(&self, ctx: &Context, params: VerifyParams) -> Result<Done<Verification>, ActionError> {
        let backup = match params.backup {
            Some(backup) => backup,
            None => find(ctx, "latest").await?,
        };
        let found = verify(ctx, backup, &params.tables).await?;
        if let Some(first) = found.failed().next() {
            let all: Vec<String> = found
                .failed()
                .map(|check| format!("{} is {}, not {}", check.id, check.observed, check.expected))
                .collect();
            let code = if first.id == "sha256" { "checksum-mismatch" } else { "unverified" };
            return Err(ActionError::refused(format!("trust `{}`: {}", found.url, all.join("; ")))
                .code(code)
                .hint(
                    "Do not restore it. Look at the run that made it, and at who can write to the bucket.",
                ));
        }
        let summary = format!(
            "{}: {} tables, {} rows, {} checks",
            found.level.map_or("nothing proven".into(), |level| format!("{level:?}")),
            found.tables,
            found.rows,
            found.checks.len()
        );
        Ok(Done::new(found, summary))
    }

    async fn plan(&self, ctx: &Context, params: VerifyParams) -> Result<Preview, ActionError> {
        let backup = match params.backup {
            Some(backup) => backup,
            None => find(ctx, "latest").await?,
        };
        let lines = vec![format!("reads {} to its end", backup.url)];
        Ok(Preview::Changes { lines, destroys: None })
    }
}

/// Checks as they are made.
#[derive(Default)]
struct Checks(Vec<CheckResult>);

impl Checks {
    fn add(&mut self, level: Level, id: &str, expected: impl ToString, observed: impl ToString, ok: bool) {
        let verdict = if ok { Verdict::Passed } else { Verdict::Failed };
        self.push(level, id, expected.to_string(), observed.to_string(), verdict);
    }

    fn left(&mut self, level: Level, id: &str, why: &str) {
        self.push(level, id, "something to compare with".into(), why.to_owned(), Verdict::Left);
    }

    fn push(&mut self, level: Level, id: &str, expected: String, observed: String, verdict: Verdict) {
        self.0.push(CheckResult { id: id.to_owned(), level, expected, observed, verdict });
    }

    fn level(&self) -> Option<Level> {
        let bad =
            self.0.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.level).min();
        match bad {
            None => Some(Level::V2),
            Some(Level::V0) => None,
            Some(Level::V1) => Some(Level::V0),
            Some(Level::V2) => Some(Level::V1),
        }
    }
}

/// Looks, reads to the end, and compares. What does not fit is a failed check, not an error.
///
/// # Errors
/// When the object is not there or cannot be read.
pub async fn verify(ctx: &Context, backup: Backup, tables: &[String]) -> Result<Verification, ActionError> {
    let at = Location::parse(&backup.url)?;
    let info = inspect(ctx, &at).await?;
    let mut checks = Checks::default();
    presence(&mut checks, &backup, &info);
    let seen = read_whole(ctx, &at, &info, Depth::Contents).await?;
    match &backup.sha256 {
        Some(recorded) => checks.add(Level::V1, "sha256", recorded, &seen.sha256, *recorded == seen.sha256),
        None => checks.add(Level::V1, "sha256", "a recorded sha256", "none is recorded", false),
    }
    let contents = seen.contents.unwrap_or_else(|| Ok(Contents::default()));
    let index = index(ctx, &at).await?;
    let (held, rows) = match &contents {
        Ok(contents) => {
            checks.add(Level::V1, "end", "the dump's own end", "the dump's own end", true);
            structure(&mut checks, contents, index, &seen.sha256, tables);
            (contents.tables.len() as u64, contents.rows())
        }
        Err(error) => {
            checks.add(Level::V1, "end", "the dump's own end", words(error), false);
            (0, 0)
        }
    };
    Ok(Verification {
        url: backup.url.clone(),
        taken_at: backup.taken_at,
        size_bytes: info.size_bytes,
        sha256: seen.sha256,
        level: checks.level(),
        tables: held,
        rows,
        checks: checks.0,
        backup,
    })
}

fn words(error: &DumpError) -> String {
    let mut text = format!("could not {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn presence(checks: &mut Checks, backup: &Backup, info: &ObjectInfo) {
    let size = backup.size_bytes.unwrap_or(info.size_bytes);
    let fits = size == info.size_bytes && info.size_bytes > 0;
    checks.add(Level::V0, "size", format!("{size} bytes"), format!("{} bytes", info.size_bytes), fits);
    match (&backup.sha256, &info.store_sha256) {
        (Some(recorded), Some(stored)) => {
            checks.add(Level::V0, "store-checksum", recorded, stored, recorded == stored);
        }
        _ => checks.left(Level::V0, "store-checksum", "the store keeps no sha256 of the whole object"),
    }
}

/// The index beside a dump: its text and whether its own sha256 fits; none when there is none.
async fn index(ctx: &Context, at: &Location) -> Result<Option<(Option<Index>, bool)>, ActionError> {
    let Location::S3 { bucket, key } = at else { return Ok(None) };
    let store = Store::bucket(ctx, bucket).await?;
    let index_key = format!("{key}{INDEX_ENDING}");
    let Some(text) = store.text(&index_key, INDEX_BYTES_MAX).await? else { return Ok(None) };
    let sum = store.text(&format!("{index_key}{SUM_ENDING}"), SUM_BYTES_MAX).await?.unwrap_or_default();
    let name = index_key.rsplit('/').next().unwrap_or(&index_key);
    let whole = recorded_sum(&sum, name) == Some(hex::encode(Sha256::digest(text.as_bytes())));
    Ok(Some((serde_json::from_str(&text).ok(), whole)))
}

fn structure(
    checks: &mut Checks,
    contents: &Contents,
    index: Option<(Option<Index>, bool)>,
    sha256: &str,
    wanted: &[String],
) {
    if let Some(blocks) = contents.blocks {
        // An entry without its data is an error of the reader.
        checks.add(
            Level::V2,
            "blocks",
            "data of every entry",
            format!("{blocks} blocks, none missing"),
            true,
        );
    }
    let held = format!("{} tables, {} rows", contents.tables.len(), contents.rows());
    match index {
        None => checks.left(Level::V2, "index", "no index lies beside it"),
        Some((_, false)) => {
            checks.add(
                Level::V2,
                "index",
                "the index that was recorded",
                "another one, by its sha256",
                false,
            );
        }
        Some((None, true)) => checks.add(Level::V2, "index", "an index", "something else", false),
        Some((Some(index), true)) => {
            let fits = index.dump.sha256 == sha256
                && Index::new(contents.clone(), sha256.to_owned(), index.dump.size_bytes) == index;
            let rows: u64 = index.tables.iter().map(|table| table.rows).sum();
            let said = format!("{} tables, {rows} rows", index.tables.len());
            let seen = if fits || said != held { held } else { format!("{held}, with other hashes") };
            checks.add(Level::V2, "index", said, seen, fits);
        }
    }
    if !wanted.is_empty() {
        let there: BTreeSet<String> = contents
            .tables
            .iter()
            .map(|table| format!("{}.{}", table.schema.as_deref().unwrap_or("public"), table.name))
            .collect();
        let missing: Vec<&str> =
            wanted.iter().filter(|name| !there.contains(*name)).map(String::as_str).collect();
        let seen = if missing.is_empty() { "all".into() } else { format!("missing: {}", missing.join(", ")) };
        checks.add(Level::V2, "tables", wanted.join(", "), seen, missing.is_empty());
    }
}
