//! What goes wrong on purpose: a rehearsal of failures, for whoever wants to see that a runbook gets through them.
//! Does to an attempt what the world could do, around the action and never inside it.

use std::time::Duration;

use runbook_core::action::{ActionError, Outcome};

/// In a rehearsal nobody waits for a remote to recover.
pub(super) const DELAY_MAX: Duration = Duration::from_millis(20);

/// What happens to the first attempt of each step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// Nothing; retries only come soon.
    Hurry,
    /// It fails before it begins, and trying again helps.
    Fail,
    /// It fails before it begins, and is not tried again until somebody resumes the run.
    Refuse,
    /// It succeeds, and its outcome is lost, as when the process dies in between.
    Twice,
}

/// An attempt as the rehearsal has it. What is refused is never polled, so it has no effect.
pub(super) async fn rehearsed(
    rehearsal: Option<Rehearsal>,
    attempt: u32,
    run: impl Future<Output = Result<Outcome, ActionError>>,
) -> Result<Outcome, ActionError> {
    let Some(rehearsal) = rehearsal.filter(|_| attempt == 1) else { return run.await };
    match rehearsal {
        Rehearsal::Hurry => run.await,
        Rehearsal::Fail => Err(ActionError::unchanged("begin: a rehearsal lets the first attempt fail")),
        Rehearsal::Refuse => Err(ActionError::refused("begin: a rehearsal refuses the first attempt")),
        Rehearsal::Twice => {
            let _lost = run.await?;
            Err(ActionError::unknown("hear how it ended: a rehearsal loses the first outcome"))
        }
    }
}
