//! The bytes: one file for each version of an object. Names are checked before they become paths.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::reply::{Refusal, Reply};
use crate::disk;
use crate::error::SandboxError;
use crate::shared::Ctx;

const NAME_BYTES_MAX: usize = 1024;
const BUCKET_CHARS_MAX: usize = 100;

/// An object's name as the service takes it; never one that leads out of its folder.
pub(super) fn check_name(name: &str) -> Reply<()> {
    let fits = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.',!*&$@=;:+?/() ".contains(c))
        && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if fits {
        Ok(())
    } else {
        Err(Refusal::new(400, "InvalidKey", "InvalidKey", format!("Invalid key: {name}")))
    }
}

/// A bucket's name as the service takes it.
pub(super) fn check_bucket(name: &str) -> Reply<()> {
    let fits = !name.trim().is_empty()
        && name.chars().count() <= BUCKET_CHARS_MAX
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.',!*&$@=;:+?() ".contains(c))
        && name != "."
        && name != "..";
    if fits { Ok(()) } else { Err(Refusal::bad("InvalidBucketName", "Bucket name invalid")) }
}

/// Where a version's bytes are.
pub(super) fn path(ctx: &Ctx, reference: &str, bucket: &str, name: &str, version: &str) -> PathBuf {
    ctx.layout.storage(reference).join(bucket).join(name).join(version)
}

/// The bytes; none when there is a row without a file.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, SandboxError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(SandboxError::disk("read", path)(e)),
    }
}

/// Writes a version's bytes.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    if let Some(folder) = path.parent() {
        disk::private_dir(folder)?;
    }
    disk::write_private(path, bytes)
}

/// Removes a version's bytes; nothing happens when they are gone.
pub(super) fn remove(path: &Path) -> Result<(), SandboxError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
        Err(e) => Err(SandboxError::disk("remove", path)(e)),
    }
}

/// The bytes' own tag, quoted: opaque to clients, as an ETag is.
pub(super) fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", &hex::encode(Sha256::digest(bytes))[..32])
}

/// Removes the files of a project that is deleted.
pub(crate) fn forget(ctx: &Ctx, reference: &str) -> Result<(), SandboxError> {
    let folder = ctx.layout.storage(reference);
    match std::fs::remove_dir_all(&folder) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(SandboxError::disk("remove", folder)(e)),
    }
}
