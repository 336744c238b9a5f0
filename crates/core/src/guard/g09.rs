//! G09: a rotated secret reaches every place. Explained here; this version does not check it.

use super::Explanation;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G09",
    rule: "A rotated secret reaches every place that the environment lists for it, or the step fails and names \
           those left. This version does not check it yet: list the places as steps of the runbook.",
    why: "A secret that was changed in one place and not in the other takes down what reads the other, and the \
          leaked value stays good there.",
    refused: "\
steps:
  - id: rotate
    uses: supabase.rotate
",
    allowed: "\
steps:
  - id: rotate
    uses: supabase.rotate
  - id: site
    uses: vercel.env
    with: { set: { JWT: \"{{ steps.rotate.jwt }}\" } }
",
};
