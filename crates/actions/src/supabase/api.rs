//! The Management API of this environment, and the answers that more than one action reads.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Supabase;
use serde::Deserialize;

use crate::http::{Api, Look, Wait, until};

const API_URL: &str = "https://api.supabase.com";
const PROJECT_URL: &str = "https://{ref}.supabase.co";

/// The environment's Supabase settings.
pub(super) fn settings(ctx: &Context) -> Result<&Supabase, ActionError> {
    ctx.environment.supabase.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `supabase` in environment `{}`", ctx.environment.name))
            .hint("Add `supabase: { organization, token }` to the environment file.")
    })
}

/// The Management API with this environment's token.
pub(super) fn api(ctx: &Context) -> Result<Api, ActionError> {
    let settings = settings(ctx)?;
    let token = ctx.secrets.reveal(&settings.token)?;
    Api::new("Supabase", settings.api_url.as_deref().unwrap_or(API_URL), Some(token))
}

/// Base URL of a project's own APIs.
pub(crate) fn project_url(ctx: &Context, project: &str) -> Result<String, ActionError> {
    let template = settings(ctx)?.project_url.as_deref().unwrap_or(PROJECT_URL);
    Ok(template.replace("{ref}", project).trim_end_matches('/').to_owned())
}

/// The project that was named, or the environment's live one.
pub(crate) fn project_ref(ctx: &Context, named: Option<String>) -> Result<String, ActionError> {
    let project = match named {
        Some(project) => project,
        None => settings(ctx)?.project.clone().ok_or_else(|| {
            ActionError::refused("find the project: neither `project` nor the environment names one")
        })?,
    };
    // It becomes a path segment and a host name.
    let fits = !project.is_empty() && project.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits && project.len() <= 40 {
        return Ok(project);
    }
    Err(ActionError::refused(format!("use `{}` as a project ref", project.escape_debug()))
        .hint("A ref is 20 lower-case letters, as in the dashboard's URL."))
}

/// One project, as `GET /v1/projects` and `GET /v1/projects/{ref}` tell it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Project {
    pub(super) r#ref: String,
    pub(super) organization_slug: String,
    pub(super) name: String,
    pub(super) region: String,
    pub(super) status: String,
    pub(super) created_at: Timestamp,
}

/// The services whose health the wait asks for.
#[derive(Debug, Deserialize)]
struct Health {
    name: String,
    status: String,
}

/// One project by ref.
pub(super) async fn project(api: &Api, project: &str) -> Result<Project, ActionError> {
    api.get(format!("read project `{project}`"), &["v1", "projects", project]).send().await?.read()
}

/// Statuses in which a project does not come up by itself.
fn is_dead_end(status: &str) -> bool {
    matches!(
        status,
        "INIT_FAILED" | "RESTORE_FAILED" | "PAUSE_FAILED" | "REMOVED" | "GOING_DOWN" | "INACTIVE" | "PAUSING"
    )
}

/// One look at whether a project and its database are up.
pub(super) async fn look_at_health(api: &Api, name: &str) -> Result<Look<Project>, ActionError> {
    let found = project(api, name).await?;
    if is_dead_end(&found.status) {
        return Err(ActionError::refused(format!("use project `{name}`: its status is {}", found.status)).hint(
            "Look at the project in the dashboard. Delete it or free its name before the step is tried again.",
        ));
    }
    if found.status != "ACTIVE_HEALTHY" {
        return Ok(Look::NotYet(found.status));
    }
    let health: Vec<Health> = api
        .get(format!("read the health of project `{name}`"), &["v1", "projects", name, "health"])
        .query("services", "db")
        .send()
        .await?
        .read()?;
    match health.iter().find(|h| h.name == "db") {
        Some(db) if db.status == "ACTIVE_HEALTHY" => Ok(Look::There(found)),
        Some(db) => Ok(Look::NotYet(format!("database {}", db.status))),
        None => Ok(Look::NotYet("database not listed".into())),
    }
}

/// Waits until a project and its database are up.
pub(super) async fn until_healthy(
    ctx: &Context,
    api: &Api,
    name: &str,
    longest: Duration,
) -> Result<Project, ActionError> {
    let what = format!("project `{name}`");
    until(ctx, Wait { what: &what, longest }, || look_at_health(api, name)).await
}
