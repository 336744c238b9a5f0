//! Path C from end to end: every file that was lost is there again with its bytes and all that is said of it, its
//! row the same row; also when the run is killed again and again, and in the middle of a large file.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::world::{Said, Watched, World};

const LARGE: &str = "recordings/sessions/long-session.ogg";

/// Everything about a file that must come back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    id: String,
    bytes: Option<Vec<u8>>,
    about: String,
}

fn damaged() -> (World, BTreeMap<String, File>) {
    let world = World::with_backup();
    let whole = files(&world);
    world.runbook(&["sandbox", "break", "lost-files"]).ended(0);
    assert_ne!(contents(&files(&world)), contents(&whole));
    (world, whole)
}

/// All files of the live project: rows from its database, bytes from the disk.
fn files(world: &World) -> BTreeMap<String, File> {
    let rows = world.sql(
        &world.live(),
        "select bucket_id, name, version, id || '/' || created_at, concat_ws(' ', metadata ->> 'mimetype', \
         metadata ->> 'cacheControl', metadata ->> 'size', user_metadata::text) from storage.objects",
    );
    let folder = world.state().join("sandbox/storage").join(world.live());
    let file = |line: &str| {
        let fields: Vec<&str> = line.splitn(5, '|').collect();
        let path = folder.join(fields[0]).join(fields[1]).join(fields[2]);
        let file =
            File { id: fields[3].to_owned(), bytes: std::fs::read(path).ok(), about: fields[4].to_owned() };
        (format!("{}/{}", fields[0], fields[1]), file)
    };
    rows.lines().map(file).collect()
}

fn contents(files: &BTreeMap<String, File>) -> BTreeMap<&str, (&Option<Vec<u8>>, &str)> {
    files.iter().map(|(name, file)| (name.as_str(), (&file.bytes, file.about.as_str()))).collect()
}

fn path_c(extra: &[&str]) -> Vec<String> {
    let base = ["--json", "run", "runbooks/path-c.yaml", "--env", "local", "--yes"];
    base.iter().chain(extra).map(|s| (*s).to_owned()).collect()
}

fn run(world: &World, extra: &[&str]) -> Said {
    let arguments = path_c(extra);
    world.runbook(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Demands that everything is as it was before the files were lost.
#[track_caller]
fn assert_whole(world: &World, whole: &BTreeMap<String, File>) {
    let found = files(world);
    for (name, file) in whole {
        let now = found.get(name).unwrap_or_else(|| panic!("{name} is not there"));
        assert!(now.bytes == file.bytes, "{name} has other bytes");
        assert_eq!(now.about, file.about, "{name}");
    }
    assert_eq!(found.len(), whole.len());
    let kept = whole.iter().filter(|(name, file)| found[*name].id == file.id).count();
    // Four rows were deleted: those are new ones. Whatever refers to the others goes on doing so.
    assert_eq!(whole.len() - kept, 4, "rows keep their ids");
    let state = world.inspect();
    assert_eq!(state["vercel"]["flags"]["read_only"], false);
    let uploads = format!("storage POST /projects/{}/storage/v1/object/recordings/", world.live());
    for (request, times) in state["effects"].as_object().unwrap() {
        if request.starts_with(&uploads) {
            assert_eq!(times, 1, "{request}");
        }
    }
}

#[test]
fn path_c_brings_every_lost_file_back_and_plays_one() {
    let (world, whole) = damaged();

    let said = run(&world, &[]).ended(0);

    assert_whole(&world, &whole);
    let outputs = &said.last()["outputs"];
    assert_eq!((&outputs["restored"], &outputs["left"]), (&json!(16), &json!(0)));
    assert_eq!((&outputs["verified"], &outputs["rows_without_files"]), (&json!(whole.len()), &json!([])));
    let records = world.records(&said.run());
    let shown = records.iter().any(|record| record.to_string().contains("Bring 16 of 49 files back"));
    assert!(shown, "the approval shows numbers");
    // Again: nothing is to be done, and nothing is uploaded.
    let again = run(&world, &[]).ended(0);
    assert_eq!(again.last()["outputs"]["restored"], 0);
    assert_whole(&world, &whole);
}

#[test]
fn path_c_killed_again_and_again_comes_to_the_same_end() {
    let (world, whole) = damaged();
    let output = world
        .command(&path_c(&["--die-after", "1"]).iter().map(String::as_str).collect::<Vec<_>>())
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(9), "{output:?}");
    let line = output.stdout.split(|byte| *byte == b'\n').next().unwrap();
    let run: String = serde_json::from_slice::<Value>(line).unwrap()["run"].as_str().unwrap().to_owned();
    // An attempt that was cut costs three records, so a cycle of reaches gets past each of them, and cuts before and
    // after every outcome.
    let mut deaths = 1;
    for reach in (1..=5_usize).cycle() {
        let at = (world.records(&run).len() + reach).to_string();
        let arguments = ["--json", "resume", &run, "--yes", "--die-after", &at];
        let output = world.command(&arguments).output().unwrap();
        if output.status.signal() == Some(9) {
            deaths += 1;
            assert!(deaths < 200, "the run comes on");
            continue;
        }
        let said = Said::of(output);
        if said.status == Some(6) {
            crate::turns::settle(&world, &run);
            continue;
        }
        said.ended(0);
        break;
    }
    assert!(deaths > 12, "it died {deaths} times");
    assert_whole(&world, &whole);
    assert_eq!(world.effects("hooks POST /hooks/chat"), 2, "the team is told once at each end");
    assert_eq!(world.effects("hooks POST /hooks/users"), 2, "and so are users");
    let begun = format!("storage POST /projects/{}/storage/v1/upload/resumable", world.live());
    assert_eq!(world.effects(&begun), 1, "the large file is begun once");
    world.runbook(&["verify", &run]).ended(0);
}

#[test]
fn a_large_file_that_was_cut_in_the_middle_goes_on_there() {
    let (world, whole) = damaged();
    world.fault(&["storage", "--method", "PATCH", "--delay", "4000", "--times", "9"]);
    let arguments = path_c(&[]);
    let mut watched =
        Watched::start(world.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>()));
    let run = watched.next().unwrap()["run"].as_str().unwrap().to_owned();
    let base = format!("/projects/{}/storage/v1/upload/resumable", world.live());
    let chunks = format!("storage PATCH {base}");
    let until = Instant::now() + Duration::from_secs(60);
    while world.effects(&chunks) == 0 {
        assert!(Instant::now() < until, "a chunk arrives");
    }
    watched.kill();
    world.clear_faults();
    assert_eq!(world.effects(&chunks), 1, "the second chunk has not arrived");

    world.runbook(&["--json", "resume", &run, "--yes"]).ended(0);

    assert_whole(&world, &whole);
    assert_eq!(world.effects(&format!("storage POST {base}")), 1, "it is begun once");
    assert_eq!(world.effects(&chunks), 2, "each of its two chunks arrives once");
    assert!(whole[LARGE].bytes.as_ref().is_some_and(|bytes| bytes.len() > 6 << 20));
}

#[test]
fn lost_answers_and_a_busy_service_change_nothing_about_the_end() {
    let (world, whole) = damaged();
    let object = format!("/projects/{}/storage/v1/object/", world.live());
    world.fault(&["storage", "--method", "PATCH", "--cut", "after"]);
    world.fault(&["storage", "--method", "GET", "--path", &object, "--status", "429", "--retry-after", "1"]);
    world.fault(&["storage", "--method", "POST", "--path", &object, "--cut", "before"]);
    world.fault(&["storage", "--method", "GET", "--path", &object, "--status", "503"]);

    run(&world, &[]).ended(0);

    assert_whole(&world, &whole);
}

#[test]
fn a_copy_or_a_manifest_with_other_bytes_is_refused() {
    let (world, _) = damaged();
    let copies = world.state().join("sandbox/s3/polaris-backups/storage/local");
    let manifest = find(&copies.join("manifests/recordings"), ".jsonl");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("audio/ogg", "audio/mp3", 1)).unwrap();
    let said = run(&world, &[]).ended(4);
    assert!(said.last().to_string().contains("trust the manifest"), "{}", said.stdout);
    let flag = world.runbook(&["--json", "status", &said.run()]).stdout;
    assert!(flag.contains("uploads are stopped"), "what is in force is said: {flag}");
    std::fs::write(&manifest, &text).unwrap();

    let lost = text.lines().find(|line| line.contains("\"take-001.ogg\"")).unwrap();
    let sum = serde_json::from_str::<Value>(lost).unwrap()["sha256"].as_str().unwrap().to_owned();
    let copy = copies.join("objects").join(&sum[..2]).join(&sum);
    let mut bytes = std::fs::read(&copy).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&copy, bytes).unwrap();
    let said = world.runbook(&["--json", "resume", &said.run(), "--yes"]).ended(4);
    assert!(said.last().to_string().contains("trust the copy"), "{}", said.stdout);
    assert_eq!(files(&world)["recordings/take-001.ogg"].bytes, None, "nothing of it reached Storage");
}

fn find(folder: &std::path::Path, ending: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().unwrap().ends_with(ending) {
                return path;
            }
        }
    }
    panic!("no {ending}")
}

#[test]
fn a_snapshot_copies_what_is_new_and_path_c_restores_from_it() {
    let world = World::with_data();
    let whole = files(&world);
    let file = world.runbook_file(
        "name: snap\ntitle: Snapshot\nkind: maintenance\nsteps:\n  - { id: files, uses: storage.snapshot }\n\
         outputs: { copied: \"{{ steps.files.copied }}\", objects: \"{{ steps.files.objects }}\", \
         lost: \"{{ steps.files.lost }}\" }\n",
    );
    let snapshot = || world.runbook(&["--json", "run", &file, "--env", "local", "--yes"]).ended(0).last();
    let first = snapshot()["outputs"].clone();
    assert_eq!(first, json!({ "copied": 49, "objects": 49, "lost": 0 }));
    let second = snapshot()["outputs"].clone();
    assert_eq!(second, json!({ "copied": 0, "objects": 49, "lost": 0 }));
    world.runbook(&["sandbox", "break", "lost-files"]).ended(0);
    let third = snapshot()["outputs"].clone();
    assert_eq!(
        third,
        json!({ "copied": 0, "objects": 45, "lost": 0 }),
        "copies of lost files stay in the manifest"
    );

    run(&world, &["--input", "buckets=[\"recordings\"]"]).ended(0);

    let found = files(&world);
    let deleted = whole.iter().filter(|(name, _)| !found.contains_key(*name)).count();
    assert_eq!(deleted, 4, "the newest manifest does not have what was deleted before it");
    for (name, file) in &found {
        assert!(file.bytes == whole[name].bytes, "{name}");
    }
}
