//! `email.revoke_key`: deletes keys at the e-mail provider, once the new one is everywhere.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Provider;
use crate::typed::{About, Done, Typed};

/// Parameters of `email.revoke_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ids of the keys, as `email.rotate_key` gives them in `old`.
    pub keys: Vec<String>,
}

/// Outputs of `email.revoke_key`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ids of the keys that are gone.
    pub revoked: Vec<String>,
}

/// The action `email.revoke_key`.
pub struct RevokeKey;

impl Typed for RevokeKey {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Resend: a key with full_access",
            "SendGrid: a key with api_keys.read and api_keys.delete",
        ],
        has_plan: true,
        ..About::new(
            "email.revoke_key",
            "Deletes keys at the e-mail provider; what still uses them can send no more.",
            Effect::Idempotent,
            r#"- id: email
  uses: email.rotate_key
  tags: ["rotate:email_key"]
  with:
    name: polaris
- id: email-places
  uses: secret.distribute
  with:
    secret: email_key
    value: "{{ steps.email.key }}"
- id: email-revoke
  uses: email.revoke_key
  with:
    keys: "{{ steps.email.old }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let keys = Provider::of(ctx)?.list().await?;
        let line = |id: &String| match keys.iter().find(|key| key.id == *id) {
            Some(key) => format!("deletes key {} ({id})", key.name),
            None => format!("key {id} is gone already"),
        };
        Ok(Preview::Changes { lines: params.keys.iter().map(line).collect(), destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let provider = Provider::of(ctx)?;
        for id in &params.keys {
            provider.delete(id).await?;
        }
        let left = provider.list().await?;
        if let Some(key) = left.iter().find(|key| params.keys.contains(&key.id)) {
            return Err(ActionError::unchanged(format!("see key `{}` gone: it is still listed", key.name)));
        }
        let summary = format!("{} keys are revoked", params.keys.len());
        Ok(Done::new(Outputs { revoked: params.keys }, summary))
    }
}
