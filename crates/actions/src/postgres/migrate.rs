//! `postgres.migrate`: brings a database up to a version, one file and one transaction at a time. What was
//! applied is noted where the Supabase CLI notes it, in the same transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use runbook_core::action::{Access, ActionError, Context, Effect, Preview, Progress};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::session::{Session, connect, failed, fence, timed};
use super::split::{Statement, statements};
use super::sql::{ends_transaction, outside_transactions};
use crate::typed::{About, Done, Typed};

/// A migration is text that a person wrote.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Parameters of `postgres.migrate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateParams {
    /// The database to migrate.
    pub connection: Connection,
    /// Folder of `YYYYMMDDHHMMSS_name.sql` files, from the runbook's folder.
    pub directory: PathBuf,
    /// The last version to apply; all when left out.
    #[serde(default)]
    pub to: Option<String>,
    /// Go on although the database has versions that the folder does not.
    #[serde(default)]
    pub allow_unknown: bool,
}

/// Outputs of `postgres.migrate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MigrateOutputs {
    /// Versions that this attempt applied, in order.
    pub applied: Vec<String>,
    /// The version the database has now; null when it has none.
    pub version: Option<String>,
    /// Versions that the database has and the folder does not.
    pub unknown: Vec<String>,
}

/// `postgres.migrate`.
#[derive(Debug)]
pub struct Migrate;

impl Typed for Migrate {
    type Params = MigrateParams;
    type Outputs = MigrateOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Write)],
        permissions: &[
            "CREATE on the database, for the schema supabase_migrations",
            "what the migrations need",
        ],
        has_plan: true,
        ..About::new(
            "postgres.migrate",
            "Applies the migrations that a database does not have yet, each in its own transaction.",
            Effect::Transactional,
            "- id: migrate\n  uses: postgres.migrate\n  with:\n    connection: \"{{ connections.live }}\"\n    \
             directory: \"{{ vars.migrations_dir }}\"\n",
        )
    };

    async fn run(&self, ctx: &Context, params: MigrateParams) -> Result<Done<MigrateOutputs>, ActionError> {
        let files = files(&ctx.base.join(&params.directory))?;
        let session = connect(ctx, &params.connection).await?;
        let attempted = || format!("prepare `{}` for migrations", session.label);
        timed(session.client.batch_execute(HISTORY), attempted).await?;
        // Two migrations of one database would race for the same version.
        let lock = "set lock_timeout = '55s'; select pg_catalog.pg_advisory_lock(7236283640821777); set lock_timeout = 0";
        timed(session.client.batch_execute(lock), attempted).await?;
        let state = compare(&session, &files, &params).await?;
        refuse_drift(&session, &state, &params)?;
        let pending = state.pending.iter().map(Migration::read).collect::<Result<Vec<_>, _>>()?;
        let total = pending.len() as u64;
        let mut applied: Vec<String> = Vec::new();
        for migration in pending {
            let message = migration.version.clone();
            ctx.progress.report(Progress {
                done: applied.len() as u64,
                total: Some(total),
                unit: "migrations",
                message,
            });
            if ctx.stop.requested() {
                return Err(ActionError::unchanged("go on migrating: a stop was asked for").code("stopped"));
            }
            migration.apply(&session).await?;
            applied.push(migration.version);
        }
        // An older file may have been added later: it was applied, and is not what the database is at.
        let version = applied.iter().chain(&state.done).max().cloned();
        let now = version.clone().unwrap_or_else(|| "no version".into());
        let summary = format!("{} applied, now at {now}", applied.len());
        Ok(Done::new(MigrateOutputs { applied, version, unknown: state.unknown }, summary))
    }

    async fn plan(&self, ctx: &Context, params: MigrateParams) -> Result<Preview, ActionError> {
        let files = files(&ctx.base.join(&params.directory))?;
        let session = connect(ctx, &params.connection).await?;
        let state = compare(&session, &files, &params).await?;
        refuse_drift(&session, &state, &params)?;
        let mut lines = Vec::new();
        for file in &state.pending {
            let migration = Migration::read(file)?;
            lines.push(format!("applies {} ({} statements)", file.name, migration.statements.len()));
        }
        if lines.is_empty() {
            lines.push(format!("{} has every migration", session.label));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn fence(&self, ctx: &Context, params: MigrateParams) -> Result<u32, ActionError> {
        fence(ctx, &params.connection).await
    }
}

/// The table as the Supabase CLI makes it.
const HISTORY: &str = "set client_min_messages = warning; create schema if not exists supabase_migrations; \
    create table if not exists supabase_migrations.schema_migrations (version text not null primary key); \
    alter table supabase_migrations.schema_migrations add column if not exists statements text[]; \
    alter table supabase_migrations.schema_migrations add column if not exists name text";

/// One file, not yet read.
#[derive(Debug, Clone)]
struct File {
    version: String,
    title: String,
    name: String,
    path: PathBuf,
}

/// The migrations of a folder, in order. A file that looks like one and is not, is refused.
fn files(folder: &Path) -> Result<Vec<File>, ActionError> {
    let attempted = || format!("read the migrations in `{}`", folder.display());
    let entries =
        std::fs::read_dir(folder).map_err(|error| ActionError::refused(attempted()).because(error))?;
    let mut found: BTreeMap<String, File> = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(|error| ActionError::refused(attempted()).because(error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".sql") else { continue };
        let digits = stem.bytes().take_while(u8::is_ascii_digit).count();
        let (version, rest) = stem.split_at(digits);
        if version.is_empty() || !(rest.is_empty() || rest.starts_with('_')) {
            return Err(ActionError::refused(format!(
                "{}: `{name}` is not named VERSION_name.sql",
                attempted()
            )));
        }
        let file = File {
            version: version.into(),
            title: rest.trim_start_matches('_').into(),
            name: name.clone(),
            path: entry.path(),
        };
        if let Some(other) = found.insert(version.into(), file) {
            return Err(ActionError::refused(format!(
                "{}: `{}` and `{name}` have the same version",
                attempted(),
                other.name
            )));
        }
    }
    Ok(found.into_values().collect())
}

/// Folder and database, side by side.
struct State {
    done: BTreeSet<String>,
    pending: Vec<File>,
    unknown: Vec<String>,
}

async fn compare(session: &Session, files: &[File], params: &MigrateParams) -> Result<State, ActionError> {
    let attempted = || format!("ask `{}` which migrations it has", session.label);
    let there = "select pg_catalog.to_regclass('supabase_migrations.schema_migrations') is not null";
    let there: bool = timed(session.client.query_one(there, &[]), attempted).await?.get(0);
    let mut done = BTreeSet::new();
    if there {
        let rows =
            session.client.query("select version::text from supabase_migrations.schema_migrations", &[]);
        done = timed(rows, attempted).await?.iter().map(|row| row.get(0)).collect();
    }
    if let Some(to) = &params.to
        && !files.iter().any(|file| file.version == *to)
    {
        return Err(ActionError::refused(format!(
            "migrate up to `{to}`: no file in `{}` has that version",
            params.directory.display()
        )));
    }
    let unknown =
        done.iter().filter(|version| !files.iter().any(|file| file.version == **version)).cloned().collect();
    let wanted = |file: &&File| {
        !done.contains(&file.version) && params.to.as_ref().is_none_or(|to| file.version <= *to)
    };
    let pending = files.iter().filter(wanted).cloned().collect();
    Ok(State { done, pending, unknown })
}

fn refuse_drift(session: &Session, state: &State, params: &MigrateParams) -> Result<(), ActionError> {
    if state.unknown.is_empty() || params.allow_unknown {
        return Ok(());
    }
    Err(ActionError::refused(format!(
        "migrate `{}`: it has versions that `{}` does not: {}",
        session.label,
        params.directory.display(),
        state.unknown.join(", ")
    ))
    .code("migration-drift")
    .hint("Get the missing files, or set `allow_unknown: true` when the database may stay ahead."))
}

/// One file, read and split.
struct Migration {
    version: String,
    title: String,
    name: String,
    statements: Vec<Statement>,
}

impl Migration {
    fn read(file: &File) -> Result<Self, ActionError> {
        let attempted = || format!("read the migration `{}`", file.name);
        let size = std::fs::metadata(&file.path).map(|found| found.len()).unwrap_or(0);
        if size > FILE_BYTES_MAX {
            return Err(ActionError::refused(format!(
                "{}: it is larger than {FILE_BYTES_MAX} bytes",
                attempted()
            )));
        }
        let text = std::fs::read_to_string(&file.path)
            .map_err(|error| ActionError::refused(attempted()).because(error))?;
        let statements = statements(&text)
            .map_err(|error| ActionError::refused(attempted()).because(error.to_string()))?;
        for statement in &statements {
            if matches!(ends_transaction(&statement.sql), Some("rollback" | "abort" | "prepare")) {
                return Err(ActionError::refused(format!(
                    "apply the migration `{}`: line {} takes it back",
                    file.name, statement.line
                )));
            }
            if let Some(what) = outside_transactions(&statement.sql) {
                return Err(ActionError::refused(format!(
                    "apply the migration `{}` in one transaction: line {} has `{what}`, which cannot be in one",
                    file.name, statement.line
                ))
                .code("not-transactional")
                .hint("Build the index in its usual form, or in a maintenance step of its own."));
            }
        }
        Ok(Self {
            version: file.version.clone(),
            title: file.title.clone(),
            name: file.name.clone(),
            statements,
        })
    }

    /// In one transaction with its row in the history; when a statement fails, nothing of the file remains.
    async fn apply(&self, session: &Session) -> Result<(), ActionError> {
        let attempted =
            |line: u64| format!("apply the migration `{}`, line {line}, to `{}`", self.name, session.label);
        let begin = session.client.batch_execute("begin; set local statement_timeout = 0");
        begin.await.map_err(|error| failed(attempted(1), error))?;
        for statement in &self.statements {
            // The file's own BEGIN and COMMIT would part its statements from its row.
            if ends_transaction(&statement.sql).is_some() {
                continue;
            }
            if let Err(error) = session.client.batch_execute(&statement.sql).await {
                let mut error = failed(attempted(statement.line), error);
                error.code = Some("migration-failed");
                if let Err(lost) = session.client.batch_execute("rollback").await {
                    tracing::debug!(%lost, "the session is lost; the server rolls back by itself");
                }
                return Err(error);
            }
        }
        let texts: Vec<&str> = self.statements.iter().map(|statement| statement.sql.as_str()).collect();
        let note = "insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, $2, $3)";
        let noted = session.client.execute(note, &[&self.version, &texts, &self.title]).await;
        noted.map_err(|error| failed(attempted(1), error))?;
        session.client.batch_execute("commit; reset all").await.map_err(|error| failed(attempted(1), error))
    }
}
