//! The schema of an environment file.

use serde_json::{Value, json};

use super::{DRAFT, ID, NAME, flag, named, object, text, texts};

/// The schema of environment files.
pub fn environment() -> Value {
    let mut schema = object("Where a runbook runs.", &["name"], keys());
    if let Some(entries) = schema.as_object_mut() {
        entries.shift_insert(0, "$schema".into(), json!(DRAFT));
        entries.shift_insert(1, "title".into(), json!("Environment"));
        // What is extended brings the rest.
        entries.insert("if".into(), json!({ "not": { "required": ["extends"] } }));
        entries.insert("then".into(), json!({ "required": ["kind", "data"] }));
    }
    schema
}

fn keys() -> Value {
    json!({
        "name": { "type": "string", "pattern": ID, "description": "What is given to `--env`; the file's own name." },
        "extends": text("Another environment that this one lies over; `sandbox` is the running sandbox."),
        "kind": { "enum": ["local", "staging", "production"], "description": "How careful to be." },
        "data": { "enum": ["synthetic", "masked", "production"], "description": "What its databases hold." },
        "region": text("The provider's region code."),
        "connections": named("Databases; `connections.NAME` in templates.", connection()),
        "backups": backups(),
        "backup_sources": named("Backup buckets of other environments, for `backup.select`.", backups()),
        "supabase": supabase(),
        "vercel": vercel(),
        "notify": named("Chat webhooks; `notify.NAME` in templates.", object("A webhook.", &[], json!({
            "url": secret("Where to post."),
        }))),
        "paypal": object("PayPal REST API.", &[], json!({
            "api_url": url("`https://api-m.paypal.com` by default."),
            "client_id": secret("Client id of the REST application."),
            "client_secret": secret("Its secret."),
        })),
        "paymongo": object("PayMongo API.", &[], json!({
            "api_url": url("`https://api.paymongo.com/v1` by default."),
            "secret_key": secret("`sk_live_…` or `sk_test_…`."),
        })),
        "email": object("Who sends the application's e-mail.", &[], json!({
            "provider": { "enum": ["resend", "sendgrid", "manual"], "description": "`manual`: a person rotates its keys." },
            "api_url": url("The provider's own address by default."),
            "token": secret("A key that may manage keys."),
        })),
        "prometheus": object("Prometheus HTTP API.", &[], json!({
            "url": url("Base URL, before `/api/v1`."),
            "token": secret("Bearer token."),
        })),
        "github": object("Where tickets are created.", &[], json!({
            "api_url": url("`https://api.github.com` by default."),
            "repository": text("`owner/name`."),
            "token": secret("Token that may read and write issues."),
        })),
        "pagerduty": object("PagerDuty Events API v2.", &[], json!({
            "api_url": url("`https://events.pagerduty.com` by default."),
            "routing_key": secret("Integration key of the service."),
        })),
        "cloudflare": object("Cloudflare DNS.", &[], json!({
            "api_url": url("`https://api.cloudflare.com/client/v4` by default."),
            "zone": text("Zone id."),
            "token": secret("Token with DNS Write on the zone."),
        })),
        "places": named("Every place that must get a secret's new value (G09), by the secret's name.", json!({
            "type": "array",
            "minItems": 1,
            "items": place(),
        })),
        "readiness": object("What `runbook doctor` measures against.", &[], json!({
            "rpo": text("The newest verified backup may be this old: `24h`."),
            "drill_every": text("The last passing drill may be this long ago: `31d`."),
        })),
        "secrets": named("Where each secret comes from; `{{ secrets.NAME }}` in this file.", source()),
        "approvers": object("Who may approve.", &[], json!({
            "names": texts("Names; anybody when left out."),
            "four_eyes": flag("Whoever started the run may not approve in it."),
        })),
        "vars": named("Free values; `vars.NAME` in templates.", json!(true)),
    })
}

/// Text that names a secret.
fn secret(help: &str) -> Value {
    json!({
        "type": "string",
        "pattern": "\\{\\{ *(secrets|vars)\\.",
        "description": format!("{help} Never a literal: `\"{{{{ secrets.NAME }}}}\"`."),
    })
}

/// Nothing but this, or a variable.
fn or_variable(schema: Value) -> Value {
    let description = schema.get("description").cloned().unwrap_or_default();
    let variable = json!({ "type": "string", "pattern": "^ *\\{\\{ *vars\\." });
    json!({ "description": description, "anyOf": [schema, variable] })
}

fn url(help: &str) -> Value {
    json!({ "type": "string", "pattern": "^(https?://|\\{\\{)", "description": help })
}

fn connection() -> Value {
    object(
        "A PostgreSQL database.",
        &[],
        json!({
            "host": text("Host name or address."),
            "port": or_variable(json!({ "type": "integer", "minimum": 1, "maximum": 65535, "default": 5432, "description": "TCP port." })),
            "user": text("Role to log in as."),
            "database": text("Database name."),
            "password": secret("Password of the role."),
            "tls": or_variable(json!({ "enum": ["auto", "require", "disable"], "default": "auto", "description": "Whether it is encrypted; `auto` is `require` away from loopback." })),
            "ca": text("PEM file of the authority that signed the server's certificate."),
            "identity": text("`SYSTEM_IDENTIFIER/DATABASE` as `runbook doctor` prints it, for G02."),
            "live": or_variable(flag("Whether users depend on it. The golden rules protect what is live.")),
        }),
    )
}

fn backups() -> Value {
    object(
        "The S3 bucket that holds the dumps.",
        &[],
        json!({
            "bucket": text("Bucket name."),
            "prefix": text("Key prefix, `db/{env}` by default."),
            "storage_prefix": text("Key prefix of storage manifests and copies, `storage/{env}` by default."),
            "data": { "enum": ["synthetic", "masked", "production"], "description": "What the dumps hold; as the environment by default." },
            "endpoint": url("Endpoint of a store that is not AWS."),
            "region": text("Region for signing."),
            "path_style": or_variable(flag("Bucket in the path instead of the host name.")),
            "access_key_id": secret("Access key id; the default credentials when left out."),
            "secret_access_key": secret("Goes with `access_key_id`."),
        }),
    )
}

fn supabase() -> Value {
    object(
        "Supabase Management API.",
        &[],
        json!({
            "api_url": url("`https://api.supabase.com` by default."),
            "organization": text("Slug of the organisation that new projects belong to."),
            "token": secret("Personal access token."),
            "project": text("Ref of the live project."),
            "project_url": url("Base URL of a project's own APIs with `{ref}` in it; `https://{ref}.supabase.co` by default."),
        }),
    )
}

fn vercel() -> Value {
    object(
        "Vercel REST API.",
        &[],
        json!({
            "api_url": url("`https://api.vercel.com` by default."),
            "project": text("Project id or name."),
            "team": text("Team id."),
            "token": secret("Access token."),
            "global_config": text("Edge Config id for flags."),
        }),
    )
}

fn place() -> Value {
    let mut schema = object(
        "A place that holds a copy of a secret: one of three.",
        &[],
        json!({
            "vercel_env": text("An environment variable of the Vercel project."),
            "supabase_secret": text("A secret of the project's Edge Functions."),
            "manual": text("Somewhere that only a person can reach; says where."),
        }),
    );
    schema["minProperties"] = json!(1);
    schema["maxProperties"] = json!(1);
    schema
}

fn source() -> Value {
    let mut schema = object(
        "Where one secret comes from: one of three.",
        &[],
        json!({
            "env": { "type": "string", "pattern": NAME, "description": "An environment variable." },
            "file": text("A file; one trailing newline is cut."),
            "command": {
                "type": "array",
                "minItems": 1,
                "items": { "type": "string", "minLength": 1 },
                "description": "A program and its arguments; its output, one trailing newline cut.",
            },
        }),
    );
    schema["minProperties"] = json!(1);
    schema["maxProperties"] = json!(1);
    schema
}
