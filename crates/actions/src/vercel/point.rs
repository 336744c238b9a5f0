//! Pointing production at another deployment, by promotion or by instant rollback, and waiting until it is so.

use std::time::Duration;

use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use serde_json::json;

use super::api::project;
use crate::http::{Api, Look, Wait, until};

/// Which of Vercel's two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// New production deployments get the domains by themselves again.
    Promotion,
    /// They do not until one is promoted.
    Rollback,
}

/// What to point where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move<'a> {
    /// Project id or name.
    pub(super) name: &'a str,
    /// The deployment.
    pub(super) to: &'a str,
    pub(super) by: By,
    pub(super) longest: Duration,
}

/// Key of what stays in force after a rollback.
pub(super) fn held_key(project: &str) -> String {
    format!("vercel.rollback/{project}")
}

/// Points production at a deployment that is built, and waits until it does. Twice is once.
pub(super) async fn point_at(api: &Api, ctx: &Context, wanted: Move<'_>) -> Result<(), ActionError> {
    let Move { name, to, by, longest } = wanted;
    let now = project(api, name).await?;
    if now.production() == Some(to) {
        return Ok(());
    }
    let what = format!("point project `{name}` at deployment `{to}`");
    let (version, verb) = match by {
        By::Promotion => ("v10", "promote"),
        By::Rollback => ("v1", "rollback"),
    };
    // 409: another attempt of this step has got there already, or is about to; the wait below tells.
    let asked = api.put(Method::POST, what, &[version, "projects", &now.id, verb, to]).accept(&[409]);
    asked.json(&json!({})).send().await?;
    let what = format!("project `{name}` to serve deployment `{to}`");
    until(ctx, Wait { what: &what, longest }, || async move {
        let now = project(api, name).await?;
        if now.production() == Some(to) {
            return Ok(Look::There(()));
        }
        match now.last_alias_request.filter(|request| request.to_deployment_id == to) {
            Some(request) if matches!(request.job_status.as_str(), "failed" | "skipped") => {
                Err(ActionError::refused(format!(
                    "point project `{name}` at deployment `{to}`: Vercel's job {}",
                    request.job_status
                )))
            }
            Some(request) if request.job_status == "succeeded" => Ok(Look::There(())),
            Some(request) => Ok(Look::NotYet(request.job_status)),
            None => Ok(Look::NotYet("requested".into())),
        }
    })
    .await
}
