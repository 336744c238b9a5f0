//! `vercel.rollback`: lets an earlier production deployment serve again, at once and without a build, so with the
//! variables it was built with.

use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{Project, api, project, project_name};
use super::deployment::{get, ready};
use super::point::{By, Move, held_key, point_at};
use super::promote::{UNDO_WAIT, remember, remembered, wait};
use crate::http::Api;
use crate::period::Period;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `vercel.rollback`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Deployment id (`dpl_…`) that served before. The production deployment before the one that serves now when
    /// left out.
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

/// Outputs of `vercel.rollback`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project name.
    pub project: String,
    /// What serves production now.
    pub id: String,
    /// What served it before; the undo promotes it again.
    #[serde(default)]
    pub previous: Option<String>,
}

/// The action `vercel.rollback`.
pub struct Rollback;

impl Typed for Rollback {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        exposes: true,
        permissions: &["Vercel: a token of a team member who may roll production back"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.rollback",
            "Lets the previous production deployment serve again, with the variables it was built with.",
            Effect::Idempotent,
            r"- id: back
  uses: vercel.rollback
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
        let lines = vec![
            format!("points project {} back at deployment {to} instead of {live}", project.name),
            format!(
                "the values of its variables come back as they were when {to} was built: what was rotated or \
                 repointed since then is undone for users"
            ),
            "new deployments do not get the domains until one is promoted".to_owned(),
        ];
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let api = api(ctx)?;
        let project = project(&api, &project_name(ctx, params.project)?).await?;
        let id = target(&api, ctx, &project, params.deployment).await?;
        let previous = remember(ctx, &project, &id).await?;
        let wanted = Move { name: &project.name, to: &id, by: By::Rollback, longest: params.wait.0 };
        point_at(&api, ctx, wanted).await?;
        let summary = format!("deployment {id} serves project {} again", project.name);
        let key = held_key(&project.name);
        let text =
            format!("new deployments of project {} get no domains until one is promoted", project.name);
        Ok(Done::new(Outputs { project: project.name, id, previous }, summary).in_force(key, text))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let previous = outputs.previous.ok_or_else(|| {
            ActionError::refused(format!("undo the rollback of `{}`: nothing served before", outputs.project))
        })?;
        let back = Move { name: &outputs.project, to: &previous, by: By::Promotion, longest: UNDO_WAIT };
        point_at(&api(ctx)?, ctx, back).await?;
        let summary = format!("project {} serves deployment {previous} again", outputs.project);
        let released = vec![held_key(&outputs.project)];
        Ok(Outcome { outputs: Value::Null, summary, in_force: Vec::new(), released })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let Some((id, previous)) = remembered(ctx) else { return Ok(nothing_to_undo()) };
        let project = project(&api(ctx)?, &project_name(ctx, params.project.clone())?).await?.name;
        self.undo(ctx, params, Outputs { project, id, previous }).await
    }
}

/// The deployment to go back to. A repeat goes back to the one that the first attempt chose, not one further.
async fn target(
    api: &Api,
    ctx: &Context,
    project: &Project,
    named: Option<String>,
) -> Result<String, ActionError> {
    if let Some((chosen, _)) = remembered(ctx) {
        return Ok(chosen);
    }
    if let Some(id) = named {
        let found = get(api, &id).await?;
        if found.is_ready() {
            return Ok(found.id);
        }
        return Err(ActionError::refused(format!("roll back to deployment `{id}`: it is not READY")));
    }
    let refuse = |why: &str| {
        ActionError::refused(format!("find what project `{}` served before: {why}", project.name))
            .hint("Name it: `deployment: dpl_…`.")
    };
    let live = project.production().ok_or_else(|| refuse("nothing serves production"))?;
    let since = get(api, live).await?.created;
    let all = ready(api, project).await?;
    let before = all.into_iter().find(|d| d.id != live && d.created <= since);
    before.map(|found| found.id).ok_or_else(|| refuse("no finished production deployment is older"))
}
