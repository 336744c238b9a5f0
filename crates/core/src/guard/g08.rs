//! G08: traffic opens only after validation.

use super::Explanation;
use super::facts::{Facts, has_tag, is_freeze_or_unfreeze};
use crate::diagnostic::Diagnostic;
use crate::workflow::Step;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G08",
    rule: "Traffic opens only after validation: a step tagged `expose`, or whose action changes what users are \
           served, is dominated by one tagged `validate`.",
    why: "A database that answers is not one that is right. The first users of a restored system must not be its \
          first test. A step tagged `freeze` or `unfreeze` puts up or takes away a block and opens nothing new, \
          unless it is tagged `expose` too.",
    refused: "\
steps:
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: traffic
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
    allowed: "\
steps:
  - id: database
    uses: supabase.create_project
    with: { name: copy }
  - id: smoke
    uses: postgres.query
    tags: [validate]
    with: { connection: \"{{ steps.database.connection }}\", sql: SELECT 1 }
    postconditions:
      - check: steps.smoke.failed == 0
  - id: traffic
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    for step in facts.workflow.steps.iter().filter(|step| is_expose(facts, step)) {
        if facts.is_dominated_by_tag(step, "validate") {
            continue;
        }
        let message = format!("step `{}` opens traffic, and nothing is validated first", step.path);
        let mistake = Diagnostic::error("G08", step.span, message);
        found.push(match facts.tagged("validate") {
            Some(validate) => mistake
                .related(
                    validate.span,
                    format!("`{}` validates, but not on every path to this step", validate.path),
                )
                .help(format!("add `{}` to its `needs`, and see that no `if` skips it", validate.id())),
            None => mistake.help("put a step with `tags: [validate]` before it, such as smoke tests"),
        });
    }
}

fn is_expose(facts: &Facts<'_>, step: &Step) -> bool {
    let by_action = facts.description(step).is_some_and(|description| description.exposes);
    has_tag(step, "expose") || (by_action && !is_freeze_or_unfreeze(step))
}
