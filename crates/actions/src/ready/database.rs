//! Proves a database: the login, the version, which database it really is, and what the role may do. Reads catalogs only.

use runbook_core::action::{ActionError, Context};

use super::Proof;
use crate::postgres::{Session, connect};

/// Tables that are named when they cannot be read.
const NAMED_MAX: usize = 3;

const ASK: &str = "select pg_catalog.current_setting('server_version'), \
    pg_catalog.current_setting('server_version_num')::int4, \
    r.rolsuper, r.rolbypassrls, r.rolcreatedb, \
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'create'), \
    pg_catalog.pg_is_in_recovery() \
    from pg_catalog.pg_roles r where r.rolname = current_user";

const UNREADABLE: &str = "select pg_catalog.format('%I.%I', n.nspname, c.relname) \
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' \
    and n.nspname not in ('information_schema', '_runbook') \
    and not (pg_catalog.has_schema_privilege(n.oid, 'usage') and pg_catalog.has_table_privilege(c.oid, 'select')) \
    order by 1";

pub(super) async fn database(ctx: &Context, name: &str) -> Result<Proof, ActionError> {
    let Some(connection) = ctx.environment.connections.get(name) else {
        return Err(ActionError::refused(format!("find the connection `{name}`")));
    };
    let session = connect(ctx, connection).await?;
    let attempted = format!("look at `{}`", session.label);
    let row = session
        .client
        .query_one(ASK, &[])
        .await
        .map_err(|error| ActionError::unchanged(attempted.clone()).because(error))?;
    let (version, number): (String, i32) = (row.get(0), row.get(1));
    let is = |at: usize| row.get::<_, bool>(at);
    let mut said = vec![format!("PostgreSQL {version}, user {}", connection.user)];
    match identity(&session).await {
        Some(found) => {
            if let Some(recorded) = &connection.identity
                && *recorded != found
            {
                return Err(ActionError::refused(format!(
                    "take `{}` for what it is recorded as: its identity is {found}, `identity` says {recorded}",
                    session.label
                ))
                .hint("Either the connection leads elsewhere, or the database was replaced: find out before you change `identity`."));
            }
            said.push(format!("identity {found}"));
        }
        None => said.push("the role may not ask for its identity".into()),
    }
    let rights =
        [("superuser", is(2)), ("sees all rows", is(2) || is(3)), ("creates databases", is(2) || is(4))];
    let rights: Vec<&str> = rights.iter().filter(|(_, has)| *has).map(|(word, _)| *word).collect();
    said.push(if rights.is_empty() { "no special rights".into() } else { rights.join(", ") });
    if !is(5) {
        said.push("may not create schemas".into());
    }
    if is(6) {
        said.push("a read-only standby".into());
    }
    said.push(readable(&session).await.map_err(|error| ActionError::unchanged(attempted).because(error))?);
    let server_major = u32::try_from(number / 10_000).ok();
    Ok(Proof { server_major, ..Proof::proven(said.join("; ")) })
}

/// `SYSTEM_IDENTIFIER/DATABASE`; none where the role may not ask.
async fn identity(session: &Session) -> Option<String> {
    let ask = "select system_identifier::text || '/' || pg_catalog.current_database() from pg_catalog.pg_control_system()";
    session.client.query_one(ask, &[]).await.ok().map(|row| row.get(0))
}

async fn readable(session: &Session) -> Result<String, tokio_postgres::Error> {
    let rows = session.client.query(UNREADABLE, &[]).await?;
    if rows.is_empty() {
        return Ok("may read every table".into());
    }
    let names: Vec<String> = rows.iter().take(NAMED_MAX).map(|row| row.get(0)).collect();
    Ok(format!("may not read {} tables, such as {}", rows.len(), names.join(", ")))
}
