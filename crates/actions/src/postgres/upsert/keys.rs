//! The keys of what was done, in the target: the row that commits together with the effect. Shares its table with
//! `postgres.execute`.

use runbook_core::action::{ActionError, Context};
use serde_json::Value;

use crate::postgres::catalog::MARKERS;
use crate::postgres::session::{Session, timed};
use crate::postgres::sql::literal;

/// Begins the transaction that holds effect and key. What was done under the key before, if anything was.
pub(super) async fn begin(
    ctx: &Context,
    session: &Session,
    digest: &str,
    timeout_seconds: u32,
) -> Result<Option<Value>, ActionError> {
    let attempted = || format!("begin step `{}` on `{}`", ctx.step, session.label);
    let prepare = format!(
        "set client_min_messages = warning; create schema if not exists {MARKERS}; create table if not exists \
         {MARKERS}.effects (key text primary key, step text not null, \
         statements_md5 text not null, rows bigint not null, at timestamptz not null default pg_catalog.now()); \
         alter table {MARKERS}.effects add column if not exists outputs jsonb"
    );
    timed(session.client.batch_execute(&prepare), attempted).await?;
    let begin = format!(
        "begin; set local statement_timeout = '{timeout_seconds}s'; set local lock_timeout = '30s'; \
         set local row_security = off; set local synchronous_commit = on; \
         select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended({}, 0))",
        literal(&ctx.key)
    );
    timed(session.client.batch_execute(&begin), attempted).await?;
    let Some((found, outputs)) = find(session, &ctx.key).await? else { return Ok(None) };
    if found != digest {
        return Err(ActionError::refused(format!("{}: its key was used for something else", attempted()))
            .code("key-reused"));
    }
    Ok(Some(outputs))
}

/// Digest and outputs of what was done under a key.
pub(super) async fn find(session: &Session, key: &str) -> Result<Option<(String, Value)>, ActionError> {
    let attempted = || format!("look for a step's key in `{}`", session.label);
    let there = "select count(*) from pg_catalog.pg_attribute where attrelid = pg_catalog.to_regclass('_runbook.effects') \
                 and attname = 'outputs'";
    if timed(session.client.query_one(there, &[]), attempted).await?.get::<_, i64>(0) == 0 {
        return Ok(None);
    }
    let sql =
        format!("select statements_md5, coalesce(outputs, '{{}}') from {MARKERS}.effects where key = $1");
    let row = timed(session.client.query_opt(&sql, &[&key]), attempted).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Notes the key and commits. The answer to a COMMIT may be lost after it happened; the key decides then.
pub(super) async fn commit(
    ctx: &Context,
    session: &Session,
    digest: &str,
    (rows, outputs): (u64, &Value),
) -> Result<(), ActionError> {
    let sql = format!(
        "insert into {MARKERS}.effects (key, step, statements_md5, rows, outputs) values ({}, {}, {}, {rows}, {}); commit",
        literal(&ctx.key),
        literal(ctx.step.as_str()),
        literal(digest),
        literal(&outputs.to_string())
    );
    session.client.batch_execute(&sql).await.map_err(|error| {
        super::stage::quiet(format!("commit step `{}` on `{}`", ctx.step, session.label), error)
    })
}
