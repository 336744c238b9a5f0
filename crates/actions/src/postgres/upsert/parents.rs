//! The rows that foreign keys of the written rows point at: missing ones are named by table and key before anything
//! is written.

use runbook_core::action::{ActionError, Context};
use serde_json::json;

use crate::postgres::rows::file::Durable;
use crate::postgres::session::Session;
use crate::postgres::sql::{plain, quoted};

use super::difference::{ROWS, texts};
use super::stage::quiet;
use super::target::{Reference, Target};

/// Keys named in the error; the file has all.
const NAMED: usize = 5;
/// Keys in the file.
const LISTED_MAX: i64 = 100_000;

/// Refuses rows whose parents are missing.
pub(super) async fn demand(ctx: &Context, session: &Session, target: &Target) -> Result<(), ActionError> {
    let mut told = Vec::new();
    let mut all = Vec::new();
    for reference in &target.parents {
        let written = |name: &String| target.write.contains(name);
        if !reference.columns.iter().all(written) {
            continue;
        }
        let keys = missing(session, target, reference).await?;
        if keys.is_empty() {
            continue;
        }
        let named: Vec<_> = keys.iter().take(NAMED).map(|key| key.join("/")).collect();
        let more = if keys.len() > NAMED { " …" } else { "" };
        told.push(format!(
            "{} rows of {} ({}): {}{more}",
            keys.len(),
            plain(&reference.table),
            reference.others.join(", "),
            named.join(", ")
        ));
        all.push(json!({ "foreign_key": reference.name, "table": plain(&reference.table),
            "columns": reference.others, "keys": keys }));
    }
    if told.is_empty() {
        return Ok(());
    }
    let mut file = Durable::create(&ctx.artifacts, "missing-parents.json")?;
    file.write(json!(all).to_string().as_bytes())?;
    let (path, _) = file.finish()?;
    Err(ActionError::refused(format!(
        "put rows into `{}`: what they point at is missing: {}",
        target.shown(),
        told.join("; ")
    ))
    .code("parents-missing")
    .hint(format!("Put these rows back first, in the same way. All of them: {path}")))
}

async fn missing(
    session: &Session,
    target: &Target,
    reference: &Reference,
) -> Result<Vec<Vec<String>>, ActionError> {
    let given: Vec<_> =
        reference.columns.iter().map(|name| format!("s.{} is not null", quoted(name))).collect();
    let points = |to: &str| {
        let pairs = reference.columns.iter().zip(&reference.others);
        let pairs: Vec<_> = pairs.map(|(c, o)| format!("{to}.{} = s.{}", quoted(o), quoted(c))).collect();
        pairs.join(" and ")
    };
    let changes: Vec<String> =
        reference.columns.iter().filter(|name| target.update.contains(name)).cloned().collect();
    // Rows that are written together may point at each other.
    let among = if reference.table == target.name {
        format!("and not exists (select 1 from pg_temp.{ROWS} o where {})", points("o"))
    } else {
        String::new()
    };
    let sql = format!(
        "select distinct array[{}] from pg_temp.{ROWS} s left join {} t on {} where {} and (t.{} is null or {}) \
         and not exists (select 1 from {} p where {}) {among} order by 1 limit {LISTED_MAX}",
        texts(&reference.columns, "s"),
        target.name,
        target.same("t", "s"),
        given.join(" and "),
        quoted(&target.conflict[0]),
        target.differ(&changes, "t", "s"),
        reference.table,
        points("p")
    );
    let attempted =
        || format!("look for the rows of `{}` that `{}` points at", plain(&reference.table), reference.name);
    let rows = session.client.query(&sql, &[]).await.map_err(|error| quiet(attempted(), error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
