//! `runbook plan`: looks at the real targets, says what a run would do to them, and changes nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use serde_json::Value;

use crate::world::{Said, World, root};

/// Every file below a folder: its size and when it was written.
fn files(folder: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        let about = std::fs::metadata(&path).unwrap();
        if about.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.to_string_lossy().into_owned(), (about.len(), about.modified().unwrap()));
        }
    }
    found
}

fn plan(world: &World) -> Said {
    world.runbook(&["plan", "runbooks/path-b.yaml", "--env", "local"]).ended(0)
}

fn digest(world: &World) -> String {
    let line = world.runbook(&["--json", "plan", "runbooks/path-b.yaml", "--env", "local"]).ended(0).last();
    line["plan"].as_str().unwrap().to_owned()
}

/// A text without what differs from one look to the next: moments, and the folder that a plan looks from.
pub(crate) fn without_moments(text: &str) -> String {
    let word = |word: &str| -> String {
        if word.parse::<jiff::Timestamp>().is_ok() {
            return "MOMENT".to_owned();
        }
        match word.split_once("/runbook-look-") {
            Some((_, rest)) => format!("LOOK/{}", rest.split_once('/').map_or("", |(_, file)| file)),
            None => word.to_owned(),
        }
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// What differs from one sandbox to the next, under names of the same width.
fn steady(world: &World, text: &str) -> String {
    let mut text = without_moments(text);
    let endpoints = world.endpoints();
    for name in ["s3_url", "supabase_url", "vercel_url", "app_url"] {
        text = text.replace(endpoints[name].as_str().unwrap(), "http://127.0.0.1:PORT");
    }
    text = text.replace(&format!("127.0.0.1:{}", endpoints["postgres_port"]), "127.0.0.1:PORT");
    text = text.replace(&world.live(), "LIVE");
    for provider in ["paypal", "paymongo"] {
        for webhook in world.inspect()["providers"][provider]["webhooks"].as_array().unwrap() {
            text = text.replace(webhook["id"].as_str().unwrap(), "WEBHOOK");
        }
    }
    text = text.replace(&digest(world)[..12], "DIGEST______");
    for deployment in world.inspect()["vercel"]["deployments"].as_array().unwrap() {
        text = text.replace(deployment["id"].as_str().unwrap(), "dpl_ID");
    }
    let key = world.inspect()["backups"][0].as_str().unwrap().to_owned();
    let (day, stamp) = (&key[9..19], key[28..].strip_suffix(".sql.gz").unwrap());
    let moment =
        format!("{}T{}:{}:{}Z", day.replace('/', "-"), &stamp[9..11], &stamp[11..13], &stamp[13..15]);
    text.replace(day, "YYYY/MM/DD").replace(stamp, "STAMP").replace(&moment, "MOMENT")
}

#[test]
fn a_plan_of_path_b_changes_nothing_anywhere() {
    let world = World::with_backup();
    world.runbook(&["sandbox", "break"]).ended(0);
    // A journal exists, and stays as it is.
    assert!(world.runbook(&["--json", "list"]).ended(0).lines().is_empty());
    let look = || {
        (
            world.inspect(),
            files(&world.state().join("sandbox/s3")),
            world.database(&world.live()),
            world.runbook(&["--json", "list"]).ended(0).stdout,
            world.sql("postgres", "select datname from pg_database order by 1"),
        )
    };
    let before = look();
    assert_eq!(before.0["effects"], Value::Object(serde_json::Map::new()), "nothing but reading so far");
    let said = plan(&world);
    assert!(look() == before, "the plan changed something");

    let backup = before.0["backups"][0].as_str().unwrap();
    assert!(said.stdout.contains(&format!("s3://polaris-backups/{backup}")), "{}", said.stdout);
    assert!(said.stdout.contains("creates project polaris-local-"), "{}", said.stdout);
    let digest = digest(&world);
    assert!(said.stdout.contains(&format!("Plan {}", &digest[..12])), "{}", said.stdout);
    assert!(said.stderr.contains(&format!("--plan {}", &digest[..12])), "{}", said.stderr);
}

#[test]
fn a_plan_reads_well() {
    let world = World::with_backup();
    let shown = steady(&world, &plan(&world).stdout);
    insta::with_settings!({
        snapshot_path => root().join("tests/plan"), prepend_module_to_snapshot => false, omit_expression => true
    }, { insta::assert_snapshot!("path-b", shown) });
}

#[test]
fn a_run_is_bound_to_the_plan_that_was_seen() {
    let world = World::with_backup();
    world.hurry();
    let digest = digest(&world);
    assert_eq!(digest, self::digest(&world), "the same plan has the same digest");
    let run = ["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes", "--plan"];
    let other = "0123456789abcdef";
    let refused = world.runbook(&[&run[..], &[other]].concat()).ended(4);
    assert!(refused.stderr.contains(other), "{}", refused.stderr);
    // A digest for other inputs is another one.
    let inputs = ["--input", "title=Another"];
    world.runbook(&[&run[..], &[&digest], &inputs].concat()).ended(4);
    // Too little of it could be any plan's.
    world.runbook(&[&run[..], &[&digest[..4]]].concat()).ended(4);
    assert!(world.runbook(&["--json", "list"]).ended(0).lines().is_empty());
    assert_eq!(world.inspect()["effects"], serde_json::json!({}));
    let said = world.runbook(&[&run[..], &[&digest[..12]]].concat()).ended(0);
    assert_eq!(said.lines()[0]["plan"], digest);
}

#[test]
fn a_plan_without_its_targets_says_so_and_still_has_a_digest() {
    let world = World::with_data();
    let digest = digest(&world);
    world.fault(&["vercel", "--status", "500", "--times", "1000"]);
    // There is no backup and Vercel does not answer: that is said where it matters, not hidden.
    let said = plan(&world);
    assert!(said.stdout.contains("cannot preview"), "{}", said.stdout);
    assert_eq!(digest, self::digest(&world));
    let offline = ["--json", "plan", "runbooks/path-b.yaml", "--env", "local", "--offline"];
    assert_eq!(world.runbook(&offline).ended(0).last()["plan"], digest);
}
