//! `supabase.api_keys`: the keys that applications use. Reads only; values go into the vault.

use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{api, project_ref};
use crate::typed::{About, Done, Typed};

/// Parameters of `supabase.api_keys`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
}

/// Outputs of `supabase.api_keys`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// The key that browsers send: the legacy `anon` key, or the publishable key where there is none.
    pub anon_key: SecretText,
    /// The key that passes row-level security: the legacy `service_role` key, or the secret key where there is none.
    pub service_role_key: SecretText,
    /// The publishable key of the new kind, when the project has one.
    #[serde(default)]
    pub publishable_key: Option<SecretText>,
    /// The secret key of the new kind, when the project has one.
    #[serde(default)]
    pub secret_key: Option<SecretText>,
}

/// One row of `GET …/api-keys`.
#[derive(Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    api_key: Option<String>,
}

/// The action `supabase.api_keys`.
pub struct ApiKeys;

impl Typed for ApiKeys {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["Supabase: api_gateway_keys_read (OAuth secrets:read)"],
        has_plan: true,
        ..About::new(
            "supabase.api_keys",
            "Reads a project's API keys into the vault.",
            Effect::Read,
            r#"id: keys
uses: supabase.api_keys
with:
  project: "{{ steps.database.ref }}"
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let kinds: Vec<String> = rows(ctx, &project, false)
            .await?
            .into_iter()
            .map(|row| format!("reads the {} key `{}` of project {project}", kind(&row), row.name))
            .collect();
        Ok(Preview::Changes { lines: kinds, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let rows = rows(ctx, &project, true).await?;
        let anon = value(&rows, |r| kind(r) == "legacy" && r.name == "anon");
        let service = value(&rows, |r| kind(r) == "legacy" && r.name == "service_role");
        let publishable = value(&rows, |r| kind(r) == "publishable");
        let secret = value(&rows, |r| kind(r) == "secret");
        let keep = |field: &str, value: Option<&str>| -> Result<Option<SecretText>, ActionError> {
            Ok(value.map(|value| ctx.secrets.keep(field, value)).transpose()?)
        };
        let missing = |which: &str| {
            ActionError::refused(format!(
                "read the {which} key of project `{project}`: none is shown in clear"
            ))
            .hint("The token needs permission to reveal keys, and the project needs a key of this kind.")
        };
        let outputs = Outputs {
            anon_key: keep("anon_key", anon.or(publishable))?.ok_or_else(|| missing("anon"))?,
            service_role_key: keep("service_role_key", service.or(secret))?
                .ok_or_else(|| missing("service_role"))?,
            publishable_key: keep("publishable_key", publishable)?,
            secret_key: keep("secret_key", secret)?,
            project: project.clone(),
        };
        Ok(Done::new(outputs, format!("{} keys of project {project}", rows.len())))
    }
}

fn kind(row: &Row) -> &str {
    row.r#type.as_deref().unwrap_or("legacy")
}

/// A masked value (it ends in middle dots) is none.
fn value(rows: &[Row], wanted: impl Fn(&Row) -> bool) -> Option<&str> {
    let key = rows.iter().find(|row| wanted(row))?.api_key.as_deref()?;
    (!key.is_empty() && !key.contains('·')).then_some(key)
}

/// The key that passes row-level security, for this process alone: it goes into no vault and no record. A secret
/// key where there is one, because the legacy keys may be switched off.
pub(crate) async fn service_key(ctx: &Context, project: &str) -> Result<Revealed, ActionError> {
    let rows = rows(ctx, project, true).await?;
    let secret = value(&rows, |r| kind(r) == "secret");
    let key = secret.or_else(|| value(&rows, |r| kind(r) == "legacy" && r.name == "service_role"));
    key.map(Revealed::new).ok_or_else(|| {
        ActionError::refused(format!("read a service key of project `{project}`: none is shown in clear"))
            .hint("The token needs permission to reveal keys, and the project needs a secret key.")
    })
}

async fn rows(ctx: &Context, project: &str, reveal: bool) -> Result<Vec<Row>, ActionError> {
    let api = api(ctx)?;
    let call = api
        .get(format!("read the API keys of project `{project}`"), &["v1", "projects", project, "api-keys"]);
    let call = if reveal { call.query("reveal", "true") } else { call };
    call.send().await?.read()
}
