//! Files of evidence: what lies beside a step, hashed; and where the record before this one is. Reads, and writes only
//! what it is told to.

use std::io;
use std::path::{Path, PathBuf};

use runbook_core::action::ActionError;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Attachments that a record names; a run with more keeps them, and the record says that there are more.
const ATTACHMENTS_MAX: usize = 200;
/// Runs whose records are looked at for the one before.
const RUNS_MAX: usize = 10_000;
/// Largest record that is read; what is longer was not written by this action.
pub(super) const RECORD_BYTES_MAX: usize = 1 << 20;
/// How a record is called inside its step's folder.
pub(super) const RECORD: &str = "evidence.json";

/// Lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// sha256 of a file, read in pieces.
pub(super) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 256 << 10];
    loop {
        let read = io::Read::read(&mut file, &mut piece)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&piece[..read]);
    }
}

/// Every file below the run's folder of artifacts, the record itself left out.
pub(super) fn attachments(run: &Path) -> Value {
    let mut found = Vec::new();
    collect(run, &mut found);
    found.retain(|path| path.file_name().is_none_or(|name| name != RECORD));
    found.sort();
    found.truncate(ATTACHMENTS_MAX);
    let shown = found.iter().map(|path| {
        let name = path.strip_prefix(run).unwrap_or(path).to_string_lossy().into_owned();
        let size = std::fs::metadata(path).map(|data| data.len()).ok();
        json!({ "name": name, "size_bytes": size, "sha256": sha256_of(path).ok() })
    });
    Value::Array(shown.collect())
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if found.len() > ATTACHMENTS_MAX {
            return;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), found),
            Ok(kind) if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
}

/// The newest record that an earlier run left in the folder of the same step, by what the records say.
pub(super) fn local_before(own: &Path, chain: &str, started_at: &str) -> Option<(String, Vec<u8>)> {
    let step = own.file_name()?;
    let runs = own.parent()?.parent()?;
    let mut newest: Option<(String, Vec<u8>)> = None;
    for entry in std::fs::read_dir(runs).ok()?.flatten().take(RUNS_MAX) {
        let path = entry.path().join(step).join(RECORD);
        if path.starts_with(own)
            || std::fs::metadata(&path).map_or(true, |d| d.len() > RECORD_BYTES_MAX as u64)
        {
            continue;
        }
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok(record) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let at = record["started_at"].as_str().unwrap_or_default();
        let is_newer = newest.as_ref().is_none_or(|(known, _)| at > known.as_str());
        if record["chain"] == chain && at < started_at && is_newer {
            newest = Some((at.to_owned(), bytes));
        }
    }
    newest
}

/// Writes the record whole or not at all.
pub(super) fn write(folder: &Path, bytes: &[u8]) -> Result<PathBuf, ActionError> {
    use std::io::Write as _;
    let path = folder.join(RECORD);
    let put = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let fresh = folder.join("evidence.new");
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, &path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    put().map_err(|error| ActionError::unchanged(format!("write `{}`", path.display())).because(error))?;
    Ok(path)
}
