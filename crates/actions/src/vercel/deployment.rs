//! Deployments: finding, starting, watching, promoting. Decides nothing about runs.

use std::collections::BTreeMap;
use std::time::Duration;

use runbook_core::action::{ActionError, Context};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::Project;
use super::point::{By, Move, point_at};
use crate::http::{Api, Look, Wait, until};

/// The `meta` entry that names the step which made a deployment.
pub(super) const META_KEY: &str = "runbookKey";
/// Pages of the deployment list that are searched; each holds up to 100.
const PAGES_MAX: usize = 20;
/// How long a finished deployment may take to get the production domains by itself. Longer means that
/// automatic assignment is off, as it is after an instant rollback.
const ALIAS_PATIENCE: Duration = Duration::from_secs(20);

/// One deployment, from a list or by itself.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Raw")]
pub(super) struct Deployment {
    pub(super) id: String,
    state: String,
    /// When it was created, in milliseconds; only lists are relied on to say so.
    pub(super) created: i64,
    url: Option<String>,
    pub(super) meta: BTreeMap<String, Value>,
    is_aliased: bool,
    alias_error: Option<String>,
    error_message: Option<String>,
}

/// As Vercel writes it: `uid` and `state` in lists, `id` and `readyState` by itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    id: Option<String>,
    uid: Option<String>,
    state: Option<String>,
    ready_state: Option<String>,
    created: Option<f64>,
    created_at: Option<f64>,
    url: Option<String>,
    meta: Option<BTreeMap<String, Value>>,
    /// `false` until the domains point at it; true or a moment afterwards.
    alias_assigned: Option<Value>,
    alias_error: Option<AliasError>,
    error_message: Option<String>,
}

impl TryFrom<Raw> for Deployment {
    type Error = &'static str;

    fn try_from(raw: Raw) -> Result<Self, Self::Error> {
        Ok(Self {
            id: raw.id.or(raw.uid).ok_or("missing field `id`")?,
            state: raw.ready_state.or(raw.state).ok_or("missing field `readyState`")?,
            created: millis(raw.created.or(raw.created_at)),
            url: raw.url,
            meta: raw.meta.unwrap_or_default(),
            // Where nothing says that the domains point elsewhere, they do not.
            is_aliased: raw.alias_assigned != Some(Value::Bool(false)),
            alias_error: raw.alias_error.map(|e| e.message),
            error_message: raw.error_message,
        })
    }
}

/// Numbers of JSON may be written with a point.
#[expect(clippy::cast_possible_truncation, reason = "milliseconds of this century fit")]
fn millis(number: Option<f64>) -> i64 {
    number.unwrap_or_default() as i64
}

#[derive(Debug, Clone, Deserialize)]
struct AliasError {
    #[serde(default)]
    message: String,
}

impl Deployment {
    /// It will never serve anybody.
    pub(super) fn is_dead(&self) -> bool {
        matches!(self.state.as_str(), "ERROR" | "CANCELED" | "BLOCKED" | "DELETED")
    }

    /// It is built and could serve.
    pub(super) fn is_ready(&self) -> bool {
        self.state == "READY"
    }

    pub(super) fn public_url(&self) -> String {
        match self.url.as_deref() {
            Some(url) if url.contains("://") => url.to_owned(),
            Some(url) => format!("https://{url}"),
            None => String::new(),
        }
    }
}

#[derive(Deserialize)]
struct Listed {
    deployments: Vec<Deployment>,
    #[serde(default)]
    pagination: Option<Pagination>,
}

#[derive(Deserialize)]
struct Pagination {
    #[serde(default)]
    next: Option<i64>,
}

/// The newest production deployment of this project that a step made under this key and that is not dead.
pub(super) async fn find_by_key(
    api: &Api,
    ctx: &Context,
    project: &Project,
) -> Result<Option<Deployment>, ActionError> {
    // A clock that differs from Vercel's by less than an hour hides nothing.
    let since = (ctx.started_at.as_millisecond() - 3_600_000).max(0).to_string();
    let mut until: Option<i64> = None;
    for _ in 0..PAGES_MAX {
        let mut call = api
            .get(format!("list the deployments of project `{}`", project.name), &["v7", "deployments"])
            .query("projectId", &project.id)
            .query("target", "production")
            .query("since", &since)
            .query("limit", "100");
        if let Some(until) = until {
            call = call.query("until", &until.to_string());
        }
        let page: Listed = call.send().await?.read()?;
        let own = |d: &Deployment| d.meta.get(META_KEY).and_then(Value::as_str) == Some(ctx.key.as_str());
        if let Some(found) = page.deployments.into_iter().find(|d| own(d) && !d.is_dead()) {
            return Ok(Some(found));
        }
        until = page.pagination.and_then(|p| p.next);
        if until.is_none() {
            return Ok(None);
        }
    }
    Err(ActionError::refused(format!(
        "search the deployments of project `{}`: there are more than {}",
        project.name,
        PAGES_MAX * 100
    )))
}

/// The newest finished production deployments, newest first; one page is more than anybody goes back.
pub(super) async fn ready(api: &Api, project: &Project) -> Result<Vec<Deployment>, ActionError> {
    let listed: Listed = api
        .get(format!("list the deployments of project `{}`", project.name), &["v7", "deployments"])
        .query("projectId", &project.id)
        .query("target", "production")
        .query("state", "READY")
        .query("limit", "100")
        .send()
        .await?
        .read()?;
    let mut found: Vec<Deployment> = listed.deployments.into_iter().filter(Deployment::is_ready).collect();
    found.sort_by_key(|deployment| std::cmp::Reverse(deployment.created));
    Ok(found)
}

/// Reads one deployment.
pub(super) async fn get(api: &Api, id: &str) -> Result<Deployment, ActionError> {
    api.get(format!("read deployment `{id}`"), &["v13", "deployments", id]).send().await?.read()
}

/// Starts a deployment with the source of another one and the variables of now.
pub(super) async fn redeploy(
    api: &Api,
    ctx: &Context,
    project: &Project,
    source: &str,
    serve: bool,
) -> Result<Deployment, ActionError> {
    let mut body = json!({
        "name": project.name,
        "deploymentId": source,
        "target": "production",
        "meta": { "action": "redeploy", META_KEY: ctx.key, "runbookRun": ctx.run },
    });
    if !serve {
        // What Vercel's own command line sends for `--prod --skip-domain`.
        body["autoAssignCustomDomains"] = json!(false);
    }
    api.post_once(format!("redeploy project `{}`", project.name), &["v13", "deployments"])
        .query("forceNew", "1")
        .json(&body)
        .send()
        .await?
        .read()
}

/// One look at a deployment on its way.
fn look(found: Deployment) -> Result<Look<Deployment>, ActionError> {
    if found.is_dead() {
        let why = found.error_message.as_deref().unwrap_or("see its build log at Vercel");
        return Err(ActionError::refused(format!(
            "build deployment `{}`: it ended as {}: {}",
            found.id,
            found.state,
            why.escape_debug()
        ))
        .code("deployment-failed"));
    }
    if let Some(error) = &found.alias_error {
        return Err(ActionError::refused(format!(
            "give deployment `{}` its domains: {}",
            found.id,
            error.escape_debug()
        )));
    }
    Ok(if found.state == "READY" { Look::There(found) } else { Look::NotYet(found.state) })
}

/// Waits until a deployment is built.
pub(super) async fn until_built(
    api: &Api,
    ctx: &Context,
    id: &str,
    longest: Duration,
) -> Result<Deployment, ActionError> {
    let what = format!("deployment `{id}`");
    until(ctx, Wait { what: &what, longest }, || async move { look(get(api, id).await?) }).await
}

/// Waits until a deployment is built and serves production.
pub(super) async fn until_live(
    api: &Api,
    ctx: &Context,
    name: &str,
    id: &str,
    longest: Duration,
) -> Result<Deployment, ActionError> {
    let ready = until_built(api, ctx, id, longest).await?;
    if ready.is_aliased {
        return Ok(ready);
    }
    let what = format!("the domains of deployment `{id}`");
    let patient = until(ctx, Wait { what: &what, longest: ALIAS_PATIENCE.min(longest) }, || async move {
        let found = get(api, id).await?;
        Ok(if found.is_aliased { Look::There(found) } else { Look::NotYet("not assigned".into()) })
    })
    .await;
    match patient {
        Err(error) if error.code == Some("not-in-time") => {
            point_at(api, ctx, Move { name, to: id, by: By::Promotion, longest }).await?;
            get(api, id).await
        }
        settled => settled,
    }
}
