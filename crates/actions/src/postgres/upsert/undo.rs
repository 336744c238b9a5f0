//! Takes an upsert back in one transaction: changed rows get their old values, inserted ones go. Refuses when a row is
//! not as the upsert left it, or when somebody refers to one that would go.

use runbook_core::action::{ActionError, Context, Outcome};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::postgres::session::{Session, connect, timed};
use crate::postgres::sql::{plain, quoted};

use super::keys;
use super::params::{DifferenceParams, Update, UpdateWord, UpsertOutputs, UpsertParams};
use super::stage::{fill, quiet, send};
use super::target::Target;

const BEFORE: &str = "runbook_before";
const AFTER: &str = "runbook_after";

pub(super) async fn undo(
    ctx: &Context,
    params: &UpsertParams,
    outputs: &UpsertOutputs,
) -> Result<Outcome, ActionError> {
    let session = connect(ctx, &params.connection).await?;
    let digest =
        hex::encode(Sha256::digest(format!("undo {} {}", outputs.before.sha256, outputs.after.sha256)));
    let told = |text: String| Outcome { summary: text, ..Outcome::default() };
    if keys::begin(ctx, &session, &digest, params.timeout_seconds).await?.is_some() {
        return Ok(told(format!("the rows of {} had been put back", outputs.table)));
    }
    // The files name the columns that are put back; all of them must still be there.
    let whole = DifferenceParams {
        rows: outputs.after.clone(),
        update: Update::Word(UpdateWord::All),
        skip_columns: Vec::new(),
        ..params.difference()
    };
    let target = Target::find(&session, &whole).await?;
    let work = Undo { session: &session, target: &target };
    timed(
        session.client.batch_execute(&format!("lock table {} in share row exclusive mode", target.name)),
        || work.attempted(),
    )
    .await?;
    fill(&session, &target, AFTER, &outputs.after, &target.write).await?;
    fill(&session, &target, BEFORE, &outputs.before, &target.write).await?;
    work.unchanged_since().await?;
    work.nobody_refers().await?;
    if params.as_replica {
        work.send("set local session_replication_role = replica").await?;
    }
    let (removed, restored) = work.put_back().await?;
    let by_triggers = work.by_triggers().await?;
    let rows = removed + restored;
    keys::commit(ctx, &session, &digest, (rows, &json!({ "removed": removed, "restored": restored })))
        .await?;
    let triggers = if by_triggers.is_empty() {
        String::new()
    } else {
        format!("; its triggers set {}", by_triggers.join(", "))
    };
    Ok(told(format!(
        "{}: {restored} rows have their old values, {removed} are gone again{triggers}",
        outputs.table
    )))
}

struct Undo<'a> {
    session: &'a Session,
    target: &'a Target,
}

impl Undo<'_> {
    fn attempted(&self) -> String {
        format!("put the rows of `{}` in `{}` back", self.target.shown(), self.session.label)
    }

    async fn send(&self, sql: &str) -> Result<u64, ActionError> {
        send(self.session, sql, || self.attempted()).await
    }

    async fn count(&self, sql: &str) -> Result<i64, ActionError> {
        let row = self.session.client.query_one(sql, &[]).await;
        Ok(row.map_err(|error| quiet(self.attempted(), error))?.get(0))
    }

    async fn unchanged_since(&self) -> Result<(), ActionError> {
        let target = self.target;
        let sql = format!(
            "select count(*) from pg_temp.{AFTER} a left join {} t on {} where t.{} is null or {}",
            target.name,
            target.same("t", "a"),
            quoted(&target.conflict[0]),
            target.differ(&target.write, "t", "a")
        );
        match self.count(&sql).await? {
            0 => Ok(()),
            rows => Err(ActionError::refused(format!(
                "{}: {rows} of them were changed since",
                self.attempted()
            ))
            .code("changed-since")
            .hint("Compare them with the undo files in the step's artifacts, and put back by hand what is right.")),
        }
    }

    /// Rows that would go while others point at them: the table's own rules would delete or change those.
    async fn nobody_refers(&self) -> Result<(), ActionError> {
        let target = self.target;
        for child in &target.children {
            let points: Vec<_> = child
                .columns
                .iter()
                .zip(&child.others)
                .map(|(own, other)| format!("c.{} = a.{}", quoted(other), quoted(own)))
                .collect();
            // Rows that go together may point at each other.
            let among = if child.table == target.name {
                format!(
                    "and not exists (select 1 from pg_temp.{AFTER} g where {} and not exists \
                     (select 1 from pg_temp.{BEFORE} b where {}))",
                    target.same("g", "c"),
                    target.same("b", "g")
                )
            } else {
                String::new()
            };
            let sql = format!(
                "select count(*) from {} c join pg_temp.{AFTER} a on {} where not exists \
                 (select 1 from pg_temp.{BEFORE} b where {}) {among}",
                child.table,
                points.join(" and "),
                target.same("b", "a")
            );
            let rows = self.count(&sql).await?;
            if rows > 0 {
                return Err(ActionError::refused(format!(
                    "{}: {rows} rows of {} point at rows that would go",
                    self.attempted(),
                    plain(&child.table)
                ))
                .code("referred-to"));
            }
        }
        Ok(())
    }

    async fn put_back(&self) -> Result<(u64, u64), ActionError> {
        let target = self.target;
        // Old values first: a row that stays may have pointed elsewhere than at one that goes.
        let set: Vec<_> =
            target.changeable().iter().map(|name| format!("{0} = b.{0}", quoted(name))).collect();
        let restored = if set.is_empty() {
            0
        } else {
            let (name, same) = (&target.name, target.same("t", "b"));
            self.send(&format!("update {name} t set {} from pg_temp.{BEFORE} b where {same}", set.join(", ")))
                .await?
        };
        let removed = self
            .send(&format!(
                "delete from {} t using pg_temp.{AFTER} a where {} and not exists \
                 (select 1 from pg_temp.{BEFORE} b where {})",
                target.name,
                target.same("t", "a"),
                target.same("b", "a")
            ))
            .await?;
        Ok((removed, restored))
    }

    /// Columns that are not as they were, because a trigger of the table set them anew.
    async fn by_triggers(&self) -> Result<Vec<String>, ActionError> {
        let target = self.target;
        let odd = |name: &String| format!("bool_or(t.{0}::text is distinct from b.{0}::text)", quoted(name));
        let sql = format!(
            "select array[{}] from {} t join pg_temp.{BEFORE} b on {}",
            target.write.iter().map(odd).collect::<Vec<_>>().join(", "),
            target.name,
            target.same("t", "b")
        );
        let row = self.session.client.query_one(&sql, &[]).await;
        let odd: Vec<Option<bool>> = row.map_err(|error| quiet(self.attempted(), error))?.get(0);
        Ok(target
            .write
            .iter()
            .zip(odd)
            .filter(|(_, odd)| *odd == Some(true))
            .map(|(name, _)| name.clone())
            .collect())
    }
}
