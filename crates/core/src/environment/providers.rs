//! Settings of the systems around the database: payments, e-mail, metrics, tickets, paging, DNS, and the
//! places that a secret must reach. Decoded by `environment_file`; holds no secret values.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::SecretText;

/// PayPal REST API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paypal {
    /// `https://api-m.paypal.com` by default; `https://api-m.sandbox.paypal.com` is PayPal's own sandbox.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Client id of the REST application.
    pub client_id: SecretText,
    /// Its secret.
    pub client_secret: SecretText,
}

/// PayMongo API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paymongo {
    /// `https://api.paymongo.com/v1` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// `sk_live_…` or `sk_test_…`.
    pub secret_key: SecretText,
}

/// Who sends the application's e-mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// Which provider.
    pub provider: EmailProvider,
    /// The provider's own address by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// A key that may manage keys; a `manual` provider has none.
    #[serde(default)]
    pub token: Option<SecretText>,
}

/// E-mail providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmailProvider {
    /// `https://api.resend.com`
    Resend,
    /// `https://api.sendgrid.com`
    Sendgrid,
    /// A provider without an API for keys: a person rotates them.
    Manual,
}

/// Prometheus HTTP API, or what speaks it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prometheus {
    /// Base URL, before `/api/v1`.
    pub url: String,
    /// Bearer token, when it wants one.
    #[serde(default)]
    pub token: Option<SecretText>,
}

/// Where tickets are created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Github {
    /// `https://api.github.com` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// `owner/name`.
    pub repository: String,
    /// Token that may read and write issues.
    pub token: SecretText,
}

/// PagerDuty Events API v2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pagerduty {
    /// `https://events.pagerduty.com` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Integration key of the service.
    pub routing_key: SecretText,
}

/// Cloudflare DNS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloudflare {
    /// `https://api.cloudflare.com/client/v4` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Zone id.
    pub zone: String,
    /// Token with DNS Write on the zone.
    pub token: SecretText,
}

/// What `doctor` measures an environment against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// The newest verified backup may be this old.
    #[serde(default)]
    pub rpo: Option<Duration>,
    /// The last passing drill may be this long ago.
    #[serde(default)]
    pub drill_every: Option<Duration>,
}

/// A place that holds a copy of a secret and must get the new value when it is rotated (G09).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// An environment variable of the Vercel project, for production.
    VercelEnv(String),
    /// A secret of the Supabase project's Edge Functions.
    SupabaseSecret(String),
    /// Somewhere that only a person can reach; says where.
    Manual(String),
}
