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
        "supabase": supabase(),
        "vercel": vercel(),
        "notify": named("Chat webhooks; `notify.NAME` in templates.", object("A webhook.", &[], json!({
            "url": secret("Where to post."),
        }))),
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
