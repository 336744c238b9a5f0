//! The backup runbook: what it leaves in the bucket, that Path B restores that very backup, and that it may be killed at
//! any moment: after every record, and in the middle of the stream.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use serde_json::Value;

use crate::path_b::wanted as wanted_after_path_b;
use crate::world::{Said, Watched, World};

const RUN: [&str; 6] = ["--json", "run", "runbooks/backup.yaml", "--env", "local", "--yes"];

/// Every object of the bucket that belongs to a dump.
fn objects(world: &World) -> Vec<String> {
    let mut all = everything(world);
    all.retain(|key| !key.starts_with("storage/"));
    all
}

/// Every object of the bucket, without what the stand-in keeps beside them.
fn everything(world: &World) -> Vec<String> {
    let root = world.state().join("sandbox/s3/polaris-backups");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Parts of uploads that nobody ended.
fn unfinished(world: &World) -> usize {
    let root = world.state().join("sandbox/s3");
    std::fs::read_dir(root)
        .unwrap()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with(".upload") || name.contains(".upload-")
        })
        .count()
}

/// Processes of pg_dump that belong to this world's runs.
fn dumpers(run: &str) -> Vec<u32> {
    let wanted = format!("PGAPPNAME=runbook/{}/", &run[..8]);
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let environ = std::fs::read(entry.path().join("environ")).ok()?;
            environ.split(|b| *b == 0).any(|v| v.starts_with(wanted.as_bytes())).then_some(pid)
        })
        .collect()
}

/// Every dump that has a sha256 is whole.
#[track_caller]
fn assert_verified_are_whole(world: &World) -> usize {
    let all = objects(world);
    let sums: Vec<&String> = all.iter().filter(|key| key.ends_with(".dump.sha256")).collect();
    for sum in &sums {
        let key = sum.strip_suffix(".sha256").unwrap();
        let said = world.runbook(&["--json", "backups", "verify", key, "--env", "local"]).ended(0);
        assert_eq!(said.last()["level"], "V2", "{}", said.stdout);
    }
    sums.len()
}

fn ended(world: &World, run: &str) -> Value {
    world.status(run)["state"].clone()
}

#[test]
fn a_backup_is_verified_listed_looked_into_and_restored_by_path_b() {
    let world = World::with_data();
    world.hurry();
    let said = world.runbook(&RUN).ended(0);
    let url = said.last()["outputs"]["backup"].as_str().unwrap().to_owned();
    let key = url.strip_prefix("s3://polaris-backups/").unwrap().to_owned();
    let wanted: Vec<String> =
        ["", ".index.json", ".index.json.sha256", ".sha256"].map(|ending| format!("{key}{ending}")).into();
    assert_eq!(objects(&world), wanted);
    assert_eq!(said.last()["outputs"]["files"], 49);
    let manifests =
        |key: &&String| key.starts_with("storage/local/manifests/recordings/") && key.ends_with(".jsonl");
    assert_eq!(everything(&world).iter().filter(manifests).count(), 1, "files have a manifest of the day");
    let place = world.state().join("sandbox/s3/polaris-backups");
    let index: Value =
        serde_json::from_slice(&std::fs::read(place.join(format!("{key}.index.json"))).unwrap()).unwrap();
    let profiles = index["tables"].as_array().unwrap().iter().find(|t| t["name"] == "profiles").unwrap();
    let live = world.live();
    assert_eq!(profiles["rows"].to_string(), world.sql(&live, "select count(*) from public.profiles"));

    let listed = world.runbook(&["backups", "list", "--env", "local"]).ended(0).stdout;
    assert!(listed.contains("✓") && listed.contains("within the RPO"), "{listed}");
    let line = world.runbook(&["--json", "backups", "list", "--env", "local"]).ended(0).last();
    assert_eq!(
        (line["key"].as_str(), &line["verified"], &line["within_rpo"]),
        (Some(&*key), &true.into(), &true.into())
    );
    let verified = world.runbook(&["backups", "verify", "--env", "local"]).ended(0).stdout;
    assert!(verified.contains("proven V2"), "{verified}");
    let inside = world.runbook(&["backups", "inspect", "--env", "local"]).ended(0).stdout;
    assert!(inside.contains("public.profiles") && inside.contains("by the index"), "{inside}");
    let schema = world.runbook(&["backups", "inspect", "--schema", "--env", "local"]).ended(0).stdout;
    assert!(schema.contains("CREATE TABLE public.profiles") && !schema.contains("COPY "), "{schema}");
    world.runbook(&["backups", "verify", "no-such-key", "--env", "local"]).ended(4);

    let before = wanted_after_path_b(&world);
    world.runbook(&["sandbox", "break"]).ended(0);
    let restored = world.path_b().ended(0);
    assert_eq!(restored.last()["outputs"]["restore_point"], line["taken_at"]);
    let project = restored.last()["outputs"]["project"].as_str().unwrap().to_owned();
    let after = world.database(&project);
    crate::path_b::assert_same(&after, &before);
}

#[test]
fn a_backup_whose_bytes_are_changed_later_is_not_trusted() {
    let world = World::with_data();
    let url = world.runbook(&RUN).ended(0).last()["outputs"]["backup"].as_str().unwrap().to_owned();
    let path: PathBuf = world.state().join("sandbox/s3").join(url.strip_prefix("s3://").unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&path, bytes).unwrap();
    let said = world.runbook(&["backups", "verify", "--env", "local"]).ended(4);
    assert!(said.stdout.contains("FAILED V1  sha256"), "{}", said.stdout);
    let line = world.runbook(&["--json", "backups", "verify", "--env", "local"]).ended(4).last();
    assert_eq!(line["level"], "V0", "{line}");
}

#[test]
fn the_backup_killed_after_every_record_leaves_one_verified_dump() {
    let world = World::with_data();
    let unbroken = world.runbook(&RUN).ended(0).run();
    let records = world.records(&unbroken).len();
    let run = {
        let output = world.command(&[&RUN[..], &["--die-after", "1"]].concat()).output().unwrap();
        assert_eq!(output.status.signal(), Some(9), "{output:?}");
        let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
        serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned()
    };
    let mut kills = 1;
    // Resumed and killed again and again, after one record more or less each time: a sitting that gets one record far does
    // nothing, one that gets ten far goes on.
    for turn in 0.. {
        assert!(turn < records * 6, "the run does not come to its end");
        let next = (world.records(&run).len() + 1 + turn % 10).to_string();
        let output =
            world.command(&["--json", "resume", &run, "--yes", "--die-after", &next]).output().unwrap();
        let there = objects(&world);
        for sum in there.iter().filter(|key| key.ends_with(".dump.sha256")) {
            let key = sum.strip_suffix(".sha256").unwrap();
            let whole = [key.to_owned(), format!("{key}.index.json")];
            assert!(whole.iter().all(|key| there.contains(key)), "{there:?}");
        }
        if output.status.signal() != Some(9) {
            Said::of(output).ended(0);
            break;
        }
        kills += 1;
    }
    println!("killed {kills} times; an unbroken run has {records} records");
    assert!(kills >= 8, "killed {kills} times in a run of {records} records");
    assert_eq!(ended(&world, &run), "succeeded");
    assert_eq!(assert_verified_are_whole(&world), 2, "one of the unbroken run, one of this");
    assert_eq!(objects(&world).len(), 8, "and nothing beside them");
    assert_eq!(unfinished(&world), 0);
    assert_eq!(dumpers(&run), Vec::<u32>::new());
}

#[test]
fn a_backup_killed_in_the_middle_of_the_stream_leaves_nothing_half_and_goes_on() {
    let world = World::with_data();
    let live = world.live();
    world.sql(
        &live,
        "create table public.ballast as select g as id, repeat(md5(g::text), 60) as t from generate_series(1, 16000) g",
    );
    // Uncompressed and in small parts: several are sent before the end.
    let text = std::fs::read_to_string(crate::world::root().join("runbooks/backup.yaml")).unwrap();
    let text = text.replace(
        "      name: \"{{ inputs.name }}\"",
        "      name: \"{{ inputs.name }}\"\n      compress: 0\n      part_mib: 5",
    );
    let text = text.replace("../schemas", "schemas");
    let own = world.runbook_file(&text);
    world.write("runbooks/templates/backup-failed.txt", "{{ environment }} failed");
    let arguments = ["--json", "run", &own, "--env", "local", "--yes"];

    // The store answers slowly, so that the kill hits the stream.
    world.fault(&["s3", "--method", "PUT", "--delay", "300", "--times", "1000"]);
    let mut watched = Watched::start(world.command(&arguments));
    let run = watched.until(|line| line["run"].is_string())["run"].as_str().unwrap().to_owned();
    watched.until(|line| line["kind"] == "progress" && line["done"].as_u64() > Some(6 << 20));
    assert!(!dumpers(&run).is_empty(), "pg_dump is at work");
    watched.kill();
    world.clear_faults();
    let left = objects(&world);
    assert_eq!(left, Vec::<String>::new(), "nothing is there before all of it is");

    world.runbook(&["--json", "resume", &run, "--yes"]).ended(0);
    assert_eq!(assert_verified_are_whole(&world), 1);
    assert_eq!(objects(&world).len(), 4);
    assert_eq!(unfinished(&world), 0, "the upload that was begun was ended");
    assert_eq!(dumpers(&run), Vec::<u32>::new());
}

#[test]
fn answers_that_the_store_loses_after_acting_make_no_second_dump() {
    let world = World::with_data();
    for method in ["PUT", "POST"] {
        world.fault(&["s3", "--method", method, "--cut", "after", "--times", "2"]);
    }
    let said = world.runbook(&RUN);
    world.clear_faults();
    said.ended(0);
    assert_eq!(assert_verified_are_whole(&world), 1);
    assert_eq!(objects(&world).len(), 4);
}
