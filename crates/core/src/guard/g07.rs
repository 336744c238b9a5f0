//! G07: a restore over a database that holds data is said and approved.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Explanation;
use super::facts::{Facts, listed};
use crate::action::Access;
use crate::diagnostic::Diagnostic;
use crate::workflow::Step;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G07",
    rule: "A restore over a database that holds data needs `overwrite: true` and an approval that shows what will \
           be lost; a fresh database is the default.",
    why: "The damaged database is the only evidence of what happened, and holds what was written after the backup. \
          A fresh one beside it costs minutes and can be thrown away. A connection that the environment names is \
          taken to hold data; one that a step of this run made is fresh.",
    refused: "\
steps:
  - id: backup
    uses: backup.select
  - id: restore
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ connections.scratch }}\" }
",
    allowed: "\
steps:
  - id: backup
    uses: backup.select
  - id: restore
    uses: postgres.restore
    approval: { prompt: Overwrite the scratch database? }
    with: { backup: \"{{ steps.backup }}\", into: \"{{ connections.scratch }}\", overwrite: true }
",
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    for step in &facts.workflow.steps {
        let named = facts.named_targets(step, |access| access == Access::Restore);
        if named.is_empty() {
            continue;
        }
        let overwrite = step.with.get("overwrite").map(|template| &template.0);
        for (message, help) in missing(facts, step, &named, overwrite == Some(&Value::Bool(true))) {
            found.push(Diagnostic::error("G07", step.span, message).help(help));
        }
    }
}

/// What a restore onto named connections lacks, each with its mend.
pub(super) fn missing(
    facts: &Facts<'_>,
    step: &Step,
    named: &BTreeSet<String>,
    overwrites: bool,
) -> Vec<(String, &'static str)> {
    let onto = format!("step `{}` restores over {}", step.path, listed(named));
    let mut lacks = Vec::new();
    if !overwrites {
        let help = "restore into a database that a step of this run makes, or write `overwrite: true`";
        lacks.push((format!("{onto} and does not say `overwrite: true`"), help));
    }
    if !facts.is_approved(step) {
        lacks.push((format!("{onto}, and nobody approves it"), "add `approval: { prompt: … }` to the step"));
    }
    lacks
}
