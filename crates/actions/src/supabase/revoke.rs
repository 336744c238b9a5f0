//! `supabase.revoke_jwt`: ends signing keys that sign no more. Never touches the key in use.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{api, project_ref};
use super::signing::{SigningKey, list, move_to};
use crate::http::pause;
use crate::period::Period;
use crate::typed::{About, Done, Typed};

/// How long to wait for Supabase to allow the next change of a key: one in about five minutes.
const TURN: Duration = Duration::from_secs(6 * 60);

/// Parameters of `supabase.revoke_jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Ids of the keys to revoke: `previous` of `supabase.rotate_jwt`.
    pub keys: Vec<String>,
    /// Not before this moment: `revoke_after` of `supabase.rotate_jwt`. When a key has leaked, leave it out:
    /// whoever is signed in must then sign in again.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// How long one attempt may wait for that moment. When it is further away the attempt ends at once and
    /// says when to come again.
    #[serde(default)]
    pub wait: Period,
}

/// Outputs of `supabase.revoke_jwt`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// Ids of the keys, all revoked now.
    pub revoked: Vec<String>,
}

/// The action `supabase.revoke_jwt`.
pub struct RevokeJwt;

impl Typed for RevokeJwt {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: auth_signing_keys_read, auth_signing_keys_write (OAuth secrets:read, secrets:write)",
        ],
        has_plan: true,
        ..About::new(
            "supabase.revoke_jwt",
            "Revokes signing keys: tokens that they signed are refused from then on.",
            Effect::Idempotent,
            r#"id: revoke
uses: supabase.revoke_jwt
with:
  keys: "{{ steps.rotate.previous }}"
  not_before: "{{ steps.rotate.revoke_after }}"
  wait: 90m
timeout: 2h
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let known = list(&api(ctx)?, &project).await?;
        let mut lines = Vec::new();
        for id in &params.keys {
            let key = find(&known, &project, id)?;
            lines.push(match key.status.as_str() {
                "revoked" => format!("key {id} is revoked already"),
                status => format!("revokes key {id} ({}, {status})", key.algorithm),
            });
        }
        let when = params.not_before.map(|t| format!(", not before {t}")).unwrap_or_default();
        let destroys = format!(
            "the validity of all tokens signed by {} keys of project {project}{when}",
            params.keys.len()
        );
        Ok(Preview::Changes { lines, destroys: (!params.keys.is_empty()).then_some(destroys) })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let project = project_ref(ctx, params.project)?;
        if let Some(moment) = params.not_before {
            wait_for(ctx, moment, params.wait.0).await?;
        }
        let api = api(ctx)?;
        let known = list(&api, &project).await?;
        for id in &params.keys {
            let key = find(&known, &project, id)?;
            match key.status.as_str() {
                "revoked" => {}
                "in_use" => {
                    return Err(ActionError::refused(format!(
                        "revoke signing key `{id}` of project `{project}`: it signs tokens now"
                    ))
                    .hint("Rotate first: `supabase.rotate_jwt`."));
                }
                _ => {
                    move_to(&api, ctx, &project, (id, "revoked"), params.wait.0.max(TURN)).await?;
                }
            }
        }
        let summary = format!("{} signing keys of project {project} revoked", params.keys.len());
        let mut done = Done::new(Outputs { project: project.clone(), revoked: params.keys.clone() }, summary);
        for id in params.keys {
            done = done.released(format!("supabase.jwt/{project}/{id}"));
        }
        Ok(done)
    }
}

fn find<'k>(known: &'k [SigningKey], project: &str, id: &str) -> Result<&'k SigningKey, ActionError> {
    known.iter().find(|key| key.id == id).ok_or_else(|| {
        ActionError::refused(format!("find signing key `{}` in project `{project}`", id.escape_debug()))
    })
}

async fn wait_for(ctx: &Context, moment: Timestamp, longest: Duration) -> Result<(), ActionError> {
    let left = Duration::try_from(moment.duration_since(Timestamp::now())).unwrap_or_default();
    if left.is_zero() {
        return Ok(());
    }
    if left > longest {
        let text = format!("revoke keys before {moment}: tokens that are in use would end");
        return Err(ActionError::new(text, Aftermath::Unchanged { retry_after: Some(left) })
            .code("too-early")
            .hint("Resume the run after that moment, or leave `not_before` out when the key has leaked."));
    }
    pause(ctx, "the old tokens to end", left).await
}
