//! G05: a destructive write in production is approved first.

use super::Explanation;
use super::facts::{Facts, listed, writes};
use super::g01::is_exempt;
use crate::action::Access;
use crate::diagnostic::Diagnostic;
use crate::environment::EnvironmentKind;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G05",
    rule: "A destructive write in production is dominated by an approval, by someone else than who started the \
           run where the environment asks for four eyes.",
    why: "What is destroyed in production is gone. A person who sees the target's name and what will be lost is \
          the last check that does not share the mistake of the file. The approval is one of the step itself, of \
          the runbook that it is inside of, or a step that only asks and that no path goes round.",
    refused: "\
steps:
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: clean
    uses: postgres.drop
    with: { connection: \"{{ steps.database.connection }}\", sql: DROP SCHEMA old CASCADE }
",
    allowed: "\
steps:
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: clean
    uses: postgres.drop
    approval: { prompt: Drop schema old of the copy? }
    with: { connection: \"{{ steps.database.connection }}\", sql: DROP SCHEMA old CASCADE }
",
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    let Some(environment) = facts.environment.filter(|e| e.kind == EnvironmentKind::Production) else {
        return;
    };
    for step in &facts.workflow.steps {
        let live = facts.live_targets(step, writes);
        let destroys = facts.has_access(step, |access| access == Access::Destroy);
        if (live.is_empty() && !destroys) || is_exempt(facts, step) || facts.is_approved(step) {
            continue;
        }
        let what = if destroys { "destroys data" } else { "changes live data" };
        let on = if live.is_empty() { String::new() } else { format!(" on {}", listed(&live)) };
        let message = format!("step `{}` {what}{on} in production, and nobody approves it", step.path);
        let eyes =
            if environment.approvers.four_eyes { "; somebody else than the starter will answer" } else { "" };
        let help = format!("add `approval: {{ prompt: … }}` to the step{eyes}");
        found.push(Diagnostic::error("G05", step.span, message).help(help));
    }
    for step in &facts.workflow.steps {
        let weakened =
            step.approval.as_ref().is_some_and(|a| environment.approvers.four_eyes && !a.four_eyes);
        if weakened {
            let message = format!("the approval of step `{}` does not ask for four eyes", step.path);
            found.push(
                Diagnostic::error("G05", step.span, message).help("the environment decides on four eyes"),
            );
        }
    }
}
