//! Which days go. Pure: a listing in, a decision out; no clock, no store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;

use crate::backup::catalog::{LOCK_ENDING, SUM_ENDING};
use crate::s3::Listed;

/// Clocks of the store and of this machine may differ so much.
const SKEW_MAX: Duration = Duration::from_secs(3600);

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// The newest days with a verified dump.
    pub(super) daily: usize,
    /// The newest months; of each its newest day with a verified dump.
    pub(super) monthly: usize,
    /// Nothing younger goes.
    pub(super) min_age: Duration,
}

/// One day of the bucket.
#[derive(Debug, Clone, Default)]
pub(super) struct Day {
    /// Keys below the prefix of dumps.
    pub(super) dumps: Vec<Listed>,
    /// Keys of manifests below the prefix of files.
    pub(super) manifests: Vec<Listed>,
}

impl Day {
    /// All its objects.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Listed> {
        self.dumps.iter().chain(&self.manifests)
    }

    /// Dumps whose sha256 lies beside them, neither of them empty.
    pub(super) fn verified(&self) -> impl Iterator<Item = &Listed> {
        let sums: BTreeSet<&str> = self
            .dumps
            .iter()
            .filter(|object| object.size_bytes > 0)
            .filter_map(|object| object.key.strip_suffix(SUM_ENDING))
            .collect();
        let is_dump = move |object: &&Listed| {
            object.size_bytes > 0
                && sums.contains(object.key.as_str())
                && ![".json", ".txt", SUM_ENDING].iter().any(|ending| object.key.ends_with(ending))
        };
        self.dumps.iter().filter(is_dump)
    }

    /// Keys that a whole day would have and this one has not: the checksum of an object, the object of a checksum. When
    /// one of them is there after all, the listing had a hole.
    pub(super) fn doubtful(&self) -> impl Iterator<Item = String> {
        let keys: BTreeSet<&str> = self.dumps.iter().map(|object| object.key.as_str()).collect();
        let other_half = |object: &Listed| match object.key.strip_suffix(SUM_ENDING) {
            Some(of) => of.to_owned(),
            None => format!("{}{SUM_ENDING}", object.key),
        };
        self.dumps.iter().map(other_half).filter(move |key| !keys.contains(key.as_str()))
    }

    fn has_lock(&self) -> bool {
        self.objects().any(|object| object.key.ends_with(LOCK_ENDING))
    }

    fn newest_write(&self) -> Option<Timestamp> {
        self.objects().map(|object| object.last_modified).max().flatten()
    }

    fn unknown_age(&self) -> bool {
        self.objects().any(|object| object.last_modified.is_none())
    }
}

/// Why a day stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stays {
    /// Nothing newer is verified.
    LastVerified,
    /// One of the newest days.
    Daily,
    /// The newest day of one of the newest months.
    Monthly,
    /// Without a verified dump, and newer than a day that stays.
    Unverified,
    /// Too young, or of an age that cannot be told.
    Young,
    /// Somebody locked it.
    Locked,
}

/// What a listing is decided to be.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Days that stay, and why.
    pub(super) stay: BTreeMap<Date, Stays>,
    /// Days that go.
    pub(super) go: Vec<Date>,
}

/// Puts a listing into days. Keys of other shapes belong to no day and are never touched.
pub(super) fn days(
    dumps: &[Listed],
    prefix: &str,
    files: &[Listed],
    files_prefix: &str,
) -> BTreeMap<Date, Day> {
    let mut days: BTreeMap<Date, Day> = BTreeMap::new();
    for object in dumps {
        if let Some(date) = day_of(&object.key, prefix) {
            days.entry(date).or_default().dumps.push(object.clone());
        }
    }
    for object in files {
        let name = object.key.rsplit('/').next().unwrap_or_default();
        if let Some(date) = day_of(&object.key, files_prefix)
            && name.contains("manifest")
        {
            days.entry(date).or_default().manifests.push(object.clone());
        }
    }
    days
}

/// `PREFIX/YYYY/MM/DD/NAME` belongs to a day.
fn day_of(key: &str, prefix: &str) -> Option<Date> {
    let mut parts = key.strip_prefix(prefix)?.split('/');
    let mut number = |digits: usize| {
        let part = parts.next()?;
        (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse::<i16>().ok())?
    };
    let (year, month, day) = (number(4)?, number(2)?, number(2)?);
    let name = parts.next()?;
    if name.is_empty() || parts.next().is_some() {
        return None;
    }
    Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
}

/// The store's clock, as far as the listing knows it: when its newest object was written.
pub(super) fn newest_write(days: &BTreeMap<Date, Day>) -> Option<Timestamp> {
    days.values().filter_map(Day::newest_write).max()
}

/// Whether this machine's clock is behind what the store has written already.
pub(super) fn is_behind(now: Timestamp, newest: Option<Timestamp>) -> bool {
    newest.is_some_and(|newest| newest.duration_since(now).unsigned_abs() > SKEW_MAX && newest > now)
}

/// Decides. An age counts by this machine's clock and by the store's: the smaller one.
pub(super) fn decide(days: &BTreeMap<Date, Day>, keep: Keep, now: Timestamp) -> Decision {
    let reference = newest_write(days).map_or(now, |newest| newest.min(now));
    let verified: Vec<Date> =
        days.iter().rev().filter(|(_, day)| day.verified().next().is_some()).map(|(date, _)| *date).collect();
    let daily: BTreeSet<Date> = verified.iter().take(keep.daily).copied().collect();
    let mut months = BTreeSet::new();
    let mut monthly = BTreeSet::new();
    for date in &verified {
        if months.len() == keep.monthly && !months.contains(&(date.year(), date.month())) {
            break;
        }
        if months.insert((date.year(), date.month())) {
            monthly.insert(*date);
        }
    }
    let mut decision = Decision::default();
    for (date, day) in days {
        let old = day.newest_write().is_some_and(|at| {
            Duration::try_from(reference.duration_since(at)).is_ok_and(|age| age >= keep.min_age)
        });
        let stays = if verified.first() == Some(date) {
            Some(Stays::LastVerified)
        } else if daily.contains(date) {
            Some(Stays::Daily)
        } else if monthly.contains(date) {
            Some(Stays::Monthly)
        } else if daily.first().is_none_or(|oldest| date > oldest) {
            Some(Stays::Unverified)
        } else if !old || day.unknown_age() || is_recent(*date, reference, keep.min_age) {
            Some(Stays::Young)
        } else if day.has_lock() {
            Some(Stays::Locked)
        } else {
            None
        };
        match stays {
            Some(why) => drop(decision.stay.insert(*date, why)),
            None => decision.go.push(*date),
        }
    }
    decision
}

/// Whether the day that a folder names is younger than the minimum, or lies ahead.
fn is_recent(date: Date, now: Timestamp, min_age: Duration) -> bool {
    let end = date.tomorrow().ok().and_then(|next| next.to_zoned(jiff::tz::TimeZone::UTC).ok());
    let Some(end) = end else { return true };
    !Duration::try_from(now.duration_since(end.timestamp())).is_ok_and(|age| age >= min_age)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "db/x/";

    fn keep(daily: usize, monthly: usize) -> Keep {
        Keep { daily, monthly, min_age: Duration::from_secs(2 * 86_400) }
    }

    /// A dump a day, for so many days before a moment.
    fn bucket(until: Timestamp, count: i64, with_sum: impl Fn(i64) -> bool) -> Vec<Listed> {
        let mut all = Vec::new();
        for back in 0..count {
            let at = until - jiff::SignedDuration::from_hours(24 * back);
            let key = format!("{PREFIX}{}/a-{}.dump", at.strftime("%Y/%m/%d"), at.strftime("%Y%m%dT%H%M%SZ"));
            let object = |key: String| Listed { key, size_bytes: 9, last_modified: Some(at) };
            if with_sum(back) {
                all.push(object(format!("{key}{SUM_ENDING}")));
                all.push(object(format!("{key}.index.json")));
            }
            all.push(object(key));
        }
        all
    }

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn decided(objects: &[Listed], keep: Keep, now: Timestamp) -> (BTreeMap<Date, Day>, Decision) {
        let days = days(objects, PREFIX, &[], "f/");
        let decision = decide(&days, keep, now);
        (days, decision)
    }

    #[test]
    fn thirty_five_days_and_the_last_day_of_each_of_twelve_months_stay() {
        let (days, decision) = decided(&bucket(now(), 500, |_| true), keep(35, 12), now());
        let of = |why: Stays| decision.stay.values().filter(|stays| **stays == why).count();
        assert_eq!(of(Stays::LastVerified) + of(Stays::Daily), 35);
        // November and October are among the days.
        assert_eq!(of(Stays::Monthly), 10);
        assert_eq!(decision.go.len(), days.len() - 45);
        let oldest = decision.stay.keys().next().unwrap();
        assert_eq!(oldest.to_string(), "2025-12-31");
    }

    #[test]
    fn what_stays_today_and_goes_tomorrow_is_one_day_at_a_time() {
        // Day after day with pruning in between, a whole year: always 35 days, and never a hole in the months.
        let mut there: Vec<Listed> = Vec::new();
        for day in (0..400).rev() {
            let at = now() - jiff::SignedDuration::from_hours(24 * day);
            there.extend(bucket(at, 1, |_| true));
            let (days, decision) = decided(&there, keep(35, 12), at);
            let gone: BTreeSet<String> =
                decision.go.iter().flat_map(|date| days[date].objects().map(|o| o.key.clone())).collect();
            there.retain(|object| !gone.contains(&object.key));
        }
        let (days, decision) = decided(&there, keep(35, 12), now());
        assert_eq!((days.len(), decision.go.len()), (45, 0));
    }

    #[test]
    fn a_wrong_clock_deletes_nothing_that_a_right_one_would_keep() {
        let objects = bucket(now(), 100, |_| true);
        let (_, right) = decided(&objects, keep(35, 12), now());
        for wrong in ["2036-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "2026-11-23T00:00:00Z"] {
            let (_, decision) = decided(&objects, keep(35, 12), wrong.parse().unwrap());
            assert!(decision.go.iter().all(|date| right.go.contains(date)), "{wrong}: {:?}", decision.go);
        }
        let newest = newest_write(&days(&objects, PREFIX, &[], ""));
        assert!(is_behind("1970-01-01T00:00:00Z".parse().unwrap(), newest));
        assert!(!is_behind(now(), newest));
    }

    #[test]
    fn a_pause_of_the_backups_deletes_nothing() {
        let year_ago = now() - jiff::SignedDuration::from_hours(24 * 365);
        let (_, decision) = decided(&bucket(year_ago, 35, |_| true), keep(35, 12), now());
        assert_eq!(decision.go, []);
    }

    #[test]
    fn the_last_verified_day_stays_however_many_unverified_ones_follow() {
        let objects = bucket(now(), 60, |back| back == 59);
        let (_, decision) = decided(&objects, keep(1, 1), now());
        let oldest = *decision.stay.keys().next().unwrap();
        assert_eq!(decision.stay[&oldest], Stays::LastVerified);
        assert_eq!(decision.go, [], "what is newer than the last verified one is all there is of its time");
        // Older days without a verified dump count for nothing.
        let (_, decision) = decided(&bucket(now(), 60, |back| back == 20), keep(1, 1), now());
        assert_eq!(decision.go.len(), 39);
        let (_, none) = decided(&bucket(now(), 60, |_| false), keep(1, 1), now());
        assert_eq!(none.go, [], "with nothing verified nothing is deleted");
    }

    #[test]
    fn a_listing_with_a_hole_deletes_no_day_that_the_whole_one_keeps_unless_the_hole_is_looked_at_again() {
        let objects = bucket(now(), 80, |_| true);
        let (_, whole) = decided(&objects, keep(35, 3), now());
        for hole in 0..objects.len() {
            let mut holed = objects.clone();
            let hidden = holed.remove(hole).key;
            let (days, decision) = decided(&holed, keep(35, 3), now());
            for more in decision.go.iter().filter(|date| !whole.go.contains(date)) {
                // The action asks for these before it deletes, and finds the hole.
                assert!(days[more].doubtful().any(|key| key == hidden), "without {hidden}: {more}");
            }
        }
    }

    #[test]
    fn a_lock_and_strange_names_are_left_alone() {
        let mut objects = bucket(now(), 60, |_| true);
        let last = objects.last().unwrap().key.clone();
        let object =
            |key: &str| Listed { key: key.into(), size_bytes: 1, last_modified: Some(Timestamp::UNIX_EPOCH) };
        objects.push(object(&format!("{last}{LOCK_ENDING}")));
        for strange in [
            "db/x/readme.txt",
            "db/x/2020/13/01/a",
            "db/x/2020/1/1/a",
            "db/x/2020/01/01/a/b",
            "db/y/2020/01/01/a",
        ] {
            objects.push(object(strange));
        }
        let (days, decision) = decided(&objects, keep(3, 1), now());
        let locked = day_of(&last, PREFIX).unwrap();
        assert_eq!(decision.stay[&locked], Stays::Locked);
        assert!(!days.keys().any(|date| date.year() == 2020));
    }
}
