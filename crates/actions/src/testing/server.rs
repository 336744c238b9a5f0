//! A PostgreSQL of one's own, from the installed binaries: loopback, a free port, a temporary folder, an
//! unprivileged user. A machine without PostgreSQL fails these tests.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runbook_core::secret::SecretText;
use runbook_core::types::{Connection, Tls};
use tempfile::TempDir;

/// A cluster; gone when dropped.
pub(crate) struct Cluster {
    process: Child,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    /// A folder of the test's own.
    pub(crate) folder: TempDir,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // SIGQUIT's immediate shutdown would be kinder to children; without their postmaster they end as well.
        let killed = self.process.kill().and_then(|()| self.process.wait());
        drop(killed);
    }
}

/// Starts a cluster.
pub(crate) async fn cluster() -> Cluster {
    let bin = binaries();
    let folder = tempfile::Builder::new().prefix("runbook-pg").tempdir().expect("a temporary folder");
    let user = unprivileged(folder.path());
    let data = folder.path().join("data");
    let made = as_user(user, &bin.join("initdb"))
        .args([
            "-D",
            data.to_str().expect("a UTF-8 path"),
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ])
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for _ in 0..5 {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let mut process = started(user, &bin, folder.path(), port);
        if ready(&mut process, port).await {
            return Cluster { process, bin, user, port, folder };
        }
    }
    panic!("{}", std::fs::read_to_string(folder.path().join("log")).unwrap_or_default());
}

fn started(user: Option<(u32, u32)>, bin: &Path, folder: &Path, port: u16) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log");
    as_user(user, &bin.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(["-c", "fsync=off", "-c", "max_connections=30", "-c", "shared_buffers=32MB"])
        // A server that is killed leaves nothing outside its folder.
        .args(["-c", "dynamic_shared_memory_type=mmap"])
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("postgres runs")
}

async fn ready(process: &mut Child, port: u16) -> bool {
    loop {
        if process.try_wait().expect("a child of ours").is_some() {
            return false;
        }
        let url = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
        if tokio_postgres::connect(&url, tokio_postgres::NoTls).await.is_ok() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn binaries() -> PathBuf {
    let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|out| out.status.success());
    let told = told.map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    let mut tried: Vec<PathBuf> = told.into_iter().collect();
    tried.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|all| all.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort();
    tried.extend(installed.into_iter().rev());
    tried
        .into_iter()
        .find(|bin| bin.join("initdb").exists() && bin.join("pg_dump").exists())
        .expect("PostgreSQL is installed")
}

/// PostgreSQL refuses to run as root: the folder is given to somebody else then.
fn unprivileged(folder: &Path) -> Option<(u32, u32)> {
    if std::fs::metadata(folder).expect("it was just made").uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").expect("a list of users");
    let user = ["postgres", "nobody"].iter().find_map(|name| {
        let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
        let mut parts = line.split(':').skip(2);
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let (uid, gid) = user.expect("an unprivileged user");
    std::os::unix::fs::chown(folder, Some(uid), Some(gid)).expect("root may");
    Some((uid, gid))
}

fn as_user(user: Option<(u32, u32)>, program: &Path) -> Command {
    let Some((uid, gid)) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([
        format!("--reuid={uid}"),
        format!("--regid={gid}"),
        "--clear-groups".into(),
        "--pdeathsig=KILL".into(),
    ]);
    command.arg(program);
    command.env("LC_ALL", "C").current_dir("/");
    command
}

/// One database of a cluster, as its superuser.
pub(crate) struct Database {
    /// How to reach it.
    pub(crate) connection: Connection,
    /// A session of the test's own.
    pub(crate) client: tokio_postgres::Client,
    bin: PathBuf,
}

impl Cluster {
    /// Ends the server as a loss of power does.
    pub(crate) fn crash(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs").success());
    }

    /// Starts it again where it was.
    pub(crate) async fn start_again(&mut self) {
        self.process.wait().expect("a child of ours");
        // What the old server left behind takes a moment to go, and no new one starts before.
        for _ in 0..1000 {
            self.process = started(self.user, &self.bin, self.folder.path(), self.port);
            if ready(&mut self.process, self.port).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default());
    }

    /// Makes a database.
    pub(crate) async fn database(&self, name: &str) -> Database {
        let postgres = self.open("postgres", "postgres").await;
        postgres.client.batch_execute(&format!("create database {name}")).await.expect("a new database");
        self.open(name, "postgres").await
    }

    /// Opens a database as a role.
    pub(crate) async fn open(&self, name: &str, role: &str) -> Database {
        let connection = Connection {
            host: "127.0.0.1".into(),
            port: self.port,
            user: role.into(),
            database: name.into(),
            password: SecretText::from_marked(""),
            tls: Tls::Auto,
            ca: None,
            identity: None,
            name: None,
            live: false,
        };
        let url = format!("host=127.0.0.1 port={} user={role} dbname={name}", self.port);
        let (client, driver) =
            tokio_postgres::connect(&url, tokio_postgres::NoTls).await.expect("it accepts");
        tokio::spawn(driver);
        Database { connection, client, bin: self.bin.clone() }
    }
}

impl Database {
    /// Carries out SQL.
    pub(crate) async fn sql(&self, sql: &str) {
        if let Err(error) = self.client.batch_execute(sql).await {
            panic!("{error:?}: {}", &sql[..sql.len().min(300)]);
        }
    }

    /// Asks for one text.
    pub(crate) async fn text(&self, sql: &str) -> String {
        let rows = self.client.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        let row = rows.iter().find_map(|answer| match answer {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("null").to_string()),
            _ => None,
        });
        row.unwrap_or_default()
    }

    /// What pg_dump writes.
    pub(crate) fn dump(&self, args: &[&str]) -> Vec<u8> {
        let at = &self.connection;
        let out = Command::new(self.bin.join("pg_dump"))
            .args(["-h", &at.host, "-p", &at.port.to_string(), "-U", &at.user, "-d", &at.database])
            .args(args)
            .output()
            .expect("pg_dump runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    /// The same through a file, where pg_dump can write down where rows stand in an archive.
    pub(crate) fn dump_to_file(&self, args: &[&str]) -> Vec<u8> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let path = file.path().to_str().expect("a UTF-8 path");
        self.dump(&[args, &["-f", path]].concat());
        std::fs::read(path).expect("pg_dump wrote it")
    }

    /// The schema as pg_dump writes it, without what differs between any two dumps.
    pub(crate) fn schema(&self) -> String {
        let text =
            String::from_utf8(self.dump(&["--schema-only", "--exclude-schema=_runbook"])).expect("UTF-8");
        let kept = text.lines().filter(|line| !line.starts_with('\\') && !line.is_empty());
        kept.collect::<Vec<_>>().join("\n")
    }

    /// Every table with its rows counted and hashed.
    pub(crate) async fn contents(&self) -> Vec<(String, String)> {
        let tables = self
            .client
            .query(
                "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname <> '_runbook' \
                 and schemaname not like 'pg\\_%' and schemaname <> 'information_schema' order by 1",
                &[],
            )
            .await
            .expect("the catalog answers");
        let mut found = Vec::new();
        for row in tables {
            let table: String = row.get(0);
            let sum = self
                .text(&format!("select count(*) || ' ' || coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {table} t"))
                .await;
            found.push((table, sum));
        }
        found
    }
}
