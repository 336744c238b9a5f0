//! The systems around the database in an environment file: payments, e-mail, metrics, tickets, paging, DNS,
//! the places of secrets, and what readiness is measured against.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sections::{named, required, required_secret, secret, text, url};
use super::shapes;
use crate::decode::fields::{Fields, Mistakes, Shape, shown};
use crate::decode::scalar;
use crate::diagnostic::Diagnostic;
use crate::document::{Tree, TreeKind};
use crate::environment::{
    Cloudflare, Email, EmailProvider, Environment, Github, Pagerduty, Paymongo, Paypal, Place, Prometheus,
    Readiness,
};

/// Fills in every section that this file knows.
pub(super) fn fill(environment: &mut Environment, fields: &Fields<'_>, mistakes: &mut Mistakes) {
    environment.paypal = section(fields, "paypal", &shapes::PAYPAL, mistakes, paypal);
    environment.paymongo = section(fields, "paymongo", &shapes::PAYMONGO, mistakes, paymongo);
    environment.email = section(fields, "email", &shapes::EMAIL, mistakes, email);
    environment.prometheus = section(fields, "prometheus", &shapes::PROMETHEUS, mistakes, prometheus);
    environment.github = section(fields, "github", &shapes::GITHUB, mistakes, github);
    environment.pagerduty = section(fields, "pagerduty", &shapes::PAGERDUTY, mistakes, pagerduty);
    environment.cloudflare = section(fields, "cloudflare", &shapes::CLOUDFLARE, mistakes, cloudflare);
    let readiness = section(fields, "readiness", &shapes::READINESS, mistakes, readiness);
    environment.readiness = readiness.unwrap_or_default();
    environment.places = places(fields, mistakes);
}

fn section<T>(
    fields: &Fields<'_>,
    key: &str,
    shape: &Shape,
    mistakes: &mut Mistakes,
    decode: impl FnOnce(&Fields<'_>, &mut Mistakes) -> T,
) -> Option<T> {
    let fields = Fields::open(fields.get(key)?, shape, mistakes)?;
    Some(decode(&fields, mistakes))
}

fn paypal(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Paypal {
    Paypal {
        api_url: url(fields, "api_url", mistakes),
        client_id: required_secret(fields, "client_id", mistakes),
        client_secret: required_secret(fields, "client_secret", mistakes),
    }
}

fn paymongo(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Paymongo {
    Paymongo {
        api_url: url(fields, "api_url", mistakes),
        secret_key: required_secret(fields, "secret_key", mistakes),
    }
}

fn email(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Email {
    const PROVIDERS: [(&str, EmailProvider); 3] = [
        ("resend", EmailProvider::Resend),
        ("sendgrid", EmailProvider::Sendgrid),
        ("manual", EmailProvider::Manual),
    ];
    let help = "add `provider: resend`, `sendgrid` or `manual`";
    let provider = fields
        .required("provider", help, mistakes)
        .and_then(|tree| scalar::keyword(tree, "provider", &PROVIDERS, mistakes))
        .map_or(EmailProvider::Manual, |word| word.value);
    let token = match provider {
        EmailProvider::Manual => secret(fields, "token", mistakes),
        EmailProvider::Resend | EmailProvider::Sendgrid => Some(required_secret(fields, "token", mistakes)),
    };
    Email { provider, api_url: url(fields, "api_url", mistakes), token }
}

fn prometheus(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Prometheus {
    let _reported = fields.required("url", "add `url: https://…`, before `/api/v1`", mistakes);
    Prometheus {
        url: url(fields, "url", mistakes).unwrap_or_default(),
        token: secret(fields, "token", mistakes),
    }
}

fn github(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Github {
    let repository = required(fields, "repository", "add `repository: owner/name`", mistakes);
    if let Some(tree) = fields.get("repository")
        && !repository.is_empty()
        && repository.split('/').filter(|part| !part.is_empty()).count() != 2
    {
        let message = format!("`repository` is `{}`", shown(&repository));
        scalar::bad_value(tree.span, message, "write it as `owner/name`", mistakes);
    }
    Github {
        api_url: url(fields, "api_url", mistakes),
        repository,
        token: required_secret(fields, "token", mistakes),
    }
}

fn pagerduty(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Pagerduty {
    Pagerduty {
        api_url: url(fields, "api_url", mistakes),
        routing_key: required_secret(fields, "routing_key", mistakes),
    }
}

fn cloudflare(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Cloudflare {
    Cloudflare {
        api_url: url(fields, "api_url", mistakes),
        zone: required(fields, "zone", "add `zone: …`, its id", mistakes),
        token: required_secret(fields, "token", mistakes),
    }
}

fn readiness(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Readiness {
    let mut period = |key: &str| -> Option<Duration> {
        scalar::duration(fields.get(key)?, key, mistakes).map(|period| period.value)
    };
    Readiness { rpo: period("rpo"), drill_every: period("drill_every") }
}

/// `places`: for each secret a list of maps with one key each.
fn places(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Vec<Place>> {
    let mut all = BTreeMap::new();
    for (name, tree) in named(fields, "places", "a secret", mistakes) {
        let TreeKind::List(items) = &tree.kind else {
            let help =
                "write `[{ vercel_env: NAME }, { supabase_secret: NAME }, { manual: where }]`".to_owned();
            scalar::wrong_type(tree, &shown(&name.value), "a list of places", Some(help), mistakes);
            continue;
        };
        if items.is_empty() {
            let message = format!("`places.{}` lists no place", shown(&name.value));
            scalar::bad_value(tree.span, message, "name a place, or leave the secret out", mistakes);
        }
        let places: Vec<Place> = items.iter().filter_map(|item| place(item, mistakes)).collect();
        all.insert(name.value.clone(), places);
    }
    all
}

fn place(tree: &Tree, mistakes: &mut Mistakes) -> Option<Place> {
    let fields = Fields::open(tree, &shapes::PLACE, mistakes)?;
    let written: Vec<&str> =
        shapes::PLACE.keys.iter().copied().filter(|key| fields.get(key).is_some()).collect();
    let [key] = written.as_slice() else {
        let help = "write one of `{ vercel_env: NAME }`, `{ supabase_secret: NAME }`, `{ manual: where }`";
        let message = "a place has exactly one of `vercel_env`, `supabase_secret`, `manual`";
        mistakes.push(Diagnostic::error("bad-value", fields.span(), message).help(help));
        return None;
    };
    let value = text(&fields, key, mistakes)?;
    Some(match *key {
        "vercel_env" => Place::VercelEnv(value),
        "supabase_secret" => Place::SupabaseSecret(value),
        _ => Place::Manual(value),
    })
}
