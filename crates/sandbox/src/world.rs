//! What the stand-ins know, as one JSON file. Time passes here and nowhere else: whatever takes a
//! while carries the moment when it is due, and [`World::advance`] catches up, so a restart loses
//! nothing.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk;
use crate::error::SandboxError;
use crate::polaris::billing::Received;
use crate::providers::Providers;
use crate::shared::Timing;
use crate::supabase::Project;
use crate::vercel::Vercel;

/// Everything that outlives the daemon.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct World {
    pub(crate) timing: Timing,
    /// Ref of the project that was there from the start.
    pub(crate) live: String,
    pub(crate) projects: BTreeMap<String, Project>,
    pub(crate) vercel: Vercel,
    pub(crate) providers: Providers,
    /// Deliveries of the payment providers to the application, oldest first.
    pub(crate) received: Vec<Received>,
    /// Posts to the webhook sink, oldest first.
    pub(crate) hooks: Vec<HookPost>,
    /// Runs of the application's jobs, oldest first.
    pub(crate) jobs: Vec<JobRun>,
    pub(crate) seeded: Option<Timestamp>,
    pub(crate) damaged: Option<Timestamp>,
    /// Keys of the backups made here, oldest first.
    pub(crate) backups: Vec<String>,
}

/// One post to the webhook sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HookPost {
    pub(crate) hook: String,
    pub(crate) at: Timestamp,
    /// The JSON that came, or the text when it was none.
    pub(crate) body: Value,
}

/// One run of a job of the application.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct JobRun {
    pub(crate) job: String,
    pub(crate) at: Timestamp,
    /// The `Idempotency-Key` that came with it.
    pub(crate) key: Option<String>,
    /// What it counted.
    pub(crate) result: Value,
}

impl World {
    /// The world on disk, if there is one.
    pub(crate) fn load(path: &Path) -> Result<Option<Self>, SandboxError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| SandboxError::Damaged { path: path.to_owned(), source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SandboxError::disk("read", path)(e)),
        }
    }

    pub(crate) fn save(&self, path: &Path) -> Result<(), SandboxError> {
        let bytes = serde_json::to_vec(self)
            .map_err(|source| SandboxError::Damaged { path: path.to_owned(), source })?;
        disk::write_private(path, &bytes)
    }

    /// Lets everything happen that is due at `now`.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.vercel.advance(now);
    }
}
