//! `postgres.difference`: what an upsert would change, row by row, to a private file; counts for everybody. Changes
//! nothing: what it makes in the database is a temporary table in a transaction that is rolled back.

use std::collections::BTreeMap;

use futures_util::TryStreamExt as _;
use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;

use crate::postgres::rows::file::Durable;
use crate::postgres::session::{Session, connect, fence, timed};
use crate::postgres::sql::quoted;
use crate::typed::{About, Done, Typed};

use super::params::{ChangedColumn, DifferenceOutputs, DifferenceParams};
use super::parents;
use super::stage::{fill, quiet};
use super::target::{Target, listed};

/// The temporary table that the rows are in.
pub(super) const ROWS: &str = "runbook_rows";
/// The file with keys and values.
const FILE: &str = "difference.json";

/// `postgres.difference`.
#[derive(Debug)]
pub struct Difference;

impl Typed for Difference {
    type Params = DifferenceParams;
    type Outputs = DifferenceOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &[
            "SELECT on the table and on those that its foreign keys point at",
            "TEMPORARY on the database",
        ],
        has_plan: true,
        ..About::new(
            "postgres.difference",
            "Shows what an upsert of extracted rows would change, before anything is.",
            Effect::Read,
            "- id: rows\n  uses: postgres.extract_rows\n  with:\n    backup: \"{{ steps.backup }}\"\n    \
             table: public.profiles\n    key: id\n    keys: [00000000-0000-4000-8000-000000000001]\n\
             - id: difference\n  uses: postgres.difference\n  with:\n    connection: \"{{ connections.live }}\"\n    \
             rows: \"{{ steps.rows }}\"\n    conflict: id\n    update: all\n",
        )
    };

    async fn run(
        &self,
        ctx: &Context,
        params: DifferenceParams,
    ) -> Result<Done<DifferenceOutputs>, ActionError> {
        let outputs = look(ctx, &params).await?;
        let text = outputs.text.clone();
        Ok(Done::new(outputs, text))
    }

    async fn plan(&self, ctx: &Context, params: DifferenceParams) -> Result<Preview, ActionError> {
        let outputs = look(ctx, &params).await?;
        Ok(Preview::Changes { lines: vec![format!("compares: {}", outputs.text)], destroys: None })
    }

    async fn fence(&self, ctx: &Context, params: DifferenceParams) -> Result<u32, ActionError> {
        fence(ctx, &params.connection).await
    }
}

/// Compares in a transaction that is rolled back.
pub(super) async fn look(ctx: &Context, params: &DifferenceParams) -> Result<DifferenceOutputs, ActionError> {
    let session = connect(ctx, &params.connection).await?;
    let attempted = || format!("compare rows with `{}`", session.label);
    let begin = "begin isolation level repeatable read; set local row_security = off; set local statement_timeout = '600s'";
    timed(session.client.batch_execute(begin), attempted).await?;
    let target = Target::find(&session, params).await?;
    fill(&session, &target, ROWS, &params.rows, &target.write).await?;
    let outputs = compute(ctx, &session, &target).await?;
    parents::demand(ctx, &session, &target).await?;
    timed(session.client.batch_execute("rollback"), attempted).await?;
    Ok(outputs)
}

/// Compares the rows in the temporary table with those of the table, and writes down each.
pub(super) async fn compute(
    ctx: &Context,
    session: &Session,
    target: &Target,
) -> Result<DifferenceOutputs, ActionError> {
    sound(session, target).await?;
    let mut tally = Tally::new(ctx, target)?;
    let attempted = || format!("compare rows with `{}` in `{}`", target.shown(), session.label);
    let sql = format!(
        "select array[{}], t.{} is null, array[{}]::text[], array[{}]::text[] from pg_temp.{ROWS} s \
         left join {} t on {} order by 1",
        texts(&target.conflict, "s"),
        quoted(&target.conflict[0]),
        texts(&target.write, "s"),
        texts(&target.write, "t"),
        target.name,
        target.same("t", "s")
    );
    let none: [&(dyn ToSql + Sync); 0] = [];
    let rows = session.client.query_raw(&sql, none).await.map_err(|error| quiet(attempted(), error))?;
    futures_util::pin_mut!(rows);
    while let Some(row) = rows.try_next().await.map_err(|error| quiet(attempted(), error))? {
        tally.row(target, &row)?;
    }
    let outputs = tally.finish(target)?;
    let lacking = target.lacking();
    if outputs.inserted > 0 && !lacking.is_empty() {
        return Err(ActionError::refused(format!(
            "insert {} rows into `{}`: it wants a value for {}, and the rows have none",
            outputs.inserted,
            target.shown(),
            lacking.join(", ")
        ))
        .code("columns-missing"));
    }
    Ok(outputs)
}

pub(super) fn texts(columns: &[String], alias: &str) -> String {
    columns.iter().map(|name| format!("{alias}.{}::text", quoted(name))).collect::<Vec<_>>().join(", ")
}

/// Each row must have a key of its own.
async fn sound(session: &Session, target: &Target) -> Result<(), ActionError> {
    let null: Vec<_> = target.conflict.iter().map(|name| format!("{} is null", quoted(name))).collect();
    let sql = format!(
        "select (select count(*) from pg_temp.{ROWS} where {}), \
         (select count(*) from (select 1 from pg_temp.{ROWS} group by {} having count(*) > 1) d)",
        null.join(" or "),
        listed(&target.conflict, "")
    );
    let row = timed(session.client.query_one(&sql, &[]), || {
        format!("look at the keys of the rows for `{}`", target.shown())
    })
    .await?;
    let (nulls, doubles): (i64, i64) = (row.get(0), row.get(1));
    let keys = target.conflict.join(", ");
    if nulls > 0 {
        return Err(ActionError::refused(format!(
            "tell rows apart by {keys}: {nulls} of them have NULL there"
        )));
    }
    if doubles > 0 {
        return Err(ActionError::refused(format!(
            "tell rows apart by {keys}: {doubles} keys stand in the rows more than once"
        )));
    }
    Ok(())
}

/// Writes the file and counts.
struct Tally {
    file: Durable,
    sum: Sha256,
    first: bool,
    inserted: u64,
    changed: u64,
    unchanged: u64,
    columns: BTreeMap<String, u64>,
}

impl Tally {
    fn new(ctx: &Context, target: &Target) -> Result<Self, ActionError> {
        let mut file = Durable::create(&ctx.artifacts, FILE)?;
        let head = json!({ "table": target.shown(), "conflict": target.conflict, "update": target.update });
        let text = head.to_string();
        file.write(text.trim_end_matches('}').as_bytes())?;
        file.write(b",\"rows\":[")?;
        let sum = Sha256::new_with_prefix(format!("{} {text}", target.name));
        let (inserted, changed, unchanged) = (0, 0, 0);
        Ok(Self { file, sum, first: true, inserted, changed, unchanged, columns: BTreeMap::new() })
    }

    fn row(&mut self, target: &Target, row: &tokio_postgres::Row) -> Result<(), ActionError> {
        let (key, fresh): (Vec<String>, bool) = (row.get(0), row.get(1));
        let (new, old): (Vec<Option<String>>, Vec<Option<String>>) = (row.get(2), row.get(3));
        let (mut columns, mut kept) = (Map::new(), Vec::new());
        for ((name, new), old) in target.write.iter().zip(new).zip(old) {
            if fresh {
                columns.insert(name.clone(), json!({ "new": new }));
            } else if new != old && target.update.contains(name) {
                *self.columns.entry(name.clone()).or_default() += 1;
                columns.insert(name.clone(), json!({ "old": old, "new": new }));
            } else if new != old {
                kept.push(name.clone());
            }
        }
        let kind = match (fresh, columns.is_empty()) {
            (true, _) => {
                self.inserted += 1;
                "inserted"
            }
            (false, false) => {
                self.changed += 1;
                "changed"
            }
            (false, true) => {
                self.unchanged += 1;
                "unchanged"
            }
        };
        let key: Map<String, Value> =
            target.conflict.iter().cloned().zip(key.into_iter().map(Value::from)).collect();
        let mut entry = json!({ "key": key, "is": kind, "columns": columns });
        if !kept.is_empty() {
            entry["differs_and_stays"] = json!(kept);
        }
        let text = entry.to_string();
        if kind != "unchanged" {
            self.sum.update(text.as_bytes());
            self.sum.update(b"\n");
        }
        self.file.write(if self.first { b"\n" } else { b",\n" })?;
        self.first = false;
        self.file.write(text.as_bytes())
    }

    fn finish(mut self, target: &Target) -> Result<DifferenceOutputs, ActionError> {
        self.file.write(b"\n]}\n")?;
        let (file, _) = self.file.finish()?;
        let columns: Vec<_> =
            self.columns.into_iter().map(|(name, rows)| ChangedColumn { name, rows }).collect();
        let named: Vec<_> = columns.iter().map(|c| format!("{} in {}", c.name, c.rows)).collect();
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        let triggers = match target.triggers.as_slice() {
            [] => String::new(),
            names => format!("; its triggers run: {}", names.join(", ")),
        };
        let text = format!(
            "{}: {} rows inserted, {} changed{named}, {} left as they are{triggers}",
            target.shown(),
            self.inserted,
            self.changed,
            self.unchanged
        );
        Ok(DifferenceOutputs {
            table: target.shown(),
            inserted: self.inserted,
            changed: self.changed,
            unchanged: self.unchanged,
            columns,
            text,
            digest: hex::encode(self.sum.finalize()),
            file,
            triggers: target.triggers.clone(),
        })
    }
}
