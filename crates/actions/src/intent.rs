//! Creating something that has no idempotency key at its remote: the intent is saved first, so that a
//! later attempt knows to look before it creates.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath, Context};
use serde_json::Value;

use crate::http::pause;

/// How long a create call whose answer was lost may still be at work before an empty list is believed.
const SETTLES: Duration = Duration::from_secs(5);

/// Saves that something is about to be created, once, so that a later attempt knows whose it is.
pub(crate) async fn save_intent(ctx: &Context) -> Result<(), ActionError> {
    ctx.checkpoints.save("creating", serde_json::json!({ "at": Timestamp::now() })).await
}

/// What became of the call that the intent was saved for. When it was certainly turned away there is nothing to
/// look for later, so the intent is taken back.
pub(crate) async fn unless_turned_away<T>(
    ctx: &Context,
    made: Result<T, ActionError>,
) -> Result<T, ActionError> {
    if made.as_ref().is_err_and(|error| error.aftermath != Aftermath::Unknown) {
        ctx.checkpoints.save("creating", Value::Null).await?;
    }
    made
}

/// When an earlier attempt was about to create something.
pub(crate) fn intent(ctx: &Context) -> Option<Timestamp> {
    ctx.checkpoints.get("creating")?.get("at")?.as_str()?.parse().ok()
}

/// Says, durably, that a request is on its way that cannot be taken back.
pub(crate) async fn save_sending(ctx: &Context) -> Result<(), ActionError> {
    ctx.checkpoints.save("sending", serde_json::json!(true)).await
}

/// Takes that back when the request was certainly not carried out.
pub(crate) async fn settle_sending(ctx: &Context, error: &ActionError) -> Result<(), ActionError> {
    if error.aftermath == runbook_core::action::Aftermath::Unknown {
        return Ok(());
    }
    ctx.checkpoints.save("sending", serde_json::json!(false)).await
}

/// Whether a request may have been on its way when its attempt ended.
pub(crate) fn was_sending(ctx: &Context) -> bool {
    ctx.checkpoints.get("sending").is_some_and(|value| value == true)
}

/// Looks for what an earlier attempt may have created. While that attempt's call may still be at work,
/// an empty answer is asked again.
pub(crate) async fn find_again<T, F, Fut>(
    ctx: &Context,
    since: Timestamp,
    mut look: F,
) -> Result<Option<T>, ActionError>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = Result<Option<T>, ActionError>> + Send,
    T: Send,
{
    loop {
        if let Some(found) = look().await? {
            return Ok(Some(found));
        }
        let age = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        if age >= SETTLES {
            return Ok(None);
        }
        pause(ctx, "what an earlier attempt may have created", Duration::from_millis(500)).await?;
    }
}
