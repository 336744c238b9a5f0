//! `postgres.read_only`: makes a database refuse writes of new sessions, and takes that back. A default that a
//! session may override: a freeze for applications, not a lock against people.

use runbook_core::action::{Access, ActionError, Context, Effect, InForce, Outcome, Preview};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::session::{Session, connect, timed};
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `postgres.read_only`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadOnlyParams {
    /// The database.
    pub connection: Connection,
    /// Whether its new sessions shall refuse writes.
    pub read_only: bool,
}

/// Outputs of `postgres.read_only`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReadOnlyOutputs {
    /// Name of the database.
    pub database: String,
    /// Whether new sessions refuse writes now.
    pub read_only: bool,
    /// Whether they did before this step; the undo restores that.
    pub was_read_only: bool,
    /// Sessions of others that are open from before and go on as they were.
    pub older_sessions: u64,
}

/// `postgres.read_only`.
#[derive(Debug)]
pub struct ReadOnly;

impl Typed for ReadOnly {
    type Params = ReadOnlyParams;
    type Outputs = ReadOnlyOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Write)],
        permissions: &["to own the database"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "postgres.read_only",
            "Makes a database refuse writes of new sessions, or takes that back.",
            Effect::Idempotent,
            r#"id: freeze-database
uses: postgres.read_only
tags: [freeze]
with:
  connection: "{{ connections.live }}"
  read_only: true
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: ReadOnlyParams) -> Result<Preview, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let now = is_read_only(&session).await?;
        let word = word(params.read_only);
        let database = &params.connection.database;
        let line = if now == params.read_only {
            format!("new sessions of {database} are {word} already")
        } else {
            format!("makes new sessions of {database} {word}")
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: ReadOnlyParams) -> Result<Done<ReadOnlyOutputs>, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let now = is_read_only(&session).await?;
        let was_read_only = match ctx.checkpoints.get("was_read_only").and_then(|v| v.as_bool()) {
            Some(before) => before,
            None => {
                ctx.checkpoints.save("was_read_only", json!(now)).await?;
                now
            }
        };
        if now != params.read_only {
            switch(&session, params.read_only).await?;
        }
        let older_sessions = others(&session).await?;
        let database = params.connection.database.clone();
        let older = if params.read_only && older_sessions > 0 {
            format!("; {older_sessions} older ones go on")
        } else {
            String::new()
        };
        let summary = format!("new sessions of {database} are {}{older}", word(params.read_only));
        let outputs =
            ReadOnlyOutputs { database, read_only: params.read_only, was_read_only, older_sessions };
        let done = Done::new(outputs, summary);
        let entry = in_force(&params.connection);
        Ok(if params.read_only { done.in_force(entry.key, entry.text) } else { done.released(entry.key) })
    }

    async fn undo(
        &self,
        ctx: &Context,
        params: ReadOnlyParams,
        outputs: ReadOnlyOutputs,
    ) -> Result<Outcome, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let wanted = outputs.was_read_only;
        if is_read_only(&session).await? != wanted {
            switch(&session, wanted).await?;
        }
        let entry = in_force(&params.connection);
        Ok(Outcome {
            outputs: Value::Null,
            summary: format!("new sessions of {} are {} again", outputs.database, word(wanted)),
            released: if wanted { Vec::new() } else { vec![entry.key.clone()] },
            in_force: if wanted { vec![entry] } else { Vec::new() },
        })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: ReadOnlyParams) -> Result<Outcome, ActionError> {
        let before = ctx.checkpoints.get("was_read_only").and_then(|v| v.as_bool());
        let Some(was_read_only) = before else { return Ok(nothing_to_undo()) };
        let (database, read_only) = (params.connection.database.clone(), params.read_only);
        self.undo(ctx, params, ReadOnlyOutputs { database, read_only, was_read_only, older_sessions: 0 })
            .await
    }
}

fn word(read_only: bool) -> &'static str {
    if read_only { "read-only" } else { "open for writes" }
}

fn in_force(connection: &Connection) -> InForce {
    let Connection { host, port, database, .. } = connection;
    InForce {
        key: format!("postgres.read_only/{host}:{port}/{database}"),
        text: format!("new sessions of database {database} are read-only"),
    }
}

async fn is_read_only(session: &Session) -> Result<bool, ActionError> {
    let sql = "select exists (select 1 from pg_catalog.pg_db_role_setting s \
               join pg_catalog.pg_database d on d.oid = s.setdatabase \
               where d.datname = pg_catalog.current_database() and s.setrole = 0 \
               and 'default_transaction_read_only=on' = any (s.setconfig))";
    let attempted = || format!("read the settings of `{}`", session.label);
    Ok(timed(session.client.query_one(sql, &[]), attempted).await?.get(0))
}

async fn others(session: &Session) -> Result<u64, ActionError> {
    let sql = "select count(*) from pg_catalog.pg_stat_activity where datname = pg_catalog.current_database() \
               and backend_type = 'client backend' and pid <> pg_catalog.pg_backend_pid()";
    let attempted = || format!("count the sessions of `{}`", session.label);
    let count: i64 = timed(session.client.query_one(sql, &[]), attempted).await?.get(0);
    Ok(u64::try_from(count).unwrap_or(0))
}

/// In a transaction that says that it writes: this session is read-only by default itself.
async fn switch(session: &Session, read_only: bool) -> Result<(), ActionError> {
    let change = if read_only {
        "set default_transaction_read_only = on"
    } else {
        "reset default_transaction_read_only"
    };
    let sql = format!(
        "begin read write; do $$ begin execute pg_catalog.format('alter database %I {change}', \
         pg_catalog.current_database()); end $$; commit"
    );
    let attempted = || format!("make the sessions of `{}` {}", session.label, word(read_only));
    timed(session.client.batch_execute(&sql), attempted).await
}
