//! Dumps that must not be trusted: each is refused with words of its own before anything of it is exposed, what
//! was loaded of it is gone again, and nothing in it is ever carried out.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::path_b::{nobody_is_left, outputs};
use crate::world::{Said, World, root};

/// The status of a run whose dump is refused.
const REFUSED: i32 = 4;
/// When the sound dump says it was taken.
const SOUND: &str = "2026-11-01T03:00:00Z";
/// Where a later dump lies, which is the one that a run takes.
const LATER: &str = "db/local/2026/11/02/polaris-20261102T030000Z";
/// The database that the sandbox copies a new project from.
const TEMPLATE: &str = "supabase_template";

#[test]
fn a_flipped_byte_is_refused_whatever_the_store_says() {
    let bucket = Bucket::new(json!({ "compression": "none" }));
    let (sound, sum) = (bucket.sound(), bucket.sum());
    let flipped = flip(&sound, b"pilot00001@example.test");

    bucket.put("sql", &flipped, true, Some(&sum));
    let refusal = bucket.refused("backup", "checksum-mismatch");
    refusal.says(&["its recorded sha256 is", &sum, "the store computed"]);

    bucket.put("sql", &flipped, false, Some(&sum));
    let refusal = bucket.refused("restore", "checksum-mismatch");
    refusal.says(&["its recorded sha256 is", &sum, "its bytes have"]);
    let hint = refusal.0["hint"].as_str().unwrap();
    assert!(hint.contains("Pick an earlier restore point") && hint.contains("was removed"), "{hint}");

    // The store vouches for what it once took in; the disk under it has gone bad since.
    bucket.put("sql", &sound, true, Some(&sum));
    std::fs::write(bucket.file("sql"), &flipped).unwrap();
    let refusal = bucket.refused("restore", "checksum-mismatch");
    refusal.says(&["its recorded sha256 is", &sum, "its bytes have"]);
}

#[test]
fn a_flipped_byte_that_makes_bad_sql_is_told_as_what_it_is() {
    let bucket = Bucket::new(json!({ "compression": "none" }));
    let sum = bucket.sum();
    let flipped = flip(&bucket.sound(), b"00000000-0000-4000-8000-000000000007");

    bucket.put("sql", &flipped, false, Some(&sum));
    bucket.refused("restore", "checksum-mismatch").says(&["its bytes have"]);

    bucket.put("sql", &bucket.sound(), true, Some(&sum));
    std::fs::write(bucket.file("sql"), &flipped).unwrap();
    bucket.refused("restore", "checksum-mismatch").says(&["its bytes have"]);
}

#[test]
fn a_truncated_dump_is_refused_although_its_checksum_is_right() {
    let bucket = Bucket::new(json!({ "compression": "none" }));
    let sound = bucket.sound();

    let in_the_rows = &sound[..at(&sound, b"pilot00020@example.test")];
    bucket.put("sql", in_the_rows, true, None);
    bucket.refused("restore", "cut-off").says(&["cut off at line", "COPY"]);

    let before_the_last_words = &sound[..at(&sound, b"-- PostgreSQL database dump complete")];
    bucket.put("sql", before_the_last_words, false, None);
    bucket.refused("restore", "cut-off").says(&["cut off"]);
}

#[test]
fn a_truncated_archive_and_a_truncated_gzip_are_refused_although_their_checksums_are_right() {
    for (options, ending) in [(json!({ "format": "custom" }), "dump"), (json!({}), "sql.gz")] {
        let bucket = Bucket::new(options);
        let sound = bucket.sound();
        for part in [sound.len() / 2, sound.len() - 1] {
            println!("{ending}, {part} of {} bytes", sound.len());
            bucket.put(ending, &sound[..part], part % 2 == 0, None);
            bucket.refused("restore", "cut-off").says(&["cut off"]);
        }
    }
}

#[test]
fn a_dump_without_its_checksum_is_not_selected() {
    let bucket = Bucket::new(json!({}));
    std::fs::remove_file(bucket.path(&format!("{}.sha256", bucket.key))).unwrap();
    let refusal = bucket.refused("backup", "unverified");
    refusal.says(&["1 dumps are there, none with a .sha256 beside it"]);
}

#[test]
fn a_dump_without_its_checksum_is_not_restored_whatever_the_runbook_says_and_is_waived() {
    let bucket = Bucket::new(json!({}));
    std::fs::remove_file(bucket.path(&format!("{}.sha256", bucket.key))).unwrap();
    let file = bucket.world.runbook_file(
        r#"name: refill
title: Fill a new project from whatever is there
kind: maintenance
steps:
  - id: backup
    uses: backup.select
    with: { require_checksum: false }
  - id: password
    uses: secret.generate
  - id: database
    uses: supabase.create_project
    with: { name: "refill-{{ run.short_id }}", region: "{{ env.region }}", db_password: "{{ steps.password.value }}" }
  - id: restore
    uses: postgres.restore
    with: { backup: "{{ steps.backup }}", into: "{{ steps.database.connection }}", profile: supabase }
"#,
    );
    let before = bucket.world.inspect();
    let said = bucket.world.runbook(&["--json", "run", &file, "--env", "local"]).ended(3);
    assert_eq!(said.last()["code"], "G04", "{}", said.stdout);
    assert_eq!(bucket.world.inspect(), before);

    let waive = ["--waive", "G04", "--reason", "nothing else is left"];
    let said = bucket.world.runbook(&[&["--json", "run", &file, "--env", "local"], &waive[..]].concat());
    let said = said.ended(REFUSED);
    let end = said.last();
    let problem = &end["problems"][0];
    assert_eq!((&problem["step"], &problem["code"]), (&json!("restore"), &json!("unverified")), "{end}");
    bucket.project_is_empty(&said.run());
}

#[test]
fn a_dump_that_gives_a_shell_command_is_refused_and_the_command_is_not_run() {
    let bucket = Bucket::new(json!({ "compression": "none" }));
    let sound = bucket.sound();
    let text = std::str::from_utf8(&sound).unwrap();
    for place in ["CREATE SCHEMA private;", "COPY public.messages "] {
        println!("before {place}");
        let spiked = text.replacen(place, &format!("\\! touch pwned\n{place}"), 1);
        assert_ne!(spiked, text);
        bucket.put("sql", spiked.as_bytes(), true, None);
        let line = spiked.lines().position(|line| line.starts_with("\\!")).unwrap() + 1;
        let refusal = bucket.refused("restore", "meta-command");
        refusal.says(&[&format!("the psql command `\\!` on line {line}"), "a dump is data, not a script"]);
    }
    let said = bucket.path_b(&["--input", &format!("restore_point={SOUND}")]);
    said.ended(0);
    assert_eq!(bucket.pwned(), Vec::<PathBuf>::new());
}

/// A world whose bucket holds one sound dump, taken at [`SOUND`].
struct Bucket {
    world: World,
    /// Key of the sound dump.
    key: String,
    /// Where commands run: nothing of theirs may appear there.
    cwd: PathBuf,
}

/// How a run of Path B ended that was refused.
struct Refusal(Value);

impl Refusal {
    #[track_caller]
    fn says(&self, words: &[&str]) {
        let message = self.0["message"].as_str().unwrap();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in: {message}");
        }
    }
}

impl Bucket {
    fn new(mut options: Value) -> Self {
        let world = World::with_data();
        world.hurry();
        options["at"] = json!(SOUND);
        let stored = world.control("POST", "backup", options.to_string().as_bytes());
        let cwd = world.folder().join("cwd");
        std::fs::create_dir(&cwd).unwrap();
        Self { key: stored["key"].as_str().unwrap().to_owned(), world, cwd }
    }

    /// Where the store keeps an object.
    fn path(&self, key: &str) -> PathBuf {
        self.world.state().join("sandbox/s3/polaris-backups").join(key)
    }

    /// Where the store keeps the later dump.
    fn file(&self, ending: &str) -> PathBuf {
        self.path(&format!("{LATER}.{ending}"))
    }

    /// The bytes of the sound dump.
    fn sound(&self) -> Vec<u8> {
        std::fs::read(self.path(&self.key)).unwrap()
    }

    /// The recorded sha256 of the sound dump.
    fn sum(&self) -> String {
        let note = std::fs::read_to_string(self.path(&format!("{}.sha256", self.key))).unwrap();
        note.split(' ').next().unwrap().to_owned()
    }

    /// Stores a later dump; beside it the sha256 given, or the right one.
    fn put(&self, ending: &str, bytes: &[u8], store_checksum: bool, sum: Option<&str>) {
        let key = format!("{LATER}.{ending}");
        let right = self.world.put(&key, bytes, store_checksum);
        let name = key.rsplit('/').next().unwrap();
        let note = format!("{}  {name}\n", sum.unwrap_or(&right));
        self.world.put(&format!("{key}.sha256"), note.as_bytes(), false);
    }

    fn path_b(&self, more: &[&str]) -> Said {
        let file = root().join("runbooks/path-b.yaml");
        let arguments = ["--json", "run", file.to_str().unwrap(), "--env", "local", "--yes"];
        let mut command = self.world.command(&[&arguments[..], more].concat());
        Said::of(command.current_dir(&self.cwd).output().unwrap())
    }

    /// Runs Path B on the newest dump; demands that a step refuses it with a code, that the world is as it was
    /// but for what is said to be in force, and gives the run up.
    #[track_caller]
    fn refused(&self, step: &str, code: &str) -> Refusal {
        let before = self.world.inspect();
        let said = self.path_b(&[]).ended(REFUSED);
        let (end, run) = (said.last(), said.run());
        assert_eq!((&end["kind"], &end["status"]), (&json!("end"), &json!(REFUSED)));
        let problems = end["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{end}");
        let problem = &problems[0];
        assert_eq!((&problem["step"], &problem["code"]), (&json!(step), &json!(code)), "{problem}");
        assert_eq!(problem["attempts"], 1, "trying again cannot help");

        let after = self.world.inspect();
        for field in ["deployments", "production"] {
            assert_eq!(after["vercel"][field], before["vercel"][field], "{field}");
        }
        assert_eq!(variables(&after), variables(&before));
        assert_eq!(self.world.application()["database"], json!(self.world.live()));
        if step == "restore" {
            self.project_is_empty(&run);
        } else {
            assert_eq!(after["projects"], before["projects"]);
        }
        let in_force = end["in_force"].to_string();
        assert!(in_force.contains("read_only") && in_force.contains("crons"), "{in_force}");
        assert_eq!(self.pwned(), Vec::<PathBuf>::new());
        nobody_is_left(&self.world);
        self.world.runbook(&["verify", &run]).ended(0);
        self.world.runbook(&["cancel", &run]).ended(0);
        Refusal(problem.clone())
    }

    /// Demands that a run's project is as new.
    #[track_caller]
    fn project_is_empty(&self, run: &str) {
        let project = outputs(&self.world.records(run), "database")["ref"].as_str().unwrap().to_owned();
        let (found, fresh) = (self.world.database(&project), self.world.database(TEMPLATE));
        assert_eq!((found.schema, found.tables), (fresh.schema, fresh.tables));
        let markers = self.world.sql(&project, "select to_regnamespace('_runbook')");
        assert_eq!(markers, "", "no markers stay");
    }

    /// Every file named `pwned` where a command of a dump could have put it.
    fn pwned(&self) -> Vec<PathBuf> {
        let data = PathBuf::from(self.world.sql("postgres", "show data_directory"));
        let mut found = Vec::new();
        search(self.world.folder(), &mut found);
        search(&data, &mut found);
        found.extend([root().join("pwned")].into_iter().filter(|path| path.exists()));
        found
    }
}

fn search(folder: &Path, found: &mut Vec<PathBuf>) {
    // A file of a live server may go away between being listed and being looked at.
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == "pwned" {
            found.push(path);
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            search(&path, found);
        }
    }
}

/// Where something begins.
#[track_caller]
fn at(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

/// The bytes with the lowest bit of the last byte of something turned round.
#[track_caller]
fn flip(bytes: &[u8], what: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let last = at(&bytes, what) + what.len() - 1;
    bytes[last] ^= 1;
    bytes
}

/// The application's variables, but for the one that triage clears.
fn variables(state: &Value) -> Vec<&Value> {
    let all = state["vercel"]["env"].as_array().unwrap().iter();
    all.filter(|variable| variable["key"] != "BILLING_PROVIDER").collect()
}
