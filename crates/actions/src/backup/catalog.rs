//! What the bucket holds: every dump with what lies beside it, newest first, and one of them by name. Reads only lists,
//! checksums and headers.

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context};
use runbook_core::types::Backup;
use serde::Serialize;

use super::select::candidates;
pub(crate) use super::select::recorded_sum;
use super::writing::settings;
use crate::s3::Store;

/// A `.sha256` file holds one line; more is something else.
pub(crate) const SUM_BYTES_MAX: usize = 64 << 10;
/// An index has some hundred bytes a table.
pub(crate) const INDEX_BYTES_MAX: usize = 256 << 20;
/// Ending of the checksum beside an object.
pub(crate) const SUM_ENDING: &str = ".sha256";
/// Ending of the index beside a dump.
pub(crate) const INDEX_ENDING: &str = ".index.json";
/// Ending of an object beside a dump that keeps it from being pruned.
pub(crate) const LOCK_ENDING: &str = ".lock";

/// One dump of the bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dumped {
    /// Its key.
    pub key: String,
    /// `s3://bucket/key`
    pub url: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// The moment whose data it holds.
    pub taken_at: Timestamp,
    /// Whether the moment stands in its name; else it is when the object was written.
    pub named: bool,
    /// Whether its sha256 was recorded: of a dump by `postgres.dump`, that it was read back whole.
    pub verified: bool,
    /// Whether an index lies beside it.
    pub indexed: bool,
    /// Whether a lock lies beside it.
    pub locked: bool,
}

/// All dumps of the environment's bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// `s3://bucket/prefix/`
    pub place: String,
    /// How many objects of any kind are there.
    pub objects: usize,
    /// The dumps, newest first.
    pub dumps: Vec<Dumped>,
}

impl Catalog {
    /// The newest dump whose sha256 was recorded.
    pub fn newest_verified(&self) -> Option<&Dumped> {
        self.dumps.iter().find(|dump| dump.verified)
    }
}

/// Lists the environment's bucket.
///
/// # Errors
/// When the store cannot be asked.
pub async fn catalog(ctx: &Context) -> Result<Catalog, ActionError> {
    let store = Store::of(ctx).await?;
    let (_, prefix) = settings(ctx)?;
    let listing = store.list(&prefix).await?;
    let keys: std::collections::HashSet<&str> = listing.iter().map(|object| object.key.as_str()).collect();
    let beside = |key: &str, ending: &str| keys.contains(format!("{key}{ending}").as_str());
    let dumps = candidates(&listing, &prefix).into_iter().map(|found| Dumped {
        key: found.object.key.clone(),
        url: format!("s3://{}/{}", store.name(), found.object.key),
        size_bytes: found.object.size_bytes,
        taken_at: found.taken_at,
        named: found.named,
        verified: found.sum_key.is_some(),
        indexed: beside(&found.object.key, INDEX_ENDING),
        locked: beside(&found.object.key, LOCK_ENDING),
    });
    let dumps = dumps.collect();
    Ok(Catalog { place: format!("s3://{}/{prefix}", store.name()), objects: listing.len(), dumps })
}

/// The dump that a person means: its key, its URL, the end of its key, or `latest`: the newest verified one.
///
/// # Errors
/// When there is none, or more than one.
pub async fn find(ctx: &Context, wanted: &str) -> Result<Backup, ActionError> {
    let catalog = catalog(ctx).await?;
    let found: Vec<&Dumped> = match wanted {
        "latest" => catalog.newest_verified().or(catalog.dumps.first()).into_iter().collect(),
        named => {
            let exact: Vec<_> = catalog.dumps.iter().filter(|d| d.key == named || d.url == named).collect();
            let ends = |dump: &&Dumped| dump.key.ends_with(named) && !named.is_empty();
            if exact.is_empty() { catalog.dumps.iter().filter(ends).collect() } else { exact }
        }
    };
    match found.as_slice() {
        [one] => backup(ctx, one).await,
        [] => Err(ActionError::refused(format!("find the backup `{wanted}` under `{}`", catalog.place))
            .code("no-backup")
            .hint("`runbook backups list` shows what the bucket holds.")),
        many => {
            let keys: Vec<&str> = many.iter().take(3).map(|dump| dump.key.as_str()).collect();
            Err(ActionError::refused(format!("tell which backup `{wanted}` is: {} end so", many.len()))
                .hint(format!("Write more of the key: {}.", keys.join(", "))))
        }
    }
}

/// A dump with its recorded sha256, as actions take it.
async fn backup(ctx: &Context, dump: &Dumped) -> Result<Backup, ActionError> {
    let store = Store::of(ctx).await?;
    let (settings, _) = settings(ctx)?;
    let info = store.head(&dump.key).await?.ok_or_else(|| {
        ActionError::unchanged(format!("look at `{}`: it went away after it was listed", dump.url))
            .code("object-changed")
    })?;
    let sum = if dump.verified {
        let text = store.text(&format!("{}{SUM_ENDING}", dump.key), SUM_BYTES_MAX).await?.unwrap_or_default();
        recorded_sum(&text, dump.key.rsplit('/').next().unwrap_or(&dump.key))
    } else {
        None
    };
    Ok(Backup {
        url: dump.url.clone(),
        sha256: sum,
        size_bytes: Some(info.size_bytes),
        etag: info.etag,
        store_sha256: info.store_sha256,
        taken_at: Some(dump.taken_at),
        source: None,
        data: Some(settings.data.unwrap_or(ctx.environment.data)),
    })
}
