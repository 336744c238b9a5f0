//! Misbehaviour on request: an error status, a slow answer, a connection cut before or after the
//! request was acted on.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listener::CutHandle;
use crate::shared::Ctx;

/// Which stand-in misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The Management API, and the public keys of projects.
    Supabase,
    /// The Vercel API.
    Vercel,
    /// The backup bucket.
    S3,
    /// The deployed application.
    App,
    /// The webhook sink.
    Hooks,
    /// Storage of the Supabase projects.
    Storage,
    /// Stand-in for the PayPal REST API.
    Paypal,
    /// Stand-in for the PayMongo API.
    Paymongo,
    /// Stand-in for the Resend API.
    Resend,
    /// Stand-in for the SendGrid API.
    Sendgrid,
    /// Stand-in for the Prometheus HTTP API.
    Prometheus,
    /// Stand-in for the GitHub REST API.
    Github,
    /// Stand-in for the PagerDuty Events API v2.
    Pagerduty,
    /// Stand-in for the Cloudflare API.
    Cloudflare,
}

impl Service {
    /// Every one.
    pub const ALL: [Self; 14] = [
        Self::Supabase,
        Self::Vercel,
        Self::S3,
        Self::App,
        Self::Hooks,
        Self::Storage,
        Self::Paypal,
        Self::Paymongo,
        Self::Resend,
        Self::Sendgrid,
        Self::Prometheus,
        Self::Github,
        Self::Pagerduty,
        Self::Cloudflare,
    ];

    /// Several stand-ins share a port; the path tells which one is meant.
    fn at(self, path: &str) -> Self {
        match self {
            Self::App if path.starts_with("/hooks") => Self::Hooks,
            Self::Supabase if path.starts_with("/projects/") && path.contains("/storage/") => Self::Storage,
            Self::Paypal => crate::providers::service(path),
            own => own,
        }
    }
}

/// When the connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// Before anything happened.
    Before,
    /// After the effect: it happened, and the answer is lost.
    After,
}

/// One way to misbehave. With neither `status` nor `cut` it only delays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Where.
    pub service: Service,
    /// Only requests with this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Only requests whose path starts with this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Answer with this status instead of acting. 201 from Vercel is its half success: nothing created,
    /// the reason under `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// How many requests it meets; without a number all, until faults are cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// The first request of each method and path, and then no other of it. Ids and numbers in paths are alike, and
    /// deliveries of webhooks are let through.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub each: bool,
    /// Wait so long first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Cut the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// Seconds for a `Retry-After` header beside `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Fault {
    /// A fault that does nothing yet, for requests to `service`.
    pub fn on(service: Service) -> Self {
        Self {
            service,
            method: None,
            path: None,
            status: None,
            times: None,
            each: false,
            delay_ms: None,
            cut: None,
            retry_after: None,
        }
    }

    fn meets(&self, service: Service, method: &Method, path: &str) -> bool {
        self.service == service
            && self.method.as_ref().is_none_or(|wanted| method.as_str().eq_ignore_ascii_case(wanted))
            && self.path.as_ref().is_none_or(|prefix| path.starts_with(prefix.as_str()))
    }
}

/// The faults that wait to happen. They do not outlive the daemon.
#[derive(Debug, Default)]
pub(crate) struct Faults(Mutex<Vec<Waiting>>);

/// A fault and what it has met, where it meets each request only once.
#[derive(Debug)]
struct Waiting {
    fault: Fault,
    met: BTreeSet<String>,
}

impl Waiting {
    fn meets(&self, service: Service, method: &Method, path: &str) -> bool {
        // One stand-in's delivery to another is no request of a run, and PayMongo makes it only once.
        let is_delivery = service == Service::App && path.starts_with("/api/webhooks/");
        self.fault.meets(service, method, path)
            && !(self.fault.each
                && (is_delivery
                    || self.met.len() >= MET_MAX
                    || self.met.contains(&request_name(service, method, path))))
    }
}

/// A fault that meets each request once remembers so many, and then meets none.
const MET_MAX: usize = 100_000;

/// What counts as the same request. Whoever begins anew asks for new ids and dates, and would be met for ever; files
/// keep their names.
fn request_name(service: Service, method: &Method, path: &str) -> String {
    if service == Service::Storage {
        return format!("{method} {path}");
    }
    let alike = |part: &str| {
        let is_id =
            part.len() >= ID_MIN && !part.contains('.') && part.contains(|c: char| c.is_ascii_digit());
        let digits = |c: char| if c.is_ascii_digit() { '0' } else { c };
        if is_id { "*".to_owned() } else { part.chars().map(digits).collect() }
    };
    let parts: Vec<String> = path.split('/').map(alike).collect();
    format!("{method} {}", parts.join("/"))
}

/// A part of a path that is so long and has digits is an id.
const ID_MIN: usize = 16;

impl Faults {
    pub(crate) fn add(&self, fault: Fault) {
        self.lock().push(Waiting { fault, met: BTreeSet::new() });
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    pub(crate) fn waiting(&self) -> Vec<Fault> {
        self.lock().iter().map(|waiting| waiting.fault.clone()).collect()
    }

    /// The oldest fault that the request meets; one of its times is used up.
    fn take(&self, service: Service, method: &Method, path: &str) -> Option<Fault> {
        let mut faults = self.lock();
        let index = faults.iter().position(|waiting| waiting.meets(service, method, path))?;
        let fault = faults[index].fault.clone();
        if fault.each {
            faults[index].met.insert(request_name(service, method, path));
        }
        match &mut faults[index].fault.times {
            None => {}
            Some(0 | 1) => drop(faults.remove(index)),
            Some(times) => *times -= 1,
        }
        Some(fault)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Middleware around every stand-in.
pub(crate) async fn layer(
    State((ctx, service)): State<(Ctx, Service)>,
    ConnectInfo(connection): ConnectInfo<CutHandle>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let service = service.at(&path);
    let method = request.method().clone();
    let Some(fault) = ctx.faults.take(service, &method, &path) else {
        return act(&ctx, service, request, next).await;
    };
    tracing::info!(?service, %method, path, ?fault, "misbehaving as told");
    if let Some(delay) = fault.delay_ms {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    match (fault.cut, fault.status) {
        (Some(Cut::Before), _) => {
            connection.cut();
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
        (Some(Cut::After), _) => {
            let lost = act(&ctx, service, request, next).await;
            connection.cut();
            lost
        }
        (None, Some(status)) => {
            if service == Service::App {
                ctx.traffic.note(status >= 500);
            }
            refuse(service, status, fault.retry_after)
        }
        (None, None) => act(&ctx, service, request, next).await,
    }
}

/// Lets the request act, and counts it when it changed something.
async fn act(ctx: &Ctx, service: Service, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    if service == Service::App {
        ctx.traffic.note(response.status().is_server_error());
    }
    // Whoever only gets a token has changed nothing.
    let reads =
        matches!(method, Method::GET | Method::HEAD | Method::OPTIONS) || path.ends_with("/oauth2/token");
    if response.status().is_success() && !reads {
        let name = serde_json::to_value(service).ok().and_then(|v| v.as_str().map(str::to_owned));
        if let Err(error) = ctx.effects.count(format!("{} {method} {path}", name.unwrap_or_default())) {
            tracing::error!(%error, "an effect was not counted");
        }
    }
    response
}

/// An error in the words of the service.
fn refuse(service: Service, status: u16, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let reason = status.canonical_reason().unwrap_or("error");
    let mut response = match service {
        Service::Storage => return refuse_storage(status, retry_after),
        Service::Supabase => axum::Json(json!({ "message": reason })).into_response(),
        // The API says 201 even when a variable was not taken; the reason is inside.
        Service::Vercel if status == StatusCode::CREATED => {
            let error =
                json!({ "code": "INTERNAL_ERROR", "message": "The variable was not saved", "key": "" });
            axum::Json(json!({ "created": [], "failed": [{ "error": error }] })).into_response()
        }
        Service::Vercel => axum::Json(vercel_error(status, retry_after)).into_response(),
        Service::S3 => {
            let code = match status.as_u16() {
                503 => "SlowDown",
                403 => "AccessDenied",
                404 => "NoSuchKey",
                _ => "InternalError",
            };
            let text = format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code><Message>{reason}</Message></Error>"
            );
            ([(header::CONTENT_TYPE, "application/xml")], Body::from(text)).into_response()
        }
        Service::Github => {
            let page = "https://docs.github.com/rest";
            axum::Json(json!({ "message": reason, "documentation_url": page, "status": status.as_str() }))
                .into_response()
        }
        Service::Prometheus => {
            let kind = match status.as_u16() {
                400 => "bad_data",
                422 => "execution",
                503 => "timeout",
                _ => "internal",
            };
            axum::Json(json!({ "status": "error", "errorType": kind, "error": reason })).into_response()
        }
        Service::Pagerduty => {
            axum::Json(json!({ "status": "error", "message": reason, "errors": [reason] })).into_response()
        }
        Service::Cloudflare => {
            let error = json!({ "code": 10_000, "message": reason });
            axum::Json(json!({ "success": false, "errors": [error], "messages": [], "result": null }))
                .into_response()
        }
        // Chat services answer in plain words.
        Service::Hooks => match status.as_u16() {
            400 => "invalid_payload".into_response(),
            403 => "action_prohibited".into_response(),
            404 => "no_service".into_response(),
            410 => "channel_is_archived".into_response(),
            429 => "rate_limited".into_response(),
            _ => "rollup_error".into_response(),
        },
        other => {
            let words = crate::providers::refusal(other, status);
            axum::Json(words.unwrap_or_else(|| json!({ "ok": false, "error": reason }))).into_response()
        }
    };
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status == StatusCode::TOO_MANY_REQUESTS && service == Service::Supabase {
        headers.insert("x-ratelimit-limit", HeaderValue::from(120));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(0));
        headers.insert("x-ratelimit-reset", HeaderValue::from(retry_after.unwrap_or(60)));
    }
    response
}

/// Storage says most of its client errors with status 400, and the real one in the body.
fn refuse_storage(status: StatusCode, retry_after: Option<u64>) -> Response {
    let code = match status.as_u16() {
        429 | 503 => "SlowDown",
        404 => "NoSuchKey",
        403 => "AccessDenied",
        _ => "InternalError",
    };
    let reason = status.canonical_reason().unwrap_or("error");
    let shown = json!({ "statusCode": status.as_str(), "code": code, "error": reason, "message": reason });
    let real = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let mut response = axum::Json(shown).into_response();
    *response.status_mut() = if real { status } else { StatusCode::BAD_REQUEST };
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn vercel_error(status: StatusCode, retry_after: Option<u64>) -> serde_json::Value {
    let code = match status.as_u16() {
        429 => "rate_limited",
        403 => "forbidden",
        404 => "not_found",
        400 => "bad_request",
        _ => "internal_server_error",
    };
    let mut error = json!({ "code": code, "message": status.canonical_reason().unwrap_or("error") });
    if status == StatusCode::TOO_MANY_REQUESTS {
        let wait = retry_after.unwrap_or(60);
        let reset = jiff::Timestamp::now().as_second() + i64::try_from(wait).unwrap_or(60);
        error["limit"] = json!({ "remaining": 0, "reset": reset, "resetMs": reset * 1000, "total": 100 });
    }
    json!({ "error": error })
}
