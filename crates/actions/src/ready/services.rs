//! One harmless read for each service. Paths are those of the published APIs; answers are looked at only as far as the
//! proof needs.

use std::sync::Arc;

use runbook_core::action::{ActionError, Context};
use runbook_core::environment::{EmailProvider, Environment};

use super::Proof;
use crate::backup::catalog::{catalog, find};
use crate::http::{Question, Who, inquire};

fn not_named(what: &str) -> ActionError {
    ActionError::refused(format!("find `{what}` in the environment"))
}

/// Lists, and compares the newest verified dump's recorded sha256 with the store's own.
pub(super) async fn bucket(ctx: &Context) -> Result<Proof, ActionError> {
    let catalog = catalog(ctx).await?;
    let Some(newest) = catalog.newest_verified() else {
        return Err(ActionError::refused(format!(
            "find a verified backup under `{}`: {} dumps are there, none with a .sha256",
            catalog.place,
            catalog.dumps.len()
        ))
        .hint("Run the backup runbook: `runbook run runbooks/backup.yaml --env …`."));
    };
    let backup = find(ctx, &newest.key).await?;
    let Some(recorded) = &backup.sha256 else {
        return Err(ActionError::refused(format!("read the sha256 beside `{}`: it holds none", newest.url)));
    };
    let store = match &backup.store_sha256 {
        Some(stored) if stored == recorded => "its sha256 is the store's own",
        Some(_) => {
            return Err(ActionError::refused(format!(
                "trust `{}`: the sha256 beside it is not the one that the store computed",
                newest.url
            ))
            .hint("The dump or its .sha256 was altered: `runbook backups verify` reads it."));
        }
        None => "the store keeps no sha256 of its own",
    };
    Ok(Proof::proven(format!(
        "dumps: {}, the newest verified one of {} ({store}); writing was not tried",
        catalog.dumps.len(),
        newest.taken_at
    )))
}

/// The bucket of another environment, looked at in the same way.
pub(super) async fn source(ctx: &Context, name: &str) -> Result<Proof, ActionError> {
    let backups = ctx.environment.backup_sources.get(name).cloned();
    let environment = Environment { backups, ..Environment::clone(&ctx.environment) };
    bucket(&Context { environment: Arc::new(environment), ..ctx.clone() }).await
}

pub(super) async fn supabase(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.supabase.as_ref().ok_or_else(|| not_named("supabase"))?;
    let base = settings.api_url.as_deref().unwrap_or("https://api.supabase.com");
    let path: &[&str] = match &settings.project {
        Some(project) => &["v1", "projects", project],
        None => &["v1", "projects"],
    };
    let answer = inquire(Question {
        system: "Supabase",
        what: "read the project",
        base,
        path,
        query: &[],
        who: Who::Bearer(ctx.secrets.reveal(&settings.token)?),
        form: None,
    });
    let answer =
        answer.await.map_err(|error| permitted(error, "a personal access token", "supabase.token"))?;
    Ok(Proof::proven(match (&settings.project, answer["status"].as_str()) {
        (Some(project), Some(status)) => format!("the token may read project {project}, which is {status}"),
        _ => "the token may list projects".into(),
    }))
}

pub(super) async fn vercel(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.vercel.as_ref().ok_or_else(|| not_named("vercel"))?;
    let base = settings.api_url.as_deref().unwrap_or("https://api.vercel.com");
    let team: Vec<(&str, &str)> = settings.team.iter().map(|team| ("teamId", team.as_str())).collect();
    let question = |what, path| -> Result<Question<'_>, ActionError> {
        let who = Who::Bearer(ctx.secrets.reveal(&settings.token)?);
        Ok(Question { system: "Vercel", what, base, path, query: &team, who, form: None })
    };
    let wrong = |error| permitted(error, "an access token of the team", "vercel.token");
    let project = ["v9", "projects", settings.project.as_str()];
    inquire(question("read the project", &project)?).await.map_err(wrong)?;
    let path = ["v10", "projects", settings.project.as_str(), "env"];
    let env = inquire(question("list the environment variables", &path)?).await.map_err(wrong)?;
    let variables = env["envs"].as_array().map_or(0, Vec::len);
    Ok(Proof::proven(format!(
        "the token may read project {} and its {variables} variables",
        settings.project
    )))
}

/// A webhook cannot be asked anything: only its address is looked at.
pub(super) fn notify(ctx: &Context, name: &str) -> Result<Proof, ActionError> {
    let webhook = ctx.environment.notify.get(name).ok_or_else(|| not_named("notify"))?;
    let url = ctx.secrets.reveal(&webhook.url)?;
    let parsed = reqwest::Url::parse(url.expose().trim());
    let wrong = |why: &str| {
        Err(ActionError::refused(format!("use the address of webhook `{name}`: {why}"))
            .hint(format!("Look at the secret behind `notify.{name}.url`: it is the whole URL.")))
    };
    let Ok(parsed) = parsed else { return wrong("it is no URL") };
    let host = parsed.host_str().unwrap_or_default().to_owned();
    let loopback = host == "localhost" || host == "127.0.0.1" || host == "[::1]";
    match parsed.scheme() {
        "https" => {}
        "http" if loopback => {}
        scheme => return wrong(&format!("its scheme is `{scheme}`, not https")),
    }
    if parsed.path().len() < 2 {
        return wrong("it has no path, which is where a webhook's secret stands");
    }
    Ok(Proof::unproven(format!("its address at {host} has the right shape; nothing was posted")))
}

pub(super) async fn paypal(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.paypal.as_ref().ok_or_else(|| not_named("paypal"))?;
    let base = settings.api_url.as_deref().unwrap_or("https://api-m.paypal.com");
    let who =
        Who::Basic(ctx.secrets.reveal(&settings.client_id)?, ctx.secrets.reveal(&settings.client_secret)?);
    let wrong = |error| permitted(error, "client id and secret of the REST application", "paypal");
    let token = inquire(Question {
        system: "PayPal",
        what: "get an access token",
        base,
        path: &["v1", "oauth2", "token"],
        query: &[],
        who,
        form: Some("grant_type=client_credentials"),
    });
    let token = token.await.map_err(wrong)?;
    let Some(token) = token["access_token"].as_str() else {
        return Err(ActionError::refused("get an access token at PayPal: the answer holds none"));
    };
    let hooks = inquire(Question {
        system: "PayPal",
        what: "list the webhooks",
        base,
        path: &["v1", "notifications", "webhooks"],
        query: &[],
        who: Who::Bearer(runbook_core::secret::Revealed::new(token)),
        form: None,
    });
    let hooks = hooks.await.map_err(wrong)?;
    let count = hooks["webhooks"].as_array().map_or(0, Vec::len);
    Ok(Proof::proven(format!("the credentials are taken; webhooks there: {count}")))
}

pub(super) async fn paymongo(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.paymongo.as_ref().ok_or_else(|| not_named("paymongo"))?;
    let nothing = runbook_core::secret::Revealed::new(String::new());
    let hooks = inquire(Question {
        system: "PayMongo",
        what: "list the webhooks",
        base: settings.api_url.as_deref().unwrap_or("https://api.paymongo.com/v1"),
        path: &["webhooks"],
        query: &[],
        who: Who::Basic(ctx.secrets.reveal(&settings.secret_key)?, nothing),
        form: None,
    });
    let hooks = hooks.await.map_err(|error| permitted(error, "the secret key", "paymongo.secret_key"))?;
    let count = hooks["data"].as_array().map_or(0, Vec::len);
    Ok(Proof::proven(format!("the key is taken; webhooks there: {count}")))
}

pub(super) async fn email(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.email.as_ref().ok_or_else(|| not_named("email"))?;
    let (system, base, path): (_, _, &[&str]) = match settings.provider {
        EmailProvider::Resend => ("Resend", "https://api.resend.com", &["api-keys"]),
        EmailProvider::Sendgrid => ("SendGrid", "https://api.sendgrid.com", &["v3", "api_keys"]),
        EmailProvider::Manual => {
            return Ok(Proof::unproven("a person rotates its keys by hand: there is nothing to ask"));
        }
    };
    let token = settings.token.as_ref().ok_or_else(|| not_named("email.token"))?;
    let keys = inquire(Question {
        system,
        what: "list the keys",
        base: settings.api_url.as_deref().unwrap_or(base),
        path,
        query: &[],
        who: Who::Bearer(ctx.secrets.reveal(token)?),
        form: None,
    });
    let keys = keys.await.map_err(|error| permitted(error, "a key that may manage keys", "email.token"))?;
    let list = if keys["data"].is_array() { &keys["data"] } else { &keys["result"] };
    Ok(Proof::proven(format!(
        "the {system} key may list all keys, which are {}",
        list.as_array().map_or(0, Vec::len)
    )))
}

pub(super) async fn prometheus(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.prometheus.as_ref().ok_or_else(|| not_named("prometheus"))?;
    let who = match &settings.token {
        Some(token) => Who::Bearer(ctx.secrets.reveal(token)?),
        None => Who::Anybody,
    };
    let answer = inquire(Question {
        system: "Prometheus",
        what: "ask for `up`",
        base: &settings.url,
        path: &["api", "v1", "query"],
        query: &[("query", "up")],
        who,
        form: None,
    });
    let answer = answer.await.map_err(|error| permitted(error, "a bearer token", "prometheus.token"))?;
    if answer["status"] != "success" {
        return Err(ActionError::refused("ask Prometheus for `up`: it did not say success"));
    }
    Ok(Proof::proven("it answers queries"))
}

pub(super) async fn github(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.github.as_ref().ok_or_else(|| not_named("github"))?;
    let Some((owner, name)) = settings.repository.split_once('/') else {
        return Err(ActionError::refused(format!("use `{}` as a repository", settings.repository)));
    };
    let path = ["repos", owner, name, "issues"];
    let issues = inquire(Question {
        system: "GitHub",
        what: "list issues",
        base: settings.api_url.as_deref().unwrap_or("https://api.github.com"),
        path: &path,
        query: &[("per_page", "1"), ("state", "all")],
        who: Who::Bearer(ctx.secrets.reveal(&settings.token)?),
        form: None,
    });
    issues
        .await
        .map_err(|error| permitted(error, "a token that may read and write issues", "github.token"))?;
    Ok(Proof::proven(format!("the token may read issues of {}; writing was not tried", settings.repository)))
}

/// The Events API only takes events: to try it is to page somebody.
pub(super) fn pagerduty(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.pagerduty.as_ref().ok_or_else(|| not_named("pagerduty"))?;
    let key = ctx.secrets.reveal(&settings.routing_key)?;
    let key = key.expose().trim();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(ActionError::refused("use the PagerDuty routing key: it is empty or no key")
            .hint("`pagerduty.routing_key` is the integration key of the service, 32 letters and digits."));
    }
    Ok(Proof::unproven("a routing key is there; trying it would page somebody"))
}

pub(super) async fn cloudflare(ctx: &Context) -> Result<Proof, ActionError> {
    let settings = ctx.environment.cloudflare.as_ref().ok_or_else(|| not_named("cloudflare"))?;
    let path = ["zones", settings.zone.as_str(), "dns_records"];
    let records = inquire(Question {
        system: "Cloudflare",
        what: "list the DNS records",
        base: settings.api_url.as_deref().unwrap_or("https://api.cloudflare.com/client/v4"),
        path: &path,
        query: &[("per_page", "1")],
        who: Who::Bearer(ctx.secrets.reveal(&settings.token)?),
        form: None,
    });
    records
        .await
        .map_err(|error| permitted(error, "a token with DNS Write on the zone", "cloudflare.token"))?;
    Ok(Proof::proven(format!(
        "the token may read the records of zone {}; writing was not tried",
        settings.zone
    )))
}

/// Adds which setting to look at, where the service said no.
fn permitted(error: ActionError, wants: &str, setting: &str) -> ActionError {
    if error.code == Some("not-permitted") {
        return error
            .hint(format!("`{setting}` must be {wants}: it is wrong, has ended, or lacks a permission."));
    }
    error
}
