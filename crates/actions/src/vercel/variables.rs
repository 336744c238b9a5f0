//! A project's environment variables: reading, setting, deleting. Values are secrets throughout.

use reqwest::Method;
use runbook_core::action::ActionError;
use runbook_core::secret::Revealed;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::http::Api;

/// One variable as Vercel lists it. The same key may be listed once for each target or branch.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Variable {
    #[serde(default)]
    pub(super) id: String,
    pub(super) key: String,
    #[serde(default)]
    value: Option<String>,
    pub(super) r#type: String,
    #[serde(default, deserialize_with = "one_or_many")]
    pub(super) target: Vec<String>,
    #[serde(default)]
    git_branch: Option<String>,
    #[serde(default)]
    custom_environment_ids: Vec<String>,
    #[serde(default)]
    decrypted: Option<bool>,
    #[serde(default)]
    pub(super) updated_at: Option<i64>,
}

fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Either>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Either::One(one)) => vec![one],
        Some(Either::Many(many)) => many,
    })
}

impl Variable {
    /// Whether this entry is what a deployment of the target sees.
    fn serves(&self, key: &str, target: &str) -> bool {
        self.key == key
            && self.git_branch.is_none()
            && self.custom_environment_ids.is_empty()
            && self.target.iter().any(|t| t == target)
    }

    /// Values of this type can be written and never read back.
    pub(super) fn is_write_only(&self) -> bool {
        self.r#type == "sensitive"
    }
}

/// All variables of a project, values decrypted where Vercel does that.
pub(super) async fn list(api: &Api, project: &str) -> Result<Vec<Variable>, ActionError> {
    #[derive(Deserialize)]
    struct Listed {
        envs: Vec<Variable>,
    }
    let listed: Listed = api
        .get(format!("list the variables of project `{project}`"), &["v10", "projects", project, "env"])
        .query("decrypt", "true")
        .send()
        .await?
        .read()?;
    Ok(listed.envs)
}

/// The entry of a variable for a target.
pub(super) fn find<'v>(all: &'v [Variable], key: &str, target: &str) -> Option<&'v Variable> {
    all.iter().find(|variable| variable.serves(key, target))
}

/// A variable's value in clear; none when it cannot be read.
pub(super) async fn value(
    api: &Api,
    project: &str,
    variable: &Variable,
) -> Result<Option<Revealed>, ActionError> {
    if variable.is_write_only() {
        return Ok(None);
    }
    if variable.decrypted == Some(true) || variable.r#type == "plain" {
        return Ok(variable.value.as_deref().map(Revealed::new));
    }
    let what = format!("read variable `{}` of project `{project}`", variable.key);
    let one: Variable =
        api.get(what, &["v1", "projects", project, "env", &variable.id]).send().await?.read()?;
    Ok(if one.decrypted == Some(false) { None } else { one.value.as_deref().map(Revealed::new) })
}

/// A variable to be set.
pub(super) struct Setting<'a> {
    pub(super) key: &'a str,
    pub(super) value: Revealed,
    pub(super) r#type: &'a str,
    pub(super) target: Vec<String>,
}

/// Sets variables, existing or not, in one call. Vercel answers 201 even when some were refused: those
/// are in `failed`.
pub(super) async fn set(api: &Api, project: &str, settings: &[Setting<'_>]) -> Result<(), ActionError> {
    #[derive(Deserialize)]
    struct Set {
        #[serde(default)]
        failed: Vec<Failed>,
    }
    #[derive(Deserialize)]
    struct Failed {
        error: FailedError,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct FailedError {
        #[serde(default)]
        code: String,
        #[serde(default)]
        key: Option<String>,
        #[serde(default)]
        env_var_key: Option<String>,
    }
    let body: Vec<Value> = settings
        .iter()
        .map(|s| json!({ "key": s.key, "value": s.value.expose(), "type": s.r#type, "target": s.target }))
        .collect();
    let what = format!("set {} variables of project `{project}`", settings.len());
    let mut call = api
        .put(Method::POST, what, &["v10", "projects", project, "env"])
        .query("upsert", "true")
        .json(&Value::Array(body));
    for setting in settings {
        call = call.hide(setting.value.expose());
    }
    let answer: Set = call.send().await?.read()?;
    if answer.failed.is_empty() {
        return Ok(());
    }
    // The remote's message may repeat the value; its code and the key say enough.
    let list: Vec<String> = answer
        .failed
        .iter()
        .map(|f| {
            let key = f.error.env_var_key.as_deref().or(f.error.key.as_deref()).unwrap_or("a variable");
            format!("{}: {}", key.escape_debug(), f.error.code.escape_debug())
        })
        .collect();
    let text = format!(
        "set {} of {} variables of project `{project}`: {}",
        list.len(),
        settings.len(),
        list.join(", ")
    );
    Err(ActionError::refused(text)
        .code("vercel-env-failed")
        .hint("The others were set. Mend the cause and resume, or roll back to get the previous values."))
}

/// Deletes a variable; one that is gone already is fine.
pub(super) async fn delete(api: &Api, project: &str, variable: &Variable) -> Result<(), ActionError> {
    let what = format!("delete variable `{}` of project `{project}`", variable.key);
    api.put(Method::DELETE, what, &["v9", "projects", project, "env", &variable.id])
        .accept(&[404])
        .send()
        .await?;
    Ok(())
}
