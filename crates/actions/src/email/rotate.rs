//! `email.rotate_key`: makes a new key beside the old one, which stays good until `email.revoke_key`.

use runbook_core::action::{ActionError, Context, Effect, Outcome, Preview};
use runbook_core::secret::SecretText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::keys::{Key, Permission, Provider};
use crate::intent::{find_again, intent, save_intent};
use crate::typed::{About, Done, Found, Typed, nothing_to_undo};

/// The vault's name for the value.
const FIELD: &str = "key";
/// Resend takes names of 50 characters; what is added takes 9.
const NAME_CHARS_MAX: usize = 40;

/// Parameters of `email.rotate_key`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of the key. The new one is called `NAME@…`; keys called `NAME` or `NAME@…` are the old ones.
    pub name: String,
    /// What the new key may do.
    #[serde(default)]
    pub permission: Permission,
    /// Resend: id of the only domain that it may send from.
    #[serde(default)]
    pub domain: Option<String>,
}

/// Outputs of `email.rotate_key`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The new key; distribute it.
    pub key: SecretText,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Ids of the keys that it replaces, for `email.revoke_key`.
    pub old: Vec<String>,
    /// The provider: `resend` or `sendgrid`.
    pub provider: String,
}

/// The action `email.rotate_key`.
pub struct RotateKey;

impl Typed for RotateKey {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &[
            "Resend: a key with full_access",
            "SendGrid: a key with api_keys.create, api_keys.read and api_keys.delete",
        ],
        has_probe: true,
        has_undo: true,
        has_plan: true,
        ..About::new(
            "email.rotate_key",
            "Makes a new key at the e-mail provider; the old one stays good until it is revoked.",
            Effect::Once,
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
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        check(&params)?;
        let provider = Provider::of(ctx)?;
        let name = new_name(ctx, &params.name);
        let mut lines = vec![format!("creates key {name} at {}", provider.name())];
        let keys = provider.list().await?;
        lines.extend(
            old(&keys, &params.name, &name).map(|key| format!("key {} ({}) stays good", key.name, key.id)),
        );
        Ok(Preview::Changes { lines, destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        check(&params)?;
        let provider = Provider::of(ctx)?;
        let name = new_name(ctx, &params.name);
        if let Some(done) = made(ctx, &provider, &params.name, &name).await? {
            return Ok(done);
        }
        if let Some(lost) = lost(ctx, &provider, &name).await? {
            // Its value was in an answer that nobody read: it can never be used, only misused.
            provider.delete(&lost.id).await?;
        }
        save_intent(ctx).await?;
        let (key, value) = provider.create(&name, params.permission, params.domain.as_deref()).await?;
        ctx.secrets.keep(FIELD, value.expose())?;
        ctx.checkpoints.save("made", json!(key)).await?;
        let keys = provider.list().await?;
        told(ctx, &provider, &keys, &params.name, key)
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        let provider = Provider::of(ctx)?;
        let name = new_name(ctx, &params.name);
        // Safe to start again without one: the next attempt deletes a key whose value was lost.
        Ok(made(ctx, &provider, &params.name, &name).await?.map_or(Found::Absent, Found::Happened))
    }

    async fn undo(&self, ctx: &Context, _params: Params, outputs: Outputs) -> Result<Outcome, ActionError> {
        Provider::of(ctx)?.delete(&outputs.id).await?;
        let summary = format!("key {} is deleted", outputs.name);
        Ok(Outcome { outputs: Value::Null, summary, ..Outcome::default() })
    }

    async fn undo_unfinished(&self, ctx: &Context, params: Params) -> Result<Outcome, ActionError> {
        let saved = ctx.checkpoints.get("made");
        let Some(key) = saved.and_then(|value| serde_json::from_value::<Key>(value).ok()) else {
            if intent(ctx).is_none() {
                return Ok(nothing_to_undo());
            }
            let text = format!("find out which key `{}@…` an attempt made: its answer was lost", params.name);
            return Err(ActionError::refused(text).hint("Delete the newest of these keys in the dashboard."));
        };
        Provider::of(ctx)?.delete(&key.id).await?;
        Ok(Outcome { summary: format!("key {} is deleted", key.name), ..Outcome::default() })
    }
}

fn check(params: &Params) -> Result<(), ActionError> {
    let fits = |c: char| c.is_alphanumeric() || " -_.".contains(c);
    if !params.name.is_empty()
        && params.name.chars().count() <= NAME_CHARS_MAX
        && params.name.chars().all(fits)
    {
        return Ok(());
    }
    Err(ActionError::refused(format!("name a key `{}`", params.name.escape_debug()))
        .hint(format!("A name has 1 to {NAME_CHARS_MAX} letters, digits, spaces, `-`, `_` or `.`.")))
}

/// The same for every attempt of this step, and for no other step.
fn new_name(ctx: &Context, name: &str) -> String {
    format!("{name}@{}", hex::encode(&Sha256::digest(ctx.key.as_bytes())[..4]))
}

fn old<'k>(keys: &'k [Key], name: &'k str, new: &'k str) -> impl Iterator<Item = &'k Key> {
    let is_one = move |key: &&Key| {
        let rest = key.name.strip_prefix(name);
        key.name != new && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    };
    keys.iter().filter(is_one)
}

/// The key of this step, when its value is in the vault and it is still there.
async fn made(
    ctx: &Context,
    provider: &Provider,
    name: &str,
    new: &str,
) -> Result<Option<Done<Outputs>>, ActionError> {
    if intent(ctx).is_none() || ctx.secrets.kept(FIELD)?.is_none() {
        return Ok(None);
    }
    let keys = provider.list().await?;
    // Only one attempt at a time makes a key, and it deletes what was lost before, so the name is unique.
    let Some(key) = keys.iter().find(|key| key.name == new).cloned() else { return Ok(None) };
    let is_ours = match ctx.checkpoints.get("made") {
        Some(saved) => saved == json!(key),
        None => true,
    };
    if is_ours { told(ctx, provider, &keys, name, key).map(Some) } else { Ok(None) }
}

/// A key that an earlier attempt created and whose value nobody has.
async fn lost(ctx: &Context, provider: &Provider, new: &str) -> Result<Option<Key>, ActionError> {
    let Some(since) = intent(ctx) else { return Ok(None) };
    find_again(
        ctx,
        since,
        || async move { Ok(provider.list().await?.into_iter().find(|key| key.name == new)) },
    )
    .await
}

fn told(
    ctx: &Context,
    provider: &Provider,
    keys: &[Key],
    name: &str,
    key: Key,
) -> Result<Done<Outputs>, ActionError> {
    let value = ctx
        .secrets
        .kept(FIELD)?
        .ok_or_else(|| ActionError::refused(format!("find the value of key `{}` in the vault", key.name)))?;
    let value = ctx.secrets.keep(FIELD, value.expose())?;
    let old: Vec<String> = old(keys, name, &key.name).map(|key| key.id.clone()).collect();
    let summary = format!("key {} is made; {} older stay good", key.name, old.len());
    let provider = provider.name().to_owned();
    Ok(Done::new(Outputs { key: value, id: key.id, name: key.name, old, provider }, summary))
}
