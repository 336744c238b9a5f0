//! The parts of an environment: connections, backups, providers, secrets, approvers, variables.

use std::collections::BTreeMap;

use serde_json::Value;

use super::shapes;
use crate::decode::fields::{Fields, Mistakes, shown};
use crate::decode::scalar::{self, NameKind};
use crate::diagnostic::{Diagnostic, Spanned};
use crate::document::{Tree, TreeKind};
use crate::environment::{Approvers, Backups, DataKind, SecretSource, Supabase, Vercel, Webhook};
use crate::secret::{SecretText, holds_marker};
use crate::types::{Connection, Tls};

/// A TCP port that can be connected to.
const PORTS: std::ops::RangeInclusive<u32> = 1..=65_535;
/// What databases and dumps can hold.
pub(super) const DATA: [(&str, DataKind); 3] =
    [("synthetic", DataKind::Synthetic), ("masked", DataKind::Masked), ("production", DataKind::Production)];
/// PostgreSQL's own.
const PORT_DEFAULT: u16 = 5432;

/// Optional text.
pub(super) fn text(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> Option<String> {
    fields.get(key).and_then(|tree| scalar::text(tree, key, mistakes)).map(|text| text.value)
}

/// Text that must be there; empty when it was reported.
pub(super) fn required(fields: &Fields<'_>, key: &str, help: &str, mistakes: &mut Mistakes) -> String {
    let tree = fields.required(key, help, mistakes);
    tree.and_then(|tree| scalar::text(tree, key, mistakes)).map(|text| text.value).unwrap_or_default()
}

/// An optional base URL.
pub(super) fn url(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> Option<String> {
    let tree = fields.get(key)?;
    let url = scalar::text(tree, key, mistakes)?;
    let is_good =
        url.value.starts_with("https://") || url.value.starts_with("http://") || holds_marker(&url.value);
    if !is_good {
        let message = format!("`{key}` is no URL: `{}`", shown(&url.value));
        scalar::bad_value(url.span, message, "write it with `https://` or `http://`", mistakes);
    }
    Some(url.value)
}

/// A secret: text that names at least one. No message repeats what was written.
pub(super) fn secret(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> Option<SecretText> {
    let tree = fields.get(key)?;
    match &tree.kind {
        TreeKind::String(text) if holds_marker(text) => return Some(SecretText::from_marked(text.clone())),
        TreeKind::String(text) if !text.is_empty() => report_literal(tree, key, mistakes),
        TreeKind::Number(_) | TreeKind::Bool(_) => report_literal(tree, key, mistakes),
        _ => scalar::wrong_type(tree, key, "a secret", Some(secret_help(key)), mistakes),
    }
    None
}

pub(super) fn required_secret(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> SecretText {
    let help = format!("add `{key}: \"{{{{ secrets.NAME }}}}\"`");
    let _reported = fields.required(key, &help, mistakes);
    secret(fields, key, mistakes).unwrap_or_else(|| SecretText::from_marked(""))
}

fn report_literal(tree: &Tree, key: &str, mistakes: &mut Mistakes) {
    let message = format!("`{key}` is written out, and a secret is never a literal");
    mistakes.push(Diagnostic::error("literal-secret", tree.span, message).help(secret_help(key)));
}

fn secret_help(key: &str) -> String {
    format!("declare it under `secrets:` and write `{key}: \"{{{{ secrets.NAME }}}}\"`")
}

/// The entries of a map from names to something; names are checked.
pub(super) fn named<'a>(
    fields: &Fields<'a>,
    key: &str,
    what: &str,
    mistakes: &mut Mistakes,
) -> &'a [(Spanned<String>, Tree)] {
    let Some(tree) = fields.get(key) else { return &[] };
    let TreeKind::Map(entries) = &tree.kind else {
        scalar::wrong_type(tree, key, &format!("a map from names, each of {what}"), None, mistakes);
        return &[];
    };
    for (name, _) in entries {
        scalar::check_name(name, what, NameKind::Variable, mistakes);
    }
    entries
}

/// `connections`
pub(super) fn connections(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Connection> {
    named(fields, "connections", "a connection", mistakes)
        .iter()
        .filter_map(|(name, tree)| Some((name.value.clone(), connection(&name.value, tree, mistakes)?)))
        .collect()
}

fn connection(name: &str, tree: &Tree, mistakes: &mut Mistakes) -> Option<Connection> {
    const TLS: [(&str, Tls); 3] = [("auto", Tls::Auto), ("require", Tls::Require), ("disable", Tls::Disable)];
    if matches!(tree.kind, TreeKind::String(_)) {
        let help = "write `{ host: …, user: …, database: …, password: \"{{ secrets.NAME }}\" }`".to_owned();
        scalar::wrong_type(tree, name, "a map, no URL", Some(help), mistakes);
        return None;
    }
    let fields = Fields::open(tree, &shapes::CONNECTION, mistakes)?;
    let port = fields.get("port").and_then(|tree| scalar::integer(tree, "port", PORTS, mistakes));
    let tls = fields.get("tls").and_then(|tree| match tree.kind {
        TreeKind::Bool(on) => {
            let help = format!("write `tls: {}`", if on { "require" } else { "disable" });
            scalar::wrong_type(tree, "tls", "`auto`, `require` or `disable`", Some(help), mistakes);
            None
        }
        _ => scalar::keyword(tree, "tls", &TLS, mistakes),
    });
    Some(Connection {
        host: required(&fields, "host", "add `host: …`", mistakes),
        port: port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT_DEFAULT),
        user: required(&fields, "user", "add `user: …`, the role to log in as", mistakes),
        database: required(&fields, "database", "add `database: …`", mistakes),
        password: required_secret(&fields, "password", mistakes),
        tls: tls.map_or(Tls::Auto, |word| word.value),
        ca: text(&fields, "ca", mistakes),
        identity: text(&fields, "identity", mistakes),
        name: Some(name.to_owned()),
        live: flag(&fields, "live", mistakes),
    })
}

fn flag(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> bool {
    fields.get(key).and_then(|tree| scalar::boolean(tree, key, mistakes)).unwrap_or(false)
}

/// `backups`
pub(super) fn backups(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Backups> {
    bucket(fields.get("backups")?, mistakes)
}

/// `backup_sources`
pub(super) fn backup_sources(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Backups> {
    named(fields, "backup_sources", "a backup bucket", mistakes)
        .iter()
        .filter_map(|(name, tree)| Some((name.value.clone(), bucket(tree, mistakes)?)))
        .collect()
}

fn bucket(tree: &Tree, mistakes: &mut Mistakes) -> Option<Backups> {
    let fields = Fields::open(tree, &shapes::BACKUPS, mistakes)?;
    let pair = ["access_key_id", "secret_access_key"];
    if let [Some(there), None] | [None, Some(there)] = pair.map(|key| fields.key_span(key)) {
        let missing = if fields.get(pair[0]).is_none() { pair[0] } else { pair[1] };
        let message = format!("`backups` has no `{missing}`, which goes with this");
        let help = "write both, or neither for the default credentials";
        mistakes.push(Diagnostic::error("missing-key", there, message).help(help));
    }
    let data = fields.get("data").and_then(|tree| scalar::keyword(tree, "data", &DATA, mistakes));
    Some(Backups {
        bucket: required(&fields, "bucket", "add `bucket: …`", mistakes),
        prefix: text(&fields, "prefix", mistakes),
        storage_prefix: text(&fields, "storage_prefix", mistakes),
        data: data.map(|word| word.value),
        endpoint: url(&fields, "endpoint", mistakes),
        region: text(&fields, "region", mistakes),
        path_style: flag(&fields, "path_style", mistakes),
        access_key_id: secret(&fields, pair[0], mistakes),
        secret_access_key: secret(&fields, pair[1], mistakes),
    })
}

/// `supabase`
pub(super) fn supabase(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Supabase> {
    let fields = Fields::open(fields.get("supabase")?, &shapes::SUPABASE, mistakes)?;
    let project_url = url(&fields, "project_url", mistakes);
    if let (Some(written), Some(tree)) = (&project_url, fields.get("project_url"))
        && !written.contains("{ref}")
    {
        let message = "`project_url` has no `{ref}` in it".to_owned();
        scalar::bad_value(tree.span, message, "write it as `https://{ref}.supabase.co`", mistakes);
    }
    Some(Supabase {
        api_url: url(&fields, "api_url", mistakes),
        organization: required(&fields, "organization", "add `organization: …`, its slug", mistakes),
        token: required_secret(&fields, "token", mistakes),
        project: text(&fields, "project", mistakes),
        project_url,
    })
}

/// `vercel`
pub(super) fn vercel(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Vercel> {
    let fields = Fields::open(fields.get("vercel")?, &shapes::VERCEL, mistakes)?;
    Some(Vercel {
        api_url: url(&fields, "api_url", mistakes),
        project: required(&fields, "project", "add `project: …`, its id or name", mistakes),
        team: text(&fields, "team", mistakes),
        token: required_secret(&fields, "token", mistakes),
        global_config: text(&fields, "global_config", mistakes),
    })
}

/// `notify`
pub(super) fn notify(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Webhook> {
    let mut webhooks = BTreeMap::new();
    for (name, tree) in named(fields, "notify", "a webhook", mistakes) {
        if matches!(tree.kind, TreeKind::String(_)) {
            let help = "write `{ url: \"{{ secrets.NAME }}\" }`".to_owned();
            scalar::wrong_type(tree, &shown(&name.value), "a map", Some(help), mistakes);
        } else if let Some(fields) = Fields::open(tree, &shapes::WEBHOOK, mistakes) {
            webhooks.insert(name.value.clone(), Webhook { url: required_secret(&fields, "url", mistakes) });
        }
    }
    webhooks
}

/// `secrets`
pub(super) fn secrets(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, SecretSource> {
    named(fields, "secrets", "a secret", mistakes)
        .iter()
        .filter_map(|(name, tree)| Some((name.value.clone(), source(&name.value, tree, mistakes)?)))
        .collect()
}

fn source(name: &str, tree: &Tree, mistakes: &mut Mistakes) -> Option<SecretSource> {
    if matches!(tree.kind, TreeKind::String(_) | TreeKind::Number(_) | TreeKind::Bool(_)) {
        let name = shown(name);
        let message = format!("`{name}` is written out, and a secret is never a literal");
        let help = format!("say where it comes from: `{name}: {{ env: {} }}`", name.to_uppercase());
        mistakes.push(Diagnostic::error("literal-secret", tree.span, message).help(help));
        return None;
    }
    let fields = Fields::open(tree, &shapes::SECRET, mistakes)?;
    let written: Vec<&str> =
        shapes::SECRET.keys.iter().copied().filter(|key| fields.get(key).is_some()).collect();
    let [key] = written.as_slice() else {
        let message = match written.as_slice() {
            [] => format!("secret `{}` does not say where it comes from", shown(name)),
            _ => format!("secret `{}` comes from two places", shown(name)),
        };
        let help = "write one of `{ env: NAME }`, `{ file: path }`, `{ command: [program, argument] }`";
        mistakes.push(Diagnostic::error("bad-secret", tree.span, message).help(help));
        return None;
    };
    let value = fields.get(key)?;
    match *key {
        "env" => {
            let variable = scalar::text(value, key, mistakes)?;
            scalar::check_name(&variable, "an environment variable", NameKind::Variable, mistakes);
            Some(SecretSource::Env(variable.value))
        }
        "file" => scalar::text(value, key, mistakes).map(|path| SecretSource::File(path.value)),
        _ => {
            let words = scalar::texts(value, key, mistakes);
            if words.is_empty() && matches!(value.kind, TreeKind::List(_)) {
                scalar::bad_value(value.span, "`command` is empty".into(), "name a program", mistakes);
            }
            Some(SecretSource::Command(words.into_iter().map(|word| word.value).collect()))
        }
    }
}

/// `approvers`
pub(super) fn approvers(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Approvers {
    let Some(tree) = fields.get("approvers") else { return Approvers::default() };
    if matches!(tree.kind, TreeKind::List(_)) {
        let help = "write `approvers: { names: [ … ] }`".to_owned();
        scalar::wrong_type(tree, "approvers", "a map", Some(help), mistakes);
        return Approvers::default();
    }
    let Some(fields) = Fields::open(tree, &shapes::APPROVERS, mistakes) else { return Approvers::default() };
    let names = fields.get("names").map(|tree| scalar::texts(tree, "names", mistakes)).unwrap_or_default();
    Approvers {
        names: names.into_iter().map(|name| name.value).collect(),
        four_eyes: flag(&fields, "four_eyes", mistakes),
    }
}

/// `vars`
pub(super) fn vars(fields: &Fields<'_>, mistakes: &mut Mistakes) -> BTreeMap<String, Value> {
    named(fields, "vars", "a variable", mistakes)
        .iter()
        .map(|(name, tree)| (name.value.clone(), tree.to_value()))
        .collect()
}
