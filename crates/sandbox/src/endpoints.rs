//! Where everything of a sandbox is: folders on disk, addresses on loopback.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::disk;
use crate::error::SandboxError;

/// The folders and files under `STATE/sandbox`.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn of(state_dir: &Path) -> Self {
        let absolute = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        Self { root: absolute.join("sandbox") }
    }

    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Held by the daemon while it lives.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(crate) fn endpoints(&self) -> PathBuf {
        self.root.join("endpoints.json")
    }

    pub(crate) fn ports(&self) -> PathBuf {
        self.root.join("ports.json")
    }

    pub(crate) fn world(&self) -> PathBuf {
        self.root.join("state.json")
    }

    pub(crate) fn effects(&self) -> PathBuf {
        self.root.join("effects.log")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    pub(crate) fn environment(&self) -> PathBuf {
        self.root.join("environment.yaml")
    }

    pub(crate) fn secret(&self, name: &str) -> PathBuf {
        self.root.join("secrets").join(name)
    }

    pub(crate) fn s3(&self) -> PathBuf {
        self.root.join("s3")
    }

    pub(crate) fn polaris(&self) -> PathBuf {
        self.root.join("polaris")
    }

    /// Files of a project's Storage, by bucket, name and version.
    pub(crate) fn storage(&self, reference: &str) -> PathBuf {
        self.root.join("storage").join(reference)
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.root.join("scratch")
    }
}

/// Where a running sandbox answers. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Process id of the daemon.
    pub pid: u32,
    /// `STATE/sandbox`.
    pub folder: PathBuf,
    /// The complete environment file.
    pub environment_file: PathBuf,
    /// Port of PostgreSQL on 127.0.0.1.
    pub postgres_port: u16,
    /// Ref of the live project; also the name of its database.
    pub live_project: String,
    /// Login role of the live project.
    pub live_user: String,
    /// S3 endpoint, path style.
    pub s3_url: String,
    /// The backup bucket.
    pub bucket: String,
    /// Base URL of the Supabase Management API.
    pub supabase_url: String,
    /// Base URL of the Vercel API.
    pub vercel_url: String,
    /// Base URL of the deployed application.
    pub app_url: String,
    /// Base URL of the webhook sink; a name follows.
    pub hooks_url: String,
    /// Base URL of the stand-ins of the providers; a name follows: `/paypal`.
    pub providers_url: String,
    /// Base URL of the control API.
    pub control_url: String,
}

impl Endpoints {
    pub(crate) fn layout(&self) -> Layout {
        Layout::at(&self.folder)
    }

    pub(crate) fn load(layout: &Layout) -> Result<Option<Self>, SandboxError> {
        let path = layout.endpoints();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|source| SandboxError::Damaged { path, source }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SandboxError::disk("read", path)(e)),
        }
    }

    pub(crate) fn save(&self) -> Result<(), SandboxError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(|source| SandboxError::Damaged { path: self.layout().endpoints(), source })?;
        disk::write_private(&self.layout().endpoints(), &text)
    }
}

/// What `runbook sandbox status` shows.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Where it answers.
    pub endpoints: Endpoints,
    /// Projects that exist, live one included.
    pub projects: usize,
    /// Rows were put into the live project.
    pub seeded: bool,
    /// The bad migration was applied to the live project.
    pub damaged: bool,
    /// Backups made here, oldest first: their keys.
    pub backups: Vec<String>,
    /// Faults that still wait to happen.
    pub faults: usize,
}
