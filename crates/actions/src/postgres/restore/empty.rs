//! Takes a target back to what it held before: everything that is not in a catalog is dropped, rows go
//! from the tables that stay. Each statement may be repeated, so a crash in the middle is gone on from.

use std::collections::BTreeSet;

use runbook_core::action::ActionError;

use crate::postgres::catalog::{Catalog, Held, holding};
use crate::postgres::session::{Session, failed};
use crate::postgres::sql::plain;

use super::platform::Ground;

/// Empties the target down to `keep`, and proves it by looking again.
pub(super) async fn empty(session: &Session, ground: &Ground<'_>, keep: &Catalog) -> Result<(), ActionError> {
    // What a dump set in the session must not reach here; the restore's own settings are made anew.
    run(session, "rollback; reset all; set statement_timeout = 0; set lock_timeout = '60s'; set client_min_messages = warning").await?;
    let now = Catalog::read(session).await?;
    drop_all(session, drops(&now, keep)).await?;
    for object in now.large_objects.difference(&keep.large_objects) {
        run(session, &format!("select pg_catalog.lo_unlink({object})")).await?;
    }
    let held = holding(session, |table| ground.is_user_data(table)).await?;
    if !held.is_empty() {
        remove_rows(session, &held).await?;
    }
    let now = Catalog::read(session).await?;
    let held = holding(session, |table| ground.is_user_data(table)).await?;
    let left = now
        .schemas
        .difference(&keep.schemas)
        .chain(now.relations.keys().filter(|name| !keep.relations.contains_key(*name)))
        .chain(now.functions.difference(&keep.functions))
        .chain(now.types.difference(&keep.types))
        .chain(now.triggers.difference(&keep.triggers))
        .chain(now.policies.difference(&keep.policies))
        .chain(held.iter().map(|held| &held.table))
        .next();
    match left {
        None => Ok(()),
        Some(name) => {
            Err(ActionError::unchanged(format!("empty `{}`: {} is still there", session.label, plain(name)))
                .code("not-emptied"))
        }
    }
}

/// Drops everything, going over what failed again as long as that gets somewhere: what may not be dropped by
/// itself (a trigger on a platform's table) goes with what it needs (its function).
async fn drop_all(session: &Session, mut open: Vec<String>) -> Result<(), ActionError> {
    while !open.is_empty() {
        let (before, mut failures) = (open.len(), Vec::new());
        for sql in open {
            if let Err(error) = run(session, &sql).await {
                failures.push((sql, error));
            }
        }
        if failures.len() == before
            && let Some((_, error)) = failures.pop()
        {
            return Err(error);
        }
        open = failures.into_iter().map(|(sql, _)| sql).collect();
    }
    Ok(())
}

/// The statements that drop what is not kept, in an order in which each finds what it needs gone.
fn drops(now: &Catalog, keep: &Catalog) -> Vec<String> {
    let gone = |now: &BTreeSet<String>, keep: &BTreeSet<String>, what: &str, how: &str| -> Vec<String> {
        now.difference(keep).map(|name| format!("drop {what} if exists {name}{how}")).collect()
    };
    let in_kept = |name: &str| {
        let schema = crate::postgres::sql::quoted(&crate::postgres::sql::schema_of(name));
        keep.schemas.contains(&schema)
    };
    let parts = |now: Vec<&String>,
                 kept: &dyn Fn(&str) -> bool,
                 make: &dyn Fn(&str, &str) -> String|
     -> Vec<String> {
        now.into_iter()
            .filter(|key| !kept(key))
            .filter_map(|key| split_key(key))
            .filter(|(table, _)| keep.relations.contains_key(*table))
            .map(|(table, name)| make(table, name))
            .collect()
    };
    let mut all = gone(&now.event_triggers, &keep.event_triggers, "event trigger", " cascade");
    all.extend(gone(&now.publications, &keep.publications, "publication", ""));
    all.extend(gone(&now.schemas, &keep.schemas, "schema", " cascade"));
    all.extend(parts(now.policies.iter().collect(), &|key| keep.policies.contains(key), &|table, name| {
        format!("drop policy if exists {name} on {table}")
    }));
    all.extend(parts(now.triggers.iter().collect(), &|key| keep.triggers.contains(key), &|table, name| {
        format!("drop trigger if exists {name} on {table} cascade")
    }));
    for (kinds, what) in [
        ("v", "view"),
        ("m", "materialized view"),
        ("f", "foreign table"),
        ("rp", "table"),
        ("S", "sequence"),
    ] {
        let names = now.of_kind(kinds).map(|(name, _)| name);
        let names = names.filter(|name| in_kept(name) && !keep.relations.contains_key(*name));
        all.extend(names.map(|name| format!("drop {what} if exists {name} cascade")));
    }
    let routines = now.functions.difference(&keep.functions).filter(|name| in_kept(name));
    all.extend(routines.map(|name| format!("drop routine if exists {name} cascade")));
    let types = now.types.difference(&keep.types).filter(|name| in_kept(name));
    all.extend(types.map(|name| format!("drop type if exists {name} cascade")));
    all.extend(parts(
        now.constraints.keys().collect(),
        &|key| keep.constraints.contains_key(key),
        &|table, name| format!("alter table {table} drop constraint if exists {name} cascade"),
    ));
    let indexes = now.of_kind("iI").map(|(name, _)| name);
    let indexes = indexes.filter(|name| in_kept(name) && !keep.relations.contains_key(*name));
    all.extend(indexes.map(|name| format!("drop index if exists {name} cascade")));
    all.extend(gone(&now.extensions, &keep.extensions, "extension", " cascade"));
    all
}

/// `"s"."t" "name"` into its two parts.
fn split_key(key: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    key.char_indices().find_map(|(at, c)| {
        if c == '"' {
            quoted = !quoted;
        }
        (c == ' ' && !quoted).then(|| (&key[..at], &key[at + 1..]))
    })
}

/// One TRUNCATE over all of them, so that their foreign keys do not matter; where that is not allowed,
/// DELETE with the triggers off.
async fn remove_rows(session: &Session, held: &[Held]) -> Result<(), ActionError> {
    let tables: Vec<_> = held.iter().map(|held| held.table.as_str()).collect();
    if session.client.batch_execute(&format!("truncate {}", tables.join(", "))).await.is_ok() {
        return Ok(());
    }
    let replica = "set local session_replication_role = replica";
    let may = session.client.batch_execute(&format!("begin; {replica}; rollback")).await.is_ok();
    run(session, "rollback").await?;
    let deletes: Vec<_> = tables.iter().rev().map(|table| format!("delete from {table}")).collect();
    let replica = if may { format!("{replica}; ") } else { String::new() };
    run(session, &format!("begin; {replica}{}; commit", deletes.join("; "))).await
}

async fn run(session: &Session, sql: &str) -> Result<(), ActionError> {
    session.client.batch_execute(sql).await.map_err(|error| {
        failed(format!("empty `{}`: {}", session.label, plain(sql)), error).code("not-emptied")
    })
}
