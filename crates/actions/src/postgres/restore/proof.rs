//! What proves that the bytes of a dump are the recorded ones, and what is said when they are not. Loads nothing.

use std::time::Duration;

use runbook_core::action::{ActionError, Progress};

use crate::postgres::catalog::Held;
use crate::s3::{Failure, Location, ObjectInfo, Tap, inspect};

use super::action::Job;
use super::fault::Stopped;
use super::params::Verify;
use super::reading::Meter;

impl Job<'_> {
    /// Looks at the object, and refuses one that is not the one that was selected or recorded.
    pub(super) async fn object(&self) -> Result<ObjectInfo, ActionError> {
        let info = inspect(self.ctx, self.source(), &self.at).await?;
        let backup = &self.params.backup;
        if backup.etag.is_some() && backup.etag != info.etag {
            return Err(ActionError::refused(format!(
                "restore `{}`: another object is there than the one that was selected",
                self.at
            ))
            .code("object-changed"));
        }
        for stored in [&info.store_sha256, &backup.store_sha256].into_iter().flatten() {
            if *stored != self.recorded {
                return Err(self.mismatch(stored));
            }
        }
        Ok(info)
    }

    pub(super) fn mismatch(&self, found: &str) -> ActionError {
        ActionError::refused(format!(
            "trust `{}`: its recorded sha256 is {}, its bytes have {found}",
            self.at, self.recorded
        ))
        .code("checksum-mismatch")
        .hint("The dump or its .sha256 was altered. Pick an earlier restore point and find out why.")
    }

    /// How the bytes are proven before success is said: `store`, `first` or `stream`.
    pub(super) fn proof(&self, info: &ObjectInfo, held: &[Held]) -> &'static str {
        if self.params.verify == Verify::First {
            "first"
        } else if info.store_sha256.as_deref() == Some(&self.recorded) {
            "store"
        } else if held.is_empty() {
            "stream"
        } else {
            "first"
        }
    }

    pub(super) fn unread(&self, failure: Failure) -> ActionError {
        match failure {
            Failure::Changed => changed(&self.at),
            Failure::Broken(_) => {
                ActionError::unchanged(format!("read `{}` to its end", self.at)).because(failure)
            }
            Failure::Cancelled => {
                ActionError::unchanged(format!("read `{}` to its end: a stop was asked for", self.at))
                    .code("stopped")
            }
        }
    }

    /// Reads the rest of the object on a thread that may block; the sha256 of the whole.
    pub(super) async fn drain(&self, tap: &Tap) -> Result<String, Failure> {
        let reader = tap.clone();
        let mut reading = tokio::task::spawn_blocking(move || reader.finish());
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                found = &mut reading => {
                    return found.unwrap_or_else(|error| Err(Failure::Broken(error.to_string())));
                }
                () = self.ctx.stop.wait() => {
                    tap.cancel();
                    return Err(Failure::Cancelled);
                }
                _ = tick.tick() => {
                    let (done, total) = (tap.bytes_read(), Some(tap.size_bytes()));
                    self.ctx.progress.report(Progress { done, total, unit: "bytes", message: "checksum".into() });
                }
            }
        }
    }

    /// What speaks against the bytes that were loaded: the whole has another hash, or a part of it that was read before its
    /// turn was something else than what stands there.
    pub(super) async fn prove(&self, meter: &Meter) -> Result<(), Stopped> {
        match self.proven(meter).await {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(Stopped { error, spoiled: true }),
            Err(failure) => {
                let spoiled = failure == Failure::Changed;
                Err(Stopped { error: self.unread(failure), spoiled })
            }
        }
    }

    async fn proven(&self, meter: &Meter) -> Result<Option<ActionError>, Failure> {
        let Some(whole) = &meter.whole else { return Ok(None) };
        let found = self.drain(whole).await?;
        if found != self.recorded {
            return Ok(Some(self.mismatch(&found)));
        }
        for (block, watched) in meter.blocks.iter().zip(whole.watched()) {
            if self.drain(block).await? != watched {
                let error = ActionError::refused(format!(
                    "trust `{}`: a part of it was read twice, and had other bytes the second time",
                    self.at
                ));
                return Ok(Some(
                    error.code("checksum-mismatch").hint("The store is at fault. Take another one."),
                ));
            }
        }
        Ok(None)
    }
}

pub(super) fn changed(at: &Location) -> ActionError {
    ActionError::refused(format!("read `{at}`: the object changed while it was read"))
        .code("object-changed")
        .hint("Somebody writes to the backup's name. Select a backup again, in a new run.")
}
