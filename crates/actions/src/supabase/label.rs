//! `supabase.label`: gives a project another name, so that people see what it is kept for. Touches no data.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, project, project_ref};
use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Longest name that the Management API takes.
const NAME_CHARS_MAX: usize = 256;

/// Parameters of `supabase.label`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Its new name: `polaris kept for forensics INC-7`.
    pub name: String,
    /// What is now kept, in a sentence without a full stop. Until somebody says that it ended, status and report
    /// go on saying it.
    #[serde(default)]
    pub in_force: Option<String>,
}

/// Outputs of `supabase.label`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// Its name now.
    pub name: String,
    /// Its name before; the undo gives it back.
    pub previous: String,
}

/// The action `supabase.label`.
pub struct Label;

impl Typed for Label {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Supabase: project_admin_read and project_admin_write"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "supabase.label",
            "Renames a project, so that everybody sees what it is kept for.",
            Effect::Idempotent,
            r#"id: label
uses: supabase.label
with:
  project: "{{ steps.database.ref }}"
  name: "kept for forensics {{ run.short_id }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let reference = project_ref(ctx, params.project)?;
        let now = project(&api(ctx)?, &reference).await?.name;
        let line = if now == params.name {
            format!("project {reference} is called `{now}` already")
        } else {
            format!("renames project {reference} from `{now}` to `{}`", params.name)
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let count = params.name.chars().count();
        if params.name.trim().is_empty() || count > NAME_CHARS_MAX {
            return Err(ActionError::refused(format!(
                "rename the project: a name of {count} characters, 1 to {NAME_CHARS_MAX} are allowed"
            )));
        }
        let reference = project_ref(ctx, params.project)?;
        let api = api(ctx)?;
        let now = project(&api, &reference).await?.name;
        let previous = match ctx.checkpoints.get("previous").as_ref().and_then(Value::as_str) {
            Some(previous) => previous.to_owned(),
            None => {
                ctx.checkpoints.save("previous", json!(now)).await?;
                now.clone()
            }
        };
        if now != params.name {
            rename(&api, &reference, &params.name).await?;
        }
        let summary = format!("project {reference} is called `{}`", params.name);
        let key = key(&reference);
        let done = Done::new(Outputs { project: reference, name: params.name, previous }, summary);
        Ok(match params.in_force {
            Some(text) => done.in_force(key, text),
            None => done,
        })
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let api = api(ctx)?;
        if project(&api, &outputs.project).await?.name != outputs.previous {
            rename(&api, &outputs.project, &outputs.previous).await?;
        }
        Ok(Outcome {
            outputs: Value::Null,
            summary: format!("project {} is called `{}` again", outputs.project, outputs.previous),
            in_force: Vec::<InForce>::new(),
            released: vec![key(&outputs.project)],
        })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let Some(previous) = ctx.checkpoints.get("previous").and_then(|v| v.as_str().map(str::to_owned))
        else {
            return Ok(nothing_to_undo());
        };
        let (project, name) = (project_ref(ctx, params.project.clone())?, params.name.clone());
        self.undo(ctx, params, Outputs { project, name, previous }).await
    }
}

fn key(reference: &str) -> String {
    format!("supabase.label/{reference}")
}

/// Renames and sees that it holds.
async fn rename(api: &Api, reference: &str, name: &str) -> Result<(), ActionError> {
    let what = format!("rename project `{reference}`");
    api.put(Method::PATCH, what.as_str(), &["v1", "projects", reference])
        .json(&json!({ "name": name }))
        .send()
        .await?;
    if project(api, reference).await?.name == name {
        return Ok(());
    }
    Err(ActionError::unchanged(format!("{what}: Supabase still shows the old name")))
}
