//! `vercel.deployment`: which deployment serves users, and which one did before. Reads only.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{api, project, project_name};
use crate::typed::{About, Done, Typed};

/// Parameters of `vercel.deployment`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Project id or name; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
}

/// One deployment.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Known {
    /// Its id.
    pub id: String,
    /// Its own address.
    #[serde(default)]
    pub url: Option<String>,
    /// When it was made.
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    /// The commit it was built from, where Vercel knows it.
    #[serde(default)]
    pub commit: Option<String>,
}

/// Outputs of `vercel.deployment`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project id or name.
    pub project: String,
    /// What serves users now; null when nothing does.
    #[serde(default)]
    pub serving: Option<Known>,
    /// The newest other production deployment that was built well: what a rollback goes to.
    #[serde(default)]
    pub last_good: Option<Known>,
}

#[derive(Deserialize)]
struct Page {
    deployments: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    uid: String,
    #[serde(default)]
    url: Option<String>,
    /// Milliseconds.
    #[serde(default)]
    created: Option<f64>,
    #[serde(default)]
    meta: BTreeMap<String, Value>,
}

impl From<Listed> for Known {
    fn from(listed: Listed) -> Self {
        let commit = ["githubCommitSha", "gitlabCommitSha", "bitbucketCommitSha", "gitCommitSha"];
        #[expect(clippy::cast_possible_truncation, reason = "milliseconds of a date fit an i64")]
        let created = listed.created.map(|ms| ms as i64);
        Self {
            id: listed.uid,
            url: listed.url,
            created_at: created.and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            commit: commit.iter().find_map(|name| listed.meta.get(*name)?.as_str().map(str::to_owned)),
        }
    }
}

/// The action `vercel.deployment`.
pub struct Serving;

impl Typed for Serving {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Vercel: a token of a team member who may read the project"],
        has_plan: true,
        ..About::new(
            "vercel.deployment",
            "Reads which deployment serves users, and the last good one before it.",
            Effect::Read,
            "id: serving\nuses: vercel.deployment\n",
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let (outputs, summary) = read(ctx, params).await?;
        let line = format!("reads the deployments of project {}: {summary}", outputs.project);
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let (outputs, summary) = read(ctx, params).await?;
        Ok(Done::new(outputs, summary))
    }
}

async fn read(ctx: &Context, params: Params) -> Result<(Outputs, String), ActionError> {
    let name = project_name(ctx, params.project)?;
    let api = api(ctx)?;
    let found = project(&api, &name).await?;
    let page: Page = api
        .get(format!("list the deployments of project `{name}`"), &["v7", "deployments"])
        .query("projectId", &found.id)
        .query("target", "production")
        .query("state", "READY")
        .query("limit", "100")
        .send()
        .await?
        .read()?;
    let mut listed: Vec<Known> = page.deployments.into_iter().map(Known::from).collect();
    listed.sort_by_key(|known| std::cmp::Reverse(known.created_at));
    let serving = found.production().map(|id| {
        let known = listed.iter().find(|known| known.id == id).cloned();
        known.unwrap_or_else(|| Known { id: id.to_owned(), url: None, created_at: None, commit: None })
    });
    // A deployment that was made after the one that serves has never served, or was taken back.
    let since = serving.as_ref().and_then(|serving| serving.created_at);
    let is_older = |known: &&Known| since.is_none() || known.created_at < since;
    let id = serving.as_ref().map(|serving| serving.id.clone());
    let last_good = listed.iter().filter(|known| Some(&known.id) != id.as_ref()).find(is_older).cloned();
    let word = |known: &Option<Known>| known.as_ref().map_or("none", |known| known.id.as_str()).to_owned();
    let summary = format!("{} serves, {} before it", word(&serving), word(&last_good));
    Ok((Outputs { project: name, serving, last_good }, summary))
}
