//! `postgres.execute`: changes rows in one transaction that also notes the step's key, so that a repeat
//! finds it done.

use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::{MARKERS, rows_of};
use super::session::{connect, failed, fence, timed};
use super::split::statements;
use super::sql::{ends_transaction, literal, outside_transactions};
use crate::typed::{About, Done, Typed};

/// Parameters of `postgres.execute`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteParams {
    /// The database to change.
    pub connection: Connection,
    /// Statements, carried out in one transaction.
    pub sql: String,
    /// How long they may take together, in seconds.
    #[serde(default = "minutes")]
    pub timeout_seconds: u32,
}

fn minutes() -> u32 {
    600
}

/// Outputs of `postgres.execute`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct ExecuteOutputs {
    /// Rows that the statements reported, summed.
    pub rows: u64,
    /// It had been done before under the same key, and was not done again.
    pub repeated: bool,
}

/// `postgres.execute`.
#[derive(Debug)]
pub struct Execute;

impl Typed for Execute {
    type Params = ExecuteParams;
    type Outputs = ExecuteOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Write)],
        permissions: &["CREATE on the database, for the schema _runbook", "what the statements need"],
        has_plan: true,
        ..About::new(
            "postgres.execute",
            "Carries out statements in one transaction, once per idempotency key.",
            Effect::Transactional,
            "- id: notes\n  uses: postgres.execute\n  with:\n    \
             connection: \"{{ steps.database.connection }}\"\n    sql: create table if not exists public.notes (id bigint primary key)\n",
        )
    };

    async fn run(&self, ctx: &Context, params: ExecuteParams) -> Result<Done<ExecuteOutputs>, ActionError> {
        inside_one_transaction(&params.sql)?;
        let session = connect(ctx, &params.connection).await?;
        let attempted = || format!("carry out the statements of step `{}` on `{}`", ctx.step, session.label);
        let prepare = format!(
            "set client_min_messages = warning; create schema if not exists {MARKERS}; create table if not exists \
             {MARKERS}.effects (key text primary key, step text not null, \
             statements_md5 text not null, rows bigint not null, at timestamptz not null default pg_catalog.now())"
        );
        timed(session.client.batch_execute(&prepare), attempted).await?;
        let begin = format!(
            "begin; set local statement_timeout = '{}s'; select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({}, 0))",
            params.timeout_seconds,
            literal(&ctx.key)
        );
        timed(session.client.batch_execute(&begin), attempted).await?;
        let sum = literal(&params.sql);
        let find = format!(
            "select rows, statements_md5 = pg_catalog.md5({sum}) from {MARKERS}.effects where key = $1"
        );
        if let Some(row) = timed(session.client.query_opt(&find, &[&ctx.key]), attempted).await? {
            if !row.get::<_, bool>(1) {
                return Err(ActionError::refused(format!(
                    "{}: its key was used for other statements",
                    attempted()
                ))
                .code("key-reused"));
            }
            let rows = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
            return Ok(Done::new(ExecuteOutputs { rows, repeated: true }, "it had been done"));
        }
        let answers =
            session.client.simple_query(&params.sql).await.map_err(|error| failed(attempted(), error))?;
        let rows = answers.iter().map(|answer| match answer {
            tokio_postgres::SimpleQueryMessage::CommandComplete(rows) => *rows,
            _ => 0,
        });
        let rows: u64 = rows.sum();
        let mark = format!(
            "insert into {MARKERS}.effects (key, step, statements_md5, rows) values ({}, {}, pg_catalog.md5({sum}), {rows}); commit",
            literal(&ctx.key),
            literal(ctx.step.as_str())
        );
        // The answer to a COMMIT may be lost after it happened; the key decides then, so it is safe to repeat.
        session.client.batch_execute(&mark).await.map_err(|error| failed(attempted(), error))?;
        Ok(Done::new(ExecuteOutputs { rows, repeated: false }, rows_of(rows)))
    }

    async fn plan(&self, ctx: &Context, params: ExecuteParams) -> Result<Preview, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let head: String =
            params.sql.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(120).collect();
        Ok(Preview::Changes {
            lines: vec![format!("carries out on {}: {head}", session.label)],
            destroys: None,
        })
    }

    async fn fence(&self, ctx: &Context, params: ExecuteParams) -> Result<u32, ActionError> {
        fence(ctx, &params.connection).await
    }
}

/// A COMMIT among the statements would part them from their key.
fn inside_one_transaction(sql: &str) -> Result<(), ActionError> {
    let refused = |why: String| {
        Err(ActionError::refused(format!("carry out the statements in one transaction: {why}")))
    };
    let statements = match statements(sql) {
        Ok(statements) => statements,
        Err(error) => return refused(error.to_string()),
    };
    for statement in statements {
        if let Some(head) = ends_transaction(&statement.sql) {
            return refused(format!("line {} has `{head}`", statement.line));
        }
        if let Some(what) = outside_transactions(&statement.sql) {
            return refused(format!("line {} has `{what}`, which cannot be in one", statement.line));
        }
    }
    Ok(())
}
