//! G03: production data does not leave production unmasked.

use serde_json::Value;

use super::Explanation;
use super::facts::{Facts, has_tag, is_freeze_or_unfreeze};
use super::g04;
use crate::action::Access;
use crate::diagnostic::Diagnostic;
use crate::environment::{DataKind, Environment, EnvironmentKind};
use crate::workflow::{Phase, Step, Work};

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G03",
    rule: "Production data does not reach a non-production environment unmasked. Where a backup that holds \
           production data is restored outside production, the restore has a `mask`, or `postgres.mask` follows it; \
           then `postgres.leak_check` passes. Both stand before anything that exposes the database, and before the \
           run succeeds.",
    why: "A staging system has more readers, weaker passwords and real e-mail addresses in its tables the moment \
          a production dump is loaded into it.",
    refused: "\
steps:
  - id: backup
    uses: backup.select
    with: { source: production }
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
  - id: smoke
    uses: postgres.query
    tags: [validate]
    with: { connection: \"{{ steps.database.connection }}\", sql: SELECT 1 }
  - id: open
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
    allowed: "\
steps:
  - id: backup
    uses: backup.select
    with: { source: production }
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: load
    uses: postgres.restore
    with:
      backup: \"{{ steps.backup }}\"
      into: \"{{ steps.database.connection }}\"
      mask: masking.yaml
      mask_key: \"{{ secrets.token }}\"
  - id: leaks
    uses: postgres.leak_check
    tags: [validate]
    with: { connection: \"{{ steps.database.connection }}\" }
  - id: open
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
};

const MASK: &str = "postgres.mask";
const LEAK_CHECK: &str = "postgres.leak_check";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    let Some(environment) = facts.environment.filter(|e| e.kind != EnvironmentKind::Production) else {
        return;
    };
    let restores =
        facts.workflow.steps.iter().filter(|step| facts.has_access(step, |a| a == Access::Restore));
    for restore in restores.filter(|step| may_bring_production(facts, step, environment)) {
        let masks = masks(facts, restore);
        let what = format!("step `{}` restores production data into {}", restore.path, environment.name);
        if masks.is_empty() {
            found.push(Diagnostic::error("G03", restore.span, format!("{what} unmasked")).help(
                "give it `mask: RULES.yaml` and `mask_key`, or let `postgres.mask` follow it in any case",
            ));
            continue;
        }
        let checks: Vec<&Step> = after(facts, restore, LEAK_CHECK)
            .into_iter()
            .filter(|check| masks.iter().any(|mask| facts.graph.is_ancestor(&mask.path, &check.path)))
            .collect();
        if checks.is_empty() {
            let message = format!("{what}, and no leak check proves that it is masked");
            found.push(
                Diagnostic::error("G03", restore.span, message)
                    .help("put a step with `uses: postgres.leak_check` after it, which no `if` skips"),
            );
            continue;
        }
        unproven_exposures(facts, restore, &checks, found);
    }
}

/// Steps that expose and come neither before the restore nor after a leak check of it.
fn unproven_exposures(facts: &Facts<'_>, restore: &Step, checks: &[&Step], found: &mut Vec<Diagnostic>) {
    for open in facts.workflow.steps.iter().filter(|step| is_expose(facts, step)) {
        let is_before = facts.graph.is_ancestor(&open.path, &restore.path);
        let is_proven = checks.iter().any(|check| facts.graph.dominates(&check.path, &open.path));
        if is_before || is_proven || open.phase == Phase::OnFailure {
            continue;
        }
        let message = format!(
            "step `{}` exposes, and the leak check of `{}` is not done on every path to it",
            open.path, restore.path
        );
        let mistake = Diagnostic::error("G03", open.span, message);
        found.push(match checks.first() {
            Some(check) => mistake
                .related(check.span, format!("`{}` checks for leaks", check.path))
                .help(format!("add `{}` to its `needs`, and see that no `if` skips it", check.id())),
            None => mistake,
        });
    }
}

/// The steps that mask what a restore brings, in every execution in which it runs: itself when it masks while it
/// loads.
pub(super) fn masks<'a>(facts: &Facts<'a>, restore: &'a Step) -> Vec<&'a Step> {
    let itself = restore.with.get("mask").is_some_and(|template| !template.0.is_null());
    let mut found = if itself { vec![restore] } else { Vec::new() };
    found.extend(after(facts, restore, MASK));
    found
}

/// Steps with an action on the same database that come after another one, and are not skipped when that one runs.
fn after<'a>(facts: &Facts<'a>, first: &Step, action: &str) -> Vec<&'a Step> {
    let is_it = |step: &Step| matches!(&step.work, Work::Action { name } if name == action);
    let steps = facts.workflow.steps.iter().filter(|step| is_it(step));
    steps
        .filter(|step| {
            step.phase == Phase::Main
                && step.for_each.is_none()
                && !step.continue_on_error
                && facts.graph.is_ancestor(&first.path, &step.path)
                && facts.graph.runs_whenever(step, first)
                && facts.same_target(step, first)
        })
        .collect()
}

fn is_expose(facts: &Facts<'_>, step: &Step) -> bool {
    let by_action = facts.description(step).is_some_and(|description| description.exposes);
    has_tag(step, "expose") || (by_action && !is_freeze_or_unfreeze(step))
}

/// Whether the backup of a restore holds production data, as far as the file tells.
fn may_bring_production(facts: &Facts<'_>, step: &Step, environment: &Environment) -> bool {
    let names = facts.description(step).into_iter().flat_map(g04::backup_params);
    names.filter_map(|name| step.with.get(name)).any(|template| {
        let origin = facts.origin(step, template);
        let chosen = origin.steps.iter().filter_map(|path| facts.graph.step(path));
        origin.literals.iter().any(|backup| brings_production(backup, environment))
            || chosen.into_iter().any(|step| chosen_production(step, environment))
    })
}

/// Whether a step that chooses a backup may choose one of production. What a template names is not known before:
/// any source may be meant.
fn chosen_production(step: &Step, environment: &Environment) -> bool {
    match step.with.get("source").map(|template| &template.0) {
        None | Some(Value::Null) => data_of(None, environment) == DataKind::Production,
        Some(Value::String(name)) if !crate::template::has_expression(name) => {
            data_of(Some(name), environment) == DataKind::Production
        }
        Some(_) => {
            let own = data_of(None, environment);
            let mut all = environment.backup_sources.keys().map(|name| data_of(Some(name), environment));
            own == DataKind::Production || all.any(|data| data == DataKind::Production)
        }
    }
}

/// What the dumps of a source hold: what it says; production when a source of another environment does not say;
/// what the environment's own databases hold for its own dumps.
pub fn data_of(source: Option<&str>, environment: &Environment) -> DataKind {
    match source {
        None => environment.backups.as_ref().and_then(|b| b.data).unwrap_or(environment.data),
        Some(name) => {
            environment.backup_sources.get(name).and_then(|b| b.data).unwrap_or(DataKind::Production)
        }
    }
}

/// Whether a backup, as it is known at run time, holds production data.
pub(super) fn brings_production(backup: &Value, environment: &Environment) -> bool {
    let data = backup.get("data").and_then(|data| serde_json::from_value::<DataKind>(data.clone()).ok());
    let source = backup.get("source").and_then(Value::as_str);
    data.unwrap_or_else(|| data_of(source, environment)) == DataKind::Production
}
