//! `supabase.rotate_jwt`: signs new tokens with a new key. Old tokens stay valid until
//! `supabase.revoke_jwt`, so nobody is signed out by the rotation itself.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runbook_core::action::{ActionError, Context, Effect, Preview};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::api::{api, project_ref};
use super::signing::{self, SigningKey, create_standby, import_legacy, jwks_url, move_to, until_published};
use crate::http::{Api, pause};
use crate::intent::{find_again, intent, save_intent, unless_turned_away};
use crate::period::Period;
use crate::typed::{About, Done, Found, Typed};

/// Supabase asks to wait this long beyond a token's life before its key is revoked.
const REVOKE_MARGIN: SignedDuration = SignedDuration::from_mins(15);
/// Life of a token when the project does not say; Supabase's default.
const JWT_LIFE_DEFAULT_S: i64 = 3600;

/// Algorithms of signing keys.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// NIST P-256; Supabase's recommendation.
    #[default]
    ES256,
    /// RSA.
    RS256,
    /// Ed25519.
    EdDSA,
    /// A shared secret; cannot be verified through the public key set.
    HS256,
}

impl Algorithm {
    fn name(self) -> &'static str {
        match self {
            Self::ES256 => "ES256",
            Self::RS256 => "RS256",
            Self::EdDSA => "EdDSA",
            Self::HS256 => "HS256",
        }
    }
}

/// Parameters of `supabase.rotate_jwt`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Ref of the project; the environment's live project when left out.
    #[serde(default)]
    pub project: Option<String>,
    /// Algorithm of the new key.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// How long verifiers may go on with the key set they have: the new key signs only after this. Clients
    /// of Supabase keep it for 10 minutes and most ask again when they meet an unknown key.
    #[serde(default)]
    pub settle: Period,
    /// How long one attempt waits for the new key to show in the public key set, and then for Supabase, which
    /// allows about one change of a signing key in five minutes.
    #[serde(default = "wait")]
    #[schemars(default = "wait")]
    pub wait: Period,
}

fn wait() -> Period {
    Period::seconds(12 * 60)
}

/// Outputs of `supabase.rotate_jwt`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// Ref of the project.
    pub project: String,
    /// Id of the key that signs now.
    pub key: String,
    /// By what verifiers name it.
    pub kid: String,
    /// Ids of the keys that signed before; for `supabase.revoke_jwt`.
    pub previous: Vec<String>,
    /// When the new key began to sign.
    pub rotated_at: Timestamp,
    /// From when on all tokens of the old keys have ended, so that revoking them signs nobody out.
    pub revoke_after: Timestamp,
    /// The public key set.
    pub jwks_url: String,
}

/// The action `supabase.rotate_jwt`.
pub struct RotateJwt;

impl Typed for RotateJwt {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Supabase: auth_signing_keys_read, auth_signing_keys_write (OAuth secrets:read, secrets:write)",
            "Supabase: auth_config_read (OAuth auth:read)",
        ],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "supabase.rotate_jwt",
            "Makes a new key sign a project's tokens; old tokens stay valid until they are revoked.",
            Effect::Once,
            r#"id: rotate
uses: supabase.rotate_jwt
with:
  algorithm: ES256
timeout: 30m
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let keys = signing::list(&api(ctx)?, &project).await?;
        let mut lines =
            vec![format!("creates a {} signing key in project {project}", params.algorithm.name())];
        lines.extend(
            in_use(&keys)
                .map(|key| format!("key {} ({}) stops signing and stays valid", key.id, key.algorithm)),
        );
        if in_use(&keys).next().is_none() {
            lines.push("imports the legacy JWT secret as a signing key first".into());
        }
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let project = project_ref(ctx, params.project.clone())?;
        let api = api(ctx)?;
        let key = new_key(&api, ctx, &project, params.algorithm).await?;
        if key.status == "standby" {
            if !matches!(params.algorithm, Algorithm::HS256) {
                until_published(ctx, &project, key.kid(), params.wait.0).await?;
            }
            settle(ctx, params.settle.0).await?;
            remember_previous(&api, ctx, &project).await?;
            move_to(&api, ctx, &project, (&key.id, "in_use"), params.wait.0).await?;
        }
        remember(ctx, "rotated_at", json!(Timestamp::now())).await?;
        let key = signing::list(&api, &project).await?.into_iter().find(|k| k.id == key.id);
        match key {
            Some(key) if key.status == "in_use" => finish(&api, ctx, &project, &key).await,
            Some(key) => Err(ActionError::unchanged(format!(
                "see signing key `{}` in use: it is {}",
                key.id, key.status
            ))),
            None => Err(ActionError::refused(format!(
                "find the new signing key of project `{project}`: it is gone"
            ))),
        }
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let project = project_ref(ctx, params.project)?;
        let api = api(ctx)?;
        match own(&api, ctx, &project).await? {
            Some(key) if key.status == "in_use" && ctx.checkpoints.get("rotated_at").is_some() => {
                Ok(Found::Happened(finish(&api, ctx, &project, &key).await?))
            }
            // Safe to start again in every other state: the next attempt goes on with the key that is there.
            _ => Ok(Found::Absent),
        }
    }
}

fn in_use(keys: &[SigningKey]) -> impl Iterator<Item = &SigningKey> {
    keys.iter().filter(|key| key.status == "in_use")
}

/// Saves a value the first time only.
async fn remember(ctx: &Context, name: &str, value: Value) -> Result<(), ActionError> {
    match ctx.checkpoints.get(name) {
        Some(_) => Ok(()),
        None => ctx.checkpoints.save(name, value).await,
    }
}

fn ids(value: Option<Value>) -> Vec<String> {
    value.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default()
}

/// The key that an earlier attempt of this step created. Keys have no name: it is the one that was
/// checkpointed, or the newest that was not there before.
async fn own(api: &Api, ctx: &Context, project: &str) -> Result<Option<SigningKey>, ActionError> {
    let Some(since) = intent(ctx) else { return Ok(None) };
    let created = ctx.checkpoints.get("created").and_then(|v| v.as_str().map(str::to_owned));
    let before = ids(ctx.checkpoints.get("before"));
    let (created, before) = (&created, &before);
    find_again(ctx, since, || async move {
        let keys = signing::list(api, project).await?;
        Ok(match created {
            Some(id) => keys.into_iter().find(|key| key.id == *id),
            None => keys
                .into_iter()
                .filter(|key| {
                    !before.contains(&key.id) && matches!(key.status.as_str(), "standby" | "in_use")
                })
                .max_by_key(|key| key.created_at),
        })
    })
    .await
}

async fn new_key(
    api: &Api,
    ctx: &Context,
    project: &str,
    algorithm: Algorithm,
) -> Result<SigningKey, ActionError> {
    if let Some(key) = own(api, ctx, project).await? {
        remember(ctx, "created", json!(key.id)).await?;
        return Ok(key);
    }
    let mut keys = signing::list(api, project).await?;
    if in_use(&keys).next().is_none() {
        import_legacy(api, project).await?;
        keys = signing::list(api, project).await?;
    }
    let before: Vec<&str> = keys.iter().map(|key| key.id.as_str()).collect();
    ctx.checkpoints.save("before", json!(before)).await?;
    save_intent(ctx).await?;
    let made = create_standby(api, project, algorithm.name()).await;
    let key = unless_turned_away(ctx, made).await?;
    ctx.checkpoints.save("created", json!(key.id)).await?;
    Ok(key)
}

async fn settle(ctx: &Context, length: Duration) -> Result<(), ActionError> {
    remember(ctx, "published_at", json!(Timestamp::now())).await?;
    let since = ctx.checkpoints.get("published_at").and_then(|v| v.as_str()?.parse::<Timestamp>().ok());
    let passed = since.map(|t| Duration::try_from(Timestamp::now().duration_since(t)).unwrap_or_default());
    let left = length.saturating_sub(passed.unwrap_or_default());
    if left.is_zero() { Ok(()) } else { pause(ctx, "verifiers to fetch the new key set", left).await }
}

async fn remember_previous(api: &Api, ctx: &Context, project: &str) -> Result<(), ActionError> {
    let keys = signing::list(api, project).await?;
    let previous: Vec<&str> = in_use(&keys).map(|key| key.id.as_str()).collect();
    remember(ctx, "previous", json!(previous)).await
}

#[derive(Deserialize)]
struct AuthConfig {
    #[serde(default)]
    jwt_exp: Option<i64>,
}

async fn finish(
    api: &Api,
    ctx: &Context,
    project: &str,
    key: &SigningKey,
) -> Result<Done<Outputs>, ActionError> {
    let config: AuthConfig = api
        .get(
            format!("read the token life of project `{project}`"),
            &["v1", "projects", project, "config", "auth"],
        )
        .send()
        .await?
        .read()?;
    let life =
        SignedDuration::from_secs(config.jwt_exp.unwrap_or(JWT_LIFE_DEFAULT_S).clamp(0, 10 * 365 * 86_400));
    let rotated_at = ctx
        .checkpoints
        .get("rotated_at")
        .and_then(|v| v.as_str()?.parse().ok())
        .unwrap_or_else(Timestamp::now);
    let revoke_after = rotated_at
        .checked_add(life)
        .and_then(|t| t.checked_add(REVOKE_MARGIN))
        .map_err(|error| ActionError::refused("work out when the old key may be revoked").because(error))?;
    let previous = ids(ctx.checkpoints.get("previous"));
    let summary = format!("key {} signs now; {} older stay valid", key.kid(), previous.len());
    let mut done = Done::new(
        Outputs {
            project: project.to_owned(),
            key: key.id.clone(),
            kid: key.kid().to_owned(),
            previous: previous.clone(),
            rotated_at,
            revoke_after,
            jwks_url: jwks_url(ctx, project)?,
        },
        summary,
    );
    for old in previous {
        let text = format!(
            "signing key {old} of project {project} still verifies tokens; revoke it after {revoke_after}"
        );
        done = done.in_force(format!("supabase.jwt/{project}/{old}"), text);
    }
    Ok(done)
}
