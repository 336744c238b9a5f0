//! The keys of an environment file, and how people spell them elsewhere. A table, nothing else.

use crate::decode::fields::Shape;

pub(crate) const ENVIRONMENT: Shape = Shape {
    what: "the environment",
    keys: &[
        "name",
        "extends",
        "kind",
        "data",
        "region",
        "connections",
        "backups",
        "backup_sources",
        "supabase",
        "vercel",
        "notify",
        "paypal",
        "paymongo",
        "email",
        "prometheus",
        "github",
        "pagerduty",
        "cloudflare",
        "places",
        "readiness",
        "secrets",
        "approvers",
        "vars",
    ],
    spellings: &[
        ("type", "kind"),
        ("databases", "connections"),
        ("backup", "backups"),
        ("bucket", "backups"),
        ("webhooks", "notify"),
        ("notifications", "notify"),
        ("slack", "notify"),
        ("secret", "secrets"),
        ("credentials", "secrets"),
        ("approvals", "approvers"),
        ("variables", "vars"),
        ("env", "vars"),
        ("values", "vars"),
        ("inherits", "extends"),
        ("from", "extends"),
        ("base", "extends"),
        ("metrics", "prometheus"),
        ("tickets", "github"),
        ("paging", "pagerduty"),
        ("dns", "cloudflare"),
        ("mail", "email"),
    ],
};

pub(crate) const CONNECTION: Shape = Shape {
    what: "a connection",
    keys: &["host", "port", "user", "database", "password", "tls", "ca", "live", "identity"],
    spellings: &[
        ("hostname", "host"),
        ("address", "host"),
        ("username", "user"),
        ("role", "user"),
        ("db", "database"),
        ("dbname", "database"),
        ("name", "database"),
        ("pass", "password"),
        ("secret", "password"),
        ("ssl", "tls"),
        ("sslmode", "tls"),
        ("production", "live"),
        ("sslrootcert", "ca"),
        ("system_identifier", "identity"),
    ],
};

pub(crate) const BACKUPS: Shape = Shape {
    what: "`backups`",
    keys: &[
        "bucket",
        "prefix",
        "storage_prefix",
        "data",
        "endpoint",
        "region",
        "path_style",
        "access_key_id",
        "secret_access_key",
    ],
    spellings: &[
        ("name", "bucket"),
        ("path", "prefix"),
        ("endpoint_url", "endpoint"),
        ("url", "endpoint"),
        ("force_path_style", "path_style"),
        ("access_key", "access_key_id"),
        ("aws_access_key_id", "access_key_id"),
        ("secret_key", "secret_access_key"),
        ("aws_secret_access_key", "secret_access_key"),
    ],
};

pub(crate) const SUPABASE: Shape = Shape {
    what: "`supabase`",
    keys: &["api_url", "organization", "token", "project", "project_url"],
    spellings: &[
        ("org", "organization"),
        ("organisation", "organization"),
        ("access_token", "token"),
        ("ref", "project"),
        ("project_ref", "project"),
        ("url", "api_url"),
    ],
};

pub(crate) const VERCEL: Shape = Shape {
    what: "`vercel`",
    keys: &["api_url", "project", "team", "token", "global_config"],
    spellings: &[
        ("access_token", "token"),
        ("team_id", "team"),
        ("project_id", "project"),
        ("edge_config", "global_config"),
        ("url", "api_url"),
    ],
};

pub(crate) const WEBHOOK: Shape =
    Shape { what: "a webhook", keys: &["url"], spellings: &[("webhook", "url"), ("webhook_url", "url")] };

pub(crate) const SECRET: Shape = Shape {
    what: "a secret",
    keys: &["env", "file", "command"],
    spellings: &[
        ("environment", "env"),
        ("variable", "env"),
        ("from_env", "env"),
        ("path", "file"),
        ("from_file", "file"),
        ("cmd", "command"),
        ("exec", "command"),
        ("run", "command"),
    ],
};

pub(crate) const APPROVERS: Shape = Shape {
    what: "`approvers`",
    keys: &["names", "four_eyes"],
    spellings: &[("users", "names"), ("people", "names"), ("list", "names")],
};

pub(crate) const PAYPAL: Shape = Shape {
    what: "`paypal`",
    keys: &["api_url", "client_id", "client_secret"],
    spellings: &[("url", "api_url"), ("id", "client_id"), ("secret", "client_secret")],
};

pub(crate) const PAYMONGO: Shape = Shape {
    what: "`paymongo`",
    keys: &["api_url", "secret_key"],
    spellings: &[("url", "api_url"), ("secret", "secret_key"), ("token", "secret_key")],
};

pub(crate) const EMAIL: Shape = Shape {
    what: "`email`",
    keys: &["provider", "api_url", "token"],
    spellings: &[("url", "api_url"), ("api_key", "token"), ("key", "token")],
};

pub(crate) const PROMETHEUS: Shape =
    Shape { what: "`prometheus`", keys: &["url", "token"], spellings: &[("api_url", "url")] };

pub(crate) const GITHUB: Shape = Shape {
    what: "`github`",
    keys: &["api_url", "repository", "token"],
    spellings: &[("url", "api_url"), ("repo", "repository"), ("access_token", "token")],
};

pub(crate) const PAGERDUTY: Shape = Shape {
    what: "`pagerduty`",
    keys: &["api_url", "routing_key"],
    spellings: &[("url", "api_url"), ("integration_key", "routing_key"), ("key", "routing_key")],
};

pub(crate) const CLOUDFLARE: Shape = Shape {
    what: "`cloudflare`",
    keys: &["api_url", "zone", "token"],
    spellings: &[("url", "api_url"), ("zone_id", "zone"), ("api_token", "token")],
};

pub(crate) const READINESS: Shape =
    Shape { what: "`readiness`", keys: &["rpo", "drill_every"], spellings: &[("drill", "drill_every")] };

pub(crate) const PLACE: Shape = Shape {
    what: "a place",
    keys: &["vercel_env", "supabase_secret", "manual"],
    spellings: &[("vercel", "vercel_env"), ("supabase", "supabase_secret"), ("person", "manual")],
};
