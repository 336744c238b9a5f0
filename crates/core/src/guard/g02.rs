//! G02: a drill never touches what is live. Here on the DAG; at run time `run_time` asks whether every live
//! database is known, and the actions compare their target's identity with those.

use super::Explanation;
use super::facts::{Facts, listed, writes};
use crate::diagnostic::Diagnostic;
use crate::document::Kind;
use crate::workflow::Step;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G02",
    rule: "A drill never touches what is live: it writes only to databases that a step of it makes, and to named \
           connections that are not live, and it changes nothing that users are served. Right before each write the \
           target says who it is (its `system_identifier` and database), and that is compared with every live \
           connection of every environment beside the runbook. A live database that neither answers nor has its \
           `identity` recorded stops the drill.",
    why: "A drill is run often and watched little. One wrong URL in it must not be able to reach production, and a \
          URL says little: a pooler, an alias or another spelling of a host leads to the same database.",
    refused: "\
name: drill
kind: drill
steps:
  - id: backup
    uses: backup.select
  - id: stop
    uses: postgres.execute
    tags: [freeze]
    with: { connection: \"{{ connections.main }}\" }
finally:
  - id: go
    uses: postgres.execute
    tags: [unfreeze]
    with: { connection: \"{{ connections.main }}\" }
",
    allowed: "\
name: drill
kind: drill
steps:
  - id: backup
    uses: backup.select
  - id: database
    uses: supabase.create_project
    with: { name: scratch }
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
",
};

const HELP: &str =
    "write to a database that a step of this drill makes, or to a connection that is not `live`";

pub(super) fn check(facts: &Facts<'_>, found: &mut Vec<Diagnostic>) {
    if facts.workflow.kind != Kind::Drill {
        return;
    }
    for step in &facts.workflow.steps {
        let live = facts.live_targets(step, writes);
        if !live.is_empty() {
            let message = format!("step `{}` of a drill writes to live {}", step.path, listed(&live));
            found.push(Diagnostic::error("G02", step.span, message).help(HELP));
        }
        if exposes(facts, step) {
            let message = format!("step `{}` of a drill changes what users are served", step.path);
            found.push(
                Diagnostic::error("G02", step.span, message)
                    .help("leave it out: a drill proves the restored copy and opens nothing"),
            );
        }
    }
}

fn exposes(facts: &Facts<'_>, step: &Step) -> bool {
    facts.description(step).is_some_and(|description| description.exposes)
}
