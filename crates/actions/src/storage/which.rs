//! Which manifests and which objects a step is about: by bucket, moment and date. Reads only the backup bucket.

use std::str::FromStr as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use runbook_core::action::ActionError;

use super::manifest::{Entry, Manifest, ManifestRef};
use super::vault::Vault;

/// One edge of a range of dates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// A moment, or a day in UTC: its first moment, or its last.
fn moment(text: &str, edge: Edge) -> Result<Timestamp, ActionError> {
    if let Ok(at) = Timestamp::from_str(text) {
        return Ok(at);
    }
    // A date's reader takes a time for decoration, and a time without a zone names no moment.
    let day = Date::from_str(text).ok().filter(|_| text.len() == "2026-11-22".len());
    let at = day.and_then(|day| match edge {
        Edge::Start => day.to_zoned(TimeZone::UTC).ok(),
        Edge::End => day.at(23, 59, 59, 999_999_999).to_zoned(TimeZone::UTC).ok(),
    });
    at.map(|zoned| zoned.timestamp()).ok_or_else(|| {
        ActionError::refused(format!("read `{}` as a moment", text.escape_debug()))
            .hint("Write a day, `2026-11-22`, or a timestamp with its zone: `2026-11-22T03:00:00Z`.")
    })
}

/// What a step was asked for.
#[derive(Debug, Default)]
pub(super) struct Which<'a> {
    pub(super) buckets: Option<&'a [String]>,
    pub(super) at_or_before: Option<&'a str>,
    pub(super) manifests: Option<&'a [ManifestRef]>,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
}

impl Which<'_> {
    /// The manifests: those that were named, or the newest of each bucket at or before the moment.
    pub(super) async fn manifests(&self, vault: &Vault) -> Result<Vec<Manifest>, ActionError> {
        let mut found = Vec::new();
        if let Some(named) = self.manifests {
            let wanted = |at: &&ManifestRef| self.buckets.is_none_or(|buckets| buckets.contains(&at.bucket));
            for at in named.iter().filter(wanted) {
                found.push(vault.again(at).await?);
            }
        } else {
            let before = match self.at_or_before {
                None | Some("latest") => None,
                Some(text) => Some(moment(text, Edge::End)?),
            };
            let buckets = match self.buckets {
                Some(buckets) => buckets.to_vec(),
                None => vault.buckets().await?,
            };
            for bucket in &buckets {
                match vault.newest(bucket, before).await? {
                    Some(manifest) => found.push(manifest),
                    // A bucket that was not asked for by name may be younger than the moment.
                    None if self.buckets.is_none() => {}
                    None => return Err(none(bucket, before)),
                }
            }
        }
        if found.is_empty() {
            return Err(none("*", None));
        }
        Ok(found)
    }

    /// The filter of dates, checked once.
    pub(super) fn range(&self) -> Result<Range, ActionError> {
        let from = self.from.map(|text| moment(text, Edge::Start)).transpose()?;
        let to = self.to.map(|text| moment(text, Edge::End)).transpose()?;
        Ok(Range { from, to })
    }
}

fn none(bucket: &str, before: Option<Timestamp>) -> ActionError {
    let when = before.map(|at| format!(" at or before {at}")).unwrap_or_default();
    ActionError::refused(format!("find a verified manifest of bucket `{}`{when}", bucket.escape_debug()))
        .code("no-backup")
        .hint("`storage.snapshot` writes one; a manifest without its .sha256 does not count.")
}

/// Objects last changed between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Range {
    /// Whether an object is meant; one of which no date is known always is.
    pub(super) fn holds(&self, entry: &Entry) -> bool {
        let Some(at) = entry.updated_at.or(entry.created_at) else { return true };
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_means_the_whole_of_it() {
        assert_eq!(moment("2026-02-01", Edge::Start).unwrap().to_string(), "2026-02-01T00:00:00Z");
        assert_eq!(moment("2026-02-01", Edge::End).unwrap().to_string(), "2026-02-01T23:59:59.999999999Z");
        assert_eq!(moment("2026-02-01T03:00:00Z", Edge::End).unwrap().to_string(), "2026-02-01T03:00:00Z");
        for bad in ["", "yesterday", "2026-02-30", "2026-02-01T03:00:00"] {
            assert!(moment(bad, Edge::Start).is_err(), "{bad}");
        }
    }
}
