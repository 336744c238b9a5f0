//! A private PostgreSQL for one test, filled with what is hard to dump. Fails when PostgreSQL is missing.
#![allow(dead_code, reason = "each test file uses another part of it")]

pub(crate) mod build;
pub(crate) mod read;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A running cluster that only this test knows. It is stopped and removed with the value.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
}

/// Finds a program of PostgreSQL: beside `pg_config`, on the PATH, in the newest installed version.
pub(crate) fn program(name: &str) -> PathBuf {
    let config = Command::new("pg_config").arg("--bindir").output();
    let beside = config.ok().map(|out| PathBuf::from(String::from_utf8_lossy(&out.stdout).trim()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|dirs| dirs.flatten().map(|dir| dir.path().join("bin")).collect())
        .unwrap_or_default();
    installed.sort();
    let mut places =
        beside.into_iter().chain(std::env::split_paths(&path)).chain(installed.into_iter().rev());
    let found = places.find(|dir| dir.join(name).is_file());
    found
        .unwrap_or_else(|| panic!("PostgreSQL's {name} is not on this machine; this test needs it"))
        .join(name)
}

/// PostgreSQL refuses to run as root: then it runs as the user `postgres`.
fn command(name: &str) -> Command {
    let program = program(name);
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0);
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.env("HOME", "/tmp").env("LC_ALL", "C").env("TZ", "UTC").current_dir("/tmp");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

impl Postgres {
    /// Starts an empty cluster on a socket in its own directory.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory can be made");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))
            .expect("its mode can be set");
        let postgres = Self { dir };
        let data = postgres.path("data");
        run(command("initdb")
            .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data));
        let options = format!("-c listen_addresses= -c fsync=off -k {}", postgres.dir.path().display());
        // The server inherits the outputs: with pipes there, waiting for pg_ctl would wait for the server.
        let status = command("pg_ctl")
            .args(["start", "-w", "-s", "-o", &options, "-l"])
            .arg(postgres.path("log"))
            .arg("-D")
            .arg(&data)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
        let log = std::fs::read_to_string(postgres.path("log")).unwrap_or_default();
        assert!(status.expect("pg_ctl starts").success(), "{log}");
        postgres
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A client program, told where the cluster is.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = command(name);
        command
            .env("PGHOST", self.dir.path())
            .env("PGUSER", "postgres")
            .env("PGOPTIONS", "-c synchronous_commit=off");
        command
    }

    /// Runs SQL in a database.
    pub(crate) fn sql(&self, database: &str, sql: &str) {
        self.sql_bytes(database, sql.as_bytes());
    }

    /// Runs a script that may hold rows in any encoding.
    pub(crate) fn sql_bytes(&self, database: &str, sql: &[u8]) {
        let file = self.path("script.sql");
        std::fs::write(&file, sql).expect("the script can be written");
        run(self.client("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(&file));
    }

    /// Asks for one value.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        let output = run(self.client("psql").args(["-X", "-A", "-t", "-d", database, "-c", sql]));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// As [`Self::dump`]; none when this pg_dump does not know how.
    pub(crate) fn try_dump(&self, database: &str, arguments: &[&str]) -> Option<Vec<u8>> {
        let output = self.client("pg_dump").args(arguments).args(["-d", database]).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    }

    /// What pg_dump writes to a pipe.
    pub(crate) fn dump(&self, database: &str, arguments: &[&str]) -> Vec<u8> {
        run(self.client("pg_dump").args(arguments).args(["-d", database])).stdout
    }

    /// What pg_dump writes to a file, where it can seek.
    pub(crate) fn dump_to_file(&self, database: &str, arguments: &[&str]) -> Vec<u8> {
        let file = self.path("out.dump");
        let _ = std::fs::remove_file(&file);
        run(self.client("pg_dump").args(arguments).args(["-d", database, "-f"]).arg(&file));
        std::fs::read(&file).expect("the dump was written")
    }

    /// What pg_restore makes of an archive.
    pub(crate) fn restore_script(&self, archive: &[u8], arguments: &[&str]) -> Vec<u8> {
        let file = self.path("in.dump");
        std::fs::write(&file, archive).expect("the archive can be written");
        run(command("pg_restore").args(arguments).args(["-f", "-"]).arg(&file)).stdout
    }

    /// Each statement that psql sends to a fresh database when it runs a script, and a line end after it.
    pub(crate) fn echo_of_psql(&self, script: &[u8]) -> String {
        self.sql("postgres", "DROP DATABASE IF EXISTS again");
        self.sql("postgres", "CREATE DATABASE again");
        let file = self.path("echo.sql");
        std::fs::write(&file, script).expect("the script can be written");
        let arguments = ["-X", "-q", "-e", "-o", "/dev/null", "-v", "ON_ERROR_STOP=1", "-d", "again", "-f"];
        String::from_utf8(run(self.client("psql").args(arguments).arg(&file)).stdout).expect("UTF-8")
    }

    /// A cluster with the database `nasty`.
    pub(crate) fn nasty() -> Self {
        let postgres = Self::start();
        run(postgres.client("psql").args(["-X", "-q", "-c", "CREATE DATABASE nasty"]));
        postgres.sql("nasty", include_str!("nasty.sql"));
        postgres
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ =
            command("pg_ctl").args(["stop", "-s", "-m", "immediate", "-D"]).arg(self.path("data")).output();
        remove_as_owner(self.dir.path());
    }
}

/// Everything inside belongs to the user that ran it.
fn remove_as_owner(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
}
