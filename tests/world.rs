//! A world of a test's own: a state directory, a sandbox with its servers, sample data, a backup. Ends with
//! the test, whatever happened.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use serde_json::Value;

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// The built binary, away from the state and the settings of whoever runs the tests.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
    command
        .current_dir(root())
        .env_remove("RUNBOOK_STATE_DIR")
        // Clusters are copied instead of made, and nobody pulls the plug.
        .env("RUNBOOK_SANDBOX_CLUSTERS", concat!(env!("CARGO_TARGET_TMPDIR"), "/clusters"))
        .env("RUNBOOK_ACTOR", "tester")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "100")
        .stdin(Stdio::null());
    command
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Demands an exit status, and shows everything when it is another.
    #[track_caller]
    pub(crate) fn ended(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// The lines of `--json`.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last line of `--json`.
    pub(crate) fn last(&self) -> Value {
        self.lines().pop().unwrap()
    }

    /// The id of the run that it is about.
    pub(crate) fn run(&self) -> String {
        self.lines()[0]["run"].as_str().unwrap().to_owned()
    }
}

/// A state directory, with or without a sandbox.
pub(crate) struct World {
    folder: tempfile::TempDir,
}

impl World {
    /// An empty state directory.
    pub(crate) fn bare() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A sandbox with a little sample data and one backup of it.
    pub(crate) fn with_backup() -> Self {
        let world = Self::with_data();
        world.runbook(&["sandbox", "backup"]).ended(0);
        world
    }

    /// A sandbox with a little sample data.
    pub(crate) fn with_data() -> Self {
        let world = Self::bare();
        world.runbook(&["sandbox", "start"]).ended(0);
        world.runbook(&["sandbox", "seed"]).ended(0);
        world
    }

    /// The state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A folder for the test's own files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file of the test's own and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes a runbook of the test's own, with the environment `local` beside it, and gives its path.
    pub(crate) fn runbook_file(&self, text: &str) -> String {
        self.write("runbooks/environments/local.yaml", "name: local\nextends: sandbox\n");
        self.write("runbooks/own.yaml", text).to_str().unwrap().to_owned()
    }

    /// The binary with this state.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = binary();
        command.env("RUNBOOK_STATE_DIR", self.state()).args(arguments);
        command
    }

    /// Runs a command to its end.
    pub(crate) fn runbook(&self, arguments: &[&str]) -> Said {
        Said::of(self.command(arguments).output().unwrap())
    }

    /// Path B with everything answered, to its end.
    pub(crate) fn path_b(&self) -> Said {
        self.runbook(&["--json", "run", "runbooks/path-b.yaml", "--env", "local", "--yes"])
    }

    /// What the stand-ins know, secrets as digests.
    pub(crate) fn inspect(&self) -> Value {
        // Not by `sandbox status`, which asks the application too, and that may misbehave.
        self.control("GET", "state", b"")
    }

    /// What the sample application says.
    pub(crate) fn application(&self) -> Value {
        self.runbook(&["--json", "sandbox", "status"]).ended(0).last()["app"].clone()
    }

    /// Where a run stands, for programs.
    pub(crate) fn status(&self, run: &str) -> Value {
        self.runbook(&["--json", "status", run]).ended(0).last()
    }

    /// The records of a run.
    pub(crate) fn records(&self, run: &str) -> Vec<Value> {
        self.runbook(&["--json", "logs", run]).ended(0).lines()
    }

    /// Rows of a query by the cluster's superuser, one a line, fields parted by `|`.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let mut command = self.client("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql]);
        let said = Said::of(command.output().unwrap()).ended(0);
        said.stdout.trim_end().to_owned()
    }

    /// Everything about a database that a restore must bring back: its schema as `pg_dump` writes it, and of
    /// each table the rows and a checksum over them.
    pub(crate) fn database(&self, database: &str) -> Database {
        let mut command = self.client("pg_dump");
        command.args(["--schema-only", "--no-owner", "--exclude-schema=_runbook", "-d", database]);
        let said = Said::of(command.output().unwrap()).ended(0);
        let schema = said.stdout.lines().filter(|line| !is_unstable(line)).collect::<Vec<_>>().join("\n");
        let contents = self.contents(database, "t::text").into_iter();
        let (sequences, tables): (Vec<_>, Vec<_>) =
            contents.partition(|(name, _)| name.starts_with("sequence "));
        let sequences = sequences.into_iter().map(|(name, value)| (name, value.parse().ok())).collect();
        Database { schema, tables: tables.into_iter().collect(), sequences }
    }

    /// Everything that `pg_dump` sees of a database, as text.
    pub(crate) fn dump(&self, database: &str) -> String {
        let mut command = self.client("pg_dump");
        command.args(["--exclude-schema=_runbook", "-d", database]);
        Said::of(command.output().unwrap()).ended(0).stdout
    }

    /// The same for rows that were written in another world, so that their moments of today are others, and so is the
    /// password that smoke tests sign in with.
    pub(crate) fn rows_in_any_world(&self, database: &str) -> BTreeMap<String, String> {
        let day = |days: u8| format!("to_char(now() - interval '{days} days', 'YYYY-MM-DD')");
        let today = format!(
            "regexp_replace(regexp_replace(t::text, '(' || {} || '|' || {} || ')[ T][0-9:.]+([+]00|Z)?', 'NOW', 'g'), \
             '[$]2a[$]06[$][./0-9A-Za-z]{{53}}', 'HASH', 'g')",
            day(0),
            day(1)
        );
        let mut contents = self.contents(database, &today);
        contents.retain(|name, _| !name.starts_with("sequence "));
        contents
    }

    /// The same without owners and privileges, as bytes.
    pub(crate) fn plain_dump(&self, database: &str) -> Vec<u8> {
        let mut command = self.client("pg_dump");
        let output = command.args(["--no-owner", "--no-privileges", "-d", database]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Of each table the rows and a checksum over them, of each sequence its last value, if it was used.
    fn contents(&self, database: &str, row: &str) -> BTreeMap<String, String> {
        let queries = self.sql(
            database,
            &"select case c.relkind \
               when 'S' then format('select %L, (case when is_called then last_value end)::text from %I.%I', \
                 format('sequence %I.%I', n.nspname, c.relname), n.nspname, c.relname) \
               else format($q$select %L, count(*) || ' ' || \
                 coalesce(md5(string_agg(md5(ROW), '' order by md5(ROW))), '-') from %I.%I t$q$, \
                 format('%I.%I', n.nspname, c.relname), n.nspname, c.relname) end \
             from pg_class c join pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'm', 'S') and n.nspname !~ '^pg_' \
               and n.nspname not in ('information_schema', '_runbook')"
                .replace("ROW", row),
        );
        let lines = self.sql(database, &queries.lines().collect::<Vec<_>>().join(" union all "));
        lines
            .lines()
            .map(|line| line.split_once('|').unwrap())
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect()
    }

    /// Where the sandbox answers.
    pub(crate) fn endpoints(&self) -> Value {
        let file = self.state().join("sandbox/endpoints.json");
        serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
    }

    /// Name of the live project's database.
    pub(crate) fn live(&self) -> String {
        self.endpoints()["live_project"].as_str().unwrap().to_owned()
    }

    /// Shortens what takes its time in the stand-ins; health and deployments still have to be polled.
    pub(crate) fn hurry(&self) {
        let timing =
            r#"{"project_ms":120,"deployment_ms":100,"promotion_ms":60,"signing_key_throttle_ms":0}"#;
        self.control("POST", "timing", timing.as_bytes());
    }

    /// Stores bytes in the backup bucket through its real protocol, with a checksum by the store or without;
    /// their sha256.
    pub(crate) fn put(&self, key: &str, bytes: &[u8], store_checksum: bool) -> String {
        let path = format!("object/{key}?store_checksum={store_checksum}");
        self.control("PUT", &path, bytes)["sha256"].as_str().unwrap().to_owned()
    }

    /// One call of the sandbox's control API.
    pub(crate) fn control(&self, method: &str, path: &str, body: &[u8]) -> Value {
        let endpoints = self.endpoints();
        let host = endpoints["control_url"].as_str().unwrap().trim_start_matches("http://");
        let token = std::fs::read_to_string(self.state().join("sandbox/secrets/control_token")).unwrap();
        let mut stream = TcpStream::connect(host).unwrap();
        let head = format!(
            "{method} /_sandbox/{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            token.trim_end(),
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{method} {path}: {answer}");
        serde_json::from_str(body).unwrap()
    }

    /// Makes a service of the sandbox misbehave.
    pub(crate) fn fault(&self, arguments: &[&str]) {
        self.runbook(&[&["sandbox", "fault"], arguments].concat()).ended(0);
    }

    /// Ends every misbehaviour.
    pub(crate) fn clear_faults(&self) {
        self.control("DELETE", "fault", b"");
    }

    /// How often changing requests to the stand-ins had their effect: those whose name begins so, summed.
    pub(crate) fn effects(&self, name: &str) -> u64 {
        let state = self.inspect();
        let counted = state["effects"].as_object().unwrap();
        counted
            .iter()
            .filter(|(key, _)| key.starts_with(name))
            .map(|(_, times)| times.as_u64().unwrap())
            .sum()
    }

    /// Port and password of the cluster's superuser, `supabase_admin`.
    pub(crate) fn superuser(&self) -> (u16, String) {
        let port = self.endpoints()["postgres_port"].as_u64().unwrap().try_into().unwrap();
        let password = std::fs::read_to_string(self.state().join("sandbox/secrets/admin_password")).unwrap();
        (port, password.trim().to_owned())
    }

    fn client(&self, program: &str) -> Command {
        let (port, password) = self.superuser();
        let mut command = Command::new(client_program(program));
        command
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "supabase_admin"])
            .env("PGPASSWORD", password)
            .env("PGAPPNAME", "test")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A run in the environment `local` starts a sandbox unasked.
        if self.state().join("sandbox").exists() {
            // A second failure would hide the first one.
            let _ended = self.command(&["--quiet", "sandbox", "reset"]).output();
        }
    }
}

/// What a restore must bring back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Database {
    pub(crate) schema: String,
    /// `600 979b…` for 600 rows.
    pub(crate) tables: BTreeMap<String, String>,
    /// What a rolled back transaction drew stays drawn, so a test that inserts and rolls back moves these.
    pub(crate) sequences: BTreeMap<String, Option<i64>>,
}

/// Lines that differ between two dumps of the same database.
fn is_unstable(line: &str) -> bool {
    line.starts_with("\\restrict") || line.starts_with("\\unrestrict") || line.starts_with("-- Dumped")
}

/// A client program of PostgreSQL: on the path, or beside the newest server.
fn client_program(name: &str) -> PathBuf {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("RUNBOOK_PG_BIN").into_iter().map(PathBuf::from).collect();
    let mut servers: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .collect();
    servers.sort();
    folders.extend(servers.into_iter().rev());
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("PostgreSQL's `{name}` is not installed"))
}

/// A run whose JSON lines are read one by one.
pub(crate) struct Watched {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Watched {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line; `None` when the process wrote its last.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.unwrap();
        Some(serde_json::from_str(&line).unwrap())
    }

    /// Reads until a line is as wanted; gives it.
    #[track_caller]
    pub(crate) fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        while let Some(line) = self.next() {
            if wanted(&line) {
                return line;
            }
            last = line;
        }
        panic!("the process ended before; its last line is {last}")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Reads the rest and waits for the end.
    pub(crate) fn end(mut self) -> (Vec<Value>, ExitStatus) {
        let mut rest = Vec::new();
        while let Some(line) = self.next() {
            rest.push(line);
        }
        (rest, self.child.wait().unwrap())
    }
}
