//! `postgres.check`: does the database hold what it should, protected as it should be? Reads only.

use std::collections::{BTreeMap, BTreeSet};

use runbook_core::action::{Access, ActionError, Context, Effect, Preview};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::Catalog;
use super::session::{Session, connect};
use super::sql::{plain, qualified, quoted, schema_of};
use crate::typed::{About, Done, Typed};

/// Parameters of `postgres.check`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckParams {
    /// The database to look at.
    pub connection: Connection,
    /// Extensions that must be there.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Tables that must be there, as `schema.table`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Functions that must be there, as `schema.function`.
    #[serde(default)]
    pub functions: Vec<String>,
    /// Policies that must be there, as `schema.table.policy`.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Schemas of which every table must have row-level security on.
    #[serde(default)]
    pub require_rls: Vec<String>,
    /// Rows that a table must have at least, by `schema.table`.
    #[serde(default)]
    pub min_rows: BTreeMap<String, u64>,
    /// Whether every constraint must be validated and every index valid.
    #[serde(default = "yes")]
    pub valid: bool,
    /// Whether a failed check fails the step; `false` to decide by the output `failed`.
    #[serde(default = "yes")]
    pub fail: bool,
}

fn yes() -> bool {
    true
}

/// Outputs of `postgres.check`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CheckOutputs {
    /// How many checks failed.
    pub failed: u64,
    /// How many held.
    pub passed: u64,
    /// Each of them.
    pub checks: Vec<Checked>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checked {
    /// What was looked at: `rows of public.users`.
    pub name: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub observed: String,
    /// Whether it holds.
    pub ok: bool,
}

/// `postgres.check`.
#[derive(Debug)]
pub struct Check;

impl Typed for Check {
    type Params = CheckParams;
    type Outputs = CheckOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &["SELECT on the tables whose rows are counted"],
        has_plan: true,
        ..About::new(
            "postgres.check",
            "Looks whether a database holds what it should, valid and protected.",
            Effect::Read,
            "- id: check\n  uses: postgres.check\n  tags: [validate]\n  with:\n    \
             connection: \"{{ connections.live }}\"\n    require_rls: [public]\n    \
             min_rows: { public.profiles: 1 }\n",
        )
    };

    async fn run(&self, ctx: &Context, params: CheckParams) -> Result<Done<CheckOutputs>, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let checks = look(&session, &params).await?;
        let failed: Vec<_> = checks.iter().filter(|check| !check.ok).collect();
        if params.fail && !failed.is_empty() {
            let told: Vec<_> = failed
                .iter()
                .take(8)
                .map(|c| format!("{}: expected {}, found {}", c.name, c.expected, c.observed))
                .collect();
            let more =
                if failed.len() > 8 { format!("; and {} more", failed.len() - 8) } else { String::new() };
            return Err(ActionError::refused(format!(
                "pass {} of {} checks of `{}`: {}{more}",
                failed.len(),
                checks.len(),
                session.label,
                told.join("; ")
            ))
            .code("check-failed"));
        }
        let (failed, all) = (failed.len() as u64, checks.len() as u64);
        let summary = format!("{} of {all} checks hold", all - failed);
        Ok(Done::new(CheckOutputs { failed, passed: all - failed, checks }, summary))
    }

    async fn plan(&self, ctx: &Context, params: CheckParams) -> Result<Preview, ActionError> {
        let session = connect(ctx, &params.connection).await?;
        let line = format!("looks at {}; changes nothing", session.label);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }
}

async fn look(session: &Session, params: &CheckParams) -> Result<Vec<Checked>, ActionError> {
    let catalog = Catalog::read(session).await?;
    let mut checks = Vec::new();
    let mut there = |name: String, is: bool| {
        let observed = if is { "there" } else { "missing" };
        checks.push(Checked { name, expected: "there".into(), observed: observed.into(), ok: is });
    };
    for name in &params.extensions {
        there(format!("extension {name}"), catalog.extensions.contains(&quoted(name)));
    }
    for name in &params.tables {
        there(format!("table {name}"), catalog.relations.contains_key(&named(name)));
    }
    for name in &params.functions {
        let start = format!("{}(", named(name));
        there(format!("function {name}"), catalog.functions.iter().any(|f| f.starts_with(&start)));
    }
    for name in &params.policies {
        let found =
            name.rsplit_once('.').map(|(table, policy)| format!("{} {}", named(table), quoted(policy)));
        there(format!("policy {name}"), found.is_some_and(|key| catalog.policies.contains(&key)));
    }
    for schema in &params.require_rls {
        checks.push(rls(&catalog, schema));
    }
    if params.valid {
        let open: BTreeSet<_> =
            catalog.constraints.iter().filter(|(_, valid)| !**valid).map(|(n, _)| n).collect();
        checks.push(none_of("constraints", "validated", open.into_iter()));
        let broken = catalog.of_kind("iI").filter(|(_, index)| !index.valid).map(|(name, _)| name);
        checks.push(none_of("indexes", "valid", broken));
    }
    for (name, wanted) in &params.min_rows {
        let observed = if catalog.relations.contains_key(&named(name)) {
            Some(super::catalog::count(session, &named(name)).await?)
        } else {
            None
        };
        checks.push(Checked {
            name: format!("rows of {name}"),
            expected: format!("at least {wanted}"),
            observed: observed.map_or_else(|| "no such table".into(), |rows| rows.to_string()),
            ok: observed.is_some_and(|rows| rows >= *wanted),
        });
    }
    Ok(checks)
}

/// `schema.name` as the catalog names it; `public` when there is no schema.
fn named(name: &str) -> String {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    qualified(schema, name)
}

fn rls(catalog: &Catalog, schema: &str) -> Checked {
    let tables: Vec<_> = catalog.of_kind("rp").filter(|(name, _)| schema_of(name) == schema).collect();
    let open: Vec<_> = tables.iter().filter(|(_, table)| !table.rls).map(|(name, _)| plain(name)).collect();
    let there = catalog.schemas.contains(&quoted(schema));
    Checked {
        name: format!("row-level security in {schema}"),
        expected: "on for every table".into(),
        observed: match (there, open.is_empty()) {
            (false, _) => "no such schema".into(),
            (true, true) => format!("on for all {} tables", tables.len()),
            (true, false) => format!("off for {}", open.join(", ")),
        },
        ok: there && open.is_empty(),
    }
}

fn none_of<'a>(what: &str, expected: &str, wrong: impl Iterator<Item = &'a String>) -> Checked {
    let wrong: Vec<_> = wrong.map(|name| plain(name)).collect();
    Checked {
        name: what.into(),
        expected: format!("all {expected}"),
        observed: if wrong.is_empty() {
            format!("all {expected}")
        } else {
            format!("not {expected}: {}", wrong.iter().take(8).cloned().collect::<Vec<_>>().join(", "))
        },
        ok: wrong.is_empty(),
    }
}
