//! The rows: `storage.buckets` and `storage.objects` of the project's own database, over one kept connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use super::reply::{Refusal, Reply};
use crate::error::SandboxError;
use crate::shared::Ctx;

/// A connection for each project, made when it is first wanted.
#[derive(Default)]
pub(crate) struct Pool(Mutex<BTreeMap<String, Arc<Kept>>>);

impl Pool {
    pub(super) async fn client(&self, ctx: &Ctx, reference: &str) -> Result<Arc<Kept>, SandboxError> {
        let known = self.lock().get(reference).filter(|kept| !kept.client.is_closed()).cloned();
        if let Some(kept) = known {
            return Ok(kept);
        }
        let client = ctx.cluster.admin(reference).await?;
        let kept = Arc::new(Kept { client, statements: Mutex::default() });
        self.lock().insert(reference.to_owned(), kept.clone());
        Ok(kept)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Kept>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kept connection and the statements that it has prepared: an upload makes five, and to parse and plan them each time
/// costs the server more than to carry them out.
pub(super) struct Kept {
    client: Client,
    statements: Mutex<HashMap<String, Statement>>,
}

/// What statements take.
type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

impl Kept {
    async fn query(&self, sql: &str, params: Params<'_>) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.client.query(&self.prepared(sql).await?, params).await
    }

    async fn query_one(&self, sql: &str, params: Params<'_>) -> Result<Row, tokio_postgres::Error> {
        self.client.query_one(&self.prepared(sql).await?, params).await
    }

    async fn query_opt(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, tokio_postgres::Error> {
        self.client.query_opt(&self.prepared(sql).await?, params).await
    }

    async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, tokio_postgres::Error> {
        self.client.execute(&self.prepared(sql).await?, params).await
    }

    /// The texts are those of this file, so there are few.
    async fn prepared(&self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.lock().get(sql).cloned();
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        self.lock().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row of `storage.objects`.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) id: Uuid,
    pub(super) name: String,
    pub(super) bucket: String,
    pub(super) version: String,
    pub(super) owner_id: Option<String>,
    pub(super) metadata: Value,
    pub(super) user_metadata: Option<Value>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) updated_at: Option<Timestamp>,
}

const COLUMNS: &str = "id, name, bucket_id, coalesce(version, ''), owner_id, coalesce(metadata, '{}'), \
                       user_metadata, created_at, updated_at";

impl Object {
    fn of(row: &Row) -> Self {
        Self {
            id: row.get(0),
            name: row.get(1),
            bucket: row.get(2),
            version: row.get(3),
            owner_id: row.get(4),
            metadata: row.get(5),
            user_metadata: row.get(6),
            created_at: row.get(7),
            updated_at: row.get(8),
        }
    }

    /// As lists show it.
    pub(super) fn show(&self) -> Value {
        json!({
            "id": self.id, "name": self.name, "updated_at": moment(self.updated_at),
            "created_at": moment(self.created_at), "last_accessed_at": moment(self.updated_at),
            "metadata": self.metadata,
        })
    }

    /// As a deletion shows it.
    pub(super) fn show_all(&self) -> Value {
        let mut shown = self.show();
        shown["bucket_id"] = json!(self.bucket);
        shown["version"] = json!(self.version);
        shown["owner_id"] = json!(self.owner_id.as_deref().unwrap_or_default());
        shown["user_metadata"] = self.user_metadata.clone().unwrap_or_else(|| json!({}));
        shown
    }
}

/// A moment as the service writes it.
pub(super) fn moment(at: Option<Timestamp>) -> Value {
    at.map_or(Value::Null, |at| json!(at.to_string()))
}

/// What an upload leaves in the row.
pub(super) struct Upload<'a> {
    pub(super) bucket: &'a str,
    pub(super) name: &'a str,
    pub(super) version: &'a str,
    pub(super) metadata: Value,
    pub(super) user_metadata: Option<Value>,
    pub(super) upsert: bool,
}

/// What is wanted of a bucket.
pub(super) struct NewBucket {
    pub(super) name: String,
    pub(super) public: bool,
    pub(super) file_size_limit: Option<i64>,
    pub(super) allowed_mime_types: Option<Vec<String>>,
}

fn failed(reference: &str) -> impl FnOnce(tokio_postgres::Error) -> Refusal {
    let said = SandboxError::database("use the storage tables", reference);
    move |error| said(error).into()
}

/// A connection, and the refusal of a read-only database for whoever wants to write.
async fn writable(ctx: &Ctx, reference: &str) -> Reply<Arc<Kept>> {
    let client = ctx.storage.client(ctx, reference).await?;
    // A kept connection would not notice the setting by itself.
    let sql = "select exists (select 1 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase \
               where d.datname = current_database() and s.setrole = 0 \
               and 'default_transaction_read_only=on' = any (s.setconfig))";
    if client.query_one(sql, &[]).await.map_err(failed(reference))?.get(0) {
        let message = "cannot execute the request in a read-only transaction".to_owned();
        return Err(Refusal::new(503, "DatabaseReadOnly", "DatabaseReadOnly", message));
    }
    Ok(client)
}

/// Every bucket, or one, as the service shows it.
pub(super) async fn buckets(ctx: &Ctx, reference: &str, id: Option<&str>) -> Reply<Vec<Value>> {
    let client = ctx.storage.client(ctx, reference).await?;
    let sql = "select id, name, coalesce(owner_id, ''), coalesce(public, false), file_size_limit, \
               allowed_mime_types, created_at, updated_at from storage.buckets \
               where $1::text is null or id = $1 order by id collate \"C\"";
    let rows = client.query(sql, &[&id]).await.map_err(failed(reference))?;
    let show = |row: &Row| {
        json!({
            "id": row.get::<_, String>(0), "name": row.get::<_, String>(1), "owner": row.get::<_, String>(2),
            "public": row.get::<_, bool>(3), "type": "STANDARD", "file_size_limit": row.get::<_, Option<i64>>(4),
            "allowed_mime_types": row.get::<_, Option<Vec<String>>>(5),
            "created_at": moment(row.get(6)), "updated_at": moment(row.get(7)),
        })
    };
    Ok(rows.iter().map(show).collect())
}

/// One bucket, or the refusal.
pub(super) async fn bucket(ctx: &Ctx, reference: &str, id: &str) -> Reply<Value> {
    buckets(ctx, reference, Some(id)).await?.pop().ok_or_else(Refusal::no_bucket)
}

pub(super) async fn create_bucket(ctx: &Ctx, reference: &str, wanted: &NewBucket) -> Reply<()> {
    let client = writable(ctx, reference).await?;
    let sql = "insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) \
               values ($1, $1, $2, $3, $4) on conflict do nothing";
    let made = client
        .execute(sql, &[&wanted.name, &wanted.public, &wanted.file_size_limit, &wanted.allowed_mime_types])
        .await
        .map_err(failed(reference))?;
    if made == 1 { Ok(()) } else { Err(Refusal::duplicate("BucketAlreadyExists")) }
}

pub(super) async fn change_bucket(ctx: &Ctx, reference: &str, wanted: &NewBucket) -> Reply<()> {
    let client = writable(ctx, reference).await?;
    let sql = "update storage.buckets set public = $2, file_size_limit = $3, allowed_mime_types = $4, \
               updated_at = now() where id = $1";
    let changed = client
        .execute(sql, &[&wanted.name, &wanted.public, &wanted.file_size_limit, &wanted.allowed_mime_types])
        .await
        .map_err(failed(reference))?;
    if changed == 1 { Ok(()) } else { Err(Refusal::no_bucket()) }
}

pub(super) async fn delete_bucket(ctx: &Ctx, reference: &str, id: &str) -> Reply<()> {
    let client = writable(ctx, reference).await?;
    bucket(ctx, reference, id).await?;
    let sql = "delete from storage.buckets b where id = $1 \
               and not exists (select 1 from storage.objects o where o.bucket_id = b.id)";
    if client.execute(sql, &[&id]).await.map_err(failed(reference))? == 1 {
        return Ok(());
    }
    Err(Refusal::new(
        409,
        "InvalidRequest",
        "InvalidRequest",
        "The bucket you tried to delete is not empty".to_owned(),
    ))
}

/// One object's row.
pub(super) async fn find(ctx: &Ctx, reference: &str, bucket: &str, name: &str) -> Reply<Option<Object>> {
    let client = ctx.storage.client(ctx, reference).await?;
    let sql = format!("select {COLUMNS} from storage.objects where bucket_id = $1 and name = $2");
    let row = client.query_opt(&sql, &[&bucket, &name]).await.map_err(failed(reference))?;
    Ok(row.as_ref().map(Object::of))
}

/// Rows of a bucket after a name, in the order of their bytes.
pub(super) async fn list(
    ctx: &Ctx,
    reference: &str,
    (bucket, prefix): (&str, &str),
    after: &str,
    limit: i64,
) -> Reply<Vec<Object>> {
    let client = ctx.storage.client(ctx, reference).await?;
    let sql = format!(
        "select {COLUMNS} from storage.objects where bucket_id = $1 and starts_with(name, $2) \
         and name collate \"C\" > $3 order by name collate \"C\" limit $4"
    );
    let rows = client.query(&sql, &[&bucket, &prefix, &after, &limit]).await.map_err(failed(reference))?;
    Ok(rows.iter().map(Object::of).collect())
}

/// Puts an upload's row there; gives the id, and the version that it replaced.
pub(super) async fn put(ctx: &Ctx, reference: &str, upload: Upload<'_>) -> Reply<(Uuid, Option<String>)> {
    let client = writable(ctx, reference).await?;
    let before = find(ctx, reference, upload.bucket, upload.name).await?;
    let conflict = if upload.upsert {
        // `id`, `created_at` and the owner stay, so what refers to the row goes on doing so.
        "do update set metadata = excluded.metadata, user_metadata = excluded.user_metadata, \
         version = excluded.version, updated_at = now(), last_accessed_at = now()"
    } else {
        "do nothing"
    };
    let sql = format!(
        "insert into storage.objects (bucket_id, name, metadata, user_metadata, version) \
         values ($1, $2, $3, $4, $5) on conflict (bucket_id, name) {conflict} returning id"
    );
    let row = client
        .query_opt(
            &sql,
            &[&upload.bucket, &upload.name, &upload.metadata, &upload.user_metadata, &upload.version],
        )
        .await
        .map_err(failed(reference))?;
    let row = row.ok_or_else(|| Refusal::duplicate("KeyAlreadyExists"))?;
    Ok((row.get(0), before.map(|object| object.version)))
}

/// Deletes rows and gives what they were.
pub(super) async fn delete(ctx: &Ctx, reference: &str, bucket: &str, names: &[String]) -> Reply<Vec<Object>> {
    writable(ctx, reference).await?;
    // A transaction of its own on a connection of its own: the permission must not outlive it.
    let mut client = ctx.cluster.admin(reference).await?;
    let work = client.transaction().await.map_err(failed(reference))?;
    work.batch_execute("set local storage.allow_delete_query = 'true'").await.map_err(failed(reference))?;
    let sql =
        format!("delete from storage.objects where bucket_id = $1 and name = any ($2) returning {COLUMNS}");
    let rows = work.query(&sql, &[&bucket, &names]).await.map_err(failed(reference))?;
    work.commit().await.map_err(failed(reference))?;
    Ok(rows.iter().map(Object::of).collect())
}
