//! How often each changing request succeeded, for tests that must know whether something happened once.
//! One line a request at the end of a file, so counting costs the same however much has happened.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::SandboxError;

/// Counts that outlive the daemon.
#[derive(Debug)]
pub(crate) struct Effects {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    file: File,
    counts: BTreeMap<String, u64>,
}

impl Effects {
    /// Those of earlier daemons on this file, and a place for more.
    pub(crate) fn open(path: &Path) -> Result<Self, SandboxError> {
        let fail = SandboxError::disk("open", path);
        let read = || {
            let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
            let text = std::io::read_to_string(&mut file)?;
            // A line that a kill cut off would swallow the next one.
            let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
            file.set_len(whole.len() as u64)?;
            let mut counts = BTreeMap::new();
            for line in whole.lines() {
                *counts.entry(line.to_owned()).or_default() += 1;
            }
            Ok(Known { file, counts })
        };
        read().map(|known| Self { path: path.to_owned(), known: Mutex::new(known) }).map_err(fail)
    }

    /// Counts one; `effect` is a line like `vercel POST /v13/deployments`.
    pub(crate) fn count(&self, effect: String) -> Result<(), SandboxError> {
        let mut known = self.lock();
        known
            .file
            .write_all(format!("{effect}\n").as_bytes())
            .map_err(SandboxError::disk("write", &self.path))?;
        *known.counts.entry(effect).or_default() += 1;
        Ok(())
    }

    /// All of them.
    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.lock().counts.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_outlive_the_daemon_and_a_line_that_was_cut_off_is_not_joined_to_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("effects.log");
        let first = Effects::open(&path).unwrap();
        for _ in 0..2 {
            first.count("s3 PUT /bucket/a".to_owned()).unwrap();
        }
        drop(first);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"s3 PUT /buck").unwrap();
        let second = Effects::open(&path).unwrap();
        second.count("s3 PUT /bucket/b".to_owned()).unwrap();
        let wanted = [("s3 PUT /bucket/a".to_owned(), 2), ("s3 PUT /bucket/b".to_owned(), 1)];
        assert_eq!(second.all(), BTreeMap::from(wanted));
    }
}
