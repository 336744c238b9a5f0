//! G03: production data does not leave production unmasked. Explained here; this version does not check it.

use super::Explanation;

pub(super) const EXPLANATION: Explanation = Explanation {
    code: "G03",
    rule: "Production data does not reach a non-production environment unmasked: between a restore of production \
           data and anything that exposes the target stands a mask step whose leak check passed. This version \
           does not check it yet.",
    why: "A staging system has more readers, weaker passwords and real e-mail addresses in its tables the moment \
          a production dump is loaded into it.",
    refused: "\
steps:
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
  - id: open
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
    allowed: "\
steps:
  - id: load
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\" }
  - id: mask
    uses: postgres.mask
    tags: [mask]
    with: { on: \"{{ steps.database.connection }}\" }
  - id: open
    uses: vercel.env
    tags: [expose]
    with: { set: { URL: \"{{ steps.database.api_url }}\" } }
",
};
