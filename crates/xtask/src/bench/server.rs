//! The bench's own PostgreSQL server, with the settings of a small real one: durable, its journal not cut short.
//! Refuses root, so under root it runs as somebody unprivileged.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::process::cpu_of_family;
use crate::shell::{Failure, output, say};

/// The superuser, and the role that owns every database that is filled; the latter may not do more than on a
/// managed service.
pub(super) const SUPERUSER: &str = "bench";
pub(super) const OWNER: &str = "app";
/// The oldest server that the data set can be made on.
const VERSION_MIN: u32 = 15;
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = 256MB
max_wal_size = 2GB
checkpoint_timeout = 15min
jit = off
timezone = 'UTC'
";
const ROLES: &str = "CREATE ROLE app LOGIN CREATEDB; CREATE ROLE anon; CREATE ROLE authenticated; \
                     CREATE ROLE service_role BYPASSRLS";
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server. Dropping it stops it and removes its files.
pub(super) struct Server {
    binaries: PathBuf,
    folder: PathBuf,
    account: Option<(u32, u32)>,
    child: Child,
    pub(super) port: u16,
    pub(super) password: String,
}

impl Server {
    /// Makes a cluster in `folder`, or, when another account must run it and cannot get there, in the system's
    /// temporary directory.
    pub(super) fn start(folder: &Path) -> Result<Self, Failure> {
        let (version, binaries) =
            crate::postgres::newest(&["psql", "pg_dump", "pg_restore", "pg_isready", "pg_ctl"])
                .filter(|(version, _)| *version >= VERSION_MIN)
                .ok_or_else(|| format!("no PostgreSQL {VERSION_MIN} or newer on this machine"))?;
        let account = account()?;
        let folder = place(folder, account)?;
        say(&format!("PostgreSQL {version} in {}", folder.display()));
        let give = |path: &Path| match account {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)).map_err(failed("give away", path)),
            None => Ok(()),
        };
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(failed("make", &data))?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).map_err(failed("open", &folder))?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).map_err(failed("close", &data))?;
        give(&data)?;
        let password = password()?;
        let first = folder.join("first-password");
        fs::write(&first, &password).map_err(failed("write", &first))?;
        fs::set_permissions(&first, fs::Permissions::from_mode(0o600)).map_err(failed("close", &first))?;
        give(&first)?;
        let mut initdb = program(&binaries, "initdb", account, &folder);
        initdb.arg("-D").arg(&data).args(["-U", SUPERUSER, "-E", "UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--auth=scram-sha-256").arg(format!("--pwfile={}", first.display()));
        output(&mut initdb)?;
        fs::remove_file(&first).map_err(failed("remove", &first))?;
        let settings = data.join("postgresql.auto.conf");
        fs::write(&settings, SETTINGS).map_err(failed("write", &settings))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("find a free port: {error}"))?
            .port();
        let log = fs::File::create(folder.join("log")).map_err(failed("make the log in", &folder))?;
        let mut postgres = program(&binaries, "postgres", account, &folder);
        postgres.arg("-D").arg(&data).arg("-p").arg(port.to_string());
        postgres.stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        let child = postgres.spawn().map_err(failed("start the server in", &folder))?;
        let mut server = Self { binaries, folder, account, child, port, password };
        server.wait_ready()?;
        server.sql("postgres", &format!("{ROLES}; ALTER ROLE app PASSWORD '{}'", server.password))?;
        Ok(server)
    }

    #[expect(clippy::disallowed_methods, reason = "a server that starts tells nobody: it is asked again")]
    fn wait_ready(&mut self) -> Result<(), Failure> {
        let begin = Instant::now();
        loop {
            let mut ready = self.client("pg_isready", SUPERUSER);
            ready.args(["-q", "-d", "postgres"]);
            if ready.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            let ended = self.child.try_wait().map_err(failed("look after the server in", &self.folder))?;
            if ended.is_some() || begin.elapsed() > START_TIMEOUT {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(format!("the bench's PostgreSQL does not start: {log}"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A client program that finds the server by its environment.
    pub(super) fn client(&self, name: &str, user: &str) -> Command {
        let mut command = Command::new(self.binaries.join(name));
        self.point(&mut command, user);
        command
    }

    /// Lets a program, and what it starts, find the server.
    pub(super) fn point(&self, command: &mut Command, user: &str) {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.binaries.clone()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(paths) {
            command.env("PATH", path);
        }
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", user);
        command.env("PGPASSWORD", &self.password).env("PGSSLMODE", "disable");
    }

    /// Carries out SQL as superuser; what it says, one row a line.
    pub(super) fn sql(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let mut psql = self.client("psql", SUPERUSER);
        output(psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]))
    }

    /// Sees to it that there is no database of that name, and that the disk is at rest.
    pub(super) fn gone(&self, database: &str) -> Result<(), Failure> {
        if !self
            .sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{database}'"))?
            .is_empty()
        {
            self.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"))?;
        }
        self.sql("postgres", "CHECKPOINT").map(drop)
    }

    /// CPU seconds of all its processes since it began.
    pub(super) fn cpu(&self) -> f64 {
        cpu_of_family(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut stop = program(&self.binaries, "pg_ctl", self.account, &self.folder);
        stop.arg("stop").arg("-D").arg(self.folder.join("data")).args(["-m", "immediate", "-w", "-s"]);
        if output(&mut stop).is_ok() {
            // What stays behind is said nowhere: the next bench clears it.
            let _ = self.child.wait();
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn program(binaries: &Path, name: &str, account: Option<(u32, u32)>, folder: &Path) -> Command {
    let mut command = Command::new(binaries.join(name));
    if let Some((uid, gid)) = account {
        command.uid(uid).gid(gid).env("HOME", folder);
    }
    command.current_dir(folder);
    command
}

/// As whom the server runs: we, unless we are root.
fn account() -> Result<Option<(u32, u32)>, Failure> {
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = ["postgres", "nobody"].iter().find_map(|wanted| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut ids = line.split(':').skip(2);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    });
    found.map(Some).ok_or_else(|| "PostgreSQL refuses root, and there is no account for it".to_owned())
}

fn place(wanted: &Path, account: Option<(u32, u32)>) -> Result<PathBuf, Failure> {
    let is_open =
        |path: &Path| path.ancestors().all(|step| fs::metadata(step).is_ok_and(|m| m.mode() & 0o001 != 0));
    fs::create_dir_all(wanted).map_err(failed("make", wanted))?;
    if account.is_none() || is_open(wanted) {
        fs::remove_dir_all(wanted).map_err(failed("clear", wanted))?;
        return Ok(wanted.to_owned());
    }
    Ok(std::env::temp_dir().join(format!("runbook-bench-{}", std::process::id())))
}

fn password() -> Result<String, Failure> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .map_err(|error| format!("make a password: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed<'a>(what: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Failure + 'a {
    move |error| format!("{what} `{}`: {error}", path.display())
}
