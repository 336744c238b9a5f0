//! G04: a restore of unverified bytes is refused.

use serde_json::Value;

use super::Explanation;
use super::facts::Facts;
use crate::action::{Access, Description};
use crate::diagnostic::Diagnostic;
use crate::workflow::Step;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G04",
    rule: "A restore of unverified bytes is refused: the backup carries the sha256 that was recorded when it was \
           made.",
    why: "A dump is executed: what it says becomes the schema, the rows and the functions of a database. A \
          damaged object restores almost everything, and an exchanged one restores what somebody else wants. The \
          recorded checksum is compared with the very bytes that are loaded; without it nothing can be compared.",
    refused: "\
steps:
  - id: backup
    uses: backup.select
    with: { require_checksum: false }
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: restore
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
",
    allowed: "\
steps:
  - id: backup
    uses: backup.select
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: restore
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
",
};

const HELP: &str =
    "give the `sha256` that was recorded beside the dump, or take the backup from `backup.select`";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    let restores =
        facts.workflow.steps.iter().filter(|step| facts.has_access(step, |a| a == Access::Restore));
    for step in restores {
        for name in facts.description(step).into_iter().flat_map(backup_params) {
            let Some(template) = step.with.get(name) else { continue };
            let origin = facts.origin(step, template);
            if origin.literals.iter().any(|literal| !has_checksum(literal)) {
                let message = format!("step `{}` restores a backup without a checksum", step.path);
                found.push(Diagnostic::error("G04", step.span, message).help(HELP));
            }
            for source in origin.steps.iter().filter_map(|path| facts.graph.step(path)) {
                if waives_checksum(source) {
                    let message = format!(
                        "step `{}` restores what `{}` chose without a checksum",
                        step.path, source.path
                    );
                    found.push(
                        Diagnostic::error("G04", step.span, message)
                            .related(source.span, "`require_checksum` is not true here")
                            .help("remove `require_checksum`"),
                    );
                }
            }
        }
    }
}

/// Anything but a plain `true`: what a template gives is not known before.
fn waives_checksum(step: &Step) -> bool {
    step.with.get("require_checksum").is_some_and(|template| template.0 != Value::Bool(true))
}

/// The parameters of an action that are backups, by schema.
pub(super) fn backup_params(description: &Description) -> Vec<&str> {
    let properties = description.params.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().filter(|(_, ty)| is_backup(ty)).map(|(name, _)| name.as_str()).collect()
}

fn is_backup(schema: &Value) -> bool {
    let variants = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key).and_then(Value::as_array));
    schema.get("x-runbook-type").and_then(Value::as_str) == Some("backup")
        || variants.is_some_and(|list| list.iter().any(is_backup))
}

/// Whether a backup says which bytes it means. A template stands for a checksum that is known later.
pub(super) fn has_checksum(backup: &Value) -> bool {
    backup.get("sha256").and_then(Value::as_str).is_some_and(|sha256| {
        crate::template::has_expression(sha256)
            || (sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}
