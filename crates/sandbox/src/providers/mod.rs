//! Stand-ins for the systems around the database, behind one port, each below a prefix of its own:
//! `/paypal`, `/github` … One file each; this one only puts them together.

mod cloudflare;
mod deliver;
mod github;
mod pagerduty;
pub(crate) mod payment;
pub(crate) mod paymongo;
pub(crate) mod paypal;
mod prometheus;
pub(crate) mod resend;
mod sendgrid;

pub(crate) use prometheus::{Metric, Traffic};

use std::collections::BTreeMap;

use axum::Router;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::disk;
use crate::endpoints::Layout;
use crate::error::SandboxError;
use crate::shared::Ctx;
use crate::web::Service;

/// What the stand-ins remember.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Providers {
    pub(crate) paypal: paypal::State,
    pub(crate) paymongo: paymongo::State,
    pub(crate) resend: resend::State,
    pub(crate) sendgrid: sendgrid::State,
    pub(crate) prometheus: prometheus::State,
    pub(crate) github: github::State,
    pub(crate) pagerduty: pagerduty::State,
    pub(crate) cloudflare: cloudflare::State,
}

/// What the first deployment of the application is told of the providers.
pub(crate) struct Told {
    pub(crate) paypal_webhook: String,
    pub(crate) paymongo_secret: String,
    pub(crate) email_key: String,
}

impl Providers {
    /// As the application was set up: a webhook at each payment provider, a key at each e-mail provider.
    pub(crate) fn founded(app_url: &str, now: jiff::Timestamp) -> (Self, Told) {
        let (paypal, paypal_webhook) = paypal::State::with_webhook(format!("{app_url}/api/webhooks/paypal"));
        let (paymongo, paymongo_secret) =
            paymongo::State::with_webhook(format!("{app_url}/api/webhooks/paymongo"), now);
        let (resend, email_key) = resend::State::with_key(now);
        let sendgrid = sendgrid::State::with_key();
        (
            Self { paypal, paymongo, resend, sendgrid, ..Self::default() },
            Told { paypal_webhook, paymongo_secret, email_key },
        )
    }

    /// For tests that compare; secrets only as digests.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "paypal": self.paypal.shown(),
            "paymongo": self.paymongo.shown(),
            "resend": self.resend.shown(),
            "sendgrid": self.sendgrid.shown(),
            "prometheus": self.prometheus.shown(),
            "github": self.github.shown(),
            "pagerduty": self.pagerduty.shown(),
            "cloudflare": self.cloudflare.shown(),
        })
    }
}

/// The secrets that they know their clients by: the name of the file, and how the value begins.
pub(crate) const SECRETS: [(&str, &str); 9] = [
    ("paypal_client_id", "A"),
    ("paypal_client_secret", "E"),
    ("paymongo_secret_key", "sk_test_"),
    ("resend_token", "re_"),
    ("sendgrid_token", "SG."),
    ("prometheus_token", ""),
    ("github_token", "ghp_"),
    ("pagerduty_routing_key", ""),
    ("cloudflare_token", ""),
];

/// Makes the secrets, once.
pub(crate) fn tokens(layout: &Layout) -> Result<BTreeMap<&'static str, String>, SandboxError> {
    SECRETS
        .into_iter()
        .map(|(name, prefix)| {
            let value =
                disk::remembered(&layout.secret(name), || format!("{prefix}{}", disk::random_secret()))?;
            Ok((name, value))
        })
        .collect()
}

/// Everything behind the port.
pub(crate) fn router(ctx: &Ctx) -> Router {
    Router::new()
        .nest("/paypal", paypal::router(ctx))
        .nest("/paymongo", paymongo::router(ctx))
        .nest("/resend", resend::router(ctx))
        .nest("/sendgrid", sendgrid::router(ctx))
        .nest("/prometheus", prometheus::router(ctx))
        .nest("/github", github::router(ctx))
        .nest("/pagerduty", pagerduty::router(ctx))
        .nest("/cloudflare", cloudflare::router(ctx))
}

/// An error in the words of a service, where an action reads them.
pub(crate) fn refusal(service: Service, status: axum::http::StatusCode) -> Option<Value> {
    Some(match service {
        Service::Paypal => paypal::fault(status),
        Service::Paymongo => paymongo::fault(status),
        Service::Resend => resend::fault(status),
        Service::Sendgrid => sendgrid::fault(status),
        _ => return None,
    })
}

/// Which stand-in a path belongs to.
pub(crate) fn service(path: &str) -> Service {
    match path.split('/').nth(1).unwrap_or_default() {
        "paymongo" => Service::Paymongo,
        "resend" => Service::Resend,
        "sendgrid" => Service::Sendgrid,
        "prometheus" => Service::Prometheus,
        "github" => Service::Github,
        "pagerduty" => Service::Pagerduty,
        "cloudflare" => Service::Cloudflare,
        _ => Service::Paypal,
    }
}
