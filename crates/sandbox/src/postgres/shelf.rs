//! Clusters that are made already, kept to be copied. Making one takes seconds of a small machine, and a test suite wants
//! hundreds. Only where `RUNBOOK_SANDBOX_CLUSTERS` names a folder for it: copies give up durability, which
//! a process that is killed does not miss and a machine that loses its power does.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::binaries::Binaries;
use super::cluster::{SETTINGS, append};
use super::place::{Account, Place};
use crate::disk;
use crate::error::SandboxError;

/// Nothing here has to survive a power cut, and a server that is killed leaves nothing outside its folder.
const CARELESS: &str = "\
fsync = off
synchronous_commit = off
full_page_writes = off
dynamic_shared_memory_type = mmap
";
/// Beside the data: the password of the superuser that the cluster was made with.
const PASSWORD: &str = "password";

/// Where clusters like the wanted one are kept.
#[derive(Debug)]
pub(super) struct Shelf {
    folder: PathBuf,
    /// Another server or another layout is another cluster.
    key: String,
}

impl Shelf {
    /// The shelf that the process's environment names.
    pub(super) fn named(binaries: &Binaries) -> Option<Self> {
        let folder = PathBuf::from(std::env::var_os("RUNBOOK_SANDBOX_CLUSTERS")?);
        let server = binaries.program("postgres");
        let mut hash = Sha256::new();
        hash.update(server.as_os_str().as_encoded_bytes());
        if let Ok(about) = fs::metadata(&server) {
            hash.update(about.len().to_le_bytes());
        }
        for text in
            [SETTINGS, CARELESS, include_str!("../../sql/roles.sql"), include_str!("../../sql/template.sql")]
        {
            hash.update(text.as_bytes());
        }
        Some(Self { folder, key: hex::encode(&hash.finalize()[..8]) })
    }

    /// Copies the kept cluster to a place that has none; its superuser's password, or none when nothing is kept.
    pub(super) fn take(&self, place: &Place) -> Result<Option<String>, SandboxError> {
        let kept = self.folder.join(&self.key);
        if !kept.is_dir() {
            return Ok(None);
        }
        let data = place.data();
        if data.exists() {
            fs::remove_dir_all(&data).map_err(SandboxError::disk("clear", &data))?;
        }
        copy(&kept.join("data"), &data, place.account)
            .map_err(SandboxError::disk("copy a kept cluster to", &data))?;
        let password = kept.join(PASSWORD);
        fs::read_to_string(&password).map(Some).map_err(SandboxError::disk("read", password))
    }

    /// Keeps the cluster of a server that is stopped. Whoever comes second leaves the first one's.
    pub(super) fn keep(&self, place: &Place, password: &str) -> Result<(), SandboxError> {
        disk::private_dir(&self.folder)?;
        let fresh = self.folder.join(format!("new-{}", disk::random_text(12, b"abcdefghijklmnop")));
        disk::private_dir(&fresh)?;
        copy(&place.data(), &fresh.join("data"), Account::Ours)
            .map_err(SandboxError::disk("keep a cluster in", &fresh))?;
        append(&fresh.join("data/postgresql.conf"), CARELESS)?;
        disk::write_private(&fresh.join(PASSWORD), password.as_bytes())?;
        if fs::rename(&fresh, self.folder.join(&self.key)).is_err() {
            fs::remove_dir_all(&fresh).map_err(SandboxError::disk("remove", &fresh))?;
        }
        Ok(())
    }
}

/// Folders and files, as private as a cluster's are.
fn copy(from: &Path, to: &Path, owner: Account) -> io::Result<()> {
    let give = |path: &Path| match owner.ids() {
        Some((user, group)) => std::os::unix::fs::chown(path, Some(user), Some(group)),
        None => Ok(()),
    };
    let mut open = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        fs::create_dir(&to)?;
        fs::set_permissions(&to, fs::metadata(&from)?.permissions())?;
        give(&to)?;
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                open.push((entry.path(), target));
            } else {
                fs::copy(entry.path(), &target)?;
                give(&target)?;
            }
        }
    }
    Ok(())
}
