//! Writes `environment.yaml`: the sandbox as a complete environment, secrets by file.

use std::fmt::Write as _;

use crate::backup::PREFIX;
use crate::disk;
use crate::endpoints::{Endpoints, Layout};
use crate::error::SandboxError;
use crate::providers;
use crate::seed::SMOKE_EMAIL;
use crate::sigv4;
use crate::supabase::{ORGANIZATION, REGION};
use crate::vercel::{PROJECT, TEAM};

/// Secrets that the environment names, each a file of the same name.
const SECRETS: [&str; 7] = [
    "live_password",
    "s3_access_key_id",
    "s3_secret_access_key",
    "supabase_token",
    "vercel_token",
    "chat_webhook",
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
  endpoint: {s3_url}
  region: {s3_region}
  path_style: true
  access_key_id: "{{{{ secrets.s3_access_key_id }}}}"
  secret_access_key: "{{{{ secrets.s3_secret_access_key }}}}"
supabase:
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
paypal:
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
notify:
  chat:
    url: "{{{{ secrets.chat_webhook }}}}"
vars:
  app_url: {app_url}
  hooks_url: {hooks_url}
  migrations_dir: {migrations}
  rls_tests_dir: {tests}
  smoke_email: {SMOKE_EMAIL}
secrets:
"#,
        s3_region = sigv4::REGION,
    );
    list_secrets(layout, &mut text);
    text
}

fn list_secrets(layout: &Layout, text: &mut String) {
    for name in SECRETS.into_iter().chain(providers::SECRETS.map(|(name, _)| name)) {
        let file = quoted(&layout.secret(name).to_string_lossy());
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "  {name}: {{ file: {file} }}");
    }
}

/// A YAML double-quoted scalar; JSON's escapes are a subset of YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
