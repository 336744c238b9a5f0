//! The data set: made once by SQL for a size and a skew, dumped by `pg_dump` in both formats, and kept with what is true
//! of it, so that every restore of it can be held to that.

use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use super::server::{OWNER, SUPERUSER, Server};
use crate::shell::{Failure, output, run, say};

const SQL: &str = include_str!("data.sql");
/// Rows of each table for 46 rows that are not messages, and the bytes of COPY text that a row takes.
const SHARES: [(&str, f64, f64); 5] = [
    ("users", 4.0, 700.0),
    ("sessions", 8.0, 205.0),
    ("attachments", 3.0, 1_250.0),
    ("events", 15.0, 165.0),
    ("invoices", 5.0, 365.0),
];
/// Rows for one of `SHARES`: a user has a profile, an invoice two lines.
const ROWS_OF: [f64; 5] = [2.1, 1.0, 1.0, 1.0, 3.0];
const MESSAGE_BYTES: f64 = 260.0;
/// One row for each table and matview: its name, its rows, the sum of their hashes in any order. Then the sequences.
const SUMS: &str = "SET search_path = '';\n SELECT format('SELECT %L, count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM %s t', \
     c.oid::regclass, c.oid::regclass) FROM pg_class c WHERE relkind IN ('r', 'm') \
     AND relnamespace IN ('public'::regnamespace, 'auth'::regnamespace) ORDER BY c.oid::regclass::text COLLATE \"C\" \\gexec\n\
     SELECT sequencename, last_value FROM pg_sequences ORDER BY 1;";

/// What is asked for.
#[derive(Debug, Clone, Copy, Hash)]
pub(super) struct Shape {
    /// Bytes of COPY text.
    pub(super) bytes: u64,
    /// Percent of the rows that are in the largest table.
    pub(super) skew: u32,
    /// Percent of the messages that the full-text index holds.
    pub(super) full_text: u32,
}

/// Dumps and what is true of them.
pub(super) struct DataSet {
    pub(super) plain: PathBuf,
    pub(super) archive: PathBuf,
    /// Name, rows and checksum of each table.
    pub(super) sums: String,
    /// The schema, normalised.
    pub(super) schema: String,
    /// Bytes of SQL text in the plain dump.
    pub(super) text_bytes: u64,
}

impl DataSet {
    /// From `folder`, or made on `server` and put there.
    pub(super) fn ensure(folder: &Path, shape: Shape, server: &Server) -> Result<Self, Failure> {
        let mut hasher = DefaultHasher::new();
        (SQL, shape, SHARES.map(|(name, ..)| name)).hash(&mut hasher);
        let name = format!("{}m-skew{}-{:08x}", shape.bytes >> 20, shape.skew, hasher.finish() >> 32);
        let folder = folder.join(name);
        if !folder.join("complete").exists() {
            make(&folder, shape, server)?;
        }
        let text = |name: &str| {
            let path = folder.join(name);
            fs::read_to_string(&path).map_err(|error| format!("read `{}`: {error}", path.display()))
        };
        let set = Self {
            plain: folder.join("plain.sql.gz"),
            archive: folder.join("archive.dump"),
            sums: text("sums")?,
            schema: text("schema.sql")?,
            text_bytes: text("complete")?.trim().parse().map_err(|_| "the data set is damaged".to_owned())?,
        };
        let mib =
            |path: &Path| fs::metadata(path).map_or(0.0, |found| found.len() as f64 / f64::from(1 << 20));
        say(&format!(
            "data: {:.0} MiB of SQL text, {} rows, {:.0} % of them in {}; plain.sql.gz {:.0} MiB, archive.dump {:.0} MiB",
            set.text_bytes as f64 / f64::from(1 << 20),
            set.rows().iter().map(|(_, rows)| rows).sum::<u64>(),
            set.largest_share() * 100.0,
            LARGEST,
            mib(&set.plain),
            mib(&set.archive)
        ));
        Ok(set)
    }

    /// Name and number of rows of each table.
    pub(super) fn rows(&self) -> Vec<(String, u64)> {
        let parse = |line: &str| {
            let mut fields = line.split('|');
            let (name, rows, _sum) = (fields.next()?, fields.next()?, fields.next()?);
            Some((name.to_owned(), rows.parse().ok()?))
        };
        self.sums.lines().filter_map(parse).collect()
    }

    fn largest_share(&self) -> f64 {
        let rows = self.rows();
        let all: u64 = rows.iter().map(|(_, rows)| rows).sum();
        let largest = rows.iter().find(|(name, _)| name == LARGEST).map_or(0, |(_, rows)| *rows);
        largest as f64 / all as f64
    }
}

/// The table with most rows.
pub(super) const LARGEST: &str = "public.messages";

fn make(folder: &Path, shape: Shape, server: &Server) -> Result<(), Failure> {
    say("making the data set (once for a size) …");
    let failed = |what: &str, error: std::io::Error| format!("{what} `{}`: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| failed("clear", error))?;
    }
    fs::create_dir_all(folder).map_err(|error| failed("make", error))?;
    let database = "source";
    server.gone(database)?;
    server.sql("postgres", &format!("CREATE DATABASE {database} OWNER {OWNER} TEMPLATE template0"))?;
    let script = folder.join("data.sql");
    fs::write(&script, SQL).map_err(|error| failed("write into", error))?;
    let mut psql = server.client("psql", OWNER);
    psql.args(["-X", "-q", "-d", database, "-f"]).arg(&script);
    for (name, number) in rows_of(shape).into_iter().chain([("full_text", u64::from(shape.full_text))]) {
        psql.arg("-v").arg(format!("{name}={number}"));
    }
    run(&mut psql)?;
    for (name, arguments) in [("plain.sql.gz", ["-Fp", "-Z6"]), ("archive.dump", ["-Fc", "-Z6"])] {
        let mut dump = server.client("pg_dump", SUPERUSER);
        run(dump.args(arguments).args(["-d", database, "-f"]).arg(folder.join(name)))?;
    }
    fs::write(folder.join("sums"), sums(server, database)?).map_err(|error| failed("write into", error))?;
    let schema = schema(server, database)?;
    fs::write(folder.join("schema.sql"), schema).map_err(|error| failed("write into", error))?;
    let count = format!("gunzip -c '{}' | wc -c", folder.join("plain.sql.gz").display());
    let bytes = output(Command::new("sh").args(["-c", &count]))?;
    server.sql("postgres", &format!("DROP DATABASE {database}"))?;
    fs::write(folder.join("complete"), bytes.trim()).map_err(|error| failed("write into", error))
}

/// How many rows of what give so much text.
fn rows_of(shape: Shape) -> Vec<(&'static str, u64)> {
    let rest = f64::from(100 - shape.skew.clamp(1, 99));
    let skew = 100.0 - rest;
    let weight: f64 = SHARES.iter().zip(ROWS_OF).map(|((_, share, _), rows)| share * rows).sum();
    // For 100 rows in all: so many parts of each share.
    let part = rest / weight;
    let others: f64 = SHARES.iter().map(|(_, share, bytes)| share * part * bytes).sum();
    let hundreds = shape.bytes as f64 / (others + skew * MESSAGE_BYTES);
    let whole = |rows: f64| format!("{rows:.0}").parse().unwrap_or(1_u64).max(10);
    let mut rows: Vec<_> =
        SHARES.iter().map(|(name, share, _)| (*name, whole(share * part * hundreds))).collect();
    rows.push(("messages", whole(skew * hundreds)));
    rows
}

/// What is true of a database's rows.
pub(super) fn sums(server: &Server, database: &str) -> Result<String, Failure> {
    let mut psql = server.client("psql", SUPERUSER);
    psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database]);
    let mut child = psql
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .map_err(|error| format!("start psql: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, SUMS.as_bytes())
            .map_err(|error| format!("ask psql: {error}"))?;
    }
    let answer = child.wait_with_output().map_err(|error| format!("wait for psql: {error}"))?;
    if !answer.status.success() {
        return Err(format!("counting the rows of `{database}` ended with {}", answer.status));
    }
    Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
}

/// The schema as `pg_dump` writes it, without what changes from one dump to the next, and without the product's own
/// bookkeeping.
pub(super) fn schema(server: &Server, database: &str) -> Result<String, Failure> {
    let mut dump = server.client("pg_dump", SUPERUSER);
    let text = output(dump.args(["--schema-only", "--exclude-schema=_runbook", "-d", database]))?;
    let kept = text.lines().filter(|line| {
        !line.starts_with("\\restrict ")
            && !line.starts_with("\\unrestrict ")
            && !line.starts_with("-- Dumped ")
    });
    Ok(kept.collect::<Vec<_>>().join("\n"))
}

/// sha256 of a file.
pub(super) fn sha256(path: &Path) -> Result<[u8; 32], Failure> {
    let failed = |error: std::io::Error| format!("read `{}`: {error}", path.display());
    let mut file = fs::File::open(path).map_err(failed)?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut piece).map_err(failed)? {
            0 => return Ok(hash.finalize().into()),
            n => hash.update(&piece[..n]),
        }
    }
}

/// `250M`, `1G`, `50000`: a number of bytes.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim().to_ascii_uppercase();
    let (number, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text.as_str(), 0),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` is no number of bytes, such as 250M"))?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| format!("`{text}` is out of range"))
}
