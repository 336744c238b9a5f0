//! A rule for each column, before a single row is loaded. Fails closed: a column that could hold personal text and
//! has no rule stops everything, and all of them are named at once, as YAML to paste.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use runbook_core::action::ActionError;

use super::columns::{Column, Kind, Tables};
use super::pseudonym::Format;
use super::rules::{Rule, Rules, TableRule};
use super::scan::Reference;
use crate::postgres::sql::plain;

/// Named one by one in an error; the YAML has all.
const NAMED_MAX: usize = 12;
/// A chain of foreign keys is shorter.
const HOPS_MAX: usize = 16;

/// A column whose values are replaced.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Op {
    pub(super) column: String,
    pub(super) kind: Kind,
    /// Its type, as SQL writes it.
    pub(super) shown: String,
    pub(super) rule: Rule,
}

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TablePlan {
    Dropped,
    /// The columns that change; none when all stay.
    Masked(Vec<Op>),
}

/// What becomes of all of them; tables quoted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) tables: BTreeMap<String, TablePlan>,
}

impl Plan {
    /// `schema.table.column` of what is replaced.
    pub(super) fn columns(&self) -> Vec<String> {
        let of = |(table, plan): (&String, &TablePlan)| match plan {
            TablePlan::Dropped => Vec::new(),
            TablePlan::Masked(ops) => {
                ops.iter().map(|op| format!("{}.{}", plain(table), plain(&op.column))).collect()
            }
        };
        self.tables.iter().flat_map(of).collect()
    }

    pub(super) fn dropped(&self) -> Vec<String> {
        let dropped = self.tables.iter().filter(|(_, plan)| **plan == TablePlan::Dropped);
        dropped.map(|(table, _)| plain(table)).collect()
    }
}

/// Where masking happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Stream,
    InDatabase,
}

/// Finds a rule for each column of the wanted tables, or says what is missing and what cannot be done.
pub(super) fn decide(
    rules: &Rules,
    tables: &Tables,
    references: &[Reference],
    wanted: &BTreeSet<String>,
    place: Place,
) -> Result<Plan, ActionError> {
    let mut decider = Decider { rules, tables, references, place, problems: Vec::new() };
    let mut plan = Plan::default();
    let mut unclassified: Vec<(String, &Column)> = Vec::new();
    for table in wanted {
        let Some(columns) = tables.get(table) else { continue };
        if decider.is_dropped(table) {
            plan.tables.insert(table.clone(), TablePlan::Dropped);
            continue;
        }
        decider.misspelt(table, columns);
        let mut ops = Vec::new();
        for column in columns.iter().filter(|column| !column.generated) {
            match decider.rule(table, &column.name) {
                Some(rule) if rule.keeps() => {}
                Some(rule) => {
                    decider.fits(table, column, &rule);
                    ops.push(Op {
                        column: column.name.clone(),
                        kind: column.kind.clone(),
                        shown: column.shown.clone(),
                        rule,
                    });
                }
                None if column.kind.is_text_like() => unclassified.push((plain(table), column)),
                None => {}
            }
        }
        plan.tables.insert(table.clone(), TablePlan::Masked(ops));
    }
    decider.referring(wanted);
    if !unclassified.is_empty() {
        return Err(refusal(&unclassified));
    }
    if decider.problems.is_empty() {
        return Ok(plan);
    }
    Err(ActionError::refused(format!("mask by these rules: {}", decider.problems.join("; ")))
        .code("mask-rules"))
}

struct Decider<'a> {
    rules: &'a Rules,
    tables: &'a Tables,
    references: &'a [Reference],
    place: Place,
    problems: Vec<String>,
}

impl Decider<'_> {
    fn is_dropped(&self, table: &str) -> bool {
        let name = plain(table);
        let rule = self.rules.own.get(&name).or_else(|| self.rules.shipped.get(&name));
        rule == Some(&TableRule::Drop)
    }

    fn written(&self, table: &str, column: &str) -> Option<Rule> {
        let name = plain(table);
        [&self.rules.own, &self.rules.shipped].into_iter().find_map(|rules| match rules.get(&name) {
            Some(TableRule::Columns(columns)) => columns.get(column).cloned(),
            _ => None,
        })
    }

    /// The written rule, else that of what the column refers to.
    fn rule(&self, table: &str, column: &str) -> Option<Rule> {
        let mut at = (table.to_owned(), column.to_owned());
        for _ in 0..HOPS_MAX {
            if let Some(rule) = self.written(&at.0, &at.1) {
                let inherits = matches!(rule, Rule::Keep | Rule::Pseudonym { .. });
                return Some(rule).filter(|_| inherits || at.0 == table);
            }
            at = self.references.iter().find(|reference| reference.child == at)?.parent.clone();
        }
        None
    }

    /// A column that the own rules name and the table lacks: most likely misspelt, and then the right one has
    /// no rule.
    fn misspelt(&mut self, table: &str, columns: &[Column]) {
        let Some(TableRule::Columns(named)) = self.rules.own.get(&plain(table)) else { return };
        let lost = named.keys().filter(|name| !columns.iter().any(|column| column.name == **name));
        let lost: Vec<String> =
            lost.map(|name| format!("`{}` has no column `{name}`", plain(table))).collect();
        self.problems.extend(lost);
    }

    fn fits(&mut self, table: &str, column: &Column, rule: &Rule) {
        let at = format!("`{}.{}`", plain(table), plain(&column.name));
        let problem = match rule {
            Rule::Drop if column.not_null => Some("may not be NULL: use `redact` or `constant`".to_owned()),
            Rule::Sql(_) if self.place == Place::Stream => Some(
                "has an SQL expression, which only `postgres.mask` can work out: rows are masked before the \
                 database sees them"
                    .to_owned(),
            ),
            Rule::Keep | Rule::Drop | Rule::Constant(_) | Rule::Sql(_) => None,
            rule => (!suits(rule, &column.kind)).then(|| {
                format!("is {}, which such a rule does not fit: use `constant` or `drop`", column.shown)
            }),
        };
        self.problems.extend(problem.map(|problem| format!("{at} {problem}")));
    }

    /// Keys that would lead nowhere afterwards.
    fn referring(&mut self, wanted: &BTreeSet<String>) {
        for Reference { child, parent } in self.references {
            if !wanted.contains(&child.0) || self.is_dropped(&child.0) || !self.tables.contains_key(&parent.0)
            {
                continue;
            }
            let own = self.rule(&child.0, &child.1).unwrap_or(Rule::Keep);
            let name = |of: &(String, String)| format!("`{}.{}`", plain(&of.0), plain(&of.1));
            if own == Rule::Drop {
                continue;
            }
            if self.is_dropped(&parent.0) {
                self.problems.push(format!(
                    "{} refers to rows of {} that are dropped: drop it too",
                    name(child),
                    name(parent)
                ));
            } else if own != self.rule(&parent.0, &parent.1).unwrap_or(Rule::Keep) {
                self.problems.push(format!(
                    "{} refers to {}, which has another rule",
                    name(child),
                    name(parent)
                ));
            }
        }
    }
}

fn suits(rule: &Rule, kind: &Kind) -> bool {
    match (rule, kind) {
        (Rule::Json { .. }, kind) => *kind == Kind::Json,
        (_, Kind::Other { .. }) => false,
        (Rule::Pseudonym { format, .. }, Kind::Uuid) => *format == Format::Uuid,
        (rule @ Rule::Pseudonym { .. }, Kind::Array(of)) => suits(rule, of),
        _ => true,
    }
}

fn refusal(unclassified: &[(String, &Column)]) -> ActionError {
    let named: Vec<String> = unclassified
        .iter()
        .take(NAMED_MAX)
        .map(|(table, column)| format!("{table}.{} ({})", plain(&column.name), column.shown))
        .collect();
    let more = unclassified.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let mut yaml = String::from("tables:\n");
    let mut last = "";
    for (table, column) in unclassified {
        if table != last {
            // Writing to a string cannot fail.
            let _infallible = writeln!(yaml, "  {}:", key(table));
            last = table;
        }
        let _infallible = writeln!(yaml, "    {}: {}", key(&column.name), proposal(column));
    }
    ActionError::refused(format!(
        "mask: {} columns are not classified, and nothing of them is loaded: {}{more}",
        unclassified.len(),
        named.join(", ")
    ))
    .code("unclassified")
    .hint(format!(
        "Decide for each, and add it to the rules; these proposals hide everything, `keep` is for you to say:\n{yaml}"
    ))
}

fn key(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if name.chars().all(is_plain) { name.to_owned() } else { serde_json::Value::from(name).to_string() }
}

/// A rule that hides, after the column's name.
fn proposal(column: &Column) -> &'static str {
    let name = column.name.to_lowercase();
    let is_text = matches!(column.kind, Kind::Text(_));
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    if is_text && has(&["mail"]) {
        "{ pseudonym: email }"
    } else if is_text && has(&["phone", "mobile", "tel"]) {
        "{ pseudonym: phone }"
    } else if is_text && has(&["name"]) {
        "{ pseudonym: name }"
    } else if matches!(column.kind, Kind::Other { .. }) {
        if column.not_null { "{ constant: \"\" }" } else { "drop" }
    } else {
        "redact"
    }
}
