//! The paths, and who may use them.

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::hmac;
use serde_json::json;

use super::{Refusal, events, missing, payments, refusal, signature, webhooks};
use crate::disk;
use crate::shared::Ctx;

/// How long a token lives: nine hours, as PayPal's do.
const TOKEN_LIFE_S: i64 = 32_400;
const SCOPE: &str = "https://uri.paypal.com/services/applications/webhooks";

pub(super) fn router(ctx: &Ctx) -> Router {
    let api = Router::new()
        .route("/v1/notifications/webhooks", get(webhooks::list).post(webhooks::create))
        .route(
            "/v1/notifications/webhooks/{id}",
            get(webhooks::show).patch(webhooks::change).delete(webhooks::delete),
        )
        .route("/v1/notifications/webhooks/{id}/event-types", get(webhooks::event_types_of))
        .route("/v1/notifications/webhooks-event-types", get(webhooks::event_types))
        .route("/v1/notifications/webhooks-events", get(events::list))
        .route("/v1/notifications/webhooks-events/{id}", get(events::show))
        .route("/v1/notifications/webhooks-events/{id}/resend", post(events::resend))
        .route("/v1/notifications/simulate-event", post(events::simulate))
        .route("/v1/notifications/verify-webhook-signature", post(events::verify))
        .route("/v2/checkout/orders", post(payments::order))
        .fallback(async || missing())
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize));
    Router::new()
        .route("/v1/oauth2/token", post(token))
        .route("/v1/notifications/certs/{name}", get(certificate))
        .merge(api)
        .with_state(ctx.clone())
}

/// Anybody may fetch it.
async fn certificate(Path(name): Path<String>) -> Response {
    if name == signature::CERTIFICATE_NAME {
        return ([(header::CONTENT_TYPE, "application/x-pem-file")], signature::CERTIFICATE).into_response();
    }
    missing().into_response()
}

fn given<'r>(request: &'r Request, scheme: &str) -> Option<&'r str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix(scheme)
}

async fn token(State(ctx): State<Ctx>, request: Request) -> Response {
    let pair = format!(
        "{}:{}",
        ctx.tokens.provider("paypal_client_id"),
        ctx.tokens.provider("paypal_client_secret")
    );
    if given(&request, "Basic ") != Some(STANDARD.encode(pair).as_str()) {
        let body = json!({ "error": "invalid_client", "error_description": "Client Authentication failed" });
        return (StatusCode::UNAUTHORIZED, Json(body)).into_response();
    }
    let body = axum::body::to_bytes(request.into_body(), 4096).await.unwrap_or_default();
    if body.as_ref() != b"grant_type=client_credentials" {
        let body =
            json!({ "error": "unsupported_grant_type", "error_description": "unsupported grant_type" });
        return (StatusCode::BAD_REQUEST, Json(body)).into_response();
    }
    let ends = Timestamp::now().as_second() + TOKEN_LIFE_S;
    Json(json!({
        "scope": SCOPE, "access_token": issue(&ctx, ends), "token_type": "Bearer", "app_id": "APP-80W284485P519543T",
        "expires_in": TOKEN_LIFE_S, "nonce": disk::random_text(24, b"0123456789abcdef"),
    }))
    .into_response()
}

/// A token says until when it holds, and is its own proof: nothing has to be remembered.
fn issue(ctx: &Ctx, ends: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, ctx.tokens.provider("paypal_client_secret").as_bytes());
    format!("A21AA{ends}x{}", hex::encode(hmac::sign(&key, ends.to_string().as_bytes())))
}

fn is_valid(ctx: &Ctx, token: &str) -> bool {
    let ends = token.strip_prefix("A21AA").and_then(|rest| rest.split_once('x')?.0.parse::<i64>().ok());
    ends.is_some_and(|ends| ends > Timestamp::now().as_second() && issue(ctx, ends) == token)
}

async fn authorize(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    match given(&request, "Bearer ") {
        Some(token) if is_valid(&ctx, token) => next.run(request).await,
        _ => refused().into_response(),
    }
}

fn refused() -> Refusal {
    refusal(
        StatusCode::UNAUTHORIZED,
        "AUTHENTICATION_FAILURE",
        "Authentication failed due to invalid authentication credentials or a missing Authorization header.",
    )
}
