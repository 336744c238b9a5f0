//! Promise P11: nothing leaks. Every secret of a run of Path B, those that it was given and those that it
//! made, is looked for in every byte that it wrote and in the process list while it ran.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::world::{Said, World};

/// Shortest text that counts as a secret; less would be found by chance.
const SECRET_CHARS_MIN: usize = 12;

/// The secrets of a world, by where they come from.
fn canaries(world: &World) -> BTreeMap<String, String> {
    let sandbox = world.state().join("sandbox");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(sandbox.join("secrets")).unwrap() {
        let path = entry.unwrap().path();
        let value = std::fs::read_to_string(&path).unwrap().trim().to_owned();
        found.insert(path.file_name().unwrap().to_string_lossy().into_owned(), value);
    }
    let state: Value = serde_json::from_slice(&std::fs::read(sandbox.join("state.json")).unwrap()).unwrap();
    for (reference, project) in state["projects"].as_object().unwrap() {
        let mut add = |what: &str, value: &Value| {
            found.insert(format!("{what} of {reference}"), value.as_str().unwrap().to_owned());
        };
        add("db_pass", &project["db_pass"]);
        for (n, key) in project["api_keys"].as_array().unwrap().iter().enumerate() {
            add(&format!("api key {n}"), &key["value"]);
        }
        for (n, key) in project["signing_keys"].as_array().unwrap().iter().enumerate() {
            add(&format!("signing key {n}"), &key["private"]);
        }
    }
    for variable in state["vercel"]["env"].as_array().unwrap() {
        // Those that are no secret: an address, names of providers, and the id of a webhook, which only PayPal answers to.
        let open = ["NEXT_PUBLIC_SUPABASE_URL", "BILLING_PROVIDER", "PAYPAL_WEBHOOK_ID"];
        if !open.contains(&variable["key"].as_str().unwrap()) {
            found.insert(
                format!("variable {}", variable["key"]),
                variable["value"].as_str().unwrap().to_owned(),
            );
        }
    }
    found.retain(|_, value| value.len() >= SECRET_CHARS_MIN);
    found
}

/// The ways in which a value may stand in a text.
fn spellings(value: &str) -> BTreeSet<Vec<u8>> {
    let percent = |plain: &[u8], digits: fn(u8) -> String| {
        let encode = |byte: u8| {
            if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
                char::from(byte).to_string()
            } else {
                digits(byte)
            }
        };
        value.bytes().map(encode).collect::<String>()
    };
    let json = Value::from(value).to_string();
    let mut texts = vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        json[1..json.len() - 1].replace('/', "\\/"),
        hex::encode(value),
        hex::encode_upper(value),
        percent(b"-._~", |byte| format!("%{byte:02X}")),
        percent(b"-._~", |byte| format!("%{byte:02x}")),
        percent(b"", |byte| format!("%{byte:02X}")),
    ];
    for before in 0..3 {
        // What stands before the value shifts it; letters that also depend on neighbours are left out.
        let bytes = [&vec![0; before], value.as_bytes()].concat();
        let (from, to) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        texts.extend(
            [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)]
                .map(|text| text[from..to].to_owned()),
        );
    }
    texts.into_iter().map(String::into_bytes).collect()
}

/// Looks for many values at once.
struct Search {
    /// By the first four bytes.
    spellings: BTreeMap<[u8; 4], Vec<(Vec<u8>, String)>>,
}

impl Search {
    fn of(canaries: &BTreeMap<String, String>) -> Self {
        let mut by_start: BTreeMap<[u8; 4], Vec<(Vec<u8>, String)>> = BTreeMap::new();
        for (name, value) in canaries {
            for spelling in spellings(value) {
                by_start.entry(spelling[..4].try_into().unwrap()).or_default().push((spelling, name.clone()));
            }
        }
        Self { spellings: by_start }
    }

    /// The names of the values that stand in the bytes.
    fn found(&self, bytes: &[u8]) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (at, start) in bytes.windows(4).enumerate() {
            for (spelling, name) in self.spellings.get(start).into_iter().flatten() {
                if bytes[at..].starts_with(spelling) {
                    names.insert(name.clone());
                }
            }
        }
        names
    }

    #[track_caller]
    fn demand_none(&self, place: &str, bytes: &[u8]) {
        assert_eq!(self.found(bytes), BTreeSet::new(), "secrets are in {place}");
    }

    #[track_caller]
    fn demand_none_in(&self, said: &Said) {
        self.demand_none("stdout", said.stdout.as_bytes());
        self.demand_none("stderr", said.stderr.as_bytes());
    }
}

/// Every file below a folder, but for what belongs to the sandbox.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with("state/sandbox") {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// Runs a command, and meanwhile reads what any process on the machine shows of its arguments, and what
/// the command's children show of their environment.
fn watched(mut command: Command) -> (Said, Vec<u8>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (stdout, stderr) = (read(child.stdout.take().unwrap()), read(child.stderr.take().unwrap()));
    let mut seen = BTreeSet::new();
    let mut samples = 0_u32;
    let status = loop {
        processes(child.id(), &mut seen);
        samples += 1;
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(samples >= 3, "only {samples} looks at the processes");
    let said = Said { status: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
    (said, seen.into_iter().flatten().collect())
}

/// Empties a pipe, so that its writer never waits.
fn read(mut pipe: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}

/// Processes come and go while they are read; one that is gone has nothing to show.
fn processes(run: u32, seen: &mut BTreeSet<Vec<u8>>) {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let folder = entry.path();
        if entry.file_name().to_string_lossy().parse::<u32>().is_err() {
            continue;
        }
        seen.extend(std::fs::read(folder.join("cmdline")));
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        if parent == Some(run) {
            seen.extend(std::fs::read(folder.join("environ")));
        }
    }
}

/// A world after which everything that a run wrote is searched, and what it said is kept.
struct Watch {
    world: World,
    said: Vec<Said>,
    processes: Vec<u8>,
}

impl Watch {
    fn new(world: World) -> Self {
        Self { world, said: Vec::new(), processes: Vec::new() }
    }

    fn run(&mut self, arguments: &[&str], set: &[(&str, &str)]) -> Option<i32> {
        let mut command = self.world.command(arguments);
        command.envs(set.iter().copied());
        let (said, seen) = watched(command);
        self.processes.extend(seen);
        let status = said.status;
        self.said.push(said);
        status
    }

    /// Looks everywhere, with what the run made as well.
    fn search(&self, more: &[(&str, &str)]) {
        let mut canaries = canaries(&self.world);
        canaries.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        assert!(canaries.len() > 8, "{:?}", canaries.keys());
        let search = Search::of(&canaries);
        for said in &self.said {
            search.demand_none_in(said);
        }
        search.demand_none("the process list", &self.processes);
        let written = files(self.world.folder());
        assert!(written.iter().any(|path| path.ends_with("journal.db")));
        for path in written {
            search.demand_none(&path.to_string_lossy(), &std::fs::read(&path).unwrap());
        }
        let export = self.world.folder().join("export.jsonl").to_string_lossy().into_owned();
        let commands: [&[&str]; 6] = [
            &["--json", "status"],
            &["status"],
            &["--json", "logs"],
            &["logs"],
            &["export", "--to", &export],
            &["resume", "--plan"],
        ];
        for command in commands {
            search.demand_none_in(&self.world.runbook(command));
        }
        search.demand_none("the export", &std::fs::read(&export).unwrap());
    }
}

const PATH_B: [&str; 5] = ["run", "runbooks/path-b.yaml", "--env", "local", "--yes"];

#[test]
fn a_planted_secret_is_found_however_it_is_written() {
    let value = "s3cr3t/with+odd \"chars\"";
    let search = Search::of(&BTreeMap::from([("planted".to_owned(), value.to_owned())]));
    let encode = |text: &str| STANDARD_NO_PAD.encode(text);
    let places = [
        format!("xx{value}yy"),
        format!("xx{}yy", Value::from(value)),
        encode(&format!("{value}yy")),
        encode(&format!("u:{value}")),
        encode(&format!("x{value}")),
        URL_SAFE_NO_PAD.encode(format!("user:pw:{value}>>>")),
        hex::encode(value),
        "https://x/?q=s3cr3t%2Fwith%2Bodd%20%22chars%22".to_owned(),
        "https://x/?q=s3cr3t%2fwith%2bodd%20%22chars%22".to_owned(),
        "\"s3cr3t\\/with+odd \\\"chars\\\"\"".to_owned(),
    ];
    for place in places {
        assert_eq!(search.found(place.as_bytes()).len(), 1, "{place}");
    }
    assert!(search.found(b"s3cr3t/with+odd 'chars'").is_empty());

    // In a file of the state directory too, and in the process list.
    let world = World::bare();
    world.write("state/artifacts/x/leak.txt", value);
    let leaks = |path: &PathBuf| !search.found(&std::fs::read(path).unwrap()).is_empty();
    assert!(files(world.folder()).iter().any(leaks));
    let mut command = Command::new("sh");
    // A process that shows the value for as long as it is asked to.
    let (_, seen) = watched({
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done", value]);
        command
    });
    assert_eq!(search.found(&seen).len(), 1);
}

#[test]
fn a_run_for_people_leaks_nothing() {
    let world = World::with_backup();
    world.hurry();
    let mut watch = Watch::new(world);
    watch.run(&["plan", "runbooks/path-b.yaml", "--env", "local"], &[]);
    watch.run(&["doctor", "--env", "local"], &[]);
    assert_eq!(watch.run(&PATH_B, &[]), Some(0));
    watch.search(&[]);
    let vault = watch.world.state().join("vault");
    assert_eq!(files(&vault), Vec::<PathBuf>::new(), "what a run made is destroyed with its success");
}

#[test]
fn a_run_for_programs_that_tells_everything_leaks_nothing() {
    let world = World::with_backup();
    world.hurry();
    let mut watch = Watch::new(world);
    let json = [&["--json"], &PATH_B[..]].concat();
    assert_eq!(watch.run(&json, &[("RUNBOOK_LOG", "trace")]), Some(0));
    watch.search(&[]);
}

#[test]
fn what_a_run_made_is_kept_sealed_until_it_succeeds() {
    let world = World::with_backup();
    world.hurry();
    world.fault(&["hooks", "--status", "400"]);
    let mut watch = Watch::new(world);
    assert_eq!(watch.run(&PATH_B, &[]), Some(5));
    let vault = watch.world.state().join("vault");
    assert!(!files(&vault).is_empty(), "a resume needs what the run made");
    // The vault is among what is searched.
    watch.search(&[]);
    assert_eq!(watch.run(&["resume", "last", "--yes"], &[]), Some(0));
    assert_eq!(files(&vault), Vec::<PathBuf>::new());
}

const FAILING: &str = "
name: failing
title: Ask with a secret, and be shouted back at
kind: maintenance
steps:
  - id: ask
    uses: http.check
    with:
      within: 1s
      checks:
        - url: URL
          headers: { Authorization: \"Bearer {{ secrets.own }}\", X-Key: \"{{ secrets.own }}\" }
          expect: { status: 200, contains: all is well }
    retry: { max_attempts: 2, initial_interval: 10ms }
";

/// Answers every request with an error that quotes the whole request, in the clear and in base64.
fn shouting(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).is_err() {
                    break;
                }
                head.extend(byte);
            }
            let body = format!("{}\n{}", String::from_utf8_lossy(&head), STANDARD_NO_PAD.encode(&head));
            let answer = format!(
                "HTTP/1.1 500 Oh\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            // A client that has heard enough may be gone.
            let _unheard = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn a_server_that_quotes_the_request_in_its_error_leaks_nothing() {
    let own = "own-canary/7f3Kq+\"quoted\" 9zLw";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/ask", listener.local_addr().unwrap());
    shouting(listener);
    let world = World::with_data();
    world.write(
        "environments/local.yaml",
        "name: local\nextends: sandbox\nsecrets: { own: { env: OWN_CANARY } }\n",
    );
    let failing = world.write("failing.yaml", &FAILING.replace("URL", &url)).to_string_lossy().into_owned();
    let mut watch = Watch::new(world);
    let set = [("OWN_CANARY", own)];
    let run = ["run", &failing, "--env", "local"];
    assert_eq!(watch.run(&run, &set), Some(5));
    let said = watch.said[0].stdout.clone();
    assert!(said.contains("500"), "{said}");
    assert_eq!(watch.run(&["--json", "resume", "last"], &[set[0], ("RUNBOOK_LOG", "trace")]), Some(5));
    // Without its value the run says which secret is missing, by name.
    assert_eq!(watch.run(&["resume", "last"], &[]), Some(5));
    assert!(watch.said[2].stdout.contains("own"), "{}", watch.said[2].stdout);
    watch.search(&[("own", own)]);
}
