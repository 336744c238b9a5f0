//! What `runbook explain CODE` prints: for a guard its rule, why, and two examples that a test compiles;
//! for a code of a diagnostic what it means and what to do.

use super::codes::CODES;
use super::{g01, g02, g03, g04, g05, g06, g07, g08, g09};

/// What a code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// `G01`, or `unknown-key`.
    pub code: &'static str,
    /// The rule, in sentences.
    pub rule: &'static str,
    /// Why it is one.
    pub why: &'static str,
    /// Steps that are refused, as YAML; empty when an example says nothing more.
    pub refused: &'static str,
    /// The nearest steps that are let through; empty likewise.
    pub allowed: &'static str,
}

const GUARDS: [Explanation; 9] = [
    g01::EXPLANATION,
    g02::EXPLANATION,
    g03::EXPLANATION,
    g04::EXPLANATION,
    g05::EXPLANATION,
    g06::EXPLANATION,
    g07::EXPLANATION,
    g08::EXPLANATION,
    g09::EXPLANATION,
];

/// The explanation of a guard or of a diagnostic's code; letter case does not matter.
pub fn explain(code: &str) -> Option<Explanation> {
    let guard = GUARDS.iter().find(|guard| guard.code.eq_ignore_ascii_case(code)).copied();
    guard.or_else(|| {
        let found = CODES.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(code));
        found.map(|&(code, rule, why)| Explanation { code, rule, why, refused: "", allowed: "" })
    })
}

/// All codes that can be explained, guards first.
pub fn codes() -> impl Iterator<Item = &'static str> {
    GUARDS.iter().map(|guard| guard.code).chain(CODES.iter().map(|(code, _, _)| *code))
}

/// Whether a code is one of a guard.
pub(super) fn is_guard(code: &str) -> bool {
    GUARDS.iter().any(|guard| guard.code == code)
}
