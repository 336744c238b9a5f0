//! `vercel.promote`: lets a finished production deployment serve. Builds nothing.

use std::time::Duration;

use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Project, api, project, project_name};
use super::deployment::{get, ready};
use super::point::{By, Move, held_key, point_at};
use crate::http::Api;
use crate::period::Period;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// How long an undo waits for Vercel to move the domains back, which takes seconds.
pub(super) const UNDO_WAIT: Duration = Duration::from_secs(5 * 60);

/// Parameters of `vercel.promote`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Deployment id (`dpl_…`), built for production. The newest production deployment that is READY when left
    /// out. A preview has to be built anew: `vercel.deploy` with `from`.
    #[serde(default)]
    pub deployment: Option<String>,
    /// Project id or name; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// How long one attempt waits for Vercel to move the domains.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

pub(super) fn wait() -> Period {
    Period::seconds(5 * 60)
}

/// Outputs of `vercel.promote`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project name.
    pub project: String,
    /// What serves production now.
    pub id: String,
    /// What served it before; the undo points production at it again.
    #[serde(default)]
    pub previous: Option<String>,
}

/// The action `vercel.promote`.
pub struct Promote;

impl Typed for Promote {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        exposes: true,
        permissions: &["Vercel: a token of a team member who may promote production deployments"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.promote",
            "Lets a finished production deployment serve users, without building it again.",
            Effect::Idempotent,
            r"id: promote
uses: vercel.promote
tags: [expose]
with:
  wait: 5m
",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        let to = target(&api, ctx, &project, params.deployment).await?;
        let live = project.production().unwrap_or("nothing");
        let line = if live == to {
            format!("deployment {to} serves project {} already", project.name)
        } else {
            format!("points project {} at deployment {to} instead of {live}", project.name)
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        let id = target(&api, ctx, &project, params.deployment).await?;
        let previous = remember(ctx, &project, &id).await?;
        let wanted = Move { name: &project.name, to: &id, by: By::Promotion, longest: params.wait.0 };
        point_at(&api, ctx, wanted).await?;
        let summary = format!("deployment {id} serves project {}", project.name);
        let released = held_key(&project.name);
        Ok(Done::new(Outputs { project: project.name, id, previous }, summary).released(released))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let previous = outputs.previous.ok_or_else(|| {
            ActionError::refused(format!(
                "undo the promotion of `{}`: nothing served before",
                outputs.project
            ))
        })?;
        let back = Move { name: &outputs.project, to: &previous, by: By::Promotion, longest: UNDO_WAIT };
        point_at(&api(ctx)?, ctx, back).await?;
        let summary = format!(
            "project {} serves deployment {previous} again, with the variables of its build",
            outputs.project
        );
        Ok(Outcome { outputs: Value::Null, summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let Some((id, previous)) = remembered(ctx) else { return Ok(nothing_to_undo()) };
        let project = project(&api(ctx)?, &project_name(ctx, params.project.clone())?).await?.name;
        self.undo(ctx, params, Outputs { project, id, previous }).await
    }
}

/// The deployment that this step chose, in whichever attempt: a repeat never chooses anew.
async fn target(
    api: &Api,
    ctx: &Context,
    project: &Project,
    named: Option<String>,
) -> Result<String, ActionError> {
    if let Some((chosen, _)) = remembered(ctx) {
        return Ok(chosen);
    }
    let Some(id) = named else {
        return ready(api, project).await?.into_iter().next().map(|newest| newest.id).ok_or_else(|| {
            ActionError::refused(format!(
                "promote a deployment of `{}`: none is built for production",
                project.name
            ))
        });
    };
    let found = get(api, &id).await?;
    if found.is_ready() {
        return Ok(found.id);
    }
    Err(ActionError::refused(format!("promote deployment `{id}`: it is not READY")))
}

/// What an earlier attempt chose, and what served before it.
pub(super) fn remembered(ctx: &Context) -> Option<(String, Option<String>)> {
    let saved = ctx.checkpoints.get("moves")?;
    let text = |name: &str| saved.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((text("to")?, text("from")))
}

/// Remembers both before anything moves; gives what served before.
pub(super) async fn remember(
    ctx: &Context,
    project: &Project,
    to: &str,
) -> Result<Option<String>, ActionError> {
    if let Some((_, from)) = remembered(ctx) {
        return Ok(from);
    }
    let from = project.production().filter(|live| *live != to).map(str::to_owned);
    ctx.checkpoints.save("moves", json!({ "to": to, "from": from })).await?;
    Ok(from)
}
