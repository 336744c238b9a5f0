//! `vercel.crons`: turns a project's cron jobs off and on. Never edits them.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, project, project_name};
use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Parameters of `vercel.crons`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Whether the crons shall run.
    pub enabled: bool,
    /// Project id or name; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
}

/// Outputs of `vercel.crons`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project id or name.
    pub project: String,
    /// Whether the crons run now.
    pub enabled: bool,
    /// Whether they ran before this step; the undo restores that.
    pub were_enabled: bool,
}

/// The action `vercel.crons`.
pub struct Crons;

impl Typed for Crons {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Vercel: a token of a team member who may edit the project"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.crons",
            "Turns a project's cron jobs off or on.",
            Effect::Idempotent,
            r#"id: crons-off
uses: vercel.crons
tags: [freeze]
with:
  enabled: false
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let name = project_name(ctx, params.project)?;
        let found = project(&api(ctx)?, &name).await?;
        let jobs = found.crons.as_ref().map_or(0, |c| c.definitions.len());
        let word = word(params.enabled);
        let line = if found.crons_enabled() == params.enabled {
            format!("the crons of project {name} are {word} already ({jobs} jobs)")
        } else {
            format!("turns the crons of project {name} {word} ({jobs} jobs)")
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let name = project_name(ctx, params.project)?;
        let api = api(ctx)?;
        let now = project(&api, &name).await?.crons_enabled();
        let were_enabled = match ctx.checkpoints.get("were_enabled").and_then(|v| v.as_bool()) {
            Some(before) => before,
            None => {
                ctx.checkpoints.save("were_enabled", json!(now)).await?;
                now
            }
        };
        if now != params.enabled {
            switch(&api, &name, params.enabled).await?;
        }
        let summary = format!("the crons of {name} are {}", word(params.enabled));
        let done =
            Done::new(Outputs { project: name.clone(), enabled: params.enabled, were_enabled }, summary);
        Ok(match in_force(&name, params.enabled) {
            Some(entry) => done.in_force(entry.key, entry.text),
            None => done.released(key(&name)),
        })
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let (name, wanted) = (outputs.project, outputs.were_enabled);
        let api = api(ctx)?;
        if project(&api, &name).await?.crons_enabled() != wanted {
            switch(&api, &name, wanted).await?;
        }
        Ok(Outcome {
            outputs: Value::Null,
            summary: format!("the crons of {name} are {} again", word(wanted)),
            in_force: in_force(&name, wanted).into_iter().collect(),
            released: if wanted { vec![key(&name)] } else { Vec::new() },
        })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let before = ctx.checkpoints.get("were_enabled").and_then(|v| v.as_bool());
        let Some(were_enabled) = before else { return Ok(nothing_to_undo()) };
        let project = project_name(ctx, params.project.clone())?;
        let enabled = params.enabled;
        self.undo(ctx, params, Outputs { project, enabled, were_enabled }).await
    }
}

fn word(enabled: bool) -> &'static str {
    if enabled { "on" } else { "off" }
}

fn key(project: &str) -> String {
    format!("vercel.crons/{project}")
}

fn in_force(project: &str, enabled: bool) -> Option<InForce> {
    (!enabled).then(|| InForce { key: key(project), text: format!("the crons of project {project} are off") })
}

/// Switches and sees that it holds. Vercel documents this call nowhere but in its Terraform provider.
async fn switch(api: &Api, name: &str, enabled: bool) -> Result<(), ActionError> {
    let id = project(api, name).await?.id;
    api.put(
        Method::PATCH,
        format!("turn the crons of project `{name}` {}", word(enabled)),
        &["v1", "projects", &id, "crons"],
    )
    .json(&json!({ "enabled": enabled }))
    .send()
    .await?;
    if project(api, name).await?.crons_enabled() == enabled {
        return Ok(());
    }
    Err(ActionError::unchanged(format!(
        "see the crons of project `{name}` {}: Vercel still shows the old state",
        word(enabled)
    )))
}
