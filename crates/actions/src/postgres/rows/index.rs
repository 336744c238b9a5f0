//! The side-car index that may lie beside a dump, `KEY.index.json`: which table's rows stand where. Anybody may have
//! written it: it is held to the dump's recorded checksum, and what is read by it must prove itself.

use runbook_core::action::{ActionError, Context};
use runbook_dump::Cuts;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::s3::{Location, Store};

/// A table takes some 200 bytes, a large one with its parts some megabytes; more is no index.
const INDEX_BYTES_MAX: usize = 32 << 20;
/// A `.sha256` file holds one line.
const SUM_BYTES_MAX: usize = 64 << 10;

/// The file.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    version: u64,
    dump: Of,
    format: String,
    tables: Vec<IndexedTable>,
    /// A recorded checksum covers the index itself.
    #[serde(skip)]
    pub(super) covered: bool,
    /// Bytes read for it.
    #[serde(skip)]
    pub(super) bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Of {
    sha256: String,
    size_bytes: u64,
}

/// Where the rows of one table are.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct IndexedTable {
    pub(super) schema: String,
    pub(super) name: String,
    pub(super) columns: Vec<String>,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// sha256 of the rows as COPY text, without the end mark.
    pub(super) sha256: String,
    /// Parts of the rows that can be read one without the other.
    #[serde(default)]
    pub(super) cuts: Option<Cuts>,
}

impl Index {
    /// The index of this very dump, if there is one that can be read. Anything else is as if there were none: it saves
    /// reading, and nothing depends on it.
    pub(super) async fn find(
        ctx: &Context,
        store: Option<&str>,
        dump: &Location,
        sha256: &str,
        size_bytes: u64,
    ) -> Result<Option<Self>, ActionError> {
        let Some(text) = beside(ctx, store, dump, ".index.json", INDEX_BYTES_MAX).await? else {
            return Ok(None);
        };
        let Ok(mut index) = serde_json::from_str::<Self>(&text) else { return Ok(None) };
        let fits = index.version == 1
            && index.format == "custom"
            && index.dump.size_bytes == size_bytes
            && index.dump.sha256.eq_ignore_ascii_case(sha256);
        if !fits {
            return Ok(None);
        }
        let sum = hex::encode(Sha256::digest(text.as_bytes()));
        let recorded = beside(ctx, store, dump, ".index.json.sha256", SUM_BYTES_MAX).await?;
        let recorded = recorded.as_deref().and_then(|text| text.split_whitespace().next());
        index.covered = recorded.is_some_and(|recorded| recorded.eq_ignore_ascii_case(&sum));
        index.bytes = text.len() as u64;
        Ok(Some(index))
    }

    /// A table's place, if it is one that can be in the dump.
    pub(super) fn table(&self, schema: Option<&str>, name: &str) -> Option<&IndexedTable> {
        self.tables.iter().find(|table| {
            Some(table.schema.as_str()) == schema
                && table.name == name
                && table.offset.checked_add(table.length).is_some_and(|end| end <= self.dump.size_bytes)
        })
    }
}

/// A small file beside a dump; none when there is none, or it is too large to be one.
async fn beside(
    ctx: &Context,
    store: Option<&str>,
    dump: &Location,
    ending: &str,
    limit: usize,
) -> Result<Option<String>, ActionError> {
    match dump {
        Location::S3 { bucket, key } => {
            let (store, key) = (Store::bucket_of(ctx, store, bucket).await?, format!("{key}{ending}"));
            match store.head(&key).await? {
                Some(info) if info.size_bytes <= limit as u64 => store.text(&key, limit).await,
                _ => Ok(None),
            }
        }
        Location::File(path) => {
            let mut path = path.clone().into_os_string();
            path.push(ending);
            match std::fs::metadata(&path) {
                Ok(found) if found.len() <= limit as u64 => Ok(std::fs::read_to_string(&path).ok()),
                _ => Ok(None),
            }
        }
    }
}
