//! `supabase.create_project`: a fresh project beside the live one. Never deletes a project; `delete` does.

use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use runbook_core::secret::SecretText;
use runbook_core::types::{Connection, Tls};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{Project, api, look_at_health, project_url, settings, until_healthy};
use crate::http::{Api, Look};
use crate::intent::{find_again, intent, save_intent, unless_turned_away};
use crate::period::Period;
use crate::typed::{About, Done, Found, Typed, nothing_to_undo};

/// Longest name the API takes.
const NAME_CHARS_MAX: usize = 256;
/// The pooler's session mode listens here on the host of its transaction mode.
const SESSION_PORT: u16 = 5432;

/// Parameters of `supabase.create_project`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The project's name. The run's short id is added when it is not in it: by that a later attempt finds
    /// the project again instead of creating a second one.
    #[schemars(length(min = 1, max = 240))]
    pub name: String,
    /// Region code such as `ap-southeast-1`, or `americas`, `emea`, `apac`. The environment's region when left out.
    #[serde(default)]
    pub region: Option<String>,
    /// Password of the database role `postgres`; usually made by `secret.generate`.
    pub db_password: SecretText,
    /// Compute size: `nano`, `micro`, `small`, `medium`, `large`, `xlarge` … The organisation's smallest when left out.
    #[serde(default)]
    pub instance_size: Option<String>,
    /// How long one attempt waits for the project to be up. The next attempt goes on waiting.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

fn wait() -> Period {
    Period::seconds(15 * 60)
}

/// Outputs of `supabase.create_project`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The project's ref, 20 lower-case letters.
    pub r#ref: String,
    /// Its name, with the run's short id in it.
    pub name: String,
    /// Region code.
    pub region: String,
    /// Base URL of its APIs.
    pub api_url: String,
    /// Its database, through the pooler in session mode.
    pub connection: Connection,
    /// When it was created.
    pub created_at: jiff::Timestamp,
}

/// The action `supabase.create_project`.
pub struct CreateProject;

impl Typed for CreateProject {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: organization_projects_create, organization_projects_read (OAuth projects:write, projects:read)",
            "Supabase: project_admin_read and database_pooling_config_read on the new project",
        ],
        has_probe: true,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "supabase.create_project",
            "Creates a Supabase project and waits until its database is up.",
            Effect::Once,
            r#"id: database
uses: supabase.create_project
with:
  name: "polaris-{{ env.name }}-{{ run.short_id }}"
  region: "{{ env.region }}"
  db_password: "{{ steps.password.value }}"
timeout: 20m
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let name = full_name(ctx, &params.name)?;
        let region = region(ctx, &params).unwrap_or_else(|| "the organisation's default region".into());
        let size = params.instance_size.as_deref().unwrap_or("smallest");
        let line = match find(&api(ctx)?, ctx, &name).await? {
            Some(project) => format!("project {name} exists already ({}, {})", project.r#ref, project.status),
            None => format!(
                "creates project {name} in {region}, size {size}, organisation {}",
                settings(ctx)?.organization
            ),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let name = full_name(ctx, &params.name)?;
        let api = api(ctx)?;
        let project = match own(&api, ctx, &name).await? {
            Some(project) => project,
            None => create(&api, ctx, &name, &params).await?,
        };
        let project = until_healthy(ctx, &api, &project, params.wait.0).await?;
        finish(&api, ctx, project, params.db_password).await
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let name = full_name(ctx, &params.name)?;
        let api = api(ctx)?;
        // A project that exists and is not up yet counts as absent: the next attempt finds it by its name
        // and goes on waiting, which a probe may not.
        let Some(project) = own(&api, ctx, &name).await? else { return Ok(Found::Absent) };
        match look_at_health(&api, &project).await {
            Ok(Look::There(project)) => {
                Ok(Found::Happened(finish(&api, ctx, project, params.db_password).await?))
            }
            Ok(Look::NotYet(_)) => Ok(Found::Absent),
            Err(error) => Err(error),
        }
    }

    async fn undo(&self, _ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let text = format!("project {} ({}) is kept", outputs.name, outputs.r#ref);
        Ok(Outcome {
            outputs: Value::Null,
            summary: format!("{text} for forensics"),
            in_force: vec![InForce { key: key(&outputs.r#ref), text }],
            released: Vec::new(),
        })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        if intent(ctx).is_none() {
            return Ok(nothing_to_undo());
        }
        let name = full_name(ctx, &params.name)?;
        let Some(reference) = own(&api(ctx)?, ctx, &name).await? else { return Ok(nothing_to_undo()) };
        let text = format!("project {name} ({reference}) is kept");
        let summary = format!("{text} for forensics");
        let in_force = vec![InForce { key: key(&reference), text }];
        Ok(Outcome { outputs: Value::Null, summary, in_force, released: Vec::new() })
    }
}

pub(super) fn key(project: &str) -> String {
    format!("supabase.project/{project}")
}

pub(super) fn full_name(ctx: &Context, name: &str) -> Result<String, ActionError> {
    let name = name.trim();
    let name =
        if name.contains(&ctx.run_short) { name.to_owned() } else { format!("{name}-{}", ctx.run_short) };
    if name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(ActionError::refused(format!(
            "name a project `{}`: at most {NAME_CHARS_MAX} printable characters are allowed",
            name.escape_debug()
        )));
    }
    Ok(name)
}

fn region(ctx: &Context, params: &Params) -> Option<String> {
    params.region.clone().or_else(|| ctx.environment.region.clone())
}

async fn find(api: &Api, ctx: &Context, name: &str) -> Result<Option<Project>, ActionError> {
    let organization = &settings(ctx)?.organization;
    let projects: Vec<Project> = api.get("list the projects", &["v1", "projects"]).send().await?.read()?;
    let mut same = projects.into_iter().filter(|p| p.name == name && p.organization_slug == *organization);
    let first = same.next();
    if same.next().is_some() {
        return Err(ActionError::refused(format!("find project `{name}`: the organisation has several")));
    }
    Ok(first)
}

/// The ref of the project that this step created, if it did. A project of the same name that this step
/// never set out to create belongs to somebody else and is refused.
async fn own(api: &Api, ctx: &Context, name: &str) -> Result<Option<String>, ActionError> {
    if let Some(Value::String(known)) = ctx.checkpoints.get("ref") {
        return Ok(Some(known));
    }
    match intent(ctx) {
        Some(since) => {
            let found = find_again(ctx, since, || find(api, ctx, name)).await?;
            Ok(found.map(|p| p.r#ref))
        }
        None => match find(api, ctx, name).await? {
            None => Ok(None),
            Some(other) => Err(ActionError::refused(format!(
                "create project `{name}`: one with this name exists ({}), and this step did not create it",
                other.r#ref
            ))
            .hint("Give each step that creates a project its own `name`.")),
        },
    }
}

async fn create(api: &Api, ctx: &Context, name: &str, params: &Params) -> Result<String, ActionError> {
    let password = ctx.secrets.reveal(&params.db_password)?;
    let mut body = json!({
        "name": name,
        "organization_slug": settings(ctx)?.organization,
        "db_pass": password.expose(),
    });
    if let Some(code) = region(ctx, params) {
        let group = matches!(code.as_str(), "americas" | "emea" | "apac");
        body["region_selection"] =
            json!({ "type": if group { "smartGroup" } else { "specific" }, "code": code });
    }
    if let Some(size) = &params.instance_size {
        body["desired_instance_size"] = json!(size);
    }
    save_intent(ctx).await?;
    let call = api
        .post_once(format!("create project `{name}`"), &["v1", "projects"])
        .json(&body)
        .hide(password.expose());
    let created: Project = unless_turned_away(ctx, call.send().await).await?.read()?;
    ctx.checkpoints.save("ref", json!(created.r#ref)).await?;
    Ok(created.r#ref)
}

/// One entry of `GET …/config/database/pooler`.
#[derive(Debug, Deserialize)]
struct Pooler {
    database_type: String,
    db_user: String,
    db_host: String,
    db_port: u16,
    db_name: String,
    pool_mode: String,
}

async fn finish(
    api: &Api,
    ctx: &Context,
    project: Project,
    password: SecretText,
) -> Result<Done<Outputs>, ActionError> {
    let reference = project.r#ref;
    let poolers: Vec<Pooler> = api
        .get(
            format!("read the connection of project `{reference}`"),
            &["v1", "projects", &reference, "config", "database", "pooler"],
        )
        .send()
        .await?
        .read()?;
    let pooler = poolers.into_iter().find(|p| p.database_type == "PRIMARY").ok_or_else(|| {
        ActionError::unchanged(format!("read the connection of project `{reference}`: no primary is listed"))
    })?;
    let connection = Connection {
        host: pooler.db_host,
        // A restore needs session state, which transaction mode does not keep.
        port: if pooler.pool_mode == "session" { pooler.db_port } else { SESSION_PORT },
        user: pooler.db_user,
        database: pooler.db_name,
        password,
        tls: Tls::Auto,
        ca: None,
        identity: None,
        name: None,
        live: false,
    };
    let (name, key) = (project.name, key(&reference));
    let text = format!("project {name} ({reference}) exists beside the live one");
    let summary = format!("project {name} is up in {}", project.region);
    let outputs = Outputs {
        api_url: project_url(ctx, &reference)?,
        r#ref: reference,
        name,
        region: project.region,
        connection,
        created_at: project.created_at,
    };
    Ok(Done::new(outputs, summary).in_force(key, text))
}
