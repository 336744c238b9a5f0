//! Keys at a provider: list, create, delete, in the words of each.

use reqwest::Method;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::EmailProvider;
use runbook_core::secret::Revealed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Api;

const RESEND_URL: &str = "https://api.resend.com";
const SENDGRID_URL: &str = "https://api.sendgrid.com";
/// Keys on one page, and pages.
const PAGE: &str = "100";
const PAGES_MAX: usize = 50;

/// What a key may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// Send e-mail and nothing else.
    #[default]
    SendingAccess,
    /// Everything, also managing keys.
    FullAccess,
}

/// A key as it is listed: never its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Key {
    /// Its id, which is no secret.
    #[serde(alias = "api_key_id")]
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The provider of this environment.
pub(super) struct Provider {
    kind: EmailProvider,
    api: Api,
}

impl Provider {
    /// As the environment names it; one without an API is refused.
    pub(super) fn of(ctx: &Context) -> Result<Self, ActionError> {
        let settings = ctx.environment.email.as_ref().ok_or_else(|| {
            ActionError::refused(format!("find `email` in environment `{}`", ctx.environment.name))
                .hint("Add `email: { provider: resend, token }` to the environment file.")
        })?;
        let (name, url) = match settings.provider {
            EmailProvider::Resend => ("Resend", RESEND_URL),
            EmailProvider::Sendgrid => ("SendGrid", SENDGRID_URL),
            EmailProvider::Manual => {
                return Err(ActionError::refused("manage keys of the e-mail provider: it has no API for them")
                    .code("by-hand")
                    .hint("Let a person do it: a step with `uses: manual`, and the place listed as `manual` under `places`."));
            }
        };
        let token = settings.token.as_ref().ok_or_else(|| {
            ActionError::refused("find `email.token`: the provider's keys are managed with it")
        })?;
        let token = ctx.secrets.reveal(token)?;
        let api = Api::new(name, settings.api_url.as_deref().unwrap_or(url), Some(token))?;
        Ok(Self { kind: settings.provider, api })
    }

    /// As outputs name it.
    pub(super) fn name(&self) -> &'static str {
        if self.is_resend() { "resend" } else { "sendgrid" }
    }

    fn is_resend(&self) -> bool {
        self.kind == EmailProvider::Resend
    }

    /// All keys.
    pub(super) async fn list(&self) -> Result<Vec<Key>, ActionError> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(alias = "result")]
            data: Vec<Key>,
            #[serde(default)]
            has_more: bool,
        }
        if !self.is_resend() {
            let page: Page = self.api.get("list the keys", &["v3", "api_keys"]).send().await?.read()?;
            return Ok(page.data);
        }
        let mut found: Vec<Key> = Vec::new();
        for _ in 0..PAGES_MAX {
            let mut call = self.api.get("list the keys", &["api-keys"]).query("limit", PAGE);
            if let Some(last) = found.last() {
                call = call.query("after", &last.id);
            }
            let page: Page = call.send().await?.read()?;
            let is_over = !page.has_more || page.data.is_empty();
            found.extend(page.data);
            if is_over {
                return Ok(found);
            }
        }
        Err(ActionError::refused(format!("list the keys at Resend: there are more than {PAGES_MAX} pages")))
    }

    /// Creates a key; its value is shown this once.
    pub(super) async fn create(
        &self,
        name: &str,
        permission: Permission,
        domain: Option<&str>,
    ) -> Result<(Key, Revealed), ActionError> {
        #[derive(Deserialize)]
        struct Made {
            #[serde(alias = "api_key_id")]
            id: String,
            #[serde(alias = "api_key")]
            token: String,
        }
        let what = format!("create key `{name}`");
        let made: Made = if self.is_resend() {
            let word = match permission {
                Permission::SendingAccess => "sending_access",
                Permission::FullAccess => "full_access",
            };
            let mut body = json!({ "name": name, "permission": word });
            if let Some(domain) = domain {
                body["domain_id"] = json!(domain);
            }
            self.api.post_once(what, &["api-keys"]).json(&body).send().await?.read()?
        } else {
            // Without scopes SendGrid gives full access.
            let body: Value = match permission {
                Permission::SendingAccess => json!({ "name": name, "scopes": ["mail.send"] }),
                Permission::FullAccess => json!({ "name": name }),
            };
            self.api.post_once(what, &["v3", "api_keys"]).json(&body).send().await?.read()?
        };
        Ok((Key { id: made.id, name: name.to_owned() }, Revealed::new(made.token)))
    }

    /// Deletes a key; one that is gone already is fine.
    pub(super) async fn delete(&self, id: &str) -> Result<(), ActionError> {
        let what = format!("delete key `{id}`");
        let path: &[&str] = if self.is_resend() { &["api-keys", id] } else { &["v3", "api_keys", id] };
        self.api.put(Method::DELETE, what, path).accept(&[404]).text().send().await?;
        Ok(())
    }
}
