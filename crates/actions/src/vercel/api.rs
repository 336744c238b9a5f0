//! The REST API of this environment, and what more than one action reads.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Vercel;
use serde::Deserialize;

use crate::http::Api;

const API_URL: &str = "https://api.vercel.com";

/// The environment's Vercel settings.
pub(super) fn settings(ctx: &Context) -> Result<&Vercel, ActionError> {
    ctx.environment.vercel.as_ref().ok_or_else(|| {
        ActionError::refused(format!("find `vercel` in environment `{}`", ctx.environment.name))
            .hint("Add `vercel: { project, token }` to the environment file.")
    })
}

/// The API with this environment's token and team.
pub(super) fn api(ctx: &Context) -> Result<Api, ActionError> {
    let settings = settings(ctx)?;
    let token = ctx.secrets.reveal(&settings.token)?;
    let api = Api::new("Vercel", settings.api_url.as_deref().unwrap_or(API_URL), Some(token))?;
    Ok(match &settings.team {
        Some(team) => api.with_query("teamId", team),
        None => api,
    })
}

/// The project that was named, or the environment's.
pub(super) fn project_name(ctx: &Context, named: Option<String>) -> Result<String, ActionError> {
    match named {
        Some(name) => Ok(name),
        None => Ok(settings(ctx)?.project.clone()),
    }
}

/// What of `GET /v9/projects/{idOrName}` is used here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Project {
    pub(super) id: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) crons: Option<CronState>,
    #[serde(default)]
    pub(super) targets: Option<BTreeMap<String, Option<Target>>>,
    #[serde(default)]
    pub(super) last_alias_request: Option<AliasRequest>,
}

/// Crons are on unless they have a moment at which they were disabled.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CronState {
    #[serde(default)]
    pub(super) disabled_at: Option<f64>,
    #[serde(default)]
    pub(super) definitions: Vec<serde_json::Value>,
}

/// What serves a target such as `production`.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) id: String,
}

/// The last promotion or rollback.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AliasRequest {
    pub(super) job_status: String,
    pub(super) to_deployment_id: String,
}

impl Project {
    /// The deployment that serves production.
    pub(super) fn production(&self) -> Option<&str> {
        Some(&self.targets.as_ref()?.get("production")?.as_ref()?.id)
    }

    /// Whether its crons run.
    pub(super) fn crons_enabled(&self) -> bool {
        self.crons.as_ref().is_none_or(|crons| crons.disabled_at.is_none())
    }
}

/// Reads a project.
pub(super) async fn project(api: &Api, name: &str) -> Result<Project, ActionError> {
    api.get(format!("read project `{name}`"), &["v9", "projects", name]).send().await?.read()
}
