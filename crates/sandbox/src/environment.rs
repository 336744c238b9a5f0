//! Writes `environment.yaml`: the sandbox as a complete environment, secrets by file.

use std::fmt::Write as _;

use crate::backup::{PREFIX, STORAGE_PREFIX};
use crate::disk;
use crate::endpoints::{Endpoints, Layout};
use crate::error::SandboxError;
use crate::providers;
use crate::seed::SMOKE_EMAIL;
use crate::sigv4::REGION as S3_REGION;
use crate::supabase::{ORGANIZATION, REGION};
use crate::vercel::{PROJECT, TEAM};

/// Secrets that the environment names, each a file of the same name.
const SECRETS: [&str; 10] = [
    "live_password",
    "masking_key",
    "s3_access_key_id",
    "s3_secret_access_key",
    "supabase_token",
    "vercel_token",
    "chat_webhook",
    "users_webhook",
    "cron_secret",
    "smoke_password",
];

/// Writes the file anew.
pub(crate) fn write(layout: &Layout, endpoints: &Endpoints, global_config: &str) -> Result<(), SandboxError> {
    disk::write_private(&layout.environment(), text(layout, endpoints, global_config).as_bytes())
}

fn text(layout: &Layout, endpoints: &Endpoints, global_config: &str) -> String {
    let Endpoints { postgres_port, live_project, live_user, s3_url, bucket, .. } = endpoints;
    let Endpoints { supabase_url, vercel_url, app_url, hooks_url, providers_url, .. } = endpoints;
    let polaris = layout.polaris().join("supabase");
    let migrations = quoted(&polaris.join("migrations").to_string_lossy());
    let tests = quoted(&polaris.join("tests/rls").to_string_lossy());
    let systems = systems(providers_url);
    let mut text = format!(
        r#"# Written by `runbook sandbox start`; changes are overwritten.
name: sandbox
kind: local
data: synthetic
region: {REGION}
connections:
  live:
    host: 127.0.0.1
    port: {postgres_port}
    user: {live_user}
    database: {live_project}
    password: "{{{{ secrets.live_password }}}}"
    tls: disable
    live: true
backups:
  bucket: {bucket}
  prefix: {PREFIX}
  storage_prefix: {STORAGE_PREFIX}
  endpoint: {s3_url}
  region: {S3_REGION}
  path_style: true
  access_key_id: "{{{{ secrets.s3_access_key_id }}}}"
  secret_access_key: "{{{{ secrets.s3_secret_access_key }}}}"
{sources}supabase:
  api_url: {supabase_url}
  organization: {ORGANIZATION}
  token: "{{{{ secrets.supabase_token }}}}"
  project: {live_project}
  project_url: "{supabase_url}/projects/{{ref}}"
vercel:
  api_url: {vercel_url}
  project: {PROJECT}
  team: {TEAM}
  token: "{{{{ secrets.vercel_token }}}}"
  global_config: {global_config}
{systems}notify:
  chat:
    url: "{{{{ secrets.chat_webhook }}}}"
  users:
    url: "{{{{ secrets.users_webhook }}}}"
vars:
  app_url: {app_url}
  hooks_url: {hooks_url}
  migrations_dir: {migrations}
  rls_tests_dir: {tests}
  playback_recording: take-001.ogg
  masking_rules: {masking}
  smoke_email: {SMOKE_EMAIL}
secrets:
"#,
        sources = backup_sources(endpoints),
        masking = quoted(&layout.polaris().join("masking.yaml").to_string_lossy()),
    );
    for name in SECRETS.into_iter().chain(providers::SECRETS.map(|(name, _)| name)) {
        let file = quoted(&layout.secret(name).to_string_lossy());
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name}: {{ file: {file} }}");
    }
    text
}

/// The systems around the database, and the places of secrets.
fn systems(providers_url: &str) -> String {
    format!(
        r#"paypal:
  api_url: {providers_url}/paypal
  client_id: "{{{{ secrets.paypal_client_id }}}}"
  client_secret: "{{{{ secrets.paypal_client_secret }}}}"
paymongo:
  api_url: {providers_url}/paymongo/v1
  secret_key: "{{{{ secrets.paymongo_secret_key }}}}"
email:
  provider: resend
  api_url: {providers_url}/resend
  token: "{{{{ secrets.resend_token }}}}"
prometheus:
  url: {providers_url}/prometheus
  token: "{{{{ secrets.prometheus_token }}}}"
github:
  api_url: {providers_url}/github
  repository: polaris/polaris
  token: "{{{{ secrets.github_token }}}}"
pagerduty:
  api_url: {providers_url}/pagerduty
  routing_key: "{{{{ secrets.pagerduty_routing_key }}}}"
cloudflare:
  api_url: {providers_url}/cloudflare/client/v4
  zone: zone_polaris
  token: "{{{{ secrets.cloudflare_token }}}}"
places:
  cron_secret: [{{ vercel_env: CRON_SECRET }}, {{ supabase_secret: CRON_SECRET }}]
  email_key: [{{ vercel_env: RESEND_API_KEY }}]
  paymongo_webhook: [{{ vercel_env: PAYMONGO_WEBHOOK_SECRET }}]
  paypal_webhook: [{{ vercel_env: PAYPAL_WEBHOOK_ID }}]
  service_role_key: [{{ vercel_env: SUPABASE_SERVICE_ROLE_KEY }}]
"#
    )
}

/// The sandbox has one bucket: it plays the part of production's too.
fn backup_sources(Endpoints { s3_url, bucket, .. }: &Endpoints) -> String {
    format!(
        r#"backup_sources:
  production:
    bucket: {bucket}
    prefix: {PREFIX}
    data: production
    endpoint: {s3_url}
    region: {S3_REGION}
    path_style: true
    access_key_id: "{{{{ secrets.s3_access_key_id }}}}"
    secret_access_key: "{{{{ secrets.s3_secret_access_key }}}}"
"#
    )
}

/// A YAML double-quoted scalar; JSON's escapes are a subset of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
