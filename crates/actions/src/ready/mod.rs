//! Is each system there before the incident, and does it take the credential that the runbooks would use? Every probe is
//! a read that changes nothing; what no read can prove is said to be unproven.

mod database;
mod services;

use runbook_core::action::{ActionError, Context};

/// A system that runbooks need.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// A database, by its name in the environment.
    Database(String),
    /// The backup bucket.
    Bucket,
    /// The backup bucket of another environment, by its name.
    Source(String),
    /// Supabase's Management API.
    Supabase,
    /// Vercel.
    Vercel,
    /// A chat webhook, by its name.
    Notify(String),
    /// PayPal.
    Paypal,
    /// PayMongo.
    Paymongo,
    /// The e-mail provider.
    Email,
    /// Prometheus.
    Prometheus,
    /// GitHub issues.
    Github,
    /// PagerDuty.
    Pagerduty,
    /// Cloudflare.
    Cloudflare,
}

impl System {
    /// How a person calls it.
    pub fn label(&self) -> String {
        match self {
            Self::Database(name) => format!("database {name}"),
            Self::Bucket => "backups".into(),
            Self::Source(name) => format!("backups of {name}"),
            Self::Supabase => "Supabase".into(),
            Self::Vercel => "Vercel".into(),
            Self::Notify(name) => format!("notify {name}"),
            Self::Paypal => "PayPal".into(),
            Self::Paymongo => "PayMongo".into(),
            Self::Email => "e-mail".into(),
            Self::Prometheus => "Prometheus".into(),
            Self::Github => "GitHub".into(),
            Self::Pagerduty => "PagerDuty".into(),
            Self::Cloudflare => "Cloudflare".into(),
        }
    }

    /// The section of the environment file that names it.
    pub fn section(&self) -> &'static str {
        match self {
            Self::Database(_) => "connections",
            Self::Bucket => "backups",
            Self::Source(_) => "backup_sources",
            Self::Supabase => "supabase",
            Self::Vercel => "vercel",
            Self::Notify(_) => "notify",
            Self::Paypal => "paypal",
            Self::Paymongo => "paymongo",
            Self::Email => "email",
            Self::Prometheus => "prometheus",
            Self::Github => "github",
            Self::Pagerduty => "pagerduty",
            Self::Cloudflare => "cloudflare",
        }
    }

    /// The systems that an action talks to by settings of the environment, by the first word of its name.
    pub fn of_action(name: &str) -> &'static [System] {
        match name.split('.').next().unwrap_or_default() {
            "backup" => &[Self::Bucket],
            "storage" => &[Self::Bucket, Self::Supabase],
            "supabase" => &[Self::Supabase],
            "vercel" => &[Self::Vercel],
            "paypal" => &[Self::Paypal],
            "paymongo" => &[Self::Paymongo],
            "email" => &[Self::Email],
            "slo" | "metrics" => &[Self::Prometheus],
            "ticket" => &[Self::Github],
            "page" => &[Self::Pagerduty],
            "dns" => &[Self::Cloudflare],
            "postgres" if matches!(name, "postgres.dump") => &[Self::Bucket],
            _ => &[],
        }
    }

    /// Whether the environment names it.
    pub fn is_named(&self, ctx: &Context) -> bool {
        let environment = &ctx.environment;
        match self {
            Self::Database(name) => environment.connections.contains_key(name),
            Self::Bucket => environment.backups.is_some(),
            Self::Source(name) => environment.backup_sources.contains_key(name),
            Self::Supabase => environment.supabase.is_some(),
            Self::Vercel => environment.vercel.is_some(),
            Self::Notify(name) => environment.notify.contains_key(name),
            Self::Paypal => environment.paypal.is_some(),
            Self::Paymongo => environment.paymongo.is_some(),
            Self::Email => environment.email.is_some(),
            Self::Prometheus => environment.prometheus.is_some(),
            Self::Github => environment.github.is_some(),
            Self::Pagerduty => environment.pagerduty.is_some(),
            Self::Cloudflare => environment.cloudflare.is_some(),
        }
    }
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// In a few words.
    pub said: String,
    /// Whether it is proven; else nothing that only reads can prove it.
    pub proven: bool,
    /// Major version of the server, of a database.
    pub server_major: Option<u32>,
}

impl Proof {
    pub(crate) fn proven(said: impl Into<String>) -> Self {
        Self { said: said.into(), proven: true, server_major: None }
    }

    pub(crate) fn unproven(said: impl Into<String>) -> Self {
        Self { proven: false, ..Self::proven(said) }
    }
}

/// Looks at one system.
///
/// # Errors
/// When it is not named, does not answer, or does not take the credential.
pub async fn probe(ctx: &Context, system: &System) -> Result<Proof, ActionError> {
    if !system.is_named(ctx) {
        return Err(ActionError::refused(format!(
            "find {} in environment `{}`: it has no `{}` for it",
            system.label(),
            ctx.environment.name,
            system.section()
        ))
        .hint(format!("Add it under `{}` in the environment file.", system.section())));
    }
    match system {
        System::Database(name) => database::database(ctx, name).await,
        System::Bucket => services::bucket(ctx).await,
        System::Source(name) => services::source(ctx, name).await,
        System::Supabase => services::supabase(ctx).await,
        System::Vercel => services::vercel(ctx).await,
        System::Notify(name) => services::notify(ctx, name),
        System::Paypal => services::paypal(ctx).await,
        System::Paymongo => services::paymongo(ctx).await,
        System::Email => services::email(ctx).await,
        System::Prometheus => services::prometheus(ctx).await,
        System::Github => services::github(ctx).await,
        System::Pagerduty => services::pagerduty(ctx),
        System::Cloudflare => services::cloudflare(ctx).await,
    }
}
