//! The prune runbook: what it shows is what goes, a person says yes, and it may be killed after every record.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;

use serde_json::Value;

use crate::world::{Said, World};

const RUN: [&str; 6] = ["--json", "run", "runbooks/prune.yaml", "--env", "local", "--yes"];

/// A bucket with a dump a day.
fn shelf(days: i64) -> World {
    let world = World::with_data();
    fill(&world, days);
    world
}

/// A dump a day, back from today.
pub(crate) fn fill(world: &World, days: i64) {
    let root = world.state().join("sandbox/s3/polaris-backups");
    for back in 0..days {
        let at = now() - back * 86_400;
        let (date, stamp) = (date(at), format!("{}T000000Z", date(at).replace('/', "")));
        let key = format!("db/local/{date}/polaris-{stamp}.dump");
        for (ending, text) in [("", "bytes"), (".sha256", "0000"), (".index.json", "{}")] {
            let path = root.join(format!("{key}{ending}"));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
            let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(at).unwrap());
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(then).unwrap();
        }
    }
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// `YYYY/MM/DD` of a moment, by the civil calendar.
fn date(at: i64) -> String {
    let days = at.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}/{month:02}/{day:02}")
}

fn keys(world: &World) -> BTreeSet<String> {
    let root = world.state().join("sandbox/s3/polaris-backups/db/local");
    let (mut found, mut folders) = (BTreeSet::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn days(keys: &BTreeSet<String>) -> BTreeSet<String> {
    keys.iter().map(|key| key[..10].to_owned()).collect()
}

#[test]
fn thirty_five_days_and_a_day_a_month_stay_and_a_person_is_asked() {
    let world = shelf(100);
    let before = keys(&world);
    let said =
        world.runbook(&["--json", "run", "runbooks/prune.yaml", "--env", "local", "--no-wait"]).ended(7);
    let run = said.run();
    assert_eq!(keys(&world), before, "nothing goes before somebody said yes");
    world.runbook(&["approve", &run, "--reason", "looked at the days"]).ended(0);
    world.runbook(&["resume", &run, "--no-wait"]).ended(0);
    let left = days(&keys(&world));
    let newest: BTreeSet<String> = (0..35).map(|back| date(now() - back * 86_400)).collect();
    assert!(newest.is_subset(&left), "{left:?}");
    // The last day of each older month that is there at all.
    let months: BTreeSet<String> = left.difference(&newest).map(|day| day[..7].to_owned()).collect();
    assert_eq!(left.len(), 35 + months.len(), "{left:?}");
    assert_eq!(keys(&world).len(), left.len() * 3, "days go whole");
    // Once more: there is nothing to ask for.
    let again =
        world.runbook(&["--json", "run", "runbooks/prune.yaml", "--env", "local", "--no-wait"]).ended(0);
    assert_eq!(again.last()["outputs"]["deleted"], 0);
}

#[test]
fn pruning_killed_after_every_record_deletes_the_same_and_nothing_else() {
    let inputs = ["--input", "daily=5", "--input", "monthly=0"];
    let unbroken = shelf(12);
    let said = unbroken.runbook(&[&RUN[..], &inputs].concat()).ended(0);
    let records = unbroken.records(&said.run()).len();
    let wanted = keys(&unbroken);
    assert_eq!(days(&wanted).len(), 8, "five days, and those younger than a week");

    let world = shelf(12);
    let output = world.command(&[&RUN[..], &inputs, &["--die-after", "1"]].concat()).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    for turn in 0.. {
        assert!(turn < records * 6, "the run does not come to its end");
        let next = (world.records(&run).len() + 1 + turn % 8).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &next]).output().unwrap();
        assert!(keys(&world).is_superset(&wanted), "what stays is there at every moment");
        if output.status.signal() != Some(9) {
            Said::of(output).ended(0);
            break;
        }
    }
    assert_eq!(keys(&world), wanted);
}
