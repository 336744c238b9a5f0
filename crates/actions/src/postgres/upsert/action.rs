//! `postgres.upsert`: one transaction that compares, writes, keeps what is needed to take it back, and notes the
//! step's key.

use futures_util::TryStreamExt as _;
use runbook_core::action::{Access, ActionError, Context, Effect, Outcome, Preview};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;

use crate::postgres::rows::RowsFile;
use crate::postgres::rows::file::{CsvWriter, Durable};
use crate::postgres::session::{Session, connect, fence, timed};
use crate::postgres::sql::{literal, quoted};
use crate::typed::{About, Done, Typed, nothing_to_undo};

use super::difference::{ROWS, compute, look, texts};
use super::params::{DifferenceOutputs, UpsertOutputs, UpsertParams};
use super::stage::{fill, quiet, send};
use super::target::{Target, listed};
use super::{keys, parents, undo};

/// Keys of the rows that are written, and whether each is new.
const TOUCHED: &str = "runbook_touched";
/// The rows that are changed, as they were.
const BEFORE: &str = "runbook_before";

/// `postgres.upsert`.
#[derive(Debug)]
pub struct Upsert;

impl Typed for Upsert {
    type Params = UpsertParams;
    type Outputs = UpsertOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Write)],
        permissions: &[
            "SELECT, INSERT and UPDATE on the table, SELECT on those that its foreign keys point at; DELETE for the undo",
            "CREATE on the database, for the schema _runbook; TEMPORARY on it",
        ],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "postgres.upsert",
            "Puts extracted rows into a table in one transaction, and keeps what is needed to take it back.",
            Effect::Transactional,
            "- id: freeze\n  uses: vercel.flag\n  tags: [freeze]\n  with: { key: read_only, value: true }\n- id: rows\n  uses: postgres.extract_rows\n  with:\n    backup: \"{{ steps.backup }}\"\n    \
             table: public.profiles\n    key: id\n    keys: [00000000-0000-4000-8000-000000000001]\n\
             - id: upsert\n  uses: postgres.upsert\n  with:\n    connection: \"{{ connections.live }}\"\n    \
             rows: \"{{ steps.rows }}\"\n    conflict: id\n    update: [display_name]\n\
             - id: unfreeze\n  uses: vercel.flag\n  tags: [unfreeze]\n  with: { key: read_only, value: false }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: UpsertParams) -> Result<Done<UpsertOutputs>, ActionError> {
        acceptable(&params)?;
        ctx.checkpoints.save("key", json!(ctx.key)).await?;
        let outputs = upsert(ctx, &params).await?;
        let triggers = if outputs.by_triggers.is_empty() {
            String::new()
        } else {
            format!("; its triggers set {}", outputs.by_triggers.join(", "))
        };
        let before = if outputs.repeated { "it had been done: " } else { "" };
        let summary = format!(
            "{before}{}: {} rows inserted, {} changed, {} left{triggers}",
            outputs.table, outputs.inserted, outputs.changed, outputs.unchanged
        );
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: UpsertParams) -> Result<Preview, ActionError> {
        acceptable(&params)?;
        let difference = look(ctx, &params.difference()).await?;
        let mut lines = vec![format!("writes to {}: {}", params.connection.label(), difference.text)];
        if params.as_replica {
            lines.push("turns triggers and foreign keys off while it writes".into());
        }
        lines.push("keeps the rows as they were, to take it back".into());
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn undo(
        &self,
        ctx: &Context,
        params: UpsertParams,
        outputs: UpsertOutputs,
    ) -> Result<Outcome, ActionError> {
        undo::undo(ctx, &params, &outputs).await
    }

    async fn undo_unfinished(&self, ctx: &Context, params: UpsertParams) -> Result<Outcome, ActionError> {
        let Some(key) = ctx.checkpoints.get("key").and_then(|key| key.as_str().map(str::to_owned)) else {
            return Ok(nothing_to_undo());
        };
        let session = connect(ctx, &params.connection).await?;
        match keys::find(&session, &key).await? {
            None => Ok(nothing_to_undo()),
            Some((_, outputs)) => undo::undo(ctx, &params, &decoded(outputs)?).await,
        }
    }

    async fn fence(&self, ctx: &Context, params: UpsertParams) -> Result<u32, ActionError> {
        fence(ctx, &params.connection).await
    }
}

fn acceptable(params: &UpsertParams) -> Result<(), ActionError> {
    if params.as_replica && params.approved_by.as_deref().unwrap_or_default().trim().is_empty() {
        return Err(ActionError::refused("turn triggers and foreign keys off: nobody approved it")
            .code("not-approved")
            .hint("Put an `approval` step before, and set `approved_by: \"{{ steps.ID.approved_by }}\"`."));
    }
    let name = &params.undo_file;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(ActionError::refused(
            "name the undo files: `undo_file` is a name of letters, digits, `-` and `_`",
        ));
    }
    Ok(())
}

fn decoded(outputs: Value) -> Result<UpsertOutputs, ActionError> {
    serde_json::from_value(outputs).map_err(|error| {
        ActionError::refused("read what an upsert came to from its target")
            .because(error)
            .code("markers-damaged")
    })
}

/// What the key stands for.
fn digest(params: &UpsertParams) -> String {
    let what = json!([
        params.rows.sha256,
        params.rows.table,
        params.table,
        params.conflict.names(),
        params.update,
        params.skip_columns
    ]);
    hex::encode(Sha256::digest(what.to_string()))
}

async fn upsert(ctx: &Context, params: &UpsertParams) -> Result<UpsertOutputs, ActionError> {
    let session = connect(ctx, &params.connection).await?;
    let digest = digest(params);
    if let Some(outputs) = keys::begin(ctx, &session, &digest, params.timeout_seconds).await? {
        return Ok(UpsertOutputs { repeated: true, ..decoded(outputs)? });
    }
    let target = Target::find(&session, &params.difference()).await?;
    let attempted = || format!("put rows into `{}` of `{}`", target.shown(), session.label);
    // From here to the commit nobody else writes to the table, so the difference is what is carried out.
    let lock = format!("lock table {} in share row exclusive mode", target.name);
    timed(session.client.batch_execute(&lock), attempted).await?;
    fill(&session, &target, ROWS, &params.rows, &target.write).await?;
    let difference = compute(ctx, &session, &target).await?;
    if params.expected.as_ref().is_some_and(|expected| *expected != difference.digest) {
        return Err(ActionError::refused(format!(
            "{}: the difference is another one than was approved: {}",
            attempted(),
            difference.text
        ))
        .code("difference-changed")
        .hint("The rows in the table changed in between. Look at the difference again in a new run."));
    }
    parents::demand(ctx, &session, &target).await?;
    if ctx.stop.requested() {
        return Err(ActionError::unchanged(format!("{}: a stop was asked for", attempted())).code("stopped"));
    }
    let work = Work { ctx, params, session: &session, target: &target };
    let outputs = work.carry_out(difference).await?;
    let rows = outputs.inserted + outputs.changed;
    keys::commit(ctx, &session, &digest, (rows, &json!(outputs))).await?;
    Ok(outputs)
}

struct Work<'a> {
    ctx: &'a Context,
    params: &'a UpsertParams,
    session: &'a Session,
    target: &'a Target,
}

impl Work<'_> {
    fn attempted(&self) -> String {
        format!("put rows into `{}` of `{}`", self.target.shown(), self.session.label)
    }

    async fn send(&self, sql: &str) -> Result<u64, ActionError> {
        send(self.session, sql, || self.attempted()).await
    }

    async fn carry_out(&self, difference: DifferenceOutputs) -> Result<UpsertOutputs, ActionError> {
        let Self { params, target, .. } = self;
        let stored = target.stored();
        let first = quoted(&target.conflict[0]);
        self.send(&format!(
            "create temporary table {TOUCHED} on commit drop as select {}, t.{first} is null as \"*fresh\" \
             from pg_temp.{ROWS} s left join {} t on {} where t.{first} is null or {}",
            listed(&target.conflict, "s"),
            target.name,
            target.same("t", "s"),
            target.differ(&target.update, "t", "s")
        ))
        .await?;
        self.send(&format!(
            "create temporary table {BEFORE} on commit drop as select {} from {} t join pg_temp.{TOUCHED} k on {} \
             where not k.\"*fresh\"",
            listed(&stored, "t"),
            target.name,
            target.same("t", "k")
        ))
        .await?;
        let before = self
            .keep(&format!("{}.csv", params.undo_file), &stored, &format!("pg_temp.{BEFORE} t"), "")
            .await?;
        if params.as_replica {
            self.send("set local session_replication_role = replica").await?;
        }
        let (inserted, changed) = (self.insert().await?, self.change().await?);
        if (inserted, changed) != (difference.inserted, difference.changed) {
            return Err(ActionError::refused(format!(
                "{}: a trigger or rule kept rows out: {inserted} of {} were inserted, {changed} of {} changed",
                self.attempted(),
                difference.inserted,
                difference.changed
            ))
            .code("kept-out"));
        }
        let by_triggers = self.by_triggers(&stored).await?;
        let joined = format!("join pg_temp.{TOUCHED} k on {}", target.same("t", "k"));
        let name = format!("{}-after.csv", params.undo_file);
        let after = self.keep(&name, &stored, &format!("{} t", target.name), &joined).await?;
        let undo_sql = self.undo_sql(&stored).await?;
        Ok(UpsertOutputs {
            table: target.shown(),
            inserted,
            changed,
            unchanged: difference.unchanged,
            difference_file: difference.file,
            by_triggers,
            before,
            after,
            undo_sql,
            repeated: false,
        })
    }

    async fn insert(&self) -> Result<u64, ActionError> {
        let target = self.target;
        self.send(&format!(
            "insert into {} ({}) {} select {} from pg_temp.{ROWS} s join pg_temp.{TOUCHED} k on {} where k.\"*fresh\"",
            target.name,
            listed(&target.write, ""),
            target.overriding(&target.write),
            listed(&target.write, "s"),
            target.same("s", "k")
        ))
        .await
    }

    async fn change(&self) -> Result<u64, ActionError> {
        let target = self.target;
        if target.update.is_empty() {
            return Ok(0);
        }
        let set: Vec<_> = target.update.iter().map(|name| format!("{0} = s.{0}", quoted(name))).collect();
        self.send(&format!(
            "update {} t set {} from pg_temp.{ROWS} s join pg_temp.{TOUCHED} k on {} where {} and not k.\"*fresh\"",
            target.name,
            set.join(", "),
            target.same("s", "k"),
            target.same("t", "k")
        ))
        .await
    }

    /// Columns that are neither as the rows say nor, where they should have stayed, as they were.
    async fn by_triggers(&self, stored: &[String]) -> Result<Vec<String>, ActionError> {
        let target = self.target;
        let odd = |name: &String| {
            let other = |alias: &str| format!("t.{0}::text is distinct from {alias}.{0}::text", quoted(name));
            let fresh = if target.write.contains(name) { other("s") } else { "false".into() };
            let there = if target.update.contains(name) { other("s") } else { other("b") };
            format!("bool_or(case when k.\"*fresh\" then {fresh} else {there} end)")
        };
        let sql = format!(
            "select array[{}] from {} t join pg_temp.{TOUCHED} k on {} join pg_temp.{ROWS} s on {} \
             left join pg_temp.{BEFORE} b on {}",
            stored.iter().map(odd).collect::<Vec<_>>().join(", "),
            target.name,
            target.same("t", "k"),
            target.same("s", "k"),
            target.same("b", "k")
        );
        let row = self.session.client.query_one(&sql, &[]).await.map_err(|e| quiet(self.attempted(), e))?;
        let odd: Vec<Option<bool>> = row.get(0);
        Ok(stored
            .iter()
            .zip(odd)
            .filter(|(_, odd)| *odd == Some(true))
            .map(|(name, _)| name.clone())
            .collect())
    }

    /// Writes rows to a file that is durable before the commit.
    async fn keep(
        &self,
        name: &str,
        columns: &[String],
        from: &str,
        joined: &str,
    ) -> Result<RowsFile, ActionError> {
        let sql = format!("select array[{}]::text[] from {from} {joined} order by 1", texts(columns, "t"));
        let mut out = CsvWriter::create(&self.ctx.artifacts, name, &self.target.shown(), columns)?;
        let none: [&(dyn ToSql + Sync); 0] = [];
        let failed = |error| quiet(self.attempted(), error);
        let rows = self.session.client.query_raw(&sql, none).await.map_err(failed)?;
        futures_util::pin_mut!(rows);
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let values: Vec<Option<&str>> = row.get(0);
            out.row(&values.iter().map(|value| value.map(str::as_bytes)).collect::<Vec<_>>())?;
        }
        out.finish()
    }

    /// Statements for people, should the tool be out of reach.
    async fn undo_sql(&self, stored: &[String]) -> Result<String, ActionError> {
        let target = self.target;
        let mut file = Durable::create(&self.ctx.artifacts, &format!("{}.sql", self.params.undo_file))?;
        file.write(
            format!("-- Puts the rows of {} back as they were.\nbegin;\n", target.shown()).as_bytes(),
        )?;
        let sql = format!(
            "select array[{}]::text[], k.\"*fresh\", array[{}]::text[] from pg_temp.{TOUCHED} k \
             left join pg_temp.{BEFORE} b on {} order by 2, 1",
            texts(&target.conflict, "k"),
            texts(stored, "b"),
            target.same("b", "k")
        );
        let none: [&(dyn ToSql + Sync); 0] = [];
        let failed = |error| quiet(self.attempted(), error);
        let rows = self.session.client.query_raw(&sql, none).await.map_err(failed)?;
        futures_util::pin_mut!(rows);
        let changeable = target.changeable();
        let names = listed(&target.conflict, "");
        let mut removes = false;
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let (key, fresh): (Vec<&str>, bool) = (row.get(0), row.get(1));
            let old: Vec<Option<&str>> = row.get(2);
            let key: Vec<_> = key.into_iter().map(literal).collect();
            let line = if fresh {
                // In one statement, since rows that go may point at each other.
                let before = if removes {
                    ",".into()
                } else {
                    format!("delete from {} where ({names}) in (", target.name)
                };
                removes = true;
                format!("{before}\n  ({})", key.join(", "))
            } else {
                let value = |value: Option<&str>| value.map_or_else(|| "null".into(), literal);
                let set: Vec<_> = stored
                    .iter()
                    .zip(old)
                    .filter(|(name, _)| changeable.contains(name))
                    .map(|(name, old)| format!("{} = {}", quoted(name), value(old)))
                    .collect();
                let at: Vec<_> =
                    target.conflict.iter().zip(key).map(|(n, v)| format!("{} = {v}", quoted(n))).collect();
                format!("update {} set {} where {};\n", target.name, set.join(", "), at.join(" and "))
            };
            file.write(line.as_bytes())?;
        }
        if removes {
            file.write(b");\n")?;
        }
        file.write(b"commit;\n")?;
        Ok(file.finish()?.0)
    }
}
