//! Where a runbook runs: `runbooks/environments/NAME.yaml`, decoded. Holds no secret values, only
//! where each comes from. `decode` makes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::SecretText;
use crate::types::Connection;

mod providers;

pub use providers::{
    Cloudflare, Email, EmailProvider, Github, Pagerduty, Paymongo, Paypal, Place, Prometheus, Readiness,
};

/// One environment. The serialised form is what `env`, `connections` and `vars` in templates are
/// made of, and what the plan digest covers; it holds secret references, never values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// The name given to `--env`.
    pub name: String,
    /// How careful to be.
    pub kind: EnvironmentKind,
    /// What its databases hold.
    pub data: DataKind,
    /// The provider's region code.
    #[serde(default)]
    pub region: Option<String>,
    /// Named databases; `connections.NAME` in templates.
    #[serde(default)]
    pub connections: BTreeMap<String, Connection>,
    /// The backup bucket.
    #[serde(default)]
    pub backups: Option<Backups>,
    /// Backup buckets of other environments, by name: where a refresh of staging gets its dump from.
    #[serde(default)]
    pub backup_sources: BTreeMap<String, Backups>,
    /// Supabase Management API.
    #[serde(default)]
    pub supabase: Option<Supabase>,
    /// Vercel REST API.
    #[serde(default)]
    pub vercel: Option<Vercel>,
    /// Named chat webhooks; `notify.NAME`.
    #[serde(default)]
    pub notify: BTreeMap<String, Webhook>,
    /// PayPal.
    #[serde(default)]
    pub paypal: Option<Paypal>,
    /// PayMongo.
    #[serde(default)]
    pub paymongo: Option<Paymongo>,
    /// The e-mail provider.
    #[serde(default)]
    pub email: Option<Email>,
    /// Metrics.
    #[serde(default)]
    pub prometheus: Option<Prometheus>,
    /// Tickets.
    #[serde(default)]
    pub github: Option<Github>,
    /// Paging.
    #[serde(default)]
    pub pagerduty: Option<Pagerduty>,
    /// DNS.
    #[serde(default)]
    pub cloudflare: Option<Cloudflare>,
    /// Every place that must get the new value of a secret when it is rotated, by the secret's name.
    #[serde(default)]
    pub places: BTreeMap<String, Vec<Place>>,
    /// What `doctor` measures against.
    #[serde(default)]
    pub readiness: Readiness,
    /// Where each secret comes from.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretSource>,
    /// Who may approve.
    #[serde(default)]
    pub approvers: Approvers,
    /// Free values; `vars.NAME` in templates.
    #[serde(default)]
    pub vars: BTreeMap<String, Value>,
    /// In a drill: the live databases of all environments, which it must not write to (G02). Stands in no file
    /// and no template; whoever starts a run looks, and the run pins what was seen.
    #[serde(skip)]
    pub guarded: Option<Vec<LiveDatabase>>,
}

/// A live database that a drill must not write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveDatabase {
    /// The environment that names it.
    pub environment: String,
    /// The connection's name there.
    pub connection: String,
    /// `SYSTEM_IDENTIFIER/DATABASE`; none when it neither answered nor was recorded.
    pub identity: Option<String>,
}

impl LiveDatabase {
    /// `staging/live`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.environment, self.connection)
    }
}

impl Environment {
    /// An environment with a name and nothing in it.
    pub fn new(name: impl Into<String>, kind: EnvironmentKind, data: DataKind) -> Self {
        Self {
            name: name.into(),
            kind,
            data,
            region: None,
            connections: BTreeMap::new(),
            backups: None,
            backup_sources: BTreeMap::new(),
            supabase: None,
            vercel: None,
            notify: BTreeMap::new(),
            paypal: None,
            paymongo: None,
            email: None,
            prometheus: None,
            github: None,
            pagerduty: None,
            cloudflare: None,
            places: BTreeMap::new(),
            readiness: Readiness::default(),
            secrets: BTreeMap::new(),
            approvers: Approvers::default(),
            vars: BTreeMap::new(),
            guarded: None,
        }
    }
}

/// How careful to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentKind {
    /// The sandbox.
    Local,
    /// A rehearsal space.
    Staging,
    /// Users depend on it.
    Production,
}

/// What the databases of an environment hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DataKind {
    /// Made up.
    Synthetic,
    /// Real data with personal values replaced.
    Masked,
    /// Real data.
    Production,
}

/// The S3 bucket that holds dumps as `PREFIX/YYYY/MM/DD/NAME` with `NAME.sha256` beside each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// Bucket name.
    pub bucket: String,
    /// Key prefix, `db/{env}` by default.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Key prefix of storage manifests and copies of files, `storage/{env}` by default.
    #[serde(default)]
    pub storage_prefix: Option<String>,
    /// What the dumps hold; what the environment's databases hold, by default.
    #[serde(default)]
    pub data: Option<DataKind>,
    /// Endpoint URL for stores that are not AWS.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// Region for signing.
    #[serde(default)]
    pub region: Option<String>,
    /// Bucket in the path instead of the host name.
    #[serde(default)]
    pub path_style: bool,
    /// Access key id; the AWS default chain when left out.
    #[serde(default)]
    pub access_key_id: Option<SecretText>,
    /// Secret access key; goes with `access_key_id`.
    #[serde(default)]
    pub secret_access_key: Option<SecretText>,
}

/// Supabase Management API settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supabase {
    /// `https://api.supabase.com` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Organisation slug that new projects belong to.
    pub organization: String,
    /// Personal access token.
    pub token: SecretText,
    /// Ref of the live project.
    #[serde(default)]
    pub project: Option<String>,
    /// Base URL of a project's own APIs, with `{ref}` in it; `https://{ref}.supabase.co` by default.
    #[serde(default)]
    pub project_url: Option<String>,
}

/// Vercel settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vercel {
    /// `https://api.vercel.com` by default.
    #[serde(default)]
    pub api_url: Option<String>,
    /// Project id or name.
    pub project: String,
    /// Team id.
    #[serde(default)]
    pub team: Option<String>,
    /// Access token.
    pub token: SecretText,
    /// Global (Edge) Config id for flags.
    #[serde(default)]
    pub global_config: Option<String>,
}

/// A chat webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where to post; the URL itself is a credential.
    pub url: SecretText,
}

/// Where a secret's value comes from. Never a literal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// An environment variable.
    Env(String),
    /// A file; one trailing newline is cut.
    File(String),
    /// A program and its arguments; its standard output, one trailing newline cut.
    Command(Vec<String>),
}

/// Who may approve, and how many must.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvers {
    /// Names; empty means anybody.
    #[serde(default)]
    pub names: Vec<String>,
    /// Whoever started the run may not approve in it.
    #[serde(default)]
    pub four_eyes: bool,
}

/// How long a question stands when the approval does not say.
pub const APPROVAL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2 * 3600);
