//! The screens of `runbook backups`. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_actions::backup::catalog::{Catalog, Dumped};
use runbook_actions::backup::inspect::{Inspection, RowsFrom};
use runbook_actions::backup::verify::{Level, Verdict, Verification};

use super::safe;
use crate::words::{bytes, count, duration, grouped};

/// Hash digits that a person compares.
const HASH_SHOWN: usize = 16;

/// What `backups list` shows.
pub(crate) struct Shelf<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) rpo: Option<Duration>,
    pub(crate) now: Timestamp,
    pub(crate) limit: usize,
    pub(crate) env: &'a str,
}

impl Shelf<'_> {
    /// Whether a backup of that moment is young enough.
    pub(crate) fn is_within(taken_at: Timestamp, rpo: Duration, now: Timestamp) -> bool {
        age(taken_at, now) <= rpo
    }
}

fn age(taken_at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(taken_at)).unwrap_or_default()
}

fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%MZ").to_string()
}

/// `backups list`.
pub(crate) fn backups(shelf: &Shelf<'_>) -> String {
    let Shelf { catalog, rpo, now, limit, env } = shelf;
    let mut text = String::new();
    if catalog.dumps.is_empty() {
        let _ = writeln!(
            text,
            "no backup under {} ({} there)\n\nnext: runbook run runbooks/backup.yaml --env {env}",
            catalog.place,
            count(catalog.objects, "object")
        );
        return text;
    }
    let _ = writeln!(text, "{}", safe(&catalog.place));
    let _ = writeln!(text, "  restore point            age       size  name");
    for dump in catalog.dumps.iter().take(*limit) {
        let _ = writeln!(text, "{}", line(dump, *now));
    }
    if catalog.dumps.len() > *limit {
        let _ = writeln!(
            text,
            "  and {} older; --limit {} shows all",
            catalog.dumps.len() - limit,
            catalog.dumps.len()
        );
    }
    match (catalog.newest_verified(), rpo) {
        (None, _) => text.push_str("\n✗ none of them has a recorded sha256: a restore takes none of them\n"),
        (Some(newest), Some(rpo)) => {
            let old = duration(age(newest.taken_at, *now));
            let within = Shelf::is_within(newest.taken_at, *rpo, *now);
            let (sign, word) = if within { ("✓", "within") } else { ("✗", "OVER") };
            let _ = writeln!(
                text,
                "\n{sign} the newest verified one is {old} old: {word} the RPO of {}",
                duration(*rpo)
            );
        }
        (Some(newest), None) => {
            let old = duration(age(newest.taken_at, *now));
            let _ = writeln!(text, "\nthe newest verified one is {old} old; no RPO is set (`readiness.rpo`)");
        }
    }
    let _ = writeln!(text, "\nnext: runbook backups verify --env {env}");
    text
}

fn line(dump: &Dumped, now: Timestamp) -> String {
    let sign = if dump.verified { "✓" } else { "✗" };
    let name = safe(dump.key.rsplit('/').next().unwrap_or(&dump.key));
    let mut notes = Vec::new();
    if !dump.verified {
        notes.push("no sha256");
    }
    if !dump.named {
        notes.push("time of upload");
    }
    if dump.locked {
        notes.push("locked");
    }
    let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) };
    let (old, size) = (duration(age(dump.taken_at, now)), bytes(dump.size_bytes));
    format!("{sign} {}  {old:>8}  {size:>9}  {name}{notes}", moment(dump.taken_at))
}

/// `backups verify`.
pub(crate) fn verification(found: &Verification, env: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", safe(&found.url));
    if let Some(taken_at) = found.taken_at {
        let _ = writeln!(text, "  restore point {}, {}", moment(taken_at), bytes(found.size_bytes));
    }
    for check in &found.checks {
        let (sign, word) = match check.verdict {
            Verdict::Passed => ("✓", "ok    "),
            Verdict::Failed => ("✗", "FAILED"),
            Verdict::Left => ("·", "left  "),
        };
        let shown = match check.verdict {
            Verdict::Failed => format!("{}, expected {}", short(&check.observed), short(&check.expected)),
            Verdict::Passed | Verdict::Left => short(&check.observed),
        };
        let _ = writeln!(text, "{sign} {word} {:?}  {:14} {}", check.level, check.id, safe(&shown));
    }
    let reached = match found.level {
        Some(Level::V2) => "V2: bytes, end and contents are proven; only a restore proves more",
        Some(Level::V1) => "V1: the bytes are those that were recorded, what is in them does not fit",
        Some(Level::V0) => "V0: the object is there, and cannot be trusted",
        None => "nothing: the object is not what was recorded",
    };
    let _ = writeln!(text, "\nproven {reached}");
    if found.failed().next().is_some() {
        let _ = writeln!(
            text,
            "\nnext: runbook backups list --env {env}     pick an older one, and find out why"
        );
    } else {
        let _ = writeln!(text, "\nnext: runbook backups inspect --env {env}");
    }
    text
}

/// Hashes are cut: two that differ do so early.
fn short(text: &str) -> String {
    if text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return format!("{}…", &text[..HASH_SHOWN]);
    }
    text.to_owned()
}

/// `backups inspect`.
pub(crate) fn inspection(found: &Inspection, env: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}", safe(&found.backup.url));
    let known = |label: &str, value: &Option<String>, text: &mut String| {
        if let Some(value) = value {
            let _ = writeln!(text, "  {label:14} {}", safe(value));
        }
    };
    if let Some(taken_at) = found.backup.taken_at {
        known("restore point", &Some(moment(taken_at)), &mut text);
    }
    let size = found.backup.size_bytes.map(bytes).unwrap_or_default();
    known("format", &Some(format!("{}, {size}", found.format)), &mut text);
    known("database", &found.database, &mut text);
    known("server", &found.server_version, &mut text);
    known("pg_dump", &found.pg_dump_version, &mut text);
    known("compression", &found.compression, &mut text);
    let objects: Vec<String> =
        found.objects.iter().map(|(what, number)| format!("{number} {what}")).collect();
    if !objects.is_empty() {
        text.push_str("  objects\n");
        crate::words::wrap(&mut text, &safe(&objects.join(", ")), 4, 80);
    }
    let source = match found.rows_from {
        RowsFrom::Index => "rows by the index beside it",
        RowsFrom::Reading => "rows counted by reading it",
        RowsFrom::Unknown => "rows unknown without reading it: --rows",
    };
    let _ = writeln!(text, "\n{} ({source})", count(found.tables.len(), "table"));
    for table in &found.tables {
        let rows = table.rows.map_or_else(|| "?".to_owned(), grouped);
        let size = table.bytes.map(bytes).unwrap_or_default();
        let line = format!("  {rows:>12}  {size:>9}  {}", safe(&table.name));
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = writeln!(text, "\nnext: runbook backups inspect --schema --env {env}");
    text
}
