//! `vercel.env`: environment variables of a project. Reaches only deployments made afterwards
//! (`vercel.deploy`). No value is ever shown.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Context, Effect, InForce, Outcome, Preview};
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, project_name};
use super::variables::{Setting, Variable, delete, find, list, set, value};
use crate::http::Api;
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// Which deployments see a variable.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetName {
    /// What users see.
    #[default]
    Production,
    /// Deployments of branches.
    Preview,
    /// `vercel dev`.
    Development,
}

impl TargetName {
    fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Preview => "preview",
            Self::Development => "development",
        }
    }
}

/// How Vercel keeps a value.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Encrypted; can be read back by whoever may.
    #[default]
    Encrypted,
    /// Encrypted; nobody can read it back, so the next change of it cannot be taken back.
    Sensitive,
    /// In clear.
    Plain,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Sensitive => "sensitive",
            Self::Plain => "plain",
        }
    }
}

/// Parameters of `vercel.env`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name to value; a value may be or hold a secret. `null` deletes the variable.
    pub set: BTreeMap<String, Option<SecretText>>,
    /// Which deployments see them. A variable that other targets share gets its new value there too.
    #[serde(default)]
    pub target: TargetName,
    /// How Vercel keeps the values. A variable that is `sensitive` already stays so.
    #[serde(default, rename = "type")]
    pub kind: Kind,
    /// Project id or name; the environment's when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// What is in force from now on because of these values, a sentence without a full stop: `the app takes no
    /// payments`. It is told until a later step sets the same variables with `releases`.
    #[serde(default)]
    pub in_force: Option<String>,
    /// Whether this ends what an earlier step put in force by the same variables.
    #[serde(default)]
    pub releases: bool,
}

impl Params {
    /// What is in force hangs on the names, whatever their values are.
    fn in_force_key(&self, project: &str) -> String {
        let names: Vec<&str> = self.set.keys().map(String::as_str).collect();
        format!("vercel.env/{project}/{}/{}", self.target.name(), names.join(","))
    }
}

/// Outputs of `vercel.env`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Project id or name.
    pub project: String,
    /// Names that were set or deleted, sorted. Names that held their value already are left out.
    pub changed: Vec<String>,
    /// What was there before, by name; for the undo.
    pub previous: BTreeMap<String, Previous>,
}

/// What a variable was before this step touched it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Previous {
    /// Whether there was such a variable.
    pub existed: bool,
    /// Its value, when it could be read.
    #[serde(default)]
    pub value: Option<SecretText>,
    /// How it was kept.
    #[serde(default)]
    pub kind: String,
    /// Which deployments saw it.
    #[serde(default)]
    pub target: Vec<String>,
}

/// The action `vercel.env`.
pub struct Env;

impl Typed for Env {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        exposes: true,
        permissions: &[
            "Vercel: a token of a team member who may edit and decrypt the project's environment variables",
        ],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "vercel.env",
            "Sets or deletes environment variables of a project; new deployments see them.",
            Effect::Idempotent,
            r#"id: traffic
uses: vercel.env
tags: [expose]
with:
  set:
    NEXT_PUBLIC_SUPABASE_URL: "{{ steps.database.api_url }}"
    SUPABASE_SERVICE_ROLE_KEY: "{{ steps.keys.service_role_key }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let target = params.target.name();
        let project = project_name(ctx, params.project)?;
        let api = api(ctx)?;
        let known = list(&api, &project).await?;
        let mut lines = Vec::new();
        for (key, wanted) in &params.set {
            let entry = find(&known, key, target);
            let line = match (entry, wanted) {
                (None, None) => format!("{key} does not exist ({target})"),
                (Some(_), None) => format!("{key} is deleted ({target})"),
                (None, Some(_)) => format!("{key} is created ({target})"),
                (Some(entry), Some(wanted)) => change_line(&api, ctx, &project, entry, wanted).await?,
            };
            lines.push(line);
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let project = project_name(ctx, params.project.clone())?;
        let target = params.target.name();
        check_names(&params.set)?;
        if params.in_force.is_some() && params.releases {
            return Err(ActionError::refused(
                "set variables: they cannot both put something in force and end it",
            ));
        }
        let api = api(ctx)?;
        let known = list(&api, &project).await?;
        let previous = remember(&api, ctx, &project, &known, &params).await?;
        let (settings, deletions) = work(&api, ctx, &project, &known, &params).await?;
        if !settings.is_empty() {
            set(&api, &project, &settings).await?;
        }
        for variable in &deletions {
            delete(&api, &project, variable).await?;
        }
        verify(&api, ctx, &project, &params).await?;
        // A repeat finds its own values in place: what changed is what differs from before the first attempt.
        let changed = changed(ctx, &params, &previous)?;
        let summary =
            format!("{} of {} variables of {project} changed ({target})", changed.len(), params.set.len());
        let key = params.in_force_key(&project);
        let done = Done::new(Outputs { project, changed, previous }, summary);
        Ok(match params.in_force {
            Some(text) => done.in_force(key, text),
            None if params.releases => done.released(key),
            None => done,
        })
    }

    async fn undo(&self, ctx: &Context, params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        let own_key = params.in_force_key(&outputs.project);
        let (api, project, target) = (api(ctx)?, outputs.project, params.target.name());
        let known = list(&api, &project).await?;
        let (mut settings, mut in_force, mut restored) = (Vec::new(), Vec::new(), 0_usize);
        for key in &outputs.changed {
            let Some(before) = outputs.previous.get(key) else { continue };
            match (&before.value, before.existed) {
                (Some(value), _) => {
                    let value = ctx.secrets.reveal(value)?;
                    if holds(&api, &project, find(&known, key, target), &value).await? {
                        restored += 1;
                        continue;
                    }
                    settings.push(Setting {
                        key,
                        value,
                        r#type: &before.kind,
                        target: before.target.clone(),
                    });
                }
                (None, false) => {
                    if let Some(variable) = find(&known, key, target) {
                        delete(&api, &project, variable).await?;
                    }
                    restored += 1;
                }
                (None, true) => in_force.push(InForce {
                    key: format!("vercel.env/{project}/{key}"),
                    text: format!(
                        "variable {key} of project {project} keeps its new value: the old one was write-only"
                    ),
                }),
            }
        }
        restored += settings.len();
        if !settings.is_empty() {
            set(&api, &project, &settings).await?;
        }
        let summary = format!("{restored} variables of {project} are as before; redeploy to use them");
        if params.releases {
            // The words of the step that put it in force are gone with it.
            let text = format!("variables of project {project} are as an earlier step of the run set them");
            in_force.push(InForce { key: own_key.clone(), text });
        }
        let released = params.in_force.map(|_| own_key).into_iter().collect();
        Ok(Outcome { outputs: Value::Null, summary, in_force, released })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        // What was there is remembered before the first change.
        let Some(previous) = remembered(ctx)? else { return Ok(nothing_to_undo()) };
        let project = project_name(ctx, params.project.clone())?;
        let changed = changed(ctx, &params, &previous)?;
        self.undo(ctx, params, Outputs { project, changed, previous }).await
    }
}

async fn change_line(
    api: &Api,
    ctx: &Context,
    project: &str,
    entry: &Variable,
    wanted: &SecretText,
) -> Result<String, ActionError> {
    let key = &entry.key;
    let targets = entry.target.join(", ");
    if entry.is_write_only() {
        return Ok(format!(
            "{key} is set ({targets}); its present value cannot be read, so there is no way back"
        ));
    }
    // A secret that an earlier step has yet to make cannot be compared.
    let Ok(wanted) = ctx.secrets.reveal(wanted) else { return Ok(format!("{key} is set ({targets})")) };
    let same = value(api, project, entry).await?.is_some_and(|now| now.expose() == wanted.expose());
    Ok(if same {
        format!("{key} has this value already ({targets})")
    } else {
        format!("{key} changes ({targets})")
    })
}

fn check_names(set: &BTreeMap<String, Option<SecretText>>) -> Result<(), ActionError> {
    let fits = |key: &str| {
        key.len() <= 256
            && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && key.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    match set.keys().find(|key| !fits(key)) {
        Some(key) => Err(ActionError::refused(format!(
            "set variable `{}`: a name is letters, digits and `_`, not beginning with a digit",
            key.escape_debug()
        ))),
        None => Ok(()),
    }
}

/// Whether a variable has a value, as far as it can be read.
async fn holds(
    api: &Api,
    project: &str,
    entry: Option<&Variable>,
    wanted: &Revealed,
) -> Result<bool, ActionError> {
    let Some(entry) = entry else { return Ok(false) };
    Ok(same(value(api, project, entry).await?, wanted))
}

fn remembered(ctx: &Context) -> Result<Option<BTreeMap<String, Previous>>, ActionError> {
    let Some(saved) = ctx.checkpoints.get("previous") else { return Ok(None) };
    serde_json::from_value(saved)
        .map(Some)
        .map_err(|error| ActionError::refused("read the checkpoint of the previous values").because(error))
}

/// What each variable was before the first attempt. Values go into the vault first, then the fact that
/// they are there into a checkpoint; a repeat reads both and never overwrites them.
async fn remember(
    api: &Api,
    ctx: &Context,
    project: &str,
    known: &[Variable],
    params: &Params,
) -> Result<BTreeMap<String, Previous>, ActionError> {
    if let Some(saved) = remembered(ctx)? {
        return Ok(saved);
    }
    let mut previous = BTreeMap::new();
    for key in params.set.keys() {
        let entry = match find(known, key, params.target.name()) {
            None => Previous { existed: false, value: None, kind: String::new(), target: Vec::new() },
            Some(variable) => {
                let clear = value(api, project, variable).await?;
                let field = format!("previous/{key}");
                Previous {
                    existed: true,
                    value: clear.map(|clear| ctx.secrets.keep(&field, clear.expose())).transpose()?,
                    kind: variable.r#type.clone(),
                    target: variable.target.clone(),
                }
            }
        };
        previous.insert(key.clone(), entry);
    }
    ctx.checkpoints.save("previous", json!(previous)).await?;
    Ok(previous)
}

/// What is left to do: values that differ or cannot be compared, and variables to delete.
async fn work<'a>(
    api: &Api,
    ctx: &Context,
    project: &str,
    known: &'a [Variable],
    params: &'a Params,
) -> Result<(Vec<Setting<'a>>, Vec<&'a Variable>), ActionError> {
    let target = params.target.name();
    let (mut settings, mut deletions) = (Vec::new(), Vec::new());
    for (key, wanted) in &params.set {
        let entry = find(known, key, target);
        let Some(wanted) = wanted else {
            if let Some(entry) = entry {
                if entry.target.len() > 1 {
                    return Err(ActionError::refused(format!(
                        "delete variable `{key}` of project `{project}`: {} share it",
                        entry.target.join(", ")
                    )));
                }
                deletions.push(entry);
            }
            continue;
        };
        let clear = ctx.secrets.reveal(wanted)?;
        let now = match entry {
            Some(entry) => value(api, project, entry).await?,
            None => None,
        };
        if now.is_some_and(|now| now.expose() == clear.expose()) {
            continue;
        }
        let (kind, targets) = match entry {
            Some(entry) if entry.is_write_only() => ("sensitive", entry.target.clone()),
            Some(entry) => (params.kind.name(), entry.target.clone()),
            None => (params.kind.name(), vec![target.to_owned()]),
        };
        settings.push(Setting { key, value: clear, r#type: kind, target: targets });
    }
    Ok((settings, deletions))
}

/// Reads everything back. What cannot be read must at least be there.
async fn verify(api: &Api, ctx: &Context, project: &str, params: &Params) -> Result<(), ActionError> {
    let known = list(api, project).await?;
    for (key, wanted) in &params.set {
        let entry = find(&known, key, params.target.name());
        let holds = match (entry, wanted) {
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
            (Some(entry), Some(wanted)) => {
                let wanted = ctx.secrets.reveal(wanted)?;
                entry.is_write_only() || same(value(api, project, entry).await?, &wanted)
            }
        };
        if !holds {
            return Err(ActionError::unchanged(format!(
                "see the change of variable `{key}` of project `{project}`: Vercel still shows the old state"
            )));
        }
    }
    Ok(())
}

fn same(now: Option<Revealed>, wanted: &Revealed) -> bool {
    now.is_some_and(|now| now.expose() == wanted.expose())
}

fn changed(
    ctx: &Context,
    params: &Params,
    previous: &BTreeMap<String, Previous>,
) -> Result<Vec<String>, ActionError> {
    let mut changed = Vec::new();
    for (key, wanted) in &params.set {
        let before = previous.get(key);
        let existed = before.is_some_and(|b| b.existed);
        let is_changed = match (wanted, before.and_then(|b| b.value.as_ref())) {
            (None, _) => existed,
            (Some(_), None) => true,
            (Some(wanted), Some(before)) => {
                ctx.secrets.reveal(wanted)?.expose() != ctx.secrets.reveal(before)?.expose()
            }
        };
        if is_changed {
            changed.push(key.clone());
        }
    }
    Ok(changed)
}
