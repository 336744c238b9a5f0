//! `backup.write`: puts a finished file, or a manifest that the runbook made, into the backup bucket, written once, with
//! its sha256 beside it. The sha256 is written last, after the object was read back.

use std::io::Read as _;
use std::path::PathBuf;

use bytes::Bytes;
use runbook_core::action::{ActionError, Context, Effect, Preview, Progress};
use runbook_core::types::Backup;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::catalog::{SUM_BYTES_MAX, SUM_ENDING, recorded_sum};
use super::reading::Depth;
use super::writing::{
    Digest, Mark, Sent, Writing, clear, day_key, fits_in_a_key, note, occupied, part_bytes, settings,
    sum_line,
};
use crate::s3::{NewObject, Store, ascii};
use crate::typed::{About, Done, Typed};

/// Least size of a part of the upload, in MiB.
const PART_MIB: u64 = 16;
/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Parameters of `backup.write`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteParams {
    /// The file, relative to the runbook. This or `content`.
    #[serde(default)]
    pub file: Option<String>,
    /// What the object holds: text as it is, anything else as JSON. This or `file`.
    #[serde(default)]
    pub content: Option<Value>,
    /// What it is called: the object is `PREFIX/YYYY/MM/DD/NAME-YYYYMMDDTHHMMSSZ.ENDING`, its moment that of the run's start.
    pub name: String,
    /// How its name ends: `manifest.json`, `dump`, `sql.gz`. That of the file, else `json`, when left out.
    #[serde(default)]
    pub ending: Option<String>,
}

/// Outputs of `backup.write`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WriteOutputs {
    /// The object, as `backup.verify` and `postgres.restore` take it when it is a dump.
    pub backup: Backup,
    /// Where it is: `s3://bucket/key`.
    pub url: String,
    /// Its key in the bucket.
    pub key: String,
    /// sha256 of the object.
    pub sha256: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Whether it was there already, with the same bytes.
    pub was_there: bool,
}

/// `backup.write`.
#[derive(Debug)]
pub struct Write;

/// Where the bytes come from.
#[derive(Debug, Clone)]
enum From {
    File(PathBuf),
    Text(String),
}

impl Typed for Write {
    type Params = WriteParams;
    type Outputs = WriteOutputs;
    const ABOUT: About = About {
        permissions: &["s3:PutObject, s3:GetObject, s3:ListBucket, s3:AbortMultipartUpload"],
        has_plan: true,
        ..About::new(
            "backup.write",
            "Puts a finished file or a manifest into the backup bucket, once, with its sha256 beside it.",
            Effect::Idempotent,
            "- id: manifest\n  uses: backup.write\n  with:\n    name: polaris\n    ending: manifest.json\n    content: { dump: \"{{ steps.backup.url }}\", sha256: \"{{ steps.backup.sha256 }}\" }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: WriteParams) -> Result<Done<WriteOutputs>, ActionError> {
        let (from, key) = (source(ctx, &params)?, key(ctx, &params)?);
        let store = Store::of(ctx).await?;
        if let Some(mark) = Mark::load(ctx) {
            clear(&store, &mark).await?;
        }
        let digest = hash(&from).await?;
        let url = format!("s3://{}/{key}", store.name());
        let sum_key = format!("{key}{SUM_ENDING}");
        let name = key.rsplit('/').next().unwrap_or(&key);
        let recorded = store.text(&sum_key, SUM_BYTES_MAX).await?;
        let recorded = recorded.and_then(|text| recorded_sum(&text, name));
        let there = store.head(&key).await?;
        let new = NewObject {
            key: key.clone(),
            content_type: content_type(&key),
            metadata: [("run", ctx.run.clone()), ("step", ascii(ctx.step.as_str()))]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
        };
        let writing = Writing { ctx, store: &store, new };
        let was_there = match (&there, &recorded) {
            (Some(_), Some(sum)) if *sum == digest.sha256 => true,
            (_, Some(_)) => return Err(occupied(&url)),
            (Some(_), None) => false,
            (None, None) => {
                make(ctx, &store, &writing, from, &digest).await?;
                false
            }
        };
        if !was_there {
            // Whatever is there without a sha256 is what this run sent, or it is refused here.
            writing.read_back(&digest, Depth::Bytes).await?;
            note(&store, &sum_key, "text/plain", &sum_line(&digest.sha256, &key)).await?;
        }
        let info = store.head(&key).await?.ok_or_else(|| {
            ActionError::unchanged(format!("look at `{url}`: it is gone")).code("object-changed")
        })?;
        let (settings, _) = settings(ctx)?;
        let outputs = WriteOutputs {
            backup: Backup {
                url: url.clone(),
                sha256: Some(digest.sha256.clone()),
                size_bytes: Some(digest.size_bytes),
                etag: info.etag,
                store_sha256: info.store_sha256,
                taken_at: Some(ctx.started_at),
                source: None,
                data: Some(settings.data.unwrap_or(ctx.environment.data)),
            },
            url,
            key,
            sha256: digest.sha256,
            size_bytes: digest.size_bytes,
            was_there,
        };
        let summary = format!("{} bytes in {}, read back and verified", outputs.size_bytes, outputs.url);
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: WriteParams) -> Result<Preview, ActionError> {
        let key = key(ctx, &params)?;
        let (settings, _) = settings(ctx)?;
        let size = match source(ctx, &params)? {
            From::Text(text) => format!("{} bytes", text.len()),
            From::File(path) => match std::fs::metadata(&path) {
                Ok(found) => format!("{} bytes of `{}`", found.len(), path.display()),
                Err(_) => format!("`{}`, which is not there yet", path.display()),
            },
        };
        let lines =
            vec![format!("writes {size} to s3://{}/{key}, and its sha256 beside it", settings.bucket)];
        Ok(Preview::Changes { lines, destroys: None })
    }
}

fn source(ctx: &Context, params: &WriteParams) -> Result<From, ActionError> {
    match (&params.file, &params.content) {
        (Some(file), None) => Ok(From::File(ctx.base.join(file))),
        (None, Some(Value::String(text))) => Ok(From::Text(text.clone())),
        (None, Some(value)) => Ok(From::Text(format!("{value:#}\n"))),
        _ => Err(ActionError::refused("find what to write: give `file` or `content`, and not both")),
    }
}

/// Derived from the run's start: every attempt of this step writes the same object.
fn key(ctx: &Context, params: &WriteParams) -> Result<String, ActionError> {
    fits_in_a_key(&params.name)?;
    let of_file = params.file.as_deref().and_then(|file| {
        let name = file.rsplit('/').next()?;
        name.split_once('.').map(|(_, ending)| ending.to_owned())
    });
    let ending = params.ending.clone().or(of_file).unwrap_or_else(|| "json".to_owned());
    fits_in_a_key(&ending)?;
    let (_, prefix) = settings(ctx)?;
    Ok(day_key(&prefix, &params.name, ctx.started_at, &ending))
}

fn content_type(key: &str) -> &'static str {
    let ends = |ending: &str| key.ends_with(ending);
    match key {
        _ if ends(".json") => "application/json",
        _ if ends(".gz") => "application/gzip",
        _ if ends(".txt") || ends(".sql") => "text/plain",
        _ => "application/octet-stream",
    }
}

/// Sends it all, and makes the object.
async fn make(
    ctx: &Context,
    store: &Store,
    writing: &Writing<'_>,
    from: From,
    digest: &Digest,
) -> Result<(), ActionError> {
    let mut mark = Mark {
        key: writing.new.key.clone(),
        taken_at: ctx.started_at,
        upload: None,
        digest: Some(digest.clone()),
        notes: Value::Null,
    };
    mark.save(ctx).await?;
    let (send, pieces) = mpsc::channel(1);
    let (part, news, total) =
        (part_bytes(PART_MIB, digest.size_bytes), ctx.progress.clone(), digest.size_bytes);
    let reading = tokio::task::spawn_blocking(move || {
        let mut done = 0;
        pieces_of(&from, part, |piece| {
            done += piece.len() as u64;
            news.report(Progress { done, total: Some(total), unit: "bytes", message: "writing".into() });
            send.blocking_send(piece).is_ok()
        })
    });
    let sent = tokio::select! {
        sent = writing.send(&mut mark, pieces) => sent,
        () = ctx.stop.wait() => {
            Err(ActionError::unchanged("go on writing: a stop was asked for").code("stopped"))
        }
    };
    let landed = match sent {
        Err(error) => Err(error),
        Ok(sent) => match reading.await {
            Ok(Ok(read)) if read == *digest => writing.land(sent, digest).await,
            Ok(Ok(_)) => {
                drop::<Sent>(sent);
                Err(ActionError::refused("write the file: it changed while it was read"))
            }
            Ok(Err(error)) => Err(ActionError::refused("read the file").because(error)),
            Err(error) => Err(ActionError::unchanged("read the file").because(error)),
        },
    };
    if landed.is_err()
        && let Err(left) = clear(store, &mark).await
    {
        tracing::warn!(key = mark.key, error = %left, "an unfinished upload stays until the next attempt");
    }
    landed
}

async fn hash(from: &From) -> Result<Digest, ActionError> {
    let from = from.clone();
    let read = tokio::task::spawn_blocking(move || pieces_of(&from, PIECE_BYTES, |_| true)).await;
    let read = read.map_err(|error| ActionError::unchanged("read what to write").because(error))?;
    read.map_err(|error| ActionError::refused("read what to write").because(error))
}

/// Hands pieces of one size over until nobody wants more; hash and size of what was read. Blocks.
fn pieces_of(from: &From, piece: usize, mut take: impl FnMut(Bytes) -> bool) -> std::io::Result<Digest> {
    let mut reader: Box<dyn std::io::Read> = match from {
        From::File(path) => Box::new(std::fs::File::open(path)?),
        From::Text(text) => Box::new(std::io::Cursor::new(text.as_bytes())),
    };
    let (mut hash, mut size_bytes) = (Sha256::new(), 0);
    loop {
        let mut bytes = Vec::new();
        let n = reader.by_ref().take(piece as u64).read_to_end(&mut bytes)?;
        hash.update(&bytes);
        size_bytes += n as u64;
        if n == 0 || !take(Bytes::from(bytes)) || n < piece {
            return Ok(Digest { sha256: hex::encode(hash.finalize()), size_bytes });
        }
    }
}
