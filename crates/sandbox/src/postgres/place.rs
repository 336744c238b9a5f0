//! Where the cluster's files are, and as whom it runs. PostgreSQL refuses root, so under root it runs
//! as another account, and that account must be able to walk to its data: the state directory is
//! private, so then the data goes to a folder of its own under the temporary directory, which is
//! written down on both sides.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::endpoints::Layout;
use crate::error::SandboxError;

/// As whom PostgreSQL runs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Account {
    /// As we do.
    Ours,
    /// As somebody unprivileged: user and group id.
    Other(u32, u32),
}

impl Account {
    /// We, unless we are root.
    pub(crate) fn choose() -> Result<Self, SandboxError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Ours);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        ["postgres", "nobody"]
            .iter()
            .find_map(|wanted| {
                let line = accounts.lines().find(|line| line.split(':').next() == Some(wanted))?;
                let mut fields = line.split(':').skip(2);
                Some(Self::Other(fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
            })
            .ok_or(SandboxError::NoAccount)
    }

    /// User and group to change to.
    pub(crate) fn ids(self) -> Option<(u32, u32)> {
        match self {
            Self::Ours => None,
            Self::Other(uid, gid) => Some((uid, gid)),
        }
    }

    /// Gives a file or folder to the account.
    pub(crate) fn give(self, path: &Path) -> Result<(), SandboxError> {
        match self {
            Self::Ours => Ok(()),
            Self::Other(uid, gid) => std::os::unix::fs::chown(path, Some(uid), Some(gid))
                .map_err(SandboxError::disk("give to the PostgreSQL account", path)),
        }
    }
}

/// The cluster's folder: `data/`, `log`, and, when it lies outside the state directory, `owner`.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) folder: PathBuf,
    pub(crate) account: Account,
}

impl Place {
    /// The place of a sandbox, chosen the first time and remembered.
    pub(crate) fn choose(layout: &Layout) -> Result<Self, SandboxError> {
        let account = Account::choose()?;
        if let Some(place) = Self::known(layout)? {
            return Ok(place);
        }
        sweep();
        let inside = layout.root().join("postgres");
        let folder = if account.ids().is_none() || is_open(layout.root()) {
            inside
        } else {
            let name =
                format!("runbook-sandbox-{}", disk::random_text(12, b"abcdefghijklmnopqrstuvwxyz0123456789"));
            std::env::temp_dir().join(name)
        };
        if account.ids().is_some() && !is_open(folder.parent().unwrap_or(Path::new("/"))) {
            let source = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
            return Err(SandboxError::Disk { what: "let the PostgreSQL account into", path: folder, source });
        }
        disk::write_private(&marker(layout), folder.to_string_lossy().as_bytes())?;
        let place = Self { folder, account };
        place.prepare(layout)?;
        Ok(place)
    }

    /// The remembered place, if there is one.
    pub(crate) fn known(layout: &Layout) -> Result<Option<Self>, SandboxError> {
        match fs::read_to_string(marker(layout)) {
            Ok(text) => {
                let place = Self { folder: PathBuf::from(text.trim_end()), account: Account::choose()? };
                place.prepare(layout)?;
                Ok(Some(place))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(SandboxError::disk("read", marker(layout))(e)),
        }
    }

    fn prepare(&self, layout: &Layout) -> Result<(), SandboxError> {
        if self.folder.exists() {
            return Ok(());
        }
        disk::private_dir(&self.folder)?;
        fs::set_permissions(&self.folder, fs::Permissions::from_mode(0o711))
            .map_err(SandboxError::disk("open", &self.folder))?;
        disk::write_private(&self.folder.join("owner"), layout.root().to_string_lossy().as_bytes())
    }

    /// Written when the cluster is complete, roles and template included.
    pub(crate) fn ready(&self) -> PathBuf {
        self.folder.join("ready")
    }

    /// Whether the cluster is complete.
    pub(crate) fn is_made(&self) -> bool {
        self.ready().exists() && self.data().exists()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }
}

fn marker(layout: &Layout) -> PathBuf {
    layout.root().join("postgres.location")
}

/// Whether everybody may walk through `path` and all above it.
fn is_open(path: &Path) -> bool {
    path.ancestors().all(|step| fs::metadata(step).is_ok_and(|m| m.mode() & 0o001 != 0))
}

/// Removes folders in the temporary directory whose sandbox is gone: ours by name, owner and the
/// note inside. A failure only leaves them for the next time.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with("runbook-sandbox-"))
            && entry.metadata().is_ok_and(|m| m.is_dir() && m.uid() == rustix::process::geteuid().as_raw());
        let Ok(owner) = fs::read_to_string(entry.path().join("owner")) else { continue };
        if !ours || Path::new(owner.trim_end()).exists() || entry.path().join("data/postmaster.pid").exists()
        {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(entry.path()) {
            tracing::warn!(folder = %entry.path().display(), %error, "an abandoned cluster stays");
        }
    }
}
