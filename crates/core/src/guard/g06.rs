//! G06: what was frozen is unfrozen.

use super::Explanation;
use super::facts::Facts;
use crate::diagnostic::Diagnostic;
use crate::workflow::{Phase, Step};

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G06",
    rule: "What was frozen is unfrozen: every step tagged `freeze` (or `freeze:NAME`) has one tagged `unfreeze` \
           (or `unfreeze:NAME`) that comes after it or stands in `finally`, and that runs whenever the freeze ran.",
    why: "A freeze that is forgotten is an outage of its own, found hours later by customers.",
    refused: "\
steps:
  - id: stop-writes
    uses: postgres.execute
    tags: [freeze]
    with: { connection: \"{{ connections.main }}\", sql: ALTER DATABASE postgres SET default_transaction_read_only = on }
  - id: look
    uses: flow.noop
",
    allowed: "\
steps:
  - id: stop-writes
    uses: postgres.execute
    tags: [freeze]
    with: { connection: \"{{ connections.main }}\", sql: ALTER DATABASE postgres SET default_transaction_read_only = on }
  - id: look
    uses: flow.noop
  - id: allow-writes
    uses: postgres.execute
    tags: [unfreeze]
    with: { connection: \"{{ connections.main }}\", sql: ALTER DATABASE postgres RESET default_transaction_read_only }
",
};

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    for freeze in &facts.workflow.steps {
        for tag in &freeze.tags {
            let Some(name) = frozen(tag) else { continue };
            let wanted = format!("un{tag}");
            let mut partners =
                facts.workflow.steps.iter().filter(|step| step.tags.contains(&wanted)).peekable();
            let near = partners.peek().copied();
            if partners.any(|unfreeze| ends(facts, freeze, unfreeze)) {
                continue;
            }
            let what = if name.is_empty() { "writes".to_owned() } else { format!("`{name}`") };
            let message =
                format!("step `{}` freezes {what}, and nothing unfreezes them on every path", freeze.path);
            let mistake = Diagnostic::error("G06", freeze.span, message);
            found.push(match near {
                Some(near) => mistake
                    .related(near.span, format!("`{}` unfreezes, but not whenever `{}` ran", near.path, freeze.path))
                    .help("let it need the freeze and have no `if` that the freeze does not have, or move it to `finally`"),
                None => mistake.help(format!("add a step with `tags: [{wanted}]`, best under `finally`")),
            });
        }
    }
}

/// The name in `freeze:NAME`, empty for `freeze`.
fn frozen(tag: &str) -> Option<&str> {
    let rest = tag.strip_prefix("freeze")?;
    if rest.is_empty() { Some("") } else { rest.strip_prefix(':') }
}

fn ends(facts: &Facts<'_>, freeze: &Step, unfreeze: &Step) -> bool {
    let is_after = unfreeze.phase == Phase::Finally || facts.graph.is_ancestor(&freeze.path, &unfreeze.path);
    let is_sure = unfreeze.for_each.is_none()
        || freeze.for_each.as_ref().map(|each| &each.items)
            == unfreeze.for_each.as_ref().map(|each| &each.items);
    is_after && is_sure && facts.graph.runs_whenever(unfreeze, freeze)
}
