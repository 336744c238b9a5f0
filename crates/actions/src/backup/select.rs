//! `backup.select`: the newest verified dump at or before a moment. Reads the bucket, changes nothing.

use std::str::FromStr as _;
use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use regex::Regex;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::environment::DataKind;
use runbook_core::types::Backup;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::s3::{Listed, Store};
use crate::typed::{About, Done, Typed};

/// A `.sha256` file holds one line; more is something else.
const SUM_BYTES_MAX: usize = 64 << 10;
/// Endings of files that lie beside dumps and are none.
const COMPANIONS: &[&str] =
    &[".sha256", ".json", ".txt", ".log", ".md5", ".asc", ".sig", ".yaml", ".tmp", ".lock"];

/// Parameters of `backup.select`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectParams {
    /// The newest dump of this moment or before, as a timestamp; `latest` for the newest of all.
    #[serde(default = "latest")]
    pub at_or_before: String,
    /// Take only a dump with a recorded sha256 beside it. A restore refuses any other (G04).
    #[serde(default = "yes")]
    pub require_checksum: bool,
}

fn latest() -> String {
    "latest".into()
}

fn yes() -> bool {
    true
}

/// `backup.select`.
#[derive(Debug)]
pub struct Select;

impl Typed for Select {
    type Params = SelectParams;
    type Outputs = Backup;
    const ABOUT: About = About {
        permissions: &["s3:ListBucket", "s3:GetObject"],
        has_plan: true,
        ..About::new(
            "backup.select",
            "Finds the newest verified database dump at or before a moment.",
            Effect::Read,
            "- id: backup\n  uses: backup.select\n  with: { at_or_before: latest }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: SelectParams) -> Result<Done<Backup>, ActionError> {
        let (backup, note) = select(ctx, &params).await?;
        Ok(Done::new(backup, note))
    }

    async fn plan(&self, ctx: &Context, params: SelectParams) -> Result<Preview, ActionError> {
        let (backup, note) = select(ctx, &params).await?;
        Ok(Preview::Changes { lines: vec![format!("takes {}: {note}", backup.url)], destroys: None })
    }
}

/// One dump of the listing.
pub(super) struct Candidate<'a> {
    pub(super) object: &'a Listed,
    pub(super) taken_at: Timestamp,
    pub(super) named: bool,
    pub(super) sum_key: Option<String>,
}

async fn select(ctx: &Context, params: &SelectParams) -> Result<(Backup, String), ActionError> {
    let before = match params.at_or_before.as_str() {
        "latest" => None,
        text => Some(Timestamp::from_str(text).map_err(|error| {
            ActionError::refused(format!("read `{text}` as a moment"))
                .because(error)
                .hint("Write `latest`, or a timestamp with its zone: `2026-11-22T03:00:00Z`.")
        })?),
    };
    let store = Store::of(ctx).await?;
    let settings = ctx.environment.backups.as_ref();
    let data = settings.and_then(|b| b.data).unwrap_or(ctx.environment.data);
    let prefix =
        settings.and_then(|b| b.prefix.clone()).unwrap_or_else(|| format!("db/{}", ctx.environment.name));
    let prefix = format!("{}/", prefix.trim_end_matches('/'));
    let listing = store.list(&prefix).await?;
    let seen = candidates(&listing, &prefix);
    let place = format!("s3://{}/{prefix}", store.name());
    let suited: Vec<_> = seen.iter().filter(|c| before.is_none_or(|moment| c.taken_at <= moment)).collect();
    let chosen = suited.iter().find(|c| c.sum_key.is_some());
    let chosen = match chosen {
        Some(chosen) => chosen,
        None if params.require_checksum => {
            return Err(nothing(&place, &listing, &seen, suited.len(), before));
        }
        None => suited.first().ok_or_else(|| nothing(&place, &listing, &seen, 0, before))?,
    };
    let passed_over = suited.iter().take_while(|c| c.object.key != chosen.object.key).count();
    let backup = describe(&store, chosen, data).await?;
    Ok((backup, note(chosen, passed_over)))
}

fn note(chosen: &Candidate<'_>, passed_over: usize) -> String {
    let source = if chosen.named { "as its name says" } else { "when it was uploaded: its name has no time" };
    let mut note = format!("restore point {} ({source})", chosen.taken_at);
    if chosen.sum_key.is_none() {
        note.push_str(", with no recorded checksum");
    }
    if passed_over > 0 {
        let dumps =
            if passed_over == 1 { "1 newer dump".into() } else { format!("{passed_over} newer dumps") };
        note.push_str(&format!("; passed over {dumps} without a checksum"));
    }
    note
}

/// Reads the recorded checksum and asks the store for its own.
async fn describe(store: &Store, chosen: &Candidate<'_>, data: DataKind) -> Result<Backup, ActionError> {
    let key = &chosen.object.key;
    let url = format!("s3://{}/{key}", store.name());
    let sha256 = match &chosen.sum_key {
        None => None,
        Some(sum_key) => {
            let text = store.text(sum_key, SUM_BYTES_MAX).await?.unwrap_or_default();
            let name = key.rsplit('/').next().unwrap_or(key);
            Some(recorded_sum(&text, name).ok_or_else(|| {
                ActionError::refused(format!(
                    "read the checksum of `{url}`: `{sum_key}` holds no sha256 for `{name}`"
                ))
                .code("unverified")
                .hint("It should hold 64 hex digits, or `HEX  NAME` as sha256sum writes it.")
            })?)
        }
    };
    let info = store.head(key).await?.ok_or_else(|| {
        ActionError::unchanged(format!("look at `{url}`: it went away after it was listed"))
            .code("object-changed")
    })?;
    if let (Some(recorded), Some(stored)) = (&sha256, &info.store_sha256)
        && recorded != stored
    {
        return Err(ActionError::refused(format!(
            "trust `{url}`: its recorded sha256 is {recorded}, the store computed {stored}"
        ))
        .code("checksum-mismatch")
        .hint("The dump or its .sha256 was altered. Pick an earlier restore point and find out why."));
    }
    Ok(Backup {
        url,
        sha256,
        size_bytes: Some(info.size_bytes),
        etag: info.etag,
        store_sha256: info.store_sha256,
        taken_at: Some(chosen.taken_at),
        source: None,
        data: Some(data),
    })
}

/// All dumps of a listing in folders by day, newest first.
pub(super) fn candidates<'a>(listing: &'a [Listed], prefix: &str) -> Vec<Candidate<'a>> {
    static DAY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\d{4}/\d{2}/\d{2}/[^/]+$").expect("the pattern is a constant"));
    let keys: std::collections::HashSet<&str> = listing.iter().map(|o| o.key.as_str()).collect();
    let mut found: Vec<_> = listing
        .iter()
        .filter(|o| o.key.strip_prefix(prefix).is_some_and(|rest| DAY.is_match(rest)))
        .filter(|o| !COMPANIONS.iter().any(|ending| o.key.ends_with(ending)))
        .filter_map(|object| {
            let in_name = moment_in_name(object.key.rsplit('/').next()?);
            let taken_at = in_name.or(object.last_modified)?;
            let sum_key = Some(format!("{}.sha256", object.key)).filter(|key| keys.contains(key.as_str()));
            Some(Candidate { object, taken_at, named: in_name.is_some(), sum_key })
        })
        .collect();
    found.sort_by(|a, b| (b.taken_at, &b.object.key).cmp(&(a.taken_at, &a.object.key)));
    found
}

/// The UTC moment that a file name carries: `2026-11-22T03-00-00Z`, `20261122T030000Z` and the like.
fn moment_in_name(name: &str) -> Option<Timestamp> {
    static MOMENT: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(\d{4})-?(\d{2})-?(\d{2})[T_](\d{2})[-:]?(\d{2})[-:]?(\d{2})(?:[.,]\d+)?Z")
            .expect("the pattern is a constant")
    });
    let found = MOMENT.captures(name)?;
    let number = |n: usize| found.get(n)?.as_str().parse::<i16>().ok();
    let small = |n: usize| number(n).and_then(|v| i8::try_from(v).ok());
    let at = DateTime::new(number(1)?, small(2)?, small(3)?, small(4)?, small(5)?, small(6)?, 0).ok()?;
    at.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// The sha256 in a `.sha256` file: bare, or the line that names the dump.
pub(crate) fn recorded_sum(text: &str, name: &str) -> Option<String> {
    let is_sum = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    // Some editors begin a file with a mark of its encoding.
    text.trim_start_matches('\u{feff}').lines().find_map(|line| {
        let line = line.trim();
        let (sum, named) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let sum = Some(sum).filter(|word| is_sum(word))?;
        // A name may hold spaces.
        let named = Some(named.trim_start().trim_start_matches(['*', '\\'])).filter(|name| !name.is_empty());
        let fits = named.is_none_or(|n| n.rsplit('/').next() == Some(name));
        fits.then(|| sum.to_ascii_lowercase())
    })
}

fn nothing(
    place: &str,
    listing: &[Listed],
    seen: &[Candidate<'_>],
    suited: usize,
    before: Option<Timestamp>,
) -> ActionError {
    let moment = before.map(|m| format!(" at or before {m}")).unwrap_or_default();
    let what = if listing.is_empty() {
        "nothing is there".into()
    } else if seen.is_empty() {
        format!("{} objects are there, none as YYYY/MM/DD/NAME (such as `{}`)", listing.len(), listing[0].key)
    } else if suited > 0 {
        format!("{suited} dumps are there, none with a .sha256 beside it")
    } else {
        let oldest = seen.last().map(|c| c.taken_at.to_string()).unwrap_or_default();
        format!("{} dumps are there, the oldest of {oldest}", seen.len())
    };
    ActionError::refused(format!("find a verified dump{moment} under `{place}`: {what}"))
        .code(if suited > 0 { "unverified" } else { "no-backup" })
        .hint("`runbook backups list` shows what the bucket holds.")
}

#[cfg(test)]
mod tests;
