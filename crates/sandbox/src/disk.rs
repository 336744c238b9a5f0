//! Files of the sandbox: private, written whole or not at all. Random names and secrets.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use crate::error::SandboxError;

/// Makes a folder and those above it, for the user only.
pub(crate) fn private_dir(path: &Path) -> Result<(), SandboxError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(SandboxError::disk("make the folder", path))
}

/// Replaces a file at once and for the user only: after a kill it holds the old bytes or the new. A power cut may
/// take both: this is a sandbox, and every request that changes something ends here.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        fs::rename(&fresh, path)
    };
    write().map_err(SandboxError::disk("write", path))
}

/// A secret's file: read when it is there, else made by `fresh`.
pub(crate) fn remembered(path: &Path, fresh: impl FnOnce() -> String) -> Result<String, SandboxError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let value = fresh();
            write_private(path, format!("{value}\n").as_bytes())?;
            Ok(value)
        }
        Err(e) => Err(SandboxError::disk("read", path)(e)),
    }
}

/// The end of a log, for an error message.
pub(crate) fn tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_else(|e| format!("(no log: {e})"))
}

/// `length` characters drawn evenly from `alphabet`.
pub(crate) fn random_text(length: usize, alphabet: &[u8]) -> String {
    use rand::RngExt as _;
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}

/// A secret of 40 letters and digits: over 200 bits.
pub(crate) fn random_secret() -> String {
    random_text(40, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")
}
