//! `vercel.deploy`: builds the production deployment again, so that it sees the variables of now.

use std::time::Duration;

use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Project, api, project, project_name};
use super::deployment::{Deployment, find_by_key, get, redeploy, until_built, until_live};
use super::point::{By, Move, point_at};
use crate::http::Api;
use crate::intent::{find_again, intent, save_intent, unless_turned_away};
use crate::period::Period;
use crate::typed::{About, Done, Found, Typed, nothing_to_undo};

/// How long an undo waits for Vercel to move the domains back, which takes seconds.
const PROMOTE_WAIT: Duration = Duration::from_secs(5 * 60);

/// Parameters of `vercel.deploy`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Project id or name; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Deployment whose source is built; what serves production when left out.
    #[serde(default)]
    pub from: Option<String>,
    /// Whether it serves users once it is built. With `false` it is built for production and reachable at its own URL
    /// only, to be looked at; `vercel.promote` lets it serve.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub serve: bool,
    /// How long one attempt waits for the build. The next attempt goes on waiting.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

fn yes() -> bool {
    true
}

fn wait() -> Period {
    Period::seconds(15 * 60)
}

/// Outputs of `vercel.deploy`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project name.
    pub project: String,
    /// The new deployment's id.
    pub id: String,
    /// Its own URL.
    pub url: String,
    /// What served production before; the undo points production at it again.
    #[serde(default)]
    pub previous: Option<String>,
}

/// The action `vercel.deploy`.
pub struct Deploy;

impl Typed for Deploy {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        exposes: true,
        permissions: &[
            "Vercel: a token of a team member who may create production deployments and promote them",
        ],
        has_probe: true,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.deploy",
            "Builds the production deployment again with the variables of now, and waits until it serves.",
            Effect::Once,
            r#"id: redeploy
uses: vercel.deploy
tags: [expose]
with:
  wait: 10m
timeout: 15m
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        let line = match source(params.from.as_deref(), &project) {
            Ok(source) => {
                let then = if params.serve { "" } else { ", and leaves it to be promoted" };
                format!("builds deployment {source} of project {} again for production{then}", project.name)
            }
            Err(error) => format!("cannot redeploy: {error}"),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        let id = match own(&api, ctx, &project).await? {
            Some(found) => found.id,
            None => {
                let source = source(params.from.as_deref(), &project)?.to_owned();
                if ctx.checkpoints.get("previous").is_none() {
                    ctx.checkpoints.save("previous", json!(project.production())).await?;
                }
                save_intent(ctx).await?;
                let made = redeploy(&api, ctx, &project, &source, params.serve).await;
                let created = unless_turned_away(ctx, made).await?;
                ctx.checkpoints.save("created", json!(created.id)).await?;
                created.id
            }
        };
        let built = if params.serve {
            until_live(&api, ctx, &project.name, &id, params.wait.0).await?
        } else {
            until_built(&api, ctx, &id, params.wait.0).await?
        };
        Ok(finish(ctx, project.name, &built, params.serve))
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        Ok(match own(&api, ctx, &project).await? {
            Some(found) if !params.serve && found.is_ready() => {
                Found::Happened(finish(ctx, project.name, &found, false))
            }
            Some(found) if project.production() == Some(found.id.as_str()) => {
                Found::Happened(finish(ctx, project.name, &found, true))
            }
            // One that is still building counts as absent: the next attempt finds it by its key and waits.
            _ => Found::Absent,
        })
    }

    async fn undo(&self, ctx: &Context, params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        if !params.serve {
            // It never served by itself; a promotion has an undo of its own.
            return Ok(nothing_to_undo());
        }
        let previous = outputs.previous.ok_or_else(|| {
            ActionError::refused(format!(
                "undo the deployment of `{}`: nothing served before",
                outputs.project
            ))
        })?;
        let back = Move { name: &outputs.project, to: &previous, by: By::Promotion, longest: PROMOTE_WAIT };
        point_at(&api(ctx)?, ctx, back).await?;
        let summary = format!(
            "project {} serves deployment {previous} again, with the variables of its build",
            outputs.project
        );
        Ok(Outcome { outputs: Value::Null, summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        if !params.serve {
            return Ok(nothing_to_undo());
        }
        let text = |name: &str| ctx.checkpoints.get(name).and_then(|v| v.as_str().map(str::to_owned));
        let Some(previous) = text("previous") else { return Ok(nothing_to_undo()) };
        let project = project(&api(ctx)?, &project_name(ctx, params.project.clone())?).await?.name;
        let id = text("created").unwrap_or_default();
        self.undo(ctx, params, Outputs { project, id, url: String::new(), previous: Some(previous) }).await
    }
}

fn source<'a>(from: Option<&'a str>, project: &'a Project) -> Result<&'a str, ActionError> {
    from.or_else(|| project.production()).ok_or_else(|| {
        ActionError::refused(format!("redeploy project `{}`: nothing serves production", project.name))
            .hint("Name a deployment to build from: `from`.")
    })
}

/// The deployment that an earlier attempt of this step started, unless it is dead.
async fn own(api: &Api, ctx: &Context, project: &Project) -> Result<Option<Deployment>, ActionError> {
    if let Some(id) = ctx.checkpoints.get("created").as_ref().and_then(Value::as_str) {
        let found = get(api, id).await?;
        if !found.is_dead() {
            return Ok(Some(found));
        }
    }
    match intent(ctx) {
        Some(since) => find_again(ctx, since, || find_by_key(api, ctx, project)).await,
        None => Ok(None),
    }
}

fn finish(ctx: &Context, project: String, built: &Deployment, serves: bool) -> Done<Outputs> {
    let previous = ctx.checkpoints.get("previous").and_then(|v| v.as_str().map(str::to_owned));
    let summary = if serves {
        format!("deployment {} serves project {project}", built.id)
    } else {
        format!("deployment {} is built and waits for its promotion", built.id)
    };
    Done::new(Outputs { project, id: built.id.clone(), url: built.public_url(), previous }, summary)
}
