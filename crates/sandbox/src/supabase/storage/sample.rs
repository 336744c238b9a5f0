//! The sample application's files: made up from their names, backed up beside the dump, and lost again.

use std::fmt::Write as _;

use axum::body::Body;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_postgres::Transaction;
use uuid::Uuid;

use super::{files, object, rows};
use crate::backup::{STORAGE_PREFIX, date};
use crate::error::SandboxError;
use crate::s3::{BUCKET, Put};
use crate::seed::live;
use crate::shared::Ctx;

/// Small recordings.
const TAKES: u32 = 40;
/// Above the 6 MiB from which uploads must be resumable: a chunk and a bit.
const LONG_BYTES: usize = 7 * 1024 * 1024 + 123;
const LONG: &str = "sessions/long-session.ogg";
/// Rows of a bucket that are read at a time.
const PAGE: i64 = 1000;

/// One file to make.
struct Planned {
    bucket: &'static str,
    name: String,
    owner: Option<String>,
    length: usize,
    content_type: &'static str,
    cache_control: &'static str,
    user_metadata: Option<Value>,
    at: Timestamp,
}

/// Bytes that look random and are a function of the name.
fn bytes(name: &str, length: usize) -> Vec<u8> {
    let seed = Sha256::digest(name);
    let mut state = seed.iter().take(8).fold(1_u64, |sum, byte| (sum << 8) | u64::from(*byte)) | 1;
    let mut made = Vec::with_capacity(length + 8);
    while made.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        made.extend_from_slice(&state.to_le_bytes());
    }
    made.truncate(length);
    made
}

fn after(seconds: i64) -> Timestamp {
    // 2026-02-01T00:00:00Z: whatever is seeded is older than any backup of it.
    let start = Timestamp::from_second(1_769_904_000).unwrap_or(Timestamp::UNIX_EPOCH);
    start.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(start)
}

fn recordings() -> Vec<Planned> {
    let take = |number: u32| Planned {
        bucket: "recordings",
        name: if number <= 20 {
            format!("take-{number:03}.ogg")
        } else {
            format!("sessions/2026-02/take-{number:03}.ogg")
        },
        owner: Some(format!("00000000-0000-4000-8000-{:012}", 1 + number % 40)),
        length: 2000 + (number as usize * 977) % 30_000,
        content_type: "audio/ogg",
        cache_control: "max-age=3600",
        user_metadata: number.is_multiple_of(4).then(|| json!({ "drill": number, "note": "thử nghiệm" })),
        at: after(i64::from(number) * 3600),
    };
    let mut planned: Vec<Planned> = (1..=TAKES).map(take).collect();
    planned.push(Planned { name: LONG.to_owned(), length: LONG_BYTES, ..take(100) });
    planned
}

/// Makes buckets, rows and files. The rows are part of the transaction; files without rows do no harm.
pub(crate) async fn plant(
    ctx: &Ctx,
    transaction: &Transaction<'_>,
    reference: &str,
) -> Result<(), SandboxError> {
    let failed = |source| SandboxError::database("seed the storage of", reference)(source);
    transaction
        .batch_execute(
            "insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values \
             ('avatars', 'avatars', true, 2097152, array['image/png', 'image/jpeg']), \
             ('recordings', 'recordings', false, null, array['audio/*'])",
        )
        .await
        .map_err(failed)?;
    let users = transaction
        .query("select id::text from auth.users where right(id::text, 1) in ('0', '5') order by id", &[])
        .await
        .map_err(failed)?;
    let avatar = |(number, row): (usize, &tokio_postgres::Row)| {
        let owner: String = row.get(0);
        Planned {
            bucket: "avatars",
            name: format!("{owner}/avatar.png"),
            length: 700 + (number * 131) % 3000,
            content_type: "image/png",
            cache_control: "max-age=86400",
            user_metadata: None,
            at: after(i64::try_from(number).unwrap_or(0) * 60),
            owner: Some(owner),
        }
    };
    let planned = users.iter().enumerate().map(avatar).chain(recordings());
    let insert = transaction
        .prepare(
            "insert into storage.objects (id, bucket_id, name, owner, owner_id, metadata, user_metadata, version, \
             created_at, updated_at, last_accessed_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $9)",
        )
        .await
        .map_err(failed)?;
    for file in planned {
        let made = bytes(&file.name, file.length);
        let known = |what: &str| {
            Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{what}/{}/{}", file.bucket, file.name).as_bytes())
        };
        let version = known("version").to_string();
        files::write(&files::path(ctx, reference, file.bucket, &file.name, &version), &made)?;
        let metadata = object::metadata(&made, file.content_type, file.cache_control, file.at);
        let owner: Option<Uuid> = file.owner.as_deref().and_then(|id| id.parse().ok());
        transaction
            .execute(
                &insert,
                &[
                    &known("object"),
                    &file.bucket,
                    &file.name,
                    &owner,
                    &file.owner,
                    &metadata,
                    &file.user_metadata,
                    &version,
                    &file.at,
                ],
            )
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn said(what: &str, refusal: &super::reply::Refusal) -> SandboxError {
    SandboxError::Refused { message: format!("{what}: {refusal:?}") }
}

async fn all(ctx: &Ctx, reference: &str, bucket: &str) -> Result<Vec<rows::Object>, SandboxError> {
    let mut found: Vec<rows::Object> = Vec::new();
    loop {
        let last = found.last().map(|object| object.name.clone()).unwrap_or_default();
        let page = rows::list(ctx, reference, (bucket, ""), &last, PAGE).await;
        let page = page.map_err(|refusal| said("list the objects", &refusal))?;
        let full = page.len() as i64 == PAGE;
        found.extend(page);
        if !full {
            return Ok(found);
        }
    }
}

/// Copies every file of the live project into the backup bucket and writes a manifest for each bucket, in the
/// layout of the action `storage.snapshot`.
pub(crate) async fn back_up(ctx: &Ctx, at: Timestamp) -> Result<(), SandboxError> {
    let (reference, _) = live(ctx).await?;
    let buckets = rows::buckets(ctx, &reference, None).await;
    for bucket in buckets.map_err(|refusal| said("list the buckets", &refusal))? {
        back_up_bucket(ctx, &reference, &bucket, at).await?;
    }
    Ok(())
}

async fn back_up_bucket(
    ctx: &Ctx,
    reference: &str,
    bucket: &Value,
    at: Timestamp,
) -> Result<(), SandboxError> {
    let name = bucket["name"].as_str().unwrap_or_default();
    let (mut lines, mut count, mut total) = (String::new(), 0_u64, 0_u64);
    for row in all(ctx, reference, name).await? {
        let path = files::path(ctx, reference, name, &row.name, &row.version);
        // A row without its file cannot be backed up.
        let Some(made) = files::read(&path)? else { continue };
        let digest: [u8; 32] = Sha256::digest(&made).into();
        let sum = hex::encode(digest);
        let key = format!("{STORAGE_PREFIX}/objects/{}/{sum}", &sum[..2]);
        (count, total) = (count + 1, total + made.len() as u64);
        let line = json!({
            "name": row.name, "size": made.len(), "sha256": sum, "etag": row.metadata["eTag"],
            "content_type": row.metadata["mimetype"], "cache_control": row.metadata["cacheControl"],
            "metadata": row.user_metadata, "version": row.version,
            "created_at": rows::moment(row.created_at), "updated_at": rows::moment(row.updated_at),
        });
        // Writing to a string cannot fail.
        let _infallible = writeln!(lines, "{line}");
        if !ctx.layout.s3().join(BUCKET).join(&key).exists() {
            put(ctx, &key, made, Some(digest)).await?;
        }
    }
    let head = json!({
        "manifest": 1, "bucket": name, "project": reference, "taken_at": at.to_string(), "objects": count,
        "bytes": total, "public": bucket["public"], "file_size_limit": bucket["file_size_limit"],
        "allowed_mime_types": bucket["allowed_mime_types"],
    });
    let text = format!("{head}\n{lines}");
    let file = format!("{name}-{}.jsonl", at.strftime("%Y%m%dT%H%M%SZ"));
    let key = format!("{STORAGE_PREFIX}/manifests/{name}/{}/{file}", at.strftime("%Y/%m/%d"));
    let note = format!("{}  {file}\n", hex::encode(Sha256::digest(&text)));
    let note_key = format!("{key}.sha256");
    put(ctx, &key, text.into_bytes(), None).await?;
    put(ctx, &note_key, note.into_bytes(), None).await?;
    for key in [&key, &note_key] {
        date(&ctx.layout.s3().join(BUCKET).join(key), at)?;
    }
    Ok(())
}

async fn put(ctx: &Ctx, key: &str, bytes: Vec<u8>, sha256: Option<[u8; 32]>) -> Result<(), SandboxError> {
    let put = Put {
        key,
        content_type: "application/octet-stream",
        length: bytes.len() as u64,
        sha256,
        metadata: &[],
        body: Body::from(bytes),
    };
    ctx.store.put(put).await
}

/// Loses files: of every fifth object the bytes go and the row stays, every seventh goes altogether, and two have
/// other bytes, one of them of the same length, with no trace in the row.
pub(crate) async fn lose(ctx: &Ctx) -> Result<(), SandboxError> {
    let (reference, _) = live(ctx).await?;
    let objects = all(ctx, &reference, "recordings").await?;
    if objects.is_empty() {
        return Err(SandboxError::Refused {
            message: "lose files: there are none (is it seeded?)".to_owned(),
        });
    }
    let place = |row: &rows::Object| files::path(ctx, &reference, "recordings", &row.name, &row.version);
    let mut gone = Vec::new();
    for row in &objects {
        let number: usize =
            row.name.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0);
        match number % 1000 {
            0 | 1 => files::remove(&place(row))?,
            2 => files::write(&place(row), b"overwritten")?,
            3 => {
                let length = row.metadata["size"].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
                files::write(&place(row), &bytes("other", length))?;
            }
            n if n.is_multiple_of(5) => files::remove(&place(row))?,
            n if n.is_multiple_of(7) => gone.push(row.name.clone()),
            _ => {}
        }
    }
    object::remove(ctx, &reference, "recordings", &gone)
        .await
        .map(drop)
        .map_err(|refusal| said("delete objects", &refusal))
}
