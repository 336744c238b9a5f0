//! G02: a drill never touches what is live. Explained here; this version does not check it.

use super::Explanation;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G02",
    rule: "A drill never touches what is live: its writes go to scratch connections. This version does not check \
           it yet: G01, G05 and G07 are what stands between a drill and a live connection that the environment \
           names.",
    why: "A drill is run often and watched little. One wrong URL in it must not be able to reach production.",
    refused: "\
steps:
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ connections.main }}\" }
",
    allowed: "\
steps:
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.scratch.connection }}\" }
",
};
