//! `supabase.rotate_api_key` and `supabase.revoke_api_keys`: a new secret API key beside the old ones, and
//! the end of the old ones once it is everywhere.

use reqwest::Method;
use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::api::{api, project_ref};
use crate::http::Api;
use crate::intent::{find_again, intent, save_intent};
use crate::typed::{About, Done, Found, Typed, nothing_to_undo};

/// Parameters of `supabase.rotate_api_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateParams {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// What the name of the new key begins with: lower-case letters, digits and `_`.
    #[serde(default = "name")]
    #[schemars(default = "name")]
    pub name: String,
}

fn name() -> String {
    "rotated".into()
}

/// Outputs of `supabase.rotate_api_key`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RotateOutputs {
    /// Ref of the project.
    pub project: String,
    /// The new key, which passes row-level security; distribute it.
    pub key: SecretText,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Ids of the secret keys of the new kind that were there before, for `supabase.revoke_api_keys`.
    pub old: Vec<String>,
}

/// One row of `GET …/api-keys`.
#[derive(Deserialize)]
struct Row {
    id: Option<String>,
    name: String,
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    api_key: Option<String>,
}

impl Row {
    fn is_secret(&self) -> bool {
        self.r#type.as_deref() == Some("secret")
    }

    /// A masked value (it ends in middle dots) is none.
    fn value(&self) -> Option<Revealed> {
        let value = self.api_key.as_deref().filter(|value| !value.is_empty() && !value.contains('·'));
        value.map(Revealed::new)
    }
}

async fn rows(api: &Api, project: &str) -> Result<Vec<Row>, ActionError> {
    api.get(format!("read the API keys of project `{project}`"), &["v1", "projects", project, "api-keys"])
        .query("reveal", "true")
        .send()
        .await?
        .read()
}

/// The action `supabase.rotate_api_key`.
pub struct RotateApiKey;

impl Typed for RotateApiKey {
    type Params = RotateParams;
    type Outputs = RotateOutputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: api_gateway_keys_read, api_gateway_keys_write (OAuth secrets:read, secrets:write)",
        ],
        has_probe: true,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "supabase.rotate_api_key",
            "Makes a new secret API key; the old ones stay good until they are revoked.",
            Effect::Once,
            r#"- id: service
  uses: supabase.rotate_api_key
  tags: ["rotate:service_role_key"]
- id: service-places
  uses: secret.distribute
  with:
    secret: service_role_key
    value: "{{ steps.service.key }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: RotateParams) -> Result<Preview, ActionError> {
        let project = project_ref(ctx, params.project.clone())?;
        let name = new_name(ctx, &params)?;
        let mut lines = vec![format!("creates secret key {name} in project {project}")];
        let all = rows(&api(ctx)?, &project).await?;
        lines.extend(
            all.iter().filter(|row| row.is_secret()).map(|row| format!("key {} stays good", row.name)),
        );
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: RotateParams) -> Result<Done<RotateOutputs>, ActionError> {
        let project = project_ref(ctx, params.project.clone())?;
        let (api, name) = (api(ctx)?, new_name(ctx, &params)?);
        if let Some(done) = made(ctx, &api, &project, &name).await? {
            return Ok(done);
        }
        ctx.checkpoints.save("name", json!(name)).await?;
        save_intent(ctx).await?;
        api.post_once(
            format!("create key `{name}` in project `{project}`"),
            &["v1", "projects", &project, "api-keys"],
        )
        .json(&json!({ "type": "secret", "name": name }))
        .send()
        .await?;
        made(ctx, &api, &project, &name).await?.ok_or_else(|| {
            ActionError::unchanged(format!("see key `{name}` in project `{project}`: it is not listed"))
        })
    }

    async fn probe(&self, ctx: &Context, params: RotateParams) -> Result<Found<RotateOutputs>, ActionError> {
        let project = project_ref(ctx, params.project.clone())?;
        let name = new_name(ctx, &params)?;
        Ok(made(ctx, &api(ctx)?, &project, &name).await?.map_or(Found::Absent, Found::Happened))
    }

    async fn undo(
        &self,
        ctx: &Context,
        _params: RotateParams,
        outputs: RotateOutputs,
    ) -> Result<Outcome, ActionError> {
        delete(&api(ctx)?, &outputs.project, &outputs.id).await?;
        let summary = format!("key {} is deleted", outputs.name);
        Ok(Outcome { outputs: Value::Null, summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: RotateParams) -> Result<Outcome, ActionError> {
        // The key of the context is the undo's own, so the name comes from a checkpoint.
        let Some(name) = ctx.checkpoints.get("name").and_then(|v| v.as_str().map(str::to_owned)) else {
            return Ok(nothing_to_undo());
        };
        let project = project_ref(ctx, params.project)?;
        match made(ctx, &api(ctx)?, &project, &name).await? {
            Some(done) => {
                delete(&api(ctx)?, &project, &done.outputs.id).await?;
                Ok(Outcome { summary: format!("key {name} is deleted"), ..Outcome::default() })
            }
            None => Ok(nothing_to_undo()),
        }
    }
}

/// The same for every attempt of this step, and for no other step.
fn new_name(ctx: &Context, params: &RotateParams) -> Result<String, ActionError> {
    let begins = params.name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !begins || params.name.len() > 50 || !params.name.chars().all(fits) {
        let text = format!("name a key `{}`", params.name.escape_debug());
        return Err(
            ActionError::refused(text).hint("A name has lower-case letters, digits and `_`, at most 50.")
        );
    }
    Ok(format!("{}_{}", params.name, hex::encode(&Sha256::digest(ctx.key.as_bytes())[..4])))
}

/// The key of this step, if an attempt made it. Unlike most, Supabase shows a key's value again.
async fn made(
    ctx: &Context,
    api: &Api,
    project: &str,
    name: &str,
) -> Result<Option<Done<RotateOutputs>>, ActionError> {
    let Some(since) = intent(ctx) else { return Ok(None) };
    let found = find_again(ctx, since, || async move {
        let all = rows(api, project).await?;
        Ok(all.iter().any(|row| row.name == name).then_some(all))
    })
    .await?;
    let Some(all) = found else { return Ok(None) };
    let old = all
        .iter()
        .filter(|row| row.is_secret() && row.name != name)
        .filter_map(|row| row.id.clone())
        .collect();
    let row = all.into_iter().find(|row| row.name == name);
    let (Some(id), Some(value)) =
        (row.as_ref().and_then(|r| r.id.clone()), row.as_ref().and_then(Row::value))
    else {
        return Err(ActionError::refused(format!(
            "read key `{name}` of project `{project}`: it is not shown in clear"
        ))
        .hint("The token needs permission to reveal keys."));
    };
    let key = ctx.secrets.keep("key", value.expose())?;
    let summary = format!("key {name} of project {project} is made");
    let (project, name) = (project.to_owned(), name.to_owned());
    Ok(Some(Done::new(RotateOutputs { project, key, id, name, old }, summary)))
}

async fn delete(api: &Api, project: &str, id: &str) -> Result<(), ActionError> {
    api.put(
        Method::DELETE,
        format!("delete key `{id}` of project `{project}`"),
        &["v1", "projects", project, "api-keys", id],
    )
    .accept(&[404])
    .text()
    .send()
    .await?;
    Ok(())
}

/// Parameters of `supabase.revoke_api_keys`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeParams {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Ids of the keys, as `supabase.rotate_api_key` gives them in `old`. Deleting a key cannot be taken back.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Whether the legacy keys `anon` and `service_role` are turned off. Both go at once, and they can be turned on
    /// again.
    #[serde(default)]
    pub legacy: bool,
}

/// Outputs of `supabase.revoke_api_keys`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct RevokeOutputs {
    /// Ref of the project.
    pub project: String,
    /// Ids of the keys that are gone.
    pub revoked: Vec<String>,
    /// Whether the legacy keys are still good.
    pub legacy_enabled: bool,
}

/// The action `supabase.revoke_api_keys`.
pub struct RevokeApiKeys;

#[derive(Deserialize)]
struct Legacy {
    enabled: bool,
}

impl Typed for RevokeApiKeys {
    type Params = RevokeParams;
    type Outputs = RevokeOutputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: api_gateway_keys_read, api_gateway_keys_write (OAuth secrets:read, secrets:write)",
        ],
        has_plan: true,
        ..About::new(
            "supabase.revoke_api_keys",
            "Deletes secret API keys and turns the legacy keys off; whoever still uses them is shut out.",
            Effect::Idempotent,
            r#"- id: service
  uses: supabase.rotate_api_key
  tags: ["rotate:service_role_key"]
- id: service-places
  uses: secret.distribute
  with:
    secret: service_role_key
    value: "{{ steps.service.key }}"
- id: service-revoke
  uses: supabase.revoke_api_keys
  with:
    keys: "{{ steps.service.old }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: RevokeParams) -> Result<Preview, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let mut lines: Vec<String> =
            params.keys.iter().map(|id| format!("deletes key {id} of project {project}")).collect();
        if params.legacy {
            lines.push(format!("turns the legacy keys of project {project} off"));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: RevokeParams) -> Result<Done<RevokeOutputs>, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let api = api(ctx)?;
        for id in &params.keys {
            delete(&api, &project, id).await?;
        }
        let path = ["v1", "projects", &project, "api-keys", "legacy"];
        let what = format!("turn the legacy keys of project `{project}` off");
        let legacy: Legacy = if params.legacy {
            api.put(Method::PUT, what, &path).query("enabled", "false").send().await?.read()?
        } else {
            api.get(format!("read whether project `{project}` has legacy keys"), &path)
                .send()
                .await?
                .read()?
        };
        let summary = format!("{} keys of project {project} are revoked", params.keys.len());
        let outputs = RevokeOutputs { project, revoked: params.keys, legacy_enabled: legacy.enabled };
        Ok(Done::new(outputs, summary))
    }
}
