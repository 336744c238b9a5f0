//! `postgres.query`: asks one question in a read-only transaction and compares the answer.

use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::catalog::rows_of;
use super::session::{connect, failed, timed};
use crate::typed::{About, Done, Typed};

/// Rows that an output holds; a question for a runbook has a short answer.
const ROWS_MAX: usize = 1_000;

/// Parameters of `postgres.query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryParams {
    /// The database to ask.
    pub connection: Connection,
    /// One SELECT. `$1`, `$2` … stand for `params`.
    pub sql: String,
    /// Values for `$1`, `$2` …, handed over as text and cast as the query says: `$1::uuid`.
    #[serde(default)]
    pub params: Vec<Value>,
    /// What the answer must be; the step fails when it is not.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// What an answer must be. All that is given must hold.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Exactly so many rows.
    #[serde(default)]
    pub rows: Option<u64>,
    /// The first column of the first row is this.
    #[serde(default)]
    pub equals: Option<Value>,
    /// The first column of the first row is a number not below this.
    #[serde(default)]
    pub at_least: Option<f64>,
    /// The first column of the first row is a number not above this.
    #[serde(default)]
    pub at_most: Option<f64>,
}

/// Outputs of `postgres.query`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct QueryOutputs {
    /// First column of the first row; null when there is none.
    pub value: Value,
    /// The rows as maps by column, at most 1,000.
    pub rows: Vec<Value>,
    /// How many rows there were.
    pub row_count: u64,
}

/// `postgres.query`.
#[derive(Debug)]
pub struct Query;

impl Typed for Query {
    type Params = QueryParams;
    type Outputs = QueryOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &["SELECT on what is asked for"],
        has_plan: true,
        ..About::new(
            "postgres.query",
            "Asks one question in a read-only transaction and compares the answer.",
            Effect::Read,
            "- id: users\n  uses: postgres.query\n  with:\n    connection: \"{{ connections.live }}\"\n    \
             sql: select count(*) from public.profiles\n    expect: { at_least: 1 }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: QueryParams) -> Result<Done<QueryOutputs>, ActionError> {
        let outputs = ask(ctx, &params).await?;
        if let Some(expect) = &params.expect {
            judge(expect, &outputs).map_err(|wrong| {
                ActionError::refused(format!(
                    "get the expected answer from `{}`: {wrong}",
                    params.connection.label()
                ))
                .code("expectation-failed")
            })?;
        }
        let summary = rows_of(outputs.row_count);
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: QueryParams) -> Result<Preview, ActionError> {
        let outputs = ask(ctx, &params).await?;
        let line = format!("asks {}; {} now", params.connection.label(), rows_of(outputs.row_count));
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }
}

/// A value as the text that PostgreSQL casts.
pub(super) fn texts(params: &[Value]) -> Vec<Option<String>> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    params.iter().map(text).collect()
}

async fn ask(ctx: &Context, params: &QueryParams) -> Result<QueryOutputs, ActionError> {
    let mut session = connect(ctx, &params.connection).await?;
    let label = session.label.clone();
    let attempted = || format!("ask `{label}`");
    let transaction = session.client.build_transaction().read_only(true).start();
    let transaction = timed(transaction, attempted).await?;
    timed(transaction.batch_execute("set local statement_timeout = '55s'"), attempted).await?;
    // The server makes JSON of the rows, so that every type arrives as it would through its API; json keeps
    // the order of columns, jsonb would not.
    let sql = format!(
        "select pg_catalog.row_to_json(answer) from ({}\n) answer",
        params.sql.trim().trim_end_matches(';')
    );
    let values = texts(&params.params);
    let types = vec![tokio_postgres::types::Type::TEXT; values.len()];
    let statement = timed(transaction.prepare_typed(&sql, &types), attempted).await?;
    let bound: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = values.iter().map(|v| v as _).collect();
    let answer = timed(transaction.query(&statement, &bound), attempted).await?;
    transaction.rollback().await.map_err(|error| failed(attempted(), error))?;
    let rows: Vec<Value> = answer.iter().take(ROWS_MAX).map(|row| row.get(0)).collect();
    let value = rows.first().and_then(|row| row.as_object()?.values().next()).cloned().unwrap_or(Value::Null);
    Ok(QueryOutputs { value, row_count: answer.len() as u64, rows })
}

/// What is wrong with an answer.
fn judge(expect: &Expect, answer: &QueryOutputs) -> Result<(), String> {
    if let Some(rows) = expect.rows
        && rows != answer.row_count
    {
        return Err(format!("expected {rows} rows, found {}", answer.row_count));
    }
    if let Some(wanted) = &expect.equals
        && !same(wanted, &answer.value)
    {
        return Err(format!("expected {wanted}, found {}", answer.value));
    }
    let number = answer.value.as_f64().or_else(|| answer.value.as_str().and_then(|text| text.parse().ok()));
    for (bound, holds, word) in [
        (expect.at_least, number >= expect.at_least, "at least"),
        (
            expect.at_most,
            number.is_some() && (expect.at_most.is_none() || number <= expect.at_most),
            "at most",
        ),
    ] {
        if let Some(bound) = bound
            && !holds
        {
            return Err(format!("expected {word} {bound}, found {}", answer.value));
        }
    }
    Ok(())
}

fn same(wanted: &Value, found: &Value) -> bool {
    wanted == found
        || matches!((wanted.as_f64(), found.as_f64()), (Some(a), Some(b)) if a.total_cmp(&b).is_eq())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_held_to_all_that_is_expected() {
        let answer = QueryOutputs { value: json!(5), rows: vec![json!({ "count": 5 })], row_count: 1 };
        let holds = |expect: Expect| judge(&expect, &answer).is_ok();
        assert!(holds(Expect {
            rows: Some(1),
            equals: Some(json!(5.0)),
            at_least: Some(5.0),
            at_most: Some(5.0)
        }));
        assert!(!holds(Expect { rows: Some(2), ..Expect::default() }));
        assert!(!holds(Expect { at_least: Some(6.0), ..Expect::default() }));
        assert!(!holds(Expect { at_most: Some(4.0), ..Expect::default() }));
        let nothing = QueryOutputs { value: Value::Null, rows: vec![], row_count: 0 };
        assert!(judge(&Expect { at_least: Some(0.0), ..Expect::default() }, &nothing).is_err());
        assert!(judge(&Expect { at_most: Some(0.0), ..Expect::default() }, &nothing).is_err());
    }
}
