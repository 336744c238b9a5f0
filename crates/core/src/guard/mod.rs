//! The golden rules (DESIGN section 5), one file each. [`check`] looks at the DAG before a run,
//! [`at_run_time`] at the rendered parameters right before an effect: a target may turn out to be live
//! although nothing in the file said so. Decides nothing about how a mistake is shown.

mod codes;
mod explain;
mod facts;
mod g01;
mod g02;
mod g03;
mod g04;
mod g05;
mod g06;
mod g07;
mod g08;
mod g09;
mod run_time;

use explain::is_guard;
pub use explain::{Explanation, codes, explain};
pub use g03::data_of;
pub use run_time::{Violation, at_run_time};

use crate::action::Registry;
use crate::compile::Waiver;
use crate::diagnostic::{Diagnostic, Severity};
use crate::environment::Environment;
use crate::workflow::Workflow;
use facts::Facts;

/// Checks every guard on a workflow. A waived guard's mistakes become warnings that name who waived.
pub fn check(
    workflow: &Workflow,
    environment: Option<&Environment>,
    registry: &dyn Registry,
    waivers: &[Waiver],
    found: &mut Vec<Diagnostic>,
) {
    let facts = Facts::new(workflow, environment, registry);
    let mut mistakes = Vec::new();
    let guards = [
        g01::check,
        g02::check,
        g03::check,
        g04::check,
        g05::check,
        g06::check,
        g07::check,
        g08::check,
        g09::check,
    ];
    for guard in guards {
        guard(&facts, &mut mistakes);
    }
    found.extend(mistakes.into_iter().map(|mistake| waived(mistake, waivers)));
    found.extend(waivers.iter().filter(|waiver| !is_guard(&waiver.guard)).map(unknown_guard));
}

/// A misspelt waiver would set nothing aside, while somebody believes it did.
fn unknown_guard(waiver: &Waiver) -> Diagnostic {
    Diagnostic {
        code: "unknown-guard",
        severity: Severity::Error,
        message: format!("`{}` waives `{}`, and no guard has that code", waiver.by, waiver.guard),
        span: None,
        related: Vec::new(),
        help: Some("guards are G01 to G09; `runbook explain G01` prints one".to_owned()),
    }
}

fn waived(mistake: Diagnostic, waivers: &[Waiver]) -> Diagnostic {
    match waivers.iter().find(|waiver| waiver.guard == mistake.code) {
        Some(waiver) => Diagnostic {
            severity: Severity::Warning,
            message: format!("{} (waived by {}: {})", mistake.message, waiver.by, waiver.reason),
            ..mistake
        },
        None => mistake,
    }
}

#[cfg(test)]
mod tests;
