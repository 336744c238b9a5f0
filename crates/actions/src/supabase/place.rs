//! A secret of a project's Edge Functions as a place: written, and proven by its digest.

use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use runbook_core::secret::Revealed;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::api::{api, project_ref};
use crate::http::Api;

/// A secret as it is listed: its value is a digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Listed {
    name: String,
    value: String,
    #[serde(default)]
    updated_at: Option<String>,
}

async fn find(api: &Api, project: &str, name: &str) -> Result<Option<Listed>, ActionError> {
    let all: Vec<Listed> = api
        .get(format!("list the secrets of project `{project}`"), &["v1", "projects", project, "secrets"])
        .send()
        .await?
        .read()?;
    Ok(all.into_iter().find(|secret| secret.name == name))
}

/// Writes a secret of the project that is named, or of the live one. How Supabase digests is not documented: it
/// is proven when the digest is the SHA-256 of the value, or differs from what it was before the first attempt.
pub(crate) async fn put_secret(
    ctx: &Context,
    project: Option<String>,
    name: &str,
    wanted: &Revealed,
) -> Result<(), ActionError> {
    let (api, project) = (api(ctx)?, project_ref(ctx, project)?);
    let digest = hex::encode(Sha256::digest(wanted.expose()));
    let remembered = format!("supabase/{project}/{name}");
    let before: Option<Listed> = match ctx.checkpoints.get(&remembered) {
        Some(saved) => serde_json::from_value(saved)
            .map_err(|error| ActionError::refused("read the checkpoint of a secret").because(error))?,
        None => {
            let before = find(&api, &project, name).await?;
            ctx.checkpoints.save(&remembered, json!(before)).await?;
            before
        }
    };
    if before.as_ref().is_some_and(|before| before.value == digest) {
        return Ok(());
    }
    api.put(
        Method::POST,
        format!("set secret `{name}` of project `{project}`"),
        &["v1", "projects", &project, "secrets"],
    )
    .json(&json!([{ "name": name, "value": wanted.expose() }]))
    .hide(wanted.expose())
    .send()
    .await?;
    let now = find(&api, &project, name).await?;
    let old = before.map(|before| before.value);
    if now.is_some_and(|now| now.value == digest || Some(&now.value) != old.as_ref()) {
        return Ok(());
    }
    Err(ActionError::unchanged(format!(
        "see secret `{name}` of project `{project}` with its new value: its digest is still the old one"
    )))
}
