//! The action `postgres.dump`: what is done in which order, and what a later attempt finds done.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use jiff::Timestamp;
use runbook_core::action::{Access, ActionError, Aftermath, Context, Effect, Preview};
use runbook_core::types::{Backup, Connection};
use runbook_dump::{Contents, DumpError, Index};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::child::{self, Running, listen};
use super::params::{DumpOutputs, DumpParams};
use super::said::{failure, warnings};
use super::stream::{Broken, Passed, pump};
use super::tool::{Tool, tool_for};
use crate::backup::catalog::{INDEX_BYTES_MAX, INDEX_ENDING, SUM_BYTES_MAX, SUM_ENDING, recorded_sum};
use crate::backup::reading::Depth;
use crate::backup::writing::{Digest, Mark, Sent, Writing};
use crate::backup::writing::{clear, day_key, note, occupied, part_bytes, settings, sum_line};
use crate::postgres::session::{Session, ca_file, connect, fence, timed, wants_tls};
use crate::s3::{NewObject, Store, ascii};
use crate::typed::{About, Done, Typed};

/// The action `postgres.dump`.
#[derive(Debug)]
pub struct Dump;

impl Typed for Dump {
    type Params = DumpParams;
    type Outputs = DumpOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &[
            "the right to read every table (`pg_read_all_data`, or owner)",
            "s3:PutObject, s3:GetObject, s3:ListBucket, s3:AbortMultipartUpload",
        ],
        has_plan: true,
        ..About::new(
            "postgres.dump",
            "Dumps a database into the backup bucket with pg_dump, verified by reading back, with an index beside it.",
            Effect::Idempotent,
            "- id: dump\n  uses: postgres.dump\n  with:\n    connection: \"{{ connections.live }}\"\n    name: polaris\n",
        )
    };

    async fn run(&self, ctx: &Context, params: DumpParams) -> Result<Done<DumpOutputs>, ActionError> {
        params.check()?;
        let store = Store::of(ctx).await?;
        if let Some(mark) = Mark::load(ctx) {
            // The object comes into being at once, of all that was sent: when it is there, only the rest is missing.
            if let Some(digest) = mark.digest.clone()
                && store.head(&mark.key).await?.is_some()
            {
                return finish(ctx, &store, &mark, &digest, None).await;
            }
            clear(&store, &mark).await?;
        }
        let (mark, passed) = make(ctx, &store, &params).await?;
        finish(ctx, &store, &mark, &passed.digest, Some(passed.contents)).await
    }

    async fn plan(&self, ctx: &Context, params: DumpParams) -> Result<Preview, ActionError> {
        params.check()?;
        let (settings, prefix) = settings(ctx)?;
        let source = Source::open(ctx, &params.connection).await?;
        let tool = tool_for(source.major).await?;
        let key = day_key(&prefix, &params.name, source.taken_at, "dump");
        let lines = vec![
            format!(
                "dumps {} ({} MiB in the server, PostgreSQL {}) with pg_dump {}",
                params.connection.label(),
                source.size_bytes.div_ceil(1 << 20),
                source.version,
                tool.version
            ),
            format!("writes s3://{}/{key}, the time being that of the run", settings.bucket),
            "writes its index and its sha256 beside it, after reading it back".into(),
        ];
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn fence(&self, ctx: &Context, params: DumpParams) -> Result<u32, ActionError> {
        let processes = child::fence(ctx).await?;
        Ok(processes + fence(ctx, &params.connection).await?)
    }
}

/// The database at one moment: the snapshot that pg_dump takes its rows from, and the server's clock at it. It lives as
/// long as the session.
struct Source {
    session: Session,
    snapshot: String,
    taken_at: Timestamp,
    version: String,
    major: u32,
    size_bytes: u64,
}

impl Source {
    async fn open(ctx: &Context, at: &Connection) -> Result<Self, ActionError> {
        let session = connect(ctx, at).await?;
        let attempted = || format!("take a snapshot of `{}`", session.label);
        let begin = "begin isolation level repeatable read read only; set local statement_timeout = 0; \
                     set local idle_in_transaction_session_timeout = 0";
        timed(session.client.batch_execute(begin), attempted).await?;
        // The clock is asked after the snapshot was taken: what the name of a dump promises is never later than its rows.
        let ask = "select pg_catalog.pg_export_snapshot(), pg_catalog.clock_timestamp(), \
                   pg_catalog.current_setting('server_version'), \
                   pg_catalog.current_setting('server_version_num')::int4, \
                   pg_catalog.pg_database_size(pg_catalog.current_database())";
        let row = timed(session.client.query_one(ask, &[]), attempted).await?;
        let (number, size): (i32, i64) = (row.get(3), row.get(4));
        Ok(Self {
            snapshot: row.get(0),
            taken_at: next_second(row.get(1)),
            version: row.get(2),
            major: u32::try_from(number / 10_000).unwrap_or(0),
            size_bytes: u64::try_from(size).unwrap_or(0),
            session,
        })
    }
}

/// Names have whole seconds: the one at or after the moment.
fn next_second(at: Timestamp) -> Timestamp {
    let up = i64::from(at.subsec_nanosecond() > 0);
    Timestamp::from_second(at.as_second() + up).unwrap_or(at)
}

/// What a later attempt wants to know again.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Notes {
    server_version: String,
    pg_dump_version: String,
    warnings: Vec<String>,
}

/// Dumps, and makes the object.
async fn make(ctx: &Context, store: &Store, params: &DumpParams) -> Result<(Mark, Passed), ActionError> {
    let (_, prefix) = settings(ctx)?;
    let source = Source::open(ctx, &params.connection).await?;
    let tool = tool_for(source.major).await?;
    let key = day_key(&prefix, &params.name, source.taken_at, "dump");
    for key in [&key, &format!("{key}{SUM_ENDING}")] {
        if store.head(key).await?.is_some() {
            return Err(occupied(&format!("s3://{}/{key}", store.name())));
        }
    }
    let mut mark = Mark {
        key: key.clone(),
        taken_at: source.taken_at,
        upload: None,
        digest: None,
        notes: serde_json::Value::Null,
    };
    mark.save(ctx).await?;
    let writing = Writing { ctx, store, new: object(ctx, &key, &source, &tool) };
    let running = Running::start(ctx, command(ctx, params, &source, &tool)?).await?;
    let part = part_bytes(params.part_mib, source.size_bytes);
    let made = tokio::select! {
        made = stream(&writing, &mut mark, params, running, part) => made,
        () = ctx.stop.wait() => {
            Err(ActionError::unchanged("go on dumping: a stop was asked for").code("stopped"))
        }
    };
    let landed = match made {
        Err(error) => Err(error),
        Ok((sent, passed, said)) => {
            let notes = Notes {
                server_version: source.version.clone(),
                pg_dump_version: tool.version.clone(),
                warnings: warnings(&said),
            };
            mark.notes = serde_json::to_value(notes).unwrap_or_default();
            mark.digest = Some(passed.digest.clone());
            mark.save(ctx).await?;
            writing.land(sent, &passed.digest).await.map(|()| passed)
        }
    };
    // The snapshot had to live until pg_dump was through.
    drop(source.session);
    match landed {
        Ok(passed) => Ok((mark, passed)),
        Err(error) => {
            // A later attempt clears it too; what could not be cleared now must not hide why the dump failed.
            if let Err(left) = clear(store, &mark).await {
                tracing::warn!(key, error = %left, "an unfinished upload stays until the next attempt");
            }
            Err(error)
        }
    }
}

fn object(ctx: &Context, key: &str, source: &Source, tool: &Tool) -> NewObject {
    let metadata = [
        ("taken-at", source.taken_at.to_string()),
        ("run", ctx.run.clone()),
        ("step", ascii(ctx.step.as_str())),
        ("server-version", ascii(&source.version)),
        ("pg-dump-version", ascii(&tool.version)),
        ("made-by", concat!("runbook ", env!("CARGO_PKG_VERSION")).to_owned()),
    ];
    NewObject {
        key: key.into(),
        content_type: "application/octet-stream",
        metadata: metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
    }
}

/// pg_dump with everything about the connection in its environment.
fn command(ctx: &Context, params: &DumpParams, source: &Source, tool: &Tool) -> Result<Command, ActionError> {
    let at = &params.connection;
    let mut command = Command::new(&tool.path);
    for (name, _) in std::env::vars_os() {
        // A setting of whoever started the run must not lead pg_dump elsewhere.
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    command
        .env("PGHOST", &at.host)
        .env("PGPORT", at.port.to_string())
        .env("PGUSER", &at.user)
        .env("PGDATABASE", &at.database)
        .env("PGAPPNAME", ctx.session_name())
        .env("PGCONNECT_TIMEOUT", "15")
        .env("LC_ALL", "C");
    let password = ctx.secrets.reveal(&at.password)?;
    if !password.expose().is_empty() {
        command.env("PGPASSWORD", password.expose());
    }
    if wants_tls(at) {
        command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", ca_file(ctx, at)?);
    } else {
        command.env("PGSSLMODE", "disable");
    }
    command.args(["--format=custom", "--no-owner", "--no-password", "--encoding=UTF8"]);
    // The markers of a restore in progress belong to that database alone.
    command.arg("--exclude-schema=_runbook");
    command.arg(format!("--snapshot={}", source.snapshot));
    command.arg(format!("--compress={}", params.compress));
    command.arg(format!("--lock-wait-timeout={}", params.lock_wait.0.as_millis()));
    if !params.privileges {
        command.arg("--no-privileges");
    }
    command.args(params.schemas.iter().map(|name| format!("--schema={name}")));
    command.args(params.exclude_schemas.iter().map(|name| format!("--exclude-schema={name}")));
    command.args(params.exclude_rows.iter().map(|name| format!("--exclude-table-data={name}")));
    Ok(command)
}

/// Sends what pg_dump writes, until it ended well. Whatever else happens, it is dead when this returns.
async fn stream(
    writing: &Writing<'_>,
    mark: &mut Mark,
    params: &DumpParams,
    mut running: Running,
    part: usize,
) -> Result<(Sent, Passed, String), ActionError> {
    let ctx = writing.ctx;
    let label = params.connection.label();
    let Some((stdout, stderr)) = running.streams() else {
        return Err(ActionError::unchanged("read what pg_dump writes: its output is gone"));
    };
    let (send, pieces) = mpsc::channel(1);
    let news = Arc::clone(&ctx.progress);
    let pumping = tokio::task::spawn_blocking(move || pump(stdout, part, &send, &news));
    let listening = tokio::task::spawn_blocking(move || listen(stderr));
    // An upload that fails drops the process, which ends the two threads.
    let sent = writing.send(mark, pieces).await?;
    let thread = |error| ActionError::unchanged("wait for a thread of the dump").because(error);
    let passed = pumping.await.map_err(thread)?;
    // At the end of its output it ends by itself; in the middle of it, it would write on.
    let ends = matches!(passed, Ok(_) | Err(Broken::Dump(DumpError::CutOff { .. })));
    if !ends {
        drop(running);
        let said = listening.await.map_err(thread)?;
        keep(ctx, params, &said).await?;
        return Err(broken(&label, passed.err()));
    }
    let status = tokio::task::spawn_blocking(move || running.wait()).await.map_err(thread)?;
    let status = status.map_err(|error| ActionError::unchanged("wait for pg_dump").because(error))?;
    let said = keep(ctx, params, &listening.await.map_err(thread)?).await?;
    if !status.success() {
        return Err(failure(&label, &status.to_string(), &said));
    }
    match passed {
        Ok(passed) => Ok((sent, passed, said)),
        Err(error) => Err(broken(&label, Some(error))),
    }
}

fn broken(label: &str, error: Option<Broken>) -> ActionError {
    let attempted = format!("dump `{label}`");
    match error {
        Some(Broken::Dump(error)) => {
            ActionError::refused(format!("{attempted}: pg_dump wrote no whole archive"))
                .because(error)
                .code("bad-dump")
        }
        Some(error) => ActionError::unchanged(attempted).because(error),
        None => ActionError::unchanged(attempted),
    }
}

/// Keeps what pg_dump said as evidence, without the password.
async fn keep(ctx: &Context, params: &DumpParams, said: &str) -> Result<String, ActionError> {
    let password = ctx.secrets.reveal(&params.connection.password)?;
    let said = match password.expose() {
        "" => said.to_owned(),
        secret => said.replace(secret, "•••"),
    };
    if said.trim().is_empty() {
        return Ok(said);
    }
    let file = ctx.artifacts.join(format!("pg_dump-{}.txt", ctx.attempt));
    let write = |file: &Path| {
        std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(file, &said)
    };
    if let Err(error) = write(&file) {
        tracing::warn!(file = %file.display(), %error, "what pg_dump said is not kept");
    }
    Ok(said)
}

/// Reads the object back, writes index and sha256 beside it, the sha256 last.
async fn finish(
    ctx: &Context,
    store: &Store,
    mark: &Mark,
    digest: &Digest,
    contents: Option<Contents>,
) -> Result<Done<DumpOutputs>, ActionError> {
    let key = &mark.key;
    let url = |key: &str| format!("s3://{}/{key}", store.name());
    let (sum_key, index_key) = (format!("{key}{SUM_ENDING}"), format!("{key}{INDEX_ENDING}"));
    let name = key.rsplit('/').next().unwrap_or(key);
    let recorded = store.text(&sum_key, SUM_BYTES_MAX).await?;
    let index = match recorded.and_then(|text| recorded_sum(&text, name)) {
        // It was written after everything else.
        Some(sum) if sum == digest.sha256 => {
            let text = store.text(&index_key, INDEX_BYTES_MAX).await?.unwrap_or_default();
            serde_json::from_str(&text).map_err(|error| {
                ActionError::refused(format!("read the index `{}`", url(&index_key))).because(error)
            })?
        }
        Some(_) => return Err(occupied(&url(&sum_key))),
        None => prove(ctx, store, mark, digest, contents).await?,
    };
    let sum = sum_line(&digest.sha256, key);
    note(store, &sum_key, "text/plain", &sum).await?;
    let write_once = store.refuses_a_second(&sum_key, &sum).await?;
    let Some(info) = store.head(key).await? else {
        return Err(ActionError::new(
            format!("look at `{}`: it is gone", url(key)),
            Aftermath::Unchanged { retry_after: None },
        ));
    };
    let notes: Notes = serde_json::from_value(mark.notes.clone()).unwrap_or_default();
    let rows = index.tables.iter().map(|table| table.rows).sum();
    let (settings, _) = settings(ctx)?;
    let outputs = DumpOutputs {
        backup: Backup {
            url: url(key),
            sha256: Some(digest.sha256.clone()),
            size_bytes: Some(digest.size_bytes),
            etag: info.etag,
            store_sha256: info.store_sha256,
            taken_at: Some(mark.taken_at),
            source: None,
            data: Some(settings.data.unwrap_or(ctx.environment.data)),
        },
        url: url(key),
        key: key.clone(),
        sha256: digest.sha256.clone(),
        size_bytes: digest.size_bytes,
        taken_at: mark.taken_at,
        tables: index.tables.len() as u64,
        rows,
        index: url(&index_key),
        server_version: notes.server_version,
        pg_dump_version: notes.pg_dump_version,
        write_once,
        warnings: notes.warnings,
    };
    let summary = format!(
        "{} tables, {rows} rows, {} bytes in {}, read back and verified",
        outputs.tables, outputs.size_bytes, outputs.url
    );
    Ok(Done::new(outputs, summary))
}

/// Reads the object back and writes its index.
async fn prove(
    ctx: &Context,
    store: &Store,
    mark: &Mark,
    digest: &Digest,
    contents: Option<Contents>,
) -> Result<Index, ActionError> {
    let new = NewObject {
        key: mark.key.clone(),
        content_type: "application/octet-stream",
        metadata: std::collections::BTreeMap::new(),
    };
    let writing = Writing { ctx, store, new };
    let depth = if contents.is_some() { Depth::Bytes } else { Depth::Contents };
    let (_, seen) = writing.read_back(digest, depth).await?;
    let contents = match (contents, seen.contents) {
        (Some(contents), _) | (None, Some(Ok(contents))) => contents,
        (None, Some(Err(error))) => {
            return Err(ActionError::refused(format!("read `{}` as a dump", mark.key)).because(error));
        }
        (None, None) => return Err(ActionError::unchanged(format!("read `{}` as a dump", mark.key))),
    };
    let index = Index::new(contents, digest.sha256.clone(), digest.size_bytes);
    let text = serde_json::to_string(&index)
        .map_err(|error| ActionError::unchanged("write the index of the dump").because(error))?;
    let text = format!("{text}\n");
    let key = format!("{}{INDEX_ENDING}", mark.key);
    note(store, &key, "application/json", &text).await?;
    let sum = hex::encode(Sha256::digest(text.as_bytes()));
    note(store, &format!("{key}{SUM_ENDING}"), "text/plain", &sum_line(&sum, &key)).await?;
    Ok(index)
}
