//! Signing keys of a project's Auth service: listing, moving them from state to state, and the public
//! key set by which the world verifies tokens.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::project_url;
use crate::http::{Api, Look, Reply, Wait, until};

/// One signing key. Private halves never leave Supabase.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct SigningKey {
    pub(super) id: String,
    pub(super) algorithm: String,
    /// `in_use`, `previously_used`, `revoked` or `standby`.
    pub(super) status: String,
    #[serde(default)]
    pub(super) public_jwk: Option<Value>,
    pub(super) created_at: Timestamp,
}

impl SigningKey {
    /// By what verifiers name it.
    pub(super) fn kid(&self) -> &str {
        self.public_jwk.as_ref().and_then(|jwk| jwk.get("kid")).and_then(Value::as_str).unwrap_or(&self.id)
    }
}

#[derive(Deserialize)]
struct Listed {
    keys: Vec<SigningKey>,
}

fn path<'a>(project: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let mut path = vec!["v1", "projects", project, "config", "auth", "signing-keys"];
    path.extend(rest);
    path
}

/// All signing keys.
pub(super) async fn list(api: &Api, project: &str) -> Result<Vec<SigningKey>, ActionError> {
    let listed: Listed = api
        .get(format!("list the signing keys of project `{project}`"), &path(project, &[]))
        .send()
        .await?
        .read()?;
    Ok(listed.keys)
}

/// Makes the legacy JWT secret a signing key, which a project from before signing keys needs once. Where
/// the endpoint is gone (404), there is nothing to import.
pub(super) async fn import_legacy(api: &Api, project: &str) -> Result<(), ActionError> {
    let what = format!("import the legacy JWT secret of project `{project}` as a signing key");
    let _imported: Reply =
        api.put(Method::POST, what, &path(project, &["legacy"])).accept(&[404, 409]).send().await?;
    Ok(())
}

/// Creates a standby key. Each call makes another one.
pub(super) async fn create_standby(
    api: &Api,
    project: &str,
    algorithm: &str,
) -> Result<SigningKey, ActionError> {
    api.post_once(format!("create a signing key in project `{project}`"), &path(project, &[]))
        .json(&json!({ "algorithm": algorithm, "status": "standby" }))
        .send()
        .await?
        .read()
}

/// Moves a key to a state, twice is once. Supabase allows about one move in five minutes and answers 429
/// until then, which is waited for.
pub(super) async fn move_to(
    api: &Api,
    ctx: &Context,
    project: &str,
    (id, status): (&str, &str),
    longest: Duration,
) -> Result<(), ActionError> {
    let what = format!("signing key `{id}` of project `{project}` to become {status}");
    until(ctx, Wait { what: &what, longest }, || async move {
        let call = format!("make signing key `{id}` of project `{project}` {status}");
        let moved: SigningKey = api
            .put(Method::PATCH, call, &path(project, &[id]))
            .json(&json!({ "status": status }))
            .send()
            .await?
            .read()?;
        Ok(if moved.status == status { Look::There(()) } else { Look::NotYet(moved.status) })
    })
    .await
}

/// Where the public key set is.
pub(super) fn jwks_url(ctx: &Context, project: &str) -> Result<String, ActionError> {
    Ok(format!("{}/auth/v1/.well-known/jwks.json", project_url(ctx, project)?))
}

/// Waits until the public key set holds a key. The set is cached for ten minutes at the edge.
pub(super) async fn until_published(
    ctx: &Context,
    project: &str,
    kid: &str,
    longest: Duration,
) -> Result<(), ActionError> {
    let public = Api::new("Supabase Auth", &project_url(ctx, project)?, None)?;
    let public = &public;
    let what = format!("key `{kid}` in the public key set of project `{project}`");
    until(ctx, Wait { what: &what, longest }, || async move {
        let set: Value = public
            .get(
                format!("read the public key set of project `{project}`"),
                &["auth", "v1", ".well-known", "jwks.json"],
            )
            .send()
            .await?
            .read()?;
        let keys = set.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let there = keys.iter().any(|key| key.get("kid").and_then(Value::as_str) == Some(kid));
        Ok(if there { Look::There(()) } else { Look::NotYet("missing".into()) })
    })
    .await
}
