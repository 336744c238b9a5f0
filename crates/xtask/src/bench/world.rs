//! The sandbox of a bench: the S3 server that dumps are fetched from, at full speed or through a slow line, and the
//! environment in which the product finds it.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use serde_json::Value;

use super::dataset::sha256;
use super::restore::TARGET;
use super::server::{OWNER, Server};
use super::throttle;
use crate::shell::{Failure, output, say};

/// What dumps are called in the bucket.
pub(super) const PREFIX: &str = "db/bench";

/// A running sandbox. Dropping it stops it and removes what it kept.
pub(super) struct World {
    pub(super) binary: PathBuf,
    /// Where it is, the environment and the runbooks too.
    pub(super) folder: PathBuf,
    pub(super) endpoints: Value,
    /// Of the store, slow when that was asked for.
    pub(super) s3_url: String,
}

impl World {
    /// Starts a sandbox of its own below `folder`; fetching from it goes at `rate` bytes a second when there is one.
    pub(super) fn start(binary: PathBuf, folder: &Path, rate: Option<u64>) -> Result<Self, Failure> {
        let folder = folder.to_owned();
        let mut world = Self { binary, folder, endpoints: Value::Null, s3_url: String::new() };
        if world.folder.exists() {
            output(&mut world.sandbox("reset"))?;
            fs::remove_dir_all(&world.folder)
                .map_err(|error| format!("clear the bench's folder: {error}"))?;
        }
        fs::create_dir_all(world.folder.join("environments"))
            .map_err(|error| format!("make the bench's folder: {error}"))?;
        let told = output(&mut world.sandbox("start"))?;
        let line = told.lines().last().unwrap_or_default();
        world.endpoints = serde_json::from_str(line).map_err(|error| format!("read `{line}`: {error}"))?;
        world.s3_url = world.said("s3_url").to_owned();
        if let Some(rate) = rate {
            world.s3_url = slow(&world.s3_url, rate)?;
        }
        let secrets = world.secrets();
        let secret = |name: &str| {
            let path = secrets.join(name);
            fs::read_to_string(&path).map_err(|error| format!("read `{}`: {error}", path.display()))
        };
        let user = format!(
            "user = \"{}:{}\"\naws-sigv4 = \"aws:amz:us-east-1:s3\"\nheader = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\"\nfail\nsilent\nshow-error\n",
            secret("s3_access_key_id")?.trim(),
            secret("s3_secret_access_key")?.trim()
        );
        private(&world.curl_config(), &user)?;
        Ok(world)
    }

    fn sandbox(&self, what: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(["--quiet", "--json", "--state-dir"]).arg(self.folder.join("state"));
        command.args(["sandbox", what]);
        command
    }

    pub(super) fn said(&self, what: &str) -> &str {
        self.endpoints.get(what).and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn secrets(&self) -> PathBuf {
        Path::new(self.said("folder")).join("secrets")
    }

    /// What lets `curl` sign its requests without the key in the process list.
    pub(super) fn curl_config(&self) -> PathBuf {
        self.folder.join("curl.conf")
    }

    /// Address of an object, as fast or slow as for everybody.
    pub(super) fn url(&self, key: &str) -> String {
        format!("{}/{}/{key}", self.s3_url, self.said("bucket"))
    }

    /// Stores a file with its sha256 beside it, at full speed; gives what `postgres.restore` takes as `backup`.
    pub(super) fn upload(&self, file: &Path, name: &str, store_checksum: bool) -> Result<Value, Failure> {
        let key = format!("{PREFIX}/{name}");
        let sum = sha256(file)?;
        let text: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        let url = |key: &str| format!("{}/{}/{key}", self.said("s3_url"), self.said("bucket"));
        let put = |file: &Path, key: &str, headers: &[String]| {
            let mut curl = Command::new("curl");
            curl.arg("--config").arg(self.curl_config()).arg("--upload-file").arg(file);
            curl.args(headers.iter().flat_map(|header| ["--header", header]));
            output(curl.arg(url(key))).map(drop)
        };
        let checksum =
            format!("x-amz-checksum-sha256: {}", base64::engine::general_purpose::STANDARD.encode(sum));
        put(file, &key, if store_checksum { std::slice::from_ref(&checksum) } else { &[] })?;
        let beside = self.folder.join("sum");
        fs::write(&beside, format!("{text}  {name}\n"))
            .map_err(|error| format!("write a checksum: {error}"))?;
        put(&beside, &format!("{key}.sha256"), &[])?;
        let size = fs::metadata(file).map_or(0, |found| found.len());
        Ok(serde_json::json!({
            "url": format!("s3://{}/{key}", self.said("bucket")), "sha256": text, "size_bytes": size,
        }))
    }

    /// Writes the environments: `bench` with the bucket and the bench's server, and `filled`, which knows the database
    /// that is filled too (a restore into a connection that is known needs more than one into a new database).
    pub(super) fn write_environments(&self, server: &Server) -> Result<(), Failure> {
        self.write_environment(server, "bench", false)?;
        self.write_environment(server, "filled", true)
    }

    fn write_environment(&self, server: &Server, name: &str, target: bool) -> Result<(), Failure> {
        let password = self.folder.join("target_password");
        private(&password, &server.password)?;
        let secret = |name: &str, path: &Path| {
            format!("  {name}: {{ file: {} }}\n", Value::from(path.display().to_string()))
        };
        let secrets = self.secrets();
        let connection = |name: &str, database: &str| {
            format!(
                "  {name}:\n    host: 127.0.0.1\n    port: {}\n    user: {OWNER}\n    database: {database}\n    \
                 password: \"{{{{ secrets.target_password }}}}\"\n    tls: disable\n",
                server.port
            )
        };
        let text = format!(
            "name: {name}\nkind: local\ndata: synthetic\nconnections:\n{}{}backups:\n  bucket: {bucket}\n  \
             prefix: {PREFIX}\n  endpoint: {endpoint}\n  region: us-east-1\n  path_style: true\n  \
             access_key_id: \"{{{{ secrets.s3_access_key_id }}}}\"\n  \
             secret_access_key: \"{{{{ secrets.s3_secret_access_key }}}}\"\nsecrets:\n{}{}{}",
            connection("server", "postgres"),
            if target { connection("target", TARGET) } else { String::new() },
            secret("target_password", &password),
            secret("s3_access_key_id", &secrets.join("s3_access_key_id")),
            secret("s3_secret_access_key", &secrets.join("s3_secret_access_key")),
            bucket = self.said("bucket"),
            endpoint = self.s3_url,
        );
        private(&self.folder.join(format!("environments/{name}.yaml")), &text)
    }

    /// Writes a runbook beside the environments.
    pub(super) fn write_runbook(&self, name: &str, steps: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(format!("{name}.yaml"));
        private(&path, &format!("name: {name}\nkind: maintenance\nsteps:\n{steps}"))?;
        Ok(path)
    }

    /// The product, with a state directory of its own below the bench's. What it tells people goes to a file.
    pub(super) fn product(&self, state: &str) -> Result<Command, Failure> {
        self.product_in(&self.folder.join("runs").join(state))
    }

    /// The product, where the sandbox is too, so that an environment may extend it.
    pub(super) fn product_beside(&self) -> Result<Command, Failure> {
        self.product_in(&self.folder.join("state"))
    }

    fn product_in(&self, state: &Path) -> Result<Command, Failure> {
        let log = fs::File::create(self.log()).map_err(|error| format!("make the bench's log: {error}"))?;
        let mut command = Command::new(&self.binary);
        command.arg("--state-dir").arg(state).args(["--actor", "bench"]);
        command.current_dir(&self.folder).stderr(log);
        Ok(command)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// Adds to a failure what the product said last.
    pub(super) fn with_log(&self, failure: Failure) -> Failure {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("{failure}\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if output(&mut self.sandbox("reset")).is_err() {
            say("the bench's sandbox could not be stopped");
        }
    }
}

/// The address of a slow line to that server.
pub(super) fn slow(url: &str, rate: u64) -> Result<String, Failure> {
    let address: SocketAddr = url
        .trim_start_matches("http://")
        .parse()
        .map_err(|_| format!("`{url}` is no address on this machine"))?;
    Ok(format!("http://{}", throttle::open(address, rate as f64)?))
}

/// Writes a file that only its owner reads.
pub(super) fn private(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("write `{}`: {error}", path.display());
    fs::write(path, text).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(failed)
}
