//! Waiting for something in the world, with growing pauses, until it is there, time is up, or the run
//! wants to stop. Changes nothing.

use std::time::Duration;

use runbook_core::action::{ActionError, Aftermath, Context, Progress};
use tokio::time::Instant;

use crate::period::Period;

/// First pause between two looks.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
/// Longest pause: 120 calls a minute are allowed, and nobody notices 5 s at the end of minutes.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What one look found.
pub(crate) enum Look<T> {
    /// It is there.
    There(T),
    /// Not yet; says how it stands: `COMING_UP`.
    NotYet(String),
}

/// For what, and how long.
pub(crate) struct Wait<'a> {
    /// A noun phrase: `project \`x\``.
    pub(crate) what: &'a str,
    /// Longest.
    pub(crate) longest: Duration,
}

/// The error of an attempt that stopped because the run wants to.
fn stopped(what: &str) -> ActionError {
    ActionError::unchanged(format!("wait for {what}: the run was asked to stop")).code("stopped")
}

/// Pauses, or says that the run wants to stop.
pub(crate) async fn pause(ctx: &Context, what: &str, length: Duration) -> Result<(), ActionError> {
    tokio::select! {
        biased;
        () = ctx.stop.wait() => Err(stopped(what)),
        () = tokio::time::sleep(length) => Ok(()),
    }
}

/// Looks until it is there. A look that fails with `Unchanged` counts as not yet, and the remote's wish
/// for time is obeyed; any other failure ends the wait.
pub(crate) async fn until<T, F, Fut>(ctx: &Context, wait: Wait<'_>, mut look: F) -> Result<T, ActionError>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<Look<T>, ActionError>> + Send,
    T: Send,
{
    let end = Instant::now() + wait.longest;
    let mut length = PAUSE_FIRST;
    loop {
        let mut wish = None;
        let (state, cause) = match look().await {
            Ok(Look::There(found)) => return Ok(found),
            Ok(Look::NotYet(state)) => (state, None),
            Err(error) => match error.aftermath {
                Aftermath::Unchanged { retry_after } => {
                    wish = retry_after;
                    ("not answering".to_owned(), Some(error))
                }
                Aftermath::Refused | Aftermath::Unknown => return Err(error),
            },
        };
        let next = wish.unwrap_or(length).max(length);
        if Instant::now() + next > end {
            let text = format!("wait for {}: still {state} after {}", wait.what, Period(wait.longest));
            let late = ActionError::new(text, Aftermath::Unchanged { retry_after: wish }).code("not-in-time");
            return Err(match cause {
                Some(cause) => late.because(cause),
                None => late,
            });
        }
        ctx.progress.report(Progress { message: format!("{}: {state}", wait.what), ..Progress::default() });
        pause(ctx, wait.what, next).await?;
        length = (length * 3 / 2).min(PAUSE_MAX);
    }
}
