//! What a database holds, by name: for telling what was there before a restore, for comparing what came
//! of it, and for emptying. Leaves out the system's own, `_runbook`, and members of extensions.

use std::collections::{BTreeMap, BTreeSet};

use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};

use super::session::{Session, timed};
use super::sql::{literal, plain, qualified, quoted};

/// The schema in which a step keeps its markers.
pub(super) const MARKERS: &str = "_runbook";

/// A table larger than this by the planner's estimate is not counted row by row for a preview.
const COUNT_ROWS_MAX: f32 = 2_000_000.0;

/// What a database holds; names are quoted, with their schema.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Catalog {
    /// Schemas.
    pub(super) schemas: BTreeSet<String>,
    /// Tables, views, sequences, indexes and so on.
    pub(super) relations: BTreeMap<String, Relation>,
    /// Functions and procedures, with their argument types: `"public"."f"(integer)`.
    pub(super) functions: BTreeSet<String>,
    /// Enums, domains, composite and range types.
    pub(super) types: BTreeSet<String>,
    /// `TABLE constraint` -> validated.
    pub(super) constraints: BTreeMap<String, bool>,
    /// `TABLE trigger`.
    pub(super) triggers: BTreeSet<String>,
    /// `TABLE policy`.
    pub(super) policies: BTreeSet<String>,
    /// Extensions.
    pub(super) extensions: BTreeSet<String>,
    /// Publications.
    pub(super) publications: BTreeSet<String>,
    /// Event triggers.
    pub(super) event_triggers: BTreeSet<String>,
    /// Large objects.
    pub(super) large_objects: BTreeSet<u32>,
}

/// One relation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Relation {
    /// `pg_class.relkind`: r table, p partitioned table, v view, m materialized view, S sequence, i and I
    /// index, f foreign table.
    pub(super) kind: char,
    /// Live columns.
    pub(super) columns: usize,
    /// Row-level security is on.
    pub(super) rls: bool,
    /// For an index: it is valid.
    pub(super) valid: bool,
}

/// `TABLE name`, the key of constraints, triggers and policies.
pub(super) fn of_table(table: &str, name: &str) -> String {
    format!("{table} {name}")
}

/// Restricts a catalog query to what is a user's: not the system's, not an extension's, not ours.
pub(super) fn own(schema: &str, class: &str, oid: &str) -> String {
    format!(
        "{schema}.nspname not like 'pg\\_%' and {schema}.nspname not in ('information_schema', {}) \
         and not exists (select 1 from pg_catalog.pg_depend e where e.classid = '{class}'::regclass \
         and e.objid = {oid} and e.deptype = 'e')",
        literal(MARKERS)
    )
}

impl Catalog {
    /// Reads it.
    pub(super) async fn read(session: &Session) -> Result<Self, ActionError> {
        let mut catalog = Self::default();
        catalog.read_relations(session).await?;
        catalog.read_tables_parts(session).await?;
        let named = |sql: String| async move {
            let rows = ask(session, &sql).await?;
            Ok::<BTreeSet<String>, ActionError>(rows.iter().map(|row| quoted(row.get(0))).collect())
        };
        let of = own("n", "pg_namespace", "n.oid");
        catalog.schemas = named(format!("select nspname from pg_catalog.pg_namespace n where {of}")).await?;
        catalog.extensions = named("select extname from pg_catalog.pg_extension".into()).await?;
        catalog.publications = named("select pubname from pg_catalog.pg_publication".into()).await?;
        catalog.event_triggers = named("select evtname from pg_catalog.pg_event_trigger".into()).await?;
        let objects = ask(session, "select oid from pg_catalog.pg_largeobject_metadata").await?;
        catalog.large_objects = objects.iter().map(|row| row.get(0)).collect();
        let functions = format!(
            "select n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid) \
             from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where {}",
            own("n", "pg_proc", "p.oid")
        );
        for row in ask(session, &functions).await? {
            let name = qualified(row.get(0), row.get(1));
            catalog.functions.insert(format!("{name}({})", row.get::<_, String>(2)));
        }
        let types = format!(
            "select n.nspname, t.typname from pg_catalog.pg_type t \
             join pg_catalog.pg_namespace n on n.oid = t.typnamespace \
             left join pg_catalog.pg_class c on c.oid = t.typrelid \
             where t.typtype in ('b', 'c', 'd', 'e', 'r') and t.typcategory <> 'A' and (c.oid is null or c.relkind = 'c') and {}",
            own("n", "pg_type", "t.oid")
        );
        for row in ask(session, &types).await? {
            catalog.types.insert(qualified(row.get(0), row.get(1)));
        }
        Ok(catalog)
    }

    async fn read_relations(&mut self, session: &Session) -> Result<(), ActionError> {
        let relations = format!(
            "select n.nspname, c.relname, c.relkind::text, c.relrowsecurity, coalesce(i.indisvalid, true), \
             (select count(*) from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 \
              and not a.attisdropped) \
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             left join pg_catalog.pg_index i on i.indexrelid = c.oid \
             where c.relkind in ('r', 'p', 'v', 'm', 'S', 'i', 'I', 'f') and {}",
            own("n", "pg_class", "c.oid")
        );
        for row in ask(session, &relations).await? {
            let columns: i64 = row.get(5);
            self.relations.insert(
                qualified(row.get(0), row.get(1)),
                Relation {
                    kind: row.get::<_, String>(2).chars().next().unwrap_or('?'),
                    columns: usize::try_from(columns).unwrap_or(0),
                    rls: row.get(3),
                    valid: row.get(4),
                },
            );
        }
        Ok(())
    }

    async fn read_tables_parts(&mut self, session: &Session) -> Result<(), ActionError> {
        let parts = |table: &str, name: &str, relid: &str, extra: &str, filter: &str| {
            format!(
                "select n.nspname, c.relname, x.{name}, {extra} from pg_catalog.{table} x \
                 join pg_catalog.pg_class c on c.oid = x.{relid} \
                 join pg_catalog.pg_namespace n on n.oid = c.relnamespace where {filter} and {}",
                own("n", "pg_class", "c.oid")
            )
        };
        let key =
            |row: &tokio_postgres::Row| of_table(&qualified(row.get(0), row.get(1)), &quoted(row.get(2)));
        let constraints = parts("pg_constraint", "conname", "conrelid", "x.convalidated", "true");
        for row in ask(session, &constraints).await? {
            self.constraints.insert(key(&row), row.get(3));
        }
        let triggers = parts("pg_trigger", "tgname", "tgrelid", "true", "not x.tgisinternal");
        self.triggers = ask(session, &triggers).await?.iter().map(key).collect();
        let policies = parts("pg_policy", "polname", "polrelid", "true", "true");
        self.policies = ask(session, &policies).await?.iter().map(key).collect();
        Ok(())
    }

    /// Names of the relations of some kinds.
    pub(super) fn of_kind<'a>(&'a self, kinds: &'a str) -> impl Iterator<Item = (&'a String, &'a Relation)> {
        self.relations.iter().filter(move |(_, relation)| kinds.contains(relation.kind))
    }
}

async fn ask(session: &Session, sql: &str) -> Result<Vec<tokio_postgres::Row>, ActionError> {
    timed(session.client.query(sql, &[]), || format!("read the catalog of `{}`", session.label)).await
}

/// Rows of a table that holds any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// The table, quoted.
    pub(super) table: String,
    /// How many; an estimate for a very large table.
    pub(super) rows: u64,
}

/// The tables that hold rows, of those that a caller cares about.
pub(super) async fn holding(
    session: &Session,
    cares: impl Fn(&str) -> bool,
) -> Result<Vec<Held>, ActionError> {
    // Rows that a policy hides are there all the same: rather an error than "it is empty".
    let visible = session.client.batch_execute("set row_security = off");
    timed(visible, || format!("set up `{}`", session.label)).await?;
    let tables = format!(
        "select n.nspname, c.relname, c.reltuples from pg_catalog.pg_class c \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where c.relkind = 'r' and has_table_privilege(c.oid, 'select') \
         and has_schema_privilege(n.oid, 'usage') and {}",
        own("n", "pg_class", "c.oid")
    );
    let mut held = Vec::new();
    for row in ask(session, &tables).await? {
        let table = qualified(row.get(0), row.get(1));
        if !cares(&table) {
            continue;
        }
        let estimate: f32 = row.get(2);
        let rows = if estimate > COUNT_ROWS_MAX {
            u64_of(f64::from(estimate))
        } else {
            count_only(session, &table).await?
        };
        if rows > 0 {
            held.push(Held { table, rows });
        }
    }
    Ok(held)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "an estimate above zero, for people"
)]
fn u64_of(estimate: f64) -> u64 {
    estimate as u64
}

/// Rows of a table, counted. Takes as long as it takes: a big table is read whole.
pub(super) async fn count(session: &Session, table: &str) -> Result<u64, ActionError> {
    count_from(session, table, table).await
}

/// The same, without the rows of tables that inherit from it. A partitioned table has none of its own.
pub(super) async fn count_only(session: &Session, table: &str) -> Result<u64, ActionError> {
    count_from(session, table, &format!("only {table}")).await
}

async fn count_from(session: &Session, table: &str, from: &str) -> Result<u64, ActionError> {
    let row = session
        .client
        .query_one(&format!("select count(*) from {from}"), &[])
        .await
        .map_err(|error| super::session::failed(format!("count the rows of {}", plain(table)), error))?;
    Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or(0))
}

/// `public.a 3 rows, public.b 1 row and 4 more tables`.
pub(super) fn list_held(held: &[Held]) -> String {
    let shown: Vec<_> =
        held.iter().take(8).map(|h| format!("{} ({})", plain(&h.table), rows_of(h.rows))).collect();
    let more = held.len().saturating_sub(8);
    let tail = if more > 0 { format!(" and {more} more tables") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

/// `1 row`, `12 rows`.
pub(super) fn rows_of(number: u64) -> String {
    if number == 1 { "1 row".to_owned() } else { format!("{number} rows") }
}
