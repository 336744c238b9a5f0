//! Backs the live project up with the real `pg_dump`, as `postgres` would from outside, and stores the
//! dump with its `.sha256` in the bucket; beside it go the files of Storage and their manifests.

use std::io;
use std::path::Path;

use axum::body::Body;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use crate::disk;
use crate::error::SandboxError;
use crate::postgres::run;
use crate::s3::{BUCKET, Put};
use crate::shared::Ctx;
use crate::supabase::storage;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// Where dumps go; the date and the name follow.
pub(crate) const PREFIX: &str = "db/local";
/// Where copies of files go, and their manifests.
pub(crate) const STORAGE_PREFIX: &str = "storage/local";

/// `pg_dump`'s output format.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// SQL text.
    #[default]
    Plain,
    /// `pg_dump -Fc`.
    Custom,
}

/// How the dump is packed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// gzip around plain text, zlib inside an archive.
    #[default]
    Gzip,
    /// Not at all.
    None,
}

/// How a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackupOptions {
    /// `pg_dump`'s format.
    pub format: Format,
    /// Packed or not.
    pub compression: Compression,
    /// Rows as `INSERT` instead of `COPY`.
    pub inserts: bool,
    /// The moment that key and dates of the objects say; now when left out.
    pub at: Option<Timestamp>,
    /// Let the store keep a sha256 of its own.
    pub store_checksum: bool,
}

impl Default for BackupOptions {
    fn default() -> Self {
        let (format, compression) = (Format::default(), Compression::default());
        Self { format, compression, inserts: false, at: None, store_checksum: true }
    }
}

/// A dump in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBackup {
    /// The bucket.
    pub bucket: String,
    /// Key of the dump; the `.sha256` lies beside it.
    pub key: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Size of the dump as stored.
    pub size_bytes: u64,
    /// The moment that it says it was taken.
    pub taken_at: Timestamp,
}

/// Dumps and stores.
pub(crate) async fn backup(ctx: &Ctx, options: BackupOptions) -> Result<StoredBackup, SandboxError> {
    let taken_at = options.at.unwrap_or_else(Timestamp::now);
    disk::private_dir(&ctx.layout.scratch())?;
    storage::back_up(ctx, taken_at).await?;
    let file = ctx.layout.scratch().join(format!("dump-{}", disk::random_text(12, b"abcdefghijklmnop")));
    let stored = match dump(ctx, options, &file).await {
        Ok(()) => store(ctx, options, &file, taken_at).await,
        Err(error) => Err(error),
    };
    if let Err(error) = std::fs::remove_file(&file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "a dump stays behind");
    }
    stored
}

async fn dump(ctx: &Ctx, options: BackupOptions, file: &Path) -> Result<(), SandboxError> {
    let found =
        ctx.look(|world| world.projects.get(&world.live).map(|p| (p.reference.clone(), p.db_pass.clone())));
    let Some((reference, password)) = found else {
        return Err(SandboxError::Refused { message: "back up the live project: it was deleted".to_owned() });
    };
    let mut command = Command::new(ctx.cluster.binaries.program("pg_dump"));
    command.env("PGPASSWORD", password).stdin(std::process::Stdio::null());
    command.args(["-h", "127.0.0.1", "-p", &ctx.cluster.port.to_string(), "-d", &reference]);
    command.arg("-U").arg(format!("postgres.{reference}"));
    command.arg(match options.format {
        Format::Plain => "-Fp",
        Format::Custom => "-Fc",
    });
    command.arg(match options.compression {
        Compression::Gzip => "--compress=6",
        Compression::None => "--compress=0",
    });
    if options.inserts {
        command.arg("--inserts");
    }
    command.arg(format!("--file={}", file.display()));
    run(command).await.map(drop)
}

async fn store(
    ctx: &Ctx,
    options: BackupOptions,
    file: &Path,
    taken_at: Timestamp,
) -> Result<StoredBackup, SandboxError> {
    let (digest, length) = hash(file).await?;
    let sha256 = hex::encode(digest);
    let ending = match (options.format, options.compression) {
        (Format::Plain, Compression::Gzip) => "sql.gz",
        (Format::Plain, Compression::None) => "sql",
        (Format::Custom, _) => "dump",
    };
    let name = format!("polaris-{}.{ending}", taken_at.strftime("%Y%m%dT%H%M%SZ"));
    let key = format!("{PREFIX}/{}/{name}", taken_at.strftime("%Y/%m/%d"));
    let metadata = [("x-amz-meta-taken-at", taken_at.to_string()), ("x-amz-meta-sha256", sha256.clone())];
    ctx.store
        .put(Put {
            key: &key,
            content_type: if ending == "sql.gz" { "application/gzip" } else { "application/octet-stream" },
            length,
            sha256: options.store_checksum.then_some(digest),
            metadata: &metadata,
            body: stream(file).await?,
        })
        .await?;
    let note = format!("{sha256}  {name}\n");
    let note_key = format!("{key}.sha256");
    ctx.store
        .put(Put {
            key: &note_key,
            content_type: "text/plain",
            length: note.len() as u64,
            sha256: None,
            metadata: &[],
            body: Body::from(note),
        })
        .await?;
    for key in [&key, &note_key] {
        date(&ctx.layout.s3().join(BUCKET).join(key), taken_at)?;
    }
    ctx.change(|world| {
        world.backups.retain(|known| *known != key);
        world.backups.push(key.clone());
    })?;
    Ok(StoredBackup { bucket: BUCKET.to_owned(), key, sha256, size_bytes: length, taken_at })
}

/// Makes the store's `Last-Modified` say when the backup says it was taken.
pub(crate) fn date(path: &Path, at: Timestamp) -> Result<(), SandboxError> {
    let file = std::fs::File::options().write(true).open(path).map_err(SandboxError::disk("open", path))?;
    file.set_modified(at.into()).map_err(SandboxError::disk("date", path))
}

async fn hash(path: &Path) -> Result<([u8; 32], u64), SandboxError> {
    let mut file = tokio::fs::File::open(path).await.map_err(SandboxError::disk("open", path))?;
    let (mut hasher, mut length) = (Sha256::new(), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = file.read(&mut buffer).await.map_err(SandboxError::disk("read", path))?;
        if read == 0 {
            return Ok((hasher.finalize().into(), length));
        }
        hasher.update(&buffer[..read]);
        length += read as u64;
    }
}

async fn stream(path: &Path) -> Result<Body, SandboxError> {
    let file = tokio::fs::File::open(path).await.map_err(SandboxError::disk("open", path))?;
    Ok(Body::from_stream(futures_util::stream::try_unfold(file, |mut file| async move {
        let mut buffer = vec![0; CHUNK];
        let read = file.read(&mut buffer).await?;
        buffer.truncate(read);
        Ok::<_, io::Error>((read > 0).then_some((buffer, file)))
    })))
}
