//! The action `backup.prune`: looks, says what would go, looks again at what it is about to delete, deletes.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use jiff::civil::Date;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Day, Decision, Keep, Stays, days, decide, is_behind, newest_write};
use crate::backup::catalog::SUM_ENDING;
use crate::backup::writing::settings;
use crate::period::Period;
use crate::s3::{Listed, Store};
use crate::typed::{About, Done, Typed};

/// Questions about single objects at a time.
const ASKED_AT_ONCE: usize = 8;

/// Parameters of `backup.prune`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PruneParams {
    /// How many days with a verified dump are kept, the newest ones.
    #[serde(default = "thirty_five")]
    #[schemars(range(min = 1))]
    pub daily: usize,
    /// How many months are kept, the newest ones: of each its last day with a verified dump.
    #[serde(default = "twelve")]
    pub monthly: usize,
    /// Nothing younger than this is deleted, whatever the rules say.
    #[serde(default = "a_week")]
    pub min_age: Period,
    /// Only say what would be deleted.
    #[serde(default)]
    pub dry_run: bool,
    /// Delete only these keys, as an earlier `dry_run` gave them under `go`: what a person has seen. What the rules keep
    /// by now is kept all the same.
    #[serde(default)]
    pub only: Option<Vec<String>>,
}

fn thirty_five() -> usize {
    35
}

fn twelve() -> usize {
    12
}

fn a_week() -> Period {
    Period::seconds(7 * 86_400)
}

/// Outputs of `backup.prune`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct PruneOutputs {
    /// Keys that go: that would go, after `dry_run`; else that are gone.
    pub go: Vec<String>,
    /// How many those are.
    pub objects: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The days that they belong to.
    pub days: Vec<String>,
    /// The days that stay, each with the reason.
    pub kept: BTreeMap<String, String>,
    /// Days that would go but for a lock, each with the lock.
    pub locked: BTreeMap<String, String>,
    /// Key of the newest verified dump, which stays.
    pub newest_verified: Option<String>,
    /// Whether anything was deleted.
    pub deleted: bool,
    /// What goes, in a few lines for people.
    pub shown: String,
}

/// `backup.prune`.
#[derive(Debug)]
pub struct Prune;

impl Typed for Prune {
    type Params = PruneParams;
    type Outputs = PruneOutputs;
    const ABOUT: About = About {
        permissions: &[
            "s3:ListBucket, s3:GetObject, s3:DeleteObject",
            "s3:GetObjectRetention, s3:GetObjectLegalHold",
        ],
        has_plan: true,
        ..About::new(
            "backup.prune",
            "Deletes backups that are no longer kept: of each day dump, checksum, index and manifests together.",
            Effect::Idempotent,
            "- id: look\n  uses: backup.prune\n  with: { daily: 35, monthly: 12, dry_run: true }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: PruneParams) -> Result<Done<PruneOutputs>, ActionError> {
        let store = Store::of(ctx).await?;
        let found = look(ctx, &store, &params).await?;
        let mut outputs = found.outputs(&params);
        if params.dry_run || outputs.go.is_empty() {
            let summary = outputs.shown.lines().next().unwrap_or_default().to_owned();
            return Ok(Done::new(outputs, summary));
        }
        found.confirm(&store).await?;
        for (done, key) in (0..).zip(&outputs.go) {
            if ctx.stop.requested() {
                return Err(ActionError::unchanged("go on deleting: a stop was asked for").code("stopped"));
            }
            let total = Some(outputs.objects);
            ctx.progress.report(Progress { done, total, unit: "objects", message: key.clone() });
            store.delete(key).await?;
        }
        outputs.deleted = true;
        let summary = format!("{} objects of {} days deleted", outputs.objects, outputs.days.len());
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: PruneParams) -> Result<Preview, ActionError> {
        let store = Store::of(ctx).await?;
        let outputs = look(ctx, &store, &params).await?.outputs(&params);
        let destroys = (!params.dry_run && !outputs.go.is_empty())
            .then(|| format!("{} objects of {} days of backups", outputs.objects, outputs.days.len()));
        Ok(Preview::Changes { lines: outputs.shown.lines().map(str::to_owned).collect(), destroys })
    }
}

/// The bucket, as it was found and decided.
struct Found {
    days: BTreeMap<Date, Day>,
    decision: Decision,
    locked: BTreeMap<Date, String>,
}

/// Lists and decides. Anything that does not add up ends it here.
async fn look(ctx: &Context, store: &Store, params: &PruneParams) -> Result<Found, ActionError> {
    if params.daily == 0 {
        return Err(ActionError::refused("prune the backups: `daily` must keep at least one day"));
    }
    let (settings, prefix) = settings(ctx)?;
    let files =
        settings.storage_prefix.clone().unwrap_or_else(|| format!("storage/{}", ctx.environment.name));
    let files = format!("{}/", files.trim_end_matches('/'));
    let (dumps, manifests) = (store.list(&prefix).await?, store.list(&files).await?);
    let days = days(&dumps, &prefix, &manifests, &files);
    let now = Timestamp::now();
    if is_behind(now, newest_write(&days)) {
        return Err(ActionError::refused(format!(
            "prune the backups: this machine's clock says {now}, and the store has newer objects"
        ))
        .code("wrong-clock")
        .hint("Set the clock; nothing was deleted."));
    }
    let keep = Keep { daily: params.daily, monthly: params.monthly, min_age: params.min_age.0 };
    let mut decision = decide(&days, keep, now);
    let mut locked: BTreeMap<Date, String> = decision
        .stay
        .iter()
        .filter(|(_, why)| **why == Stays::Locked)
        .map(|(date, _)| (*date, "a .lock object".to_owned()))
        .collect();
    for (date, lock) in held(store, &days, &decision.go).await? {
        decision.go.retain(|going| *going != date);
        decision.stay.insert(date, Stays::Locked);
        locked.insert(date, lock);
    }
    Ok(Found { days, decision, locked })
}

/// Days of which the store itself holds an object.
async fn held(
    store: &Store,
    days: &BTreeMap<Date, Day>,
    going: &[Date],
) -> Result<BTreeMap<Date, String>, ActionError> {
    let objects =
        going.iter().flat_map(|date| days[date].objects().map(|object| (*date, object.key.clone())));
    let found: Vec<Option<(Date, String)>> = stream::iter(objects.collect::<Vec<_>>())
        .map(|(date, key)| async move {
            let lock = store.about(&key).await?.and_then(|about| about.lock);
            Ok::<_, ActionError>(lock.map(|lock| (date, lock)))
        })
        .buffer_unordered(ASKED_AT_ONCE)
        .try_collect()
        .await?;
    Ok(found.into_iter().flatten().collect())
}

impl Found {
    /// What goes, in the order in which it goes: of each day the checksums first, so that a day that went half is never
    /// taken for a verified one.
    fn going(&self, only: Option<&Vec<String>>) -> Vec<&Listed> {
        let seen: Option<BTreeSet<&str>> = only.map(|keys| keys.iter().map(String::as_str).collect());
        let mut all = Vec::new();
        for date in &self.decision.go {
            let mut objects: Vec<&Listed> = self.days[date].objects().collect();
            objects.sort_by_key(|object| (!object.key.ends_with(SUM_ENDING), object.key.as_str()));
            all.extend(objects);
        }
        all.retain(|object| seen.as_ref().is_none_or(|seen| seen.contains(object.key.as_str())));
        all
    }

    fn newest_verified(&self) -> Option<&Listed> {
        self.days.values().rev().find_map(|day| day.verified().max_by(|a, b| a.key.cmp(&b.key)))
    }

    /// Looks once more, object by object, at what the listing said: the dump that must stay is there, and nothing that
    /// goes has another half that the listing left out.
    async fn confirm(&self, store: &Store) -> Result<(), ActionError> {
        let refused = |why: String| {
            Err(ActionError::refused(format!("prune the backups: {why}"))
                .code("listing-differs")
                .hint("Nothing was deleted. Run it again; if it stays so, look at the store."))
        };
        let Some(newest) = self.newest_verified() else {
            return refused("no verified dump is there".into());
        };
        for key in [newest.key.clone(), format!("{}{SUM_ENDING}", newest.key)] {
            if store.head(&key).await?.is_none_or(|info| info.size_bytes == 0) {
                return refused(format!("`{key}`, which must stay, was listed and is not there"));
            }
        }
        let doubtful: Vec<String> =
            self.decision.go.iter().flat_map(|date| self.days[date].doubtful()).collect();
        let hidden: Vec<Option<String>> = stream::iter(doubtful)
            .map(|key| async move { Ok::<_, ActionError>(store.head(&key).await?.map(|_| key)) })
            .buffer_unordered(ASKED_AT_ONCE)
            .try_collect()
            .await?;
        match hidden.into_iter().flatten().next() {
            Some(key) => refused(format!("`{key}` is there, and the listing left it out")),
            None => Ok(()),
        }
    }

    fn outputs(&self, params: &PruneParams) -> PruneOutputs {
        let going = self.going(params.only.as_ref());
        let bytes = going.iter().map(|object| object.size_bytes).sum();
        let days: Vec<String> = self.decision.go.iter().map(ToString::to_string).collect();
        let word = |why: &Stays| match why {
            Stays::LastVerified => "newest verified",
            Stays::Daily => "daily",
            Stays::Monthly => "monthly",
            Stays::Unverified => "unverified, newer than a day that stays",
            Stays::Young => "younger than the minimum age",
            Stays::Locked => "locked",
        };
        let kept = self.decision.stay.iter().map(|(date, why)| (date.to_string(), word(why).to_owned()));
        let mut outputs = PruneOutputs {
            objects: going.len() as u64,
            bytes,
            go: going.iter().map(|object| object.key.clone()).collect(),
            kept: kept.collect(),
            locked: self.locked.iter().map(|(date, lock)| (date.to_string(), lock.clone())).collect(),
            newest_verified: self.newest_verified().map(|object| object.key.clone()),
            deleted: false,
            shown: String::new(),
            days,
        };
        outputs.shown = shown(&outputs);
        outputs
    }
}

/// Days that are named one by one.
const DAYS_SHOWN: usize = 40;

fn shown(outputs: &PruneOutputs) -> String {
    let mut lines = Vec::new();
    if outputs.go.is_empty() {
        lines.push(format!("nothing goes: {} days are there and all stay", outputs.kept.len()));
    } else {
        lines.push(format!(
            "{} objects of {} days go ({} MiB), {} days stay",
            outputs.objects,
            outputs.days.len(),
            outputs.bytes.div_ceil(1 << 20),
            outputs.kept.len()
        ));
        for day in outputs.days.iter().take(DAYS_SHOWN) {
            lines.push(format!("goes: {day}"));
        }
        if outputs.days.len() > DAYS_SHOWN {
            lines.push(format!("and {} more days", outputs.days.len() - DAYS_SHOWN));
        }
    }
    lines.extend(outputs.locked.iter().map(|(day, lock)| format!("stays by a lock: {day} ({lock})")));
    if let Some(newest) = &outputs.newest_verified {
        lines.push(format!("newest verified: {newest}"));
    }
    lines.join("\n")
}
