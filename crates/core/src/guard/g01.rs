//! G01: writes are frozen first.

use super::Explanation;
use super::facts::{Facts, is_freeze_or_unfreeze, listed, writes};
use crate::action::Access;
use crate::diagnostic::Diagnostic;
use crate::workflow::Step;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G01",
    rule: "Writes are frozen first: a write to a live connection is dominated by a step tagged `freeze`.",
    why: "A live database that is changed while people go on writing ends in a state that nobody meant: rows \
          written after the backup was chosen are lost without a trace, and rows written halfway through a \
          repair belong to neither world. The freeze must be done in every execution that reaches the write, \
          so a freeze with an `if` of its own does not count.",
    refused: "\
steps:
  - id: repair
    uses: postgres.execute
    approval: { prompt: Repair the live database? }
    with: { connection: \"{{ connections.main }}\", sql: UPDATE accounts SET open = true }
",
    allowed: "\
steps:
  - id: stop-writes
    uses: postgres.execute
    tags: [freeze]
    with: { connection: \"{{ connections.main }}\", sql: ALTER DATABASE postgres SET default_transaction_read_only = on }
  - id: repair
    uses: postgres.execute
    approval: { prompt: Repair the live database? }
    with: { connection: \"{{ connections.main }}\", sql: UPDATE accounts SET open = true }
finally:
  - id: allow-writes
    uses: postgres.execute
    tags: [unfreeze]
    with: { connection: \"{{ connections.main }}\", sql: ALTER DATABASE postgres RESET default_transaction_read_only }
",
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    for step in &facts.workflow.steps {
        let live = facts.live_targets(step, writes);
        if live.is_empty() || is_exempt(facts, step) || facts.is_dominated_by_tag(step, "freeze") {
            continue;
        }
        let message =
            format!("step `{}` writes to live {}, and writes are not frozen first", step.path, listed(&live));
        let mistake = Diagnostic::error("G01", step.span, message);
        found.push(match facts.tagged("freeze") {
            Some(freeze) => mistake
                .related(
                    freeze.span,
                    format!("`{}` freezes, but not on every path to this step", freeze.path),
                )
                .help(format!("add `{}` to its `needs`, and see that no `if` skips it", freeze.id())),
            None => mistake.help("put a step with `tags: [freeze]` before it"),
        });
    }
}

/// Freezing and unfreezing write to what is live, which is their purpose; they never restore or destroy.
pub(super) fn is_exempt(facts: &Facts<'_>, step: &Step) -> bool {
    is_freeze_or_unfreeze(step) && !facts.has_access(step, |a| matches!(a, Access::Restore | Access::Destroy))
}
