//! Compares what came of a restore with what the dump said, and checks the foreign keys that were there
//! before. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};

use crate::postgres::catalog::{Catalog, of_table};
use crate::postgres::session::{Session, failed};
use crate::postgres::sql::{What, column_count, literal, plain};

use super::grants::Grants;
use super::lane::Lane;

/// Complaints named one by one in an error.
const COMPLAINTS_MAX: usize = 12;

/// What the dump said would be there, as far as it was carried out.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Expected {
    tables: BTreeMap<String, Option<usize>>,
    relations: BTreeMap<String, String>,
    functions: BTreeMap<String, usize>,
    types: BTreeSet<String>,
    /// Whether it must be validated: a dump may hold one that never was.
    constraints: BTreeMap<String, bool>,
    triggers: BTreeSet<String>,
    policies: BTreeSet<String>,
    rls: BTreeSet<String>,
    extensions: BTreeSet<String>,
    publications: BTreeSet<String>,
    grants: Grants,
    /// The dump turned triggers off, and so the checks of foreign keys that it had made itself.
    triggers_off: bool,
}

impl Expected {
    /// Remembers what a statement makes.
    pub(super) fn note(&mut self, what: &What, sql: &str) {
        self.grants.note(what, sql);
        match what {
            What::Create { kind: "table", name, .. } => {
                let inherits = sql.contains("INHERITS (");
                self.tables.insert(name.clone(), column_count(sql).filter(|_| !inherits));
            }
            What::Create { kind: "function", name, .. } => {
                *self.functions.entry(name.clone()).or_default() += 1
            }
            What::Create { kind: "type", name, .. } => {
                self.types.insert(name.clone());
            }
            What::Create { kind: "trigger", name, on: Some(table) } => {
                self.triggers.insert(of_table(table, name));
            }
            What::Create { kind: "policy", name, on: Some(table) } => {
                self.policies.insert(of_table(table, name));
            }
            What::Create { kind: "extension", name, .. } => {
                self.extensions.insert(name.clone());
            }
            What::Create { kind: "publication", name, .. } => {
                self.publications.insert(name.clone());
            }
            What::Create {
                kind: kind @ ("index" | "view" | "materialized view" | "sequence" | "foreign table"),
                name,
                ..
            } => {
                self.relations.insert(name.clone(), (*kind).to_owned());
            }
            What::AddConstraint { table, name } => {
                let validated = !sql.trim_end().to_ascii_uppercase().ends_with("NOT VALID");
                self.constraints.insert(of_table(table, name), validated);
            }
            What::Validate { table, name, .. } => {
                self.constraints.insert(of_table(table, name), true);
            }
            What::EnableRls { table } => {
                self.rls.insert(table.clone());
            }
            What::Session { setting } if setting == "session_replication_role" => self.triggers_off = true,
            What::On { verb: "alter", kind, .. } if kind == "table" && sql.contains("DISABLE TRIGGER") => {
                self.triggers_off = true;
            }
            _ => {}
        }
    }

    /// Takes back what a statement would have made, because it was left out.
    pub(super) fn forget(&mut self, what: &What) {
        if let What::Create { kind, name, on } = what {
            self.relations.remove(name);
            self.types.remove(name);
            if *kind == "function" {
                self.functions.remove(name);
            }
            if let Some(table) = on {
                self.triggers.remove(&of_table(table, name));
                self.policies.remove(&of_table(table, name));
            }
        }
    }

    /// How many tables the dump made.
    pub(super) fn table_count(&self) -> usize {
        self.tables.len()
    }

    /// Everything that is not as the dump said; empty when all is.
    fn complaints(&self, now: &Catalog) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, columns) in &self.tables {
            match (now.relations.get(name), columns) {
                (None, _) => wrong.push(format!("table {} is missing", plain(name))),
                (Some(there), Some(columns)) if there.columns != *columns => wrong.push(format!(
                    "table {} has {} columns, the dump {columns}",
                    plain(name),
                    there.columns
                )),
                _ => {}
            }
        }
        for (name, kind) in &self.relations {
            match now.relations.get(name) {
                None => wrong.push(format!("{kind} {} is missing", plain(name))),
                Some(there) if !there.valid => wrong.push(format!("{kind} {} is not valid", plain(name))),
                Some(_) => {}
            }
        }
        for (name, wanted) in &self.functions {
            let start = format!("{name}(");
            let there = now.functions.range(start.clone()..).take_while(|f| f.starts_with(&start)).count();
            if there < *wanted {
                wrong.push(format!("function {}: {there} of {wanted} are there", plain(name)));
            }
        }
        for (key, validated) in &self.constraints {
            match now.constraints.get(key) {
                None => wrong.push(format!("constraint {} is missing", plain(key))),
                Some(false) if *validated => {
                    wrong.push(format!("constraint {} is not validated", plain(key)))
                }
                Some(_) => {}
            }
        }
        let mut missing = |wanted: &BTreeSet<String>, there: &BTreeSet<String>, what: &str| {
            wrong.extend(wanted.difference(there).map(|name| format!("{what} {} is missing", plain(name))));
        };
        missing(&self.types, &now.types, "type");
        missing(&self.triggers, &now.triggers, "trigger");
        missing(&self.policies, &now.policies, "policy");
        missing(&self.extensions, &now.extensions, "extension");
        missing(&self.publications, &now.publications, "publication");
        for table in &self.rls {
            if !now.relations.get(table).is_some_and(|there| there.rls) {
                wrong.push(format!("row-level security is off on {}", plain(table)));
            }
        }
        wrong
    }
}

/// Compares catalog and rows with the dump, and checks the foreign keys that were there before. The tables are gone
/// through over all connections, the fullest first.
pub(super) async fn compare(
    session: &Session,
    lanes: &[Lane],
    expected: &Expected,
    before: &Catalog,
    loaded: &BTreeMap<String, u64>,
) -> Result<(), ActionError> {
    let now = Catalog::read(session).await?;
    let mut wrong = expected.complaints(&now);
    wrong.extend(expected.grants.missing(session).await?);
    let mut tables: Vec<(&String, u64)> = loaded.iter().map(|(table, rows)| (table, *rows)).collect();
    tables.sort_by_key(|(_, rows)| *rows);
    let left = Mutex::new(tables);
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let rows = lanes.iter().map(|lane| async {
        let mut wrong = Vec::new();
        while let Some((table, rows)) = next() {
            // Each table is dumped without those that inherit from it.
            let own = now.relations.get(table).is_some_and(|relation| relation.kind == 'r');
            let there = lane.counted(table, own).await?;
            if there != rows {
                wrong.push(format!("table {} has {there} rows, {rows} were loaded", plain(table)));
            }
        }
        Ok::<_, ActionError>(wrong)
    });
    for found in futures_util::future::try_join_all(rows).await? {
        wrong.extend(found);
    }
    if !wrong.is_empty() {
        return Err(ActionError::refused(format!(
            "find in `{}` what the dump holds: {}",
            session.label,
            listed(&wrong)
        ))
        .code("catalog-mismatch"));
    }
    let orphans = orphans(session, expected.triggers_off, before, loaded).await?;
    if orphans.is_empty() {
        return Ok(());
    }
    Err(ActionError::refused(format!("trust the references in `{}`: {}", session.label, listed(&orphans)))
        .code("orphans")
        .hint("The dump's tables do not fit together: rows refer to rows that are not there."))
}

fn listed(complaints: &[String]) -> String {
    let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
    let shown = complaints.iter().take(COMPLAINTS_MAX).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 { format!("{shown}; and {more} more") } else { shown }
}

/// Rows whose parent is missing, for each foreign key of a loaded table that the dump did not make itself
/// (PostgreSQL checked those when they were made), or of any when the dump loaded rows with triggers off. What
/// a key of a partitioned table looks like in its partitions is left to the key itself.
async fn orphans(
    session: &Session,
    triggers_off: bool,
    before: &Catalog,
    loaded: &BTreeMap<String, u64>,
) -> Result<Vec<String>, ActionError> {
    let attempted = || format!("check the foreign keys of `{}`", session.label);
    let keys = session
        .client
        .query(
            "select n.nspname, c.relname, x.conname, pn.nspname, p.relname, \
             array(select a.attname::text from pg_catalog.unnest(x.conkey) with ordinality k(n, o) \
               join pg_catalog.pg_attribute a on a.attrelid = x.conrelid and a.attnum = k.n order by k.o), \
             array(select a.attname::text from pg_catalog.unnest(x.confkey) with ordinality k(n, o) \
               join pg_catalog.pg_attribute a on a.attrelid = x.confrelid and a.attnum = k.n order by k.o), \
             c.relkind = 'p', p.relkind = 'p', x.convalidated \
             from pg_catalog.pg_constraint x join pg_catalog.pg_class c on c.oid = x.conrelid \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             join pg_catalog.pg_class p on p.oid = x.confrelid \
             join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace \
             where x.contype = 'f' and x.conparentid = 0",
            &[],
        )
        .await
        .map_err(|error| failed(attempted(), error))?;
    let mut wrong = Vec::new();
    for row in keys {
        let child = crate::postgres::sql::qualified(row.get(0), row.get(1));
        let parent = crate::postgres::sql::qualified(row.get(3), row.get(4));
        let name: String = row.get(2);
        let (parted, parent_parted): (bool, bool) = (row.get(7), row.get(8));
        let touched = parted || parent_parted || loaded.contains_key(&child) || loaded.contains_key(&parent);
        let was_there =
            before.constraints.contains_key(&of_table(&child, &crate::postgres::sql::quoted(&name)));
        if !touched || !(was_there || triggers_off && row.get::<_, bool>(9)) {
            continue;
        }
        let from =
            |table: &str, parted: bool| if parted { table.to_owned() } else { format!("only {table}") };
        let (from_child, from_parent) = (from(&child, parted), from(&parent, parent_parted));
        let sql = orphan_query(
            &from_child,
            &from_parent,
            &row.get::<_, Vec<String>>(5),
            &row.get::<_, Vec<String>>(6),
        );
        let found = session.client.query_one(&sql, &[]).await.map_err(|error| failed(attempted(), error))?;
        let rows: i64 = found.get(0);
        if rows > 0 {
            let keys: Vec<String> = found.get(1);
            wrong.push(format!(
                "{rows} rows of {} have no parent by {name} (keys {})",
                plain(&child),
                keys.join(", ")
            ));
        }
    }
    Ok(wrong)
}

fn orphan_query(child: &str, parent: &str, columns: &[String], keys: &[String]) -> String {
    use crate::postgres::sql::quoted;
    let set: Vec<_> = columns.iter().map(|c| format!("c.{} is not null", quoted(c))).collect();
    let same: Vec<_> =
        columns.iter().zip(keys).map(|(c, k)| format!("p.{} = c.{}", quoted(k), quoted(c))).collect();
    let shown: Vec<_> = columns.iter().map(|c| format!("c.{}::text", quoted(c))).collect();
    format!(
        "select count(*), coalesce((pg_catalog.array_agg(pg_catalog.concat_ws({}, {})))[1:5], '{{}}'::text[]) \
         from {child} c where {} and not exists (select 1 from {parent} p where {})",
        literal("/"),
        shown.join(", "),
        set.join(" and "),
        same.join(" and ")
    )
}
