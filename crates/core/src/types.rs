//! The types that steps hand to each other by name: a connection, a backup, a project.
//! Their schemas carry `x-runbook-type`, by which the checker tells a connection from a mere map.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::secret::SecretText;

/// A PostgreSQL database to talk to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-runbook-type" = "connection"))]
pub struct Connection {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Role to log in as.
    pub user: String,
    /// Database name.
    pub database: String,
    /// Password of the role.
    pub password: SecretText,
    /// `require` (the default away from loopback), or `disable`.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file of the authority that signed the server's certificate; the usual ones when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Recorded identity, `SYSTEM_IDENTIFIER/DATABASE` as `runbook doctor` prints it: G02 compares with it
    /// what cannot be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The environment's name for it, when it is one of `connections`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether users depend on it. A connection that a step made is not live.
    #[serde(default)]
    pub live: bool,
}

fn default_port() -> u16 {
    5432
}

impl Connection {
    /// How a person names it: `user@host:port/database`, never the password.
    pub fn label(&self) -> String {
        format!("{}@{}:{}/{}", self.user, self.host, self.port, self.database)
    }
}

/// Whether the connection is encrypted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// Encrypted away from loopback, plain on loopback.
    #[default]
    Auto,
    /// Always encrypted, the certificate checked.
    Require,
    /// Never encrypted.
    Disable,
}

/// One dump in the backup bucket, with what makes it trustworthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-runbook-type" = "backup"))]
pub struct Backup {
    /// Where it is: `s3://bucket/key`, or `file:///path`.
    pub url: String,
    /// Recorded sha256 of the whole object, lower-case hex, from the `.sha256` beside it. A restore
    /// without it is refused (G04).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// ETag that every ranged read is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The store's own full-object sha256, lower-case hex, when it keeps one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_sha256: Option<String>,
    /// The moment whose data it holds, as well as it is known: the restore point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// The environment's name for the bucket it is in, when it is one of `backup_sources`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it holds: `production`, `masked` or `synthetic`; of the environment it was taken from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<crate::environment::DataKind>,
}
