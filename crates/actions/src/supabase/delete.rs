//! `supabase.delete_project`: removes the scratch project that this run made. Nothing else can be removed with it: the
//! project is found by a name that holds this run's id, must be younger than the run, and must not be what any
//! connection of the environment leads to.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::api::{Project, api, settings};
use super::project::{full_name, key};
use crate::http::{Api, Look, Wait, pause, until};
use crate::typed::{About, Done, Typed};

/// How long a call to create that project may still be at work when its step was cut off.
const SETTLES: Duration = Duration::from_secs(5);
/// Clocks of two machines may differ by so much.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// A project that is being made or removed takes no call to remove it; after so long a person should look.
const WAIT: Duration = Duration::from_secs(10 * 60);

/// Parameters of `supabase.delete_project`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The name that `supabase.create_project` was given in this run. The run's short id is added when it is not in it,
    /// as there: a project of another run cannot be named.
    #[schemars(length(min = 1, max = 240))]
    pub name: String,
    /// Whether a call to create it may have been cut off: then a project that is not there is looked for once more for
    /// five seconds. `false` looks once.
    #[serde(default = "yes")]
    #[schemars(default = "yes")]
    pub may_be_coming: bool,
}

fn yes() -> bool {
    true
}

/// Outputs of `supabase.delete_project`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The project's name.
    pub name: String,
    /// Its ref; none when there was no such project.
    #[serde(default)]
    pub r#ref: Option<String>,
    /// When it was gone.
    pub gone_at: Timestamp,
}

/// The action `supabase.delete_project`.
pub struct DeleteProject;

impl Typed for DeleteProject {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: organization_projects_read, project_admin_write (OAuth projects:read, projects:write)",
        ],
        has_plan: true,
        ..About::new(
            "supabase.delete_project",
            "Removes the scratch project that this run made; refuses any other.",
            Effect::Idempotent,
            r#"id: scratch-gone
uses: supabase.delete_project
with:
  name: "scratch-{{ env.name }}-{{ run.short_id }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let name = full_name(ctx, &params.name)?;
        let line = match find(&api(ctx)?, ctx, &name).await? {
            Some(project) => format!("removes project {name} ({})", project.r#ref),
            None => format!("removes project {name}, which this run makes; it is not there now"),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let name = full_name(ctx, &params.name)?;
        let api = api(ctx)?;
        let known = ctx.checkpoints.get("ref").and_then(|value| value.as_str().map(str::to_owned));
        let found = match known {
            Some(_) => find(&api, ctx, &name).await?,
            None => find_patiently(&api, ctx, &name, params.may_be_coming).await?,
        };
        let reference = match &found {
            Some(project) => {
                is_ours(ctx, project)?;
                ctx.checkpoints.save("ref", json!(project.r#ref)).await?;
                remove(&api, ctx, &project.r#ref).await?;
                Some(project.r#ref.clone())
            }
            None => known,
        };
        let summary = match &reference {
            Some(_) => format!("project {name} is removed"),
            None => format!("there is no project {name}"),
        };
        let released = reference.as_deref().map(key);
        let outputs = Outputs { name, r#ref: reference, gone_at: Timestamp::now() };
        let done = Done::new(outputs, summary);
        Ok(match released {
            Some(key) => done.released(key),
            None => done,
        })
    }
}

async fn find(api: &Api, ctx: &Context, name: &str) -> Result<Option<Project>, ActionError> {
    let organization = &settings(ctx)?.organization;
    let projects: Vec<Project> = api.get("list the projects", &["v1", "projects"]).send().await?.read()?;
    let is_gone = |project: &Project| matches!(project.status.as_str(), "REMOVED" | "GOING_DOWN");
    let mut same = projects
        .into_iter()
        .filter(|p| p.name == name && p.organization_slug == *organization && !is_gone(p));
    let first = same.next();
    if same.next().is_some() {
        return Err(ActionError::refused(format!("find project `{name}`: the organisation has several"))
            .hint("Look at them in the dashboard and remove those that this run made by hand."));
    }
    Ok(first)
}

/// Looks until a call to create it, whose step was cut off, can no longer be at work.
async fn find_patiently(
    api: &Api,
    ctx: &Context,
    name: &str,
    may_be_coming: bool,
) -> Result<Option<Project>, ActionError> {
    let end = tokio::time::Instant::now() + SETTLES;
    loop {
        let found = find(api, ctx, name).await?;
        if found.is_some() || !may_be_coming || tokio::time::Instant::now() >= end {
            return Ok(found);
        }
        pause(ctx, "a project that may still be coming", Duration::from_millis(500)).await?;
    }
}

/// Everything that speaks against a project being scratch of this run.
fn is_ours(ctx: &Context, project: &Project) -> Result<(), ActionError> {
    let reference = project.r#ref.as_str();
    let refuse = |why: String| {
        Err(ActionError::refused(format!("remove project `{reference}`: {why}")).code("not-ours"))
    };
    if settings(ctx)?.project.as_deref() == Some(reference) {
        return refuse("it is the live project of this environment".to_owned());
    }
    let leads_there = ctx.environment.connections.iter().find(|(_, connection)| {
        [&connection.host, &connection.user, &connection.database]
            .into_iter()
            .any(|text| text.contains(reference))
    });
    if let Some((name, _)) = leads_there {
        return refuse(format!("connection `{name}` of this environment leads to it"));
    }
    let before = ctx.started_at.checked_sub(CLOCKS_DIFFER).unwrap_or(ctx.started_at);
    if project.created_at < before {
        return refuse(format!("it was made at {}, before this run", project.created_at));
    }
    Ok(())
}

async fn remove(api: &Api, ctx: &Context, reference: &str) -> Result<(), ActionError> {
    let what = format!("project `{reference}` to be gone");
    until(ctx, Wait { what: &what, longest: WAIT }, || async {
        let path = ["v1", "projects", reference];
        let now = api.get(format!("read project `{reference}`"), &path).accept(&[404]).send().await?;
        if now.status == 404 {
            return Ok(Look::There(()));
        }
        let project: Project = now.read()?;
        match project.status.as_str() {
            "REMOVED" => Ok(Look::There(())),
            status @ ("UNKNOWN" | "COMING_UP" | "GOING_DOWN" | "RESTORING" | "UPGRADING" | "PAUSING"
            | "RESIZING") => Ok(Look::NotYet(status.to_owned())),
            _ => {
                api.put(Method::DELETE, format!("remove project `{reference}`"), &path)
                    .accept(&[404])
                    .send()
                    .await?;
                Ok(Look::There(()))
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::{Path, State};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse as _, Response};
    use axum::routing::get;
    use axum::{Json, Router};
    use runbook_core::action::Aftermath;
    use serde_json::Value;

    use super::*;
    use crate::http::stand_in::{World, lose_the_answer, serve};

    /// Projects, what was removed, and whether the next answer to a removal is lost.
    #[derive(Default)]
    struct Supa {
        projects: Vec<Value>,
        removed: Vec<String>,
        lose: bool,
    }

    type Shared = Arc<Mutex<Supa>>;

    fn project(reference: &str, name: &str, status: &str) -> Value {
        json!({ "ref": reference, "organization_slug": "polaris", "name": name, "region": "r", "status": status,
                "created_at": Timestamp::now().to_string() })
    }

    async fn remove(State(supa): State<Shared>, Path(reference): Path<String>) -> Response {
        let mut supa = supa.lock().unwrap();
        supa.projects.retain(|p| p["ref"] != reference.as_str());
        supa.removed.push(reference);
        if std::mem::take(&mut supa.lose) {
            drop(supa);
            lose_the_answer();
        }
        Json(json!({})).into_response()
    }

    async fn show(State(supa): State<Shared>, Path(reference): Path<String>) -> Response {
        let supa = supa.lock().unwrap();
        match supa.projects.iter().find(|p| p["ref"] == reference.as_str()) {
            Some(project) => Json(project.clone()).into_response(),
            None => (StatusCode::NOT_FOUND, Json(json!({ "message": "Project not found" }))).into_response(),
        }
    }

    async fn world(projects: Vec<Value>, lose: bool) -> (World, Shared) {
        let shared = Arc::new(Mutex::new(Supa { projects, lose, ..Supa::default() }));
        let list = |State(s): State<Shared>| async move { Json(json!(s.lock().unwrap().projects)) };
        let router = Router::new()
            .route("/v1/projects", get(list))
            .route("/v1/projects/{ref}", get(show).delete(remove))
            .with_state(shared.clone());
        (World::at(&serve(router).await), shared)
    }

    async fn run(world: &World) -> Result<Done<Outputs>, ActionError> {
        let params = json!({ "name": "scratch", "may_be_coming": false });
        DeleteProject.run(&world.ctx, serde_json::from_value(params).unwrap()).await
    }

    #[tokio::test]
    async fn the_project_of_this_run_goes_and_twice_is_once() {
        let mine = project("mine", "scratch-01234567", "ACTIVE_HEALTHY");
        let other = project("other", "scratch-89abcdef", "ACTIVE_HEALTHY");
        // The answer to the first removal is lost; a look shows that it happened.
        let (world, supa) = world(vec![mine, other], true).await;

        let done = run(&world).await.unwrap();
        let again = run(&world).await.unwrap();

        assert_eq!(supa.lock().unwrap().removed, ["mine"]);
        assert_eq!(
            (done.outputs.r#ref.as_deref(), again.outputs.r#ref.as_deref()),
            (Some("mine"), Some("mine"))
        );
        assert_eq!(done.released, ["supabase.project/mine"]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_gone() {
        let (world, supa) = world(vec![], false).await;
        let done = run(&world).await.unwrap();
        assert_eq!(
            (done.outputs.r#ref, done.summary.as_str()),
            (None, "there is no project scratch-01234567")
        );
        assert!(supa.lock().unwrap().removed.is_empty());
    }

    #[tokio::test]
    async fn what_is_live_older_or_named_twice_is_refused() {
        let name = "scratch-01234567";
        let mut old = project("old", name, "ACTIVE_HEALTHY");
        old["created_at"] = json!("2020-01-01T00:00:00Z");
        let live = project("liveliveliveliveliv", name, "ACTIVE_HEALTHY");
        let twice = vec![project("a", name, "ACTIVE_HEALTHY"), project("b", name, "ACTIVE_HEALTHY")];
        for projects in [vec![old], vec![live], twice] {
            let (world, supa) = world(projects.clone(), false).await;
            let error = run(&world).await.unwrap_err();
            assert_eq!(error.aftermath, Aftermath::Refused, "{projects:?}");
            assert!(supa.lock().unwrap().removed.is_empty(), "{projects:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_of_the_environment_protects_what_it_leads_to() {
        let (mut world, supa) =
            world(vec![project("abcabc", "scratch-01234567", "ACTIVE_HEALTHY")], false).await;
        let mut environment = (*world.ctx.environment).clone();
        let connection = json!({ "host": "db.abcabc.supabase.co", "user": "postgres", "database": "postgres", "password": "" });
        environment.connections.insert("reports".into(), serde_json::from_value(connection).unwrap());
        world.ctx.environment = Arc::new(environment);
        let error = run(&world).await.unwrap_err();
        assert!(error.to_string().contains("connection `reports`"), "{error}");
        assert!(supa.lock().unwrap().removed.is_empty());
    }
}
