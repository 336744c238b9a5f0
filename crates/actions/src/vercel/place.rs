//! A variable of production as a place of a secret: written, and proven to hold the new value.

use runbook_core::action::{ActionError, Context};
use runbook_core::secret::Revealed;

use super::api::{api, project_name};
use super::variables::{Setting, find, list, set, value};

const TARGET: &str = "production";

/// Writes a variable unless it has the value already, and reads it back. One that is write-only is proven by
/// the moment of its change.
pub(crate) async fn put_secret(ctx: &Context, key: &str, wanted: &Revealed) -> Result<(), ActionError> {
    let (api, project) = (api(ctx)?, project_name(ctx, None)?);
    let known = list(&api, &project).await?;
    let entry = find(&known, key, TARGET);
    let now = match entry {
        Some(entry) => value(&api, &project, entry).await?,
        None => None,
    };
    if now.is_some_and(|now| now.expose() == wanted.expose()) {
        return Ok(());
    }
    let before = entry.and_then(|entry| entry.updated_at);
    let (kind, target) = match entry {
        // What was in clear is a secret from now on only if it was one before.
        Some(entry) => (entry.r#type.clone(), entry.target.clone()),
        None => ("encrypted".to_owned(), vec![TARGET.to_owned()]),
    };
    let setting = Setting { key, value: Revealed::new(wanted.expose()), r#type: &kind, target };
    set(&api, &project, &[setting]).await?;
    let known = list(&api, &project).await?;
    let proven = match find(&known, key, TARGET) {
        None => false,
        Some(entry) if entry.is_write_only() => entry.updated_at.is_some() && entry.updated_at > before,
        Some(entry) => value(&api, &project, entry).await?.is_some_and(|now| now.expose() == wanted.expose()),
    };
    if proven {
        return Ok(());
    }
    Err(ActionError::unchanged(format!(
        "see variable `{key}` with its new value: Vercel still shows the old state"
    )))
}
