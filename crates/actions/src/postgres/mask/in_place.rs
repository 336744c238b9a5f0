//! `postgres.mask`: masks a database that is filled already, in one transaction that also notes the step's key:
//! masking twice would give pseudonyms of pseudonyms.

use std::collections::BTreeSet;

use runbook_core::action::{Access, ActionError, Context, Effect, Preview, Progress};
use runbook_core::secret::SecretText;
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::types::ToSql;

use super::columns;
use super::keys::Keys;
use super::output::Masked;
use super::plan::{Op, Place, Plan, TablePlan, decide};
use super::rules::{self, Rule, Rules};
use super::stream::describe;
use super::taint::Taint;
use super::value::{apply, sources};
use crate::postgres::catalog::MARKERS;
use crate::postgres::session::{Session, connect, failed, fence, timed};
use crate::postgres::sql::{literal, plain, quoted};
use crate::typed::{About, Done, Typed};

/// Rows that are masked at a time.
const BATCH: usize = 500;

/// Parameters of `postgres.mask`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaskParams {
    /// The database to mask.
    pub connection: Connection,
    /// Rules by which it is masked, a YAML file beside the runbook. A column that could hold personal text and
    /// has no rule stops the step before anything is changed.
    pub rules: String,
    /// The key of the pseudonyms, a secret of 16 bytes or more: the same key gives the same ones.
    pub key: SecretText,
}

/// Outputs of `postgres.mask`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct MaskOutputs {
    /// How it was masked.
    pub masked: Masked,
    /// Rows that were changed.
    pub rows: u64,
    /// It had been done before under the same key, and was not done again.
    pub repeated: bool,
}

/// What is kept in the target.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    masked: Masked,
    #[serde(default)]
    rows: u64,
}

/// `postgres.mask`.
#[derive(Debug)]
pub struct Mask;

impl Typed for Mask {
    type Params = MaskParams;
    type Outputs = MaskOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Write)],
        permissions: &["CREATE on the database, for the schema _runbook", "UPDATE on what is masked"],
        has_plan: true,
        ..About::new(
            "postgres.mask",
            "Replaces personal values in a database by keyed pseudonyms, once, in one transaction.",
            Effect::Transactional,
            "- id: mask\n  uses: postgres.mask\n  with:\n    connection: \"{{ steps.database.connection }}\"\n    \
             rules: ../examples/polaris/masking.yaml\n    key: \"{{ secrets.masking_key }}\"\n",
        )
    };

    async fn run(&self, ctx: &Context, params: MaskParams) -> Result<Done<MaskOutputs>, ActionError> {
        let rules = rules::load(ctx, &params.rules)?;
        let keys = Keys::reveal(ctx, &params.key)?;
        let session = connect(ctx, &params.connection).await?;
        let job = Job { ctx, session: &session, rules: &rules, keys: &keys };
        let (kept, repeated) = job.run().await?;
        job.forget_old_rows(&kept.masked).await?;
        let summary = format!(
            "{} columns of {} rows masked (key {})",
            kept.masked.columns.len(),
            kept.rows,
            kept.masked.key_id
        );
        Ok(Done::new(MaskOutputs { masked: kept.masked, rows: kept.rows, repeated }, summary))
    }

    async fn plan(&self, ctx: &Context, params: MaskParams) -> Result<Preview, ActionError> {
        let rules = rules::load(ctx, &params.rules)?;
        let keys = Keys::reveal(ctx, &params.key)?;
        let session = connect(ctx, &params.connection).await?;
        let plan = Job { ctx, session: &session, rules: &rules, keys: &keys }.decide().await?;
        let mut lines = vec![format!(
            "masks {} columns of {} (key {})",
            plan.columns().len(),
            session.label,
            rules.key_id
        )];
        lines.extend(plan.dropped().into_iter().map(|table| format!("removes the rows of {table}")));
        let destroys = Some(format!("the real values in {}", session.label));
        Ok(Preview::Changes { lines, destroys })
    }

    async fn fence(&self, ctx: &Context, params: MaskParams) -> Result<u32, ActionError> {
        fence(ctx, &params.connection).await
    }
}

/// The statement that notes in a database that it is masked.
pub(in crate::postgres) fn mark(key: &str, by: &str, masked: &serde_json::Value) -> String {
    format!(
        "create schema if not exists {MARKERS}; create table if not exists {MARKERS}.masked (key text primary key, \
         by text not null, masked jsonb not null, at timestamptz not null default pg_catalog.now()); \
         insert into {MARKERS}.masked (key, by, masked) values ({}, {}, {}); ",
        literal(key),
        literal(by),
        literal(&masked.to_string())
    )
}

struct Job<'a> {
    ctx: &'a Context,
    session: &'a Session,
    rules: &'a Rules,
    keys: &'a Keys,
}

impl Job<'_> {
    fn attempted(&self) -> String {
        format!("mask `{}`", self.session.label)
    }

    /// What went wrong, without the server's words where they may quote a value.
    fn failed(&self, table: &str, error: tokio_postgres::Error) -> ActionError {
        let attempted = format!("{}: {}", self.attempted(), plain(table));
        let code = error.as_db_error().map(|said| said.code().code().to_owned()).unwrap_or_default();
        if code == "23505" {
            return ActionError::refused(format!(
                "{attempted}: two masked values of a unique column are the same"
            ))
            .code("mask-collision")
            .hint(
                "Give the column a pseudonym (`text` where another format is too narrow) and no constant.",
            );
        }
        if code.starts_with("22") || code.starts_with("23") {
            return ActionError::refused(format!(
                "{attempted}: the database refuses a value (SQLSTATE {code}; its words may quote the value)"
            ))
            .code("statement-failed");
        }
        failed(attempted, error)
    }

    async fn send(&self, sql: &str) -> Result<(), ActionError> {
        self.session.client.batch_execute(sql).await.map_err(|error| failed(self.attempted(), error))
    }

    async fn run(&self) -> Result<(Kept, bool), ActionError> {
        // No policy hides a row from being masked: rather an error.
        let begin = format!(
            "set statement_timeout = 0; set client_min_messages = warning; set row_security = off; begin; \
             select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('{MARKERS}.masked', 0))"
        );
        self.send(&begin).await?;
        if let Some(kept) = self.known().await? {
            self.send("rollback").await?;
            return Ok((kept, true));
        }
        let plan = self.decide().await?;
        self.without_triggers().await?;
        let size = self
            .session
            .client
            .query_one("select pg_catalog.pg_database_size(pg_catalog.current_database())", &[]);
        let size: i64 = timed(size, || self.attempted()).await?.get(0);
        let mut taint = Taint::new(self.keys, u64::try_from(size / 8).unwrap_or(0));
        let mut rows = 0;
        for (table, plan) in &plan.tables {
            match plan {
                TablePlan::Dropped => self.execute(table, &format!("delete from only {table}")).await?,
                TablePlan::Masked(ops) if ops.is_empty() => {}
                TablePlan::Masked(ops) => rows += self.table(table, ops, &mut taint).await?,
            }
        }
        let masked = describe(self.rules, self.keys, &plan, taint.save(&self.ctx.artifacts)?);
        let kept = Kept { masked, rows };
        let json = serde_json::to_value(&kept)
            .map_err(|error| ActionError::refused("write down what was masked").because(error))?;
        // The answer to a COMMIT may be lost after it happened; the key decides then, so it is safe to repeat.
        let mark = format!("{}commit", mark(&self.ctx.key, "postgres.mask", &json));
        self.send(&mark).await?;
        Ok((kept, false))
    }

    /// What was done under this key. A database that something else masked is refused.
    async fn known(&self) -> Result<Option<Kept>, ActionError> {
        let there = self
            .session
            .client
            .query_one("select pg_catalog.to_regclass('_runbook.masked') is not null", &[]);
        if !timed(there, || self.attempted()).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        let rows = self.session.client.query("select key, by, masked from _runbook.masked order by at", &[]);
        let rows = timed(rows, || self.attempted()).await?;
        if let Some(mine) = rows.iter().find(|row| row.get::<_, String>(0) == self.ctx.key) {
            let kept = serde_json::from_value(mine.get(2)).map_err(|error| {
                ActionError::refused(format!("{}: its marker is damaged", self.attempted()))
                    .because(error)
                    .code("markers-damaged")
            })?;
            return Ok(Some(kept));
        }
        match rows.first() {
            None => Ok(None),
            Some(row) => Err(ActionError::refused(format!(
                "{}: it is masked already, by {}",
                self.attempted(),
                row.get::<_, String>(1)
            ))
            .code("already-masked")
            .hint(
                "Masking again would give pseudonyms of pseudonyms. Restore again to mask by other rules.",
            )),
        }
    }

    /// A rule for each column of every table that holds rows and can be read.
    async fn decide(&self) -> Result<Plan, ActionError> {
        let tables = columns::read(self.session, "r").await?;
        let references = columns::references(self.session).await?;
        let mut wanted = BTreeSet::new();
        for table in tables.keys() {
            let name: [&(dyn ToSql + Sync); 1] = [table];
            let may = self.session.client.query_one(
                "select pg_catalog.has_table_privilege(c.oid, 'select') \
                   and pg_catalog.has_schema_privilege(c.relnamespace, 'usage') \
                 from pg_catalog.pg_class c where c.oid = pg_catalog.to_regclass($1::text)",
                &name,
            );
            if !timed(may, || self.attempted()).await?.get::<_, Option<bool>>(0).unwrap_or(false) {
                continue;
            }
            let sql = format!("select exists (select 1 from only {table})");
            let holds = timed(self.session.client.query_one(&sql, &[]), || self.attempted()).await?;
            if holds.get::<_, bool>(0) {
                wanted.insert(table.clone());
            }
        }
        decide(self.rules, &tables, &references, &wanted, Place::InDatabase)
    }

    /// Triggers would write of their own, and foreign keys would be checked half-way. Where the role may not turn
    /// them off they stay on, and a key that breaks stops the step.
    async fn without_triggers(&self) -> Result<(), ActionError> {
        self.send("savepoint triggers").await?;
        let off = self.session.client.batch_execute("set local session_replication_role = replica").await;
        self.send(if off.is_ok() { "release savepoint triggers" } else { "rollback to savepoint triggers" })
            .await
    }

    async fn execute(&self, table: &str, sql: &str) -> Result<(), ActionError> {
        self.session.client.batch_execute(sql).await.map_err(|error| self.failed(table, error))
    }

    async fn table(&self, table: &str, ops: &[Op], taint: &mut Taint) -> Result<u64, ActionError> {
        let (by_sql, by_us): (Vec<Op>, Vec<Op>) =
            ops.iter().cloned().partition(|op| matches!(op.rule, Rule::Sql(_)));
        if !by_sql.is_empty() {
            self.pass(table, &by_sql, taint, false).await?;
            let sets = by_sql.iter().filter_map(|op| match &op.rule {
                Rule::Sql(sql) => Some(format!("{} = ({sql})", quoted(&op.column))),
                _ => None,
            });
            let sets = sets.collect::<Vec<_>>().join(", ");
            self.execute(table, &format!("update only {table} set {sets}")).await?;
        }
        self.pass(table, &by_us, taint, true).await
    }

    /// Goes over all rows, remembers what is replaced, and replaces it where `write` says so.
    async fn pass(
        &self,
        table: &str,
        ops: &[Op],
        taint: &mut Taint,
        write: bool,
    ) -> Result<u64, ActionError> {
        let selected: Vec<_> = ops.iter().map(|op| format!("{}::text", quoted(&op.column))).collect();
        let selected = if selected.is_empty() { String::new() } else { format!(", {}", selected.join(", ")) };
        let open =
            format!("declare masking no scroll cursor for select ctid::text{selected} from only {table}");
        self.execute(table, &open).await?;
        let update = update(table, ops);
        let mut rows = 0u64;
        loop {
            let fetched = self.session.client.query(&format!("fetch {BATCH} from masking"), &[]).await;
            let fetched = fetched.map_err(|error| self.failed(table, error))?;
            if fetched.is_empty() {
                break;
            }
            let mut places: Vec<String> = Vec::with_capacity(fetched.len());
            let mut made: Vec<Vec<Option<String>>> = vec![Vec::with_capacity(fetched.len()); ops.len()];
            for row in &fetched {
                places.push(row.get(0));
                for (at, op) in ops.iter().enumerate() {
                    let value: Option<&str> = row.get(at + 1);
                    made[at].push(self.value(table, op, value, taint)?);
                }
            }
            rows += fetched.len() as u64;
            if write && !ops.is_empty() {
                let mut params: Vec<&(dyn ToSql + Sync)> = vec![&places];
                params.extend(made.iter().map(|values| values as &(dyn ToSql + Sync)));
                let updated = self.session.client.execute(&update, &params).await;
                updated.map_err(|error| self.failed(table, error))?;
            }
            let message = plain(table);
            self.ctx.progress.report(Progress { done: rows, total: None, unit: "rows", message });
            if self.ctx.stop.requested() {
                // Nothing is committed: the transaction goes with the session.
                return Err(ActionError::unchanged(format!("{}: a stop was asked for", self.attempted()))
                    .code("stopped"));
            }
        }
        self.execute(table, "close masking").await?;
        Ok(rows)
    }

    fn value(
        &self,
        table: &str,
        op: &Op,
        value: Option<&str>,
        taint: &mut Taint,
    ) -> Result<Option<String>, ActionError> {
        let Some(value) = value else { return Ok(None) };
        let misshapen = |_| {
            ActionError::refused(format!(
                "{}: a value of {}.{} is not what its type says",
                self.attempted(),
                plain(table),
                plain(&op.column)
            ))
        };
        sources(&op.rule, &op.kind, value, &mut |source| taint.add(source)).map_err(misshapen)?;
        apply(&self.keys.pseudonym, &op.rule, &op.kind, value).map_err(misshapen)
    }

    /// The old rows are still in the files, and values in the planner's statistics, until the tables are written
    /// anew. A table of somebody else's is left as it is; the leak check looks at its statistics.
    async fn forget_old_rows(&self, masked: &Masked) -> Result<(), ActionError> {
        let mut tables: BTreeSet<&str> = masked.dropped.iter().map(String::as_str).collect();
        tables.extend(masked.columns.iter().filter_map(|column| Some(column.rsplit_once('.')?.0)));
        let owned = self.session.client.query(
            "select pg_catalog.format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname \
             from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relkind = 'r' and pg_catalog.pg_has_role(c.relowner, 'usage')",
            &[],
        );
        for row in timed(owned, || self.attempted()).await? {
            if tables.contains(row.get::<_, &str>(1)) {
                self.send(&format!("vacuum (full, analyze) {}", row.get::<_, &str>(0))).await?;
            }
        }
        Ok(())
    }
}

/// Sets a batch of rows by their places.
fn update(table: &str, ops: &[Op]) -> String {
    let sets: Vec<_> = ops
        .iter()
        .enumerate()
        .map(|(at, op)| format!("{} = made.v{at}::{}", quoted(&op.column), op.shown))
        .collect();
    let arrays: Vec<_> = (0..=ops.len()).map(|at| format!("${}::text[]", at + 1)).collect();
    let names: Vec<_> = (0..ops.len()).map(|at| format!(", v{at}")).collect();
    format!(
        "update only {table} as masked set {} from unnest({}) as made(place{}) where masked.ctid = made.place::tid",
        sets.join(", "),
        arrays.join(", "),
        names.concat()
    )
}
