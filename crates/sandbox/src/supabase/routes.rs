//! The paths, who may use them, and the rate-limit headers on every answer.

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::json;

use super::reply::Refusal;
use super::{ORGANIZATION, auth, database, project, rename, sign_in, storage};
use crate::shared::Ctx;

/// Everything behind `supabase.api_url` and `supabase.project_url`.
pub(crate) fn router(ctx: &Ctx) -> Router {
    let api = Router::new()
        .route("/v1/organizations", get(organizations))
        .route("/v1/organizations/{slug}/projects", get(project::list_of_organization))
        .route("/v1/projects", get(project::list).post(project::create))
        .route("/v1/projects/{ref}", get(project::show).patch(rename::rename).delete(project::delete))
        .route("/v1/projects/{ref}/health", get(project::health))
        .route("/v1/projects/{ref}/api-keys", get(auth::list_api_keys).post(auth::create_api_key))
        .route("/v1/projects/{ref}/api-keys/legacy", get(auth::show_legacy).put(auth::set_legacy))
        .route("/v1/projects/{ref}/api-keys/{id}", delete(auth::delete_api_key))
        .route(
            "/v1/projects/{ref}/config/auth/signing-keys",
            get(auth::list_signing_keys).post(auth::create_signing_key),
        )
        .route(
            "/v1/projects/{ref}/config/auth/signing-keys/{id}",
            get(auth::show_signing_key).patch(auth::change_signing_key).delete(auth::delete_signing_key),
        )
        .route("/v1/projects/{ref}/config/auth", get(auth::show_auth).patch(auth::change_auth))
        .route(
            "/v1/projects/{ref}/secrets",
            get(auth::list_secrets).post(auth::set_secrets).delete(auth::delete_secrets),
        )
        .route("/v1/projects/{ref}/config/database/pooler", get(database::pooler))
        .route("/v1/projects/{ref}/database/password", patch(database::set_password))
        .route("/v1/projects/{ref}/database/backups", get(database::backups))
        .route("/v1/projects/{ref}/database/backups/restore-pitr", post(database::no_pitr))
        .route("/v1/projects/{ref}/readonly", get(database::read_only))
        .route("/v1/projects/{ref}/readonly/temporary-disable", post(database::disable_read_only))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .layer(middleware::map_response(limits));
    Router::new()
        .route("/projects/{ref}/auth/v1/.well-known/jwks.json", get(auth::jwks))
        .nest("/projects/{ref}/storage/v1", storage::router(ctx))
        .route("/projects/{ref}/auth/v1/token", post(sign_in::token))
        .route("/projects/{ref}/auth/v1/user", get(sign_in::user))
        .merge(api)
        .with_state(ctx.clone())
}

async fn organizations() -> Response {
    Json(json!([{ "id": ORGANIZATION, "slug": ORGANIZATION, "name": "Polaris (sandbox)" }])).into_response()
}

async fn unknown(request: Request) -> Response {
    let message = format!("Cannot {} {}", request.method(), request.uri().path());
    Refusal(StatusCode::NOT_FOUND, message).into_response()
}

async fn authorize(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|value| value.strip_prefix("Bearer ")) == Some(ctx.tokens.supabase.as_str()) {
        return next.run(request).await;
    }
    Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned()).into_response()
}

/// The real limit is 120 a minute. The sandbox names it and never runs out; a fault with status 429 does.
async fn limits(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in
        [("x-ratelimit-limit", 120), ("x-ratelimit-remaining", 119), ("x-ratelimit-reset", 60)]
    {
        headers.insert(name, HeaderValue::from(value));
    }
    response
}
