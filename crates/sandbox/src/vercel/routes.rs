//! The paths in the versions that clients use, and who may use them.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, post};

use super::reply::{Refusal, missing};
use super::{PROJECT, TEAM, config, deployments, env};
use crate::shared::Ctx;

/// Everything behind `vercel.api_url`.
pub(crate) fn router(ctx: &Ctx) -> Router {
    let mut project = Router::new();
    for version in ["v1", "v8", "v9", "v10"] {
        let path = |rest: &str| format!("/{version}/projects/{{project}}{rest}");
        project = project
            .route(&path("/env"), get(env::list).post(env::create))
            .route(&path("/env/{id}"), get(env::show).patch(env::change).delete(env::delete))
            .route(&path("/promote/{id}"), post(deployments::promote))
            .route(&path("/promote/aliases"), get(deployments::aliases))
            .route(&path("/rollback/{id}"), post(deployments::rollback))
            .route(&path("/rollback/aliases"), get(deployments::aliases))
            .route(&path(""), get(deployments::project))
            .route(&path("/crons"), patch(deployments::crons))
            .route(&path("/pause"), post(deployments::pause))
            .route(&path("/unpause"), post(deployments::unpause));
    }
    let mut api = project.layer(middleware::from_fn_with_state(ctx.clone(), of_project));
    for name in ["global-config", "edge-config"] {
        api = api
            .route(&format!("/v1/{name}/{{id}}/items"), get(config::items).patch(config::change))
            .route(&format!("/v1/{name}/{{id}}/item/{{key}}"), get(config::item));
    }
    api.route("/v13/deployments", post(deployments::create))
        .route("/v13/deployments/{id}", get(deployments::show))
        .route("/v12/deployments/{id}/cancel", patch(deployments::cancel))
        .route("/v6/deployments", get(deployments::list))
        .route("/v7/deployments", get(deployments::list))
        .fallback(unknown)
        .layer(middleware::from_fn_with_state(ctx.clone(), authorize))
        .with_state(ctx.clone())
}

async fn unknown() -> Response {
    missing("The requested API endpoint was not found.").into_response()
}

async fn authorize(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if given.and_then(|value| value.strip_prefix("Bearer ")) != Some(ctx.tokens.vercel.as_str()) {
        return Refusal(StatusCode::FORBIDDEN, "forbidden", "Not authorized".to_owned()).into_response();
    }
    let names_team = request.uri().query().unwrap_or_default().split('&').any(|pair| {
        pair.strip_prefix("teamId=").is_some_and(|id| id == TEAM)
            || pair.strip_prefix("slug=").is_some_and(|slug| slug == PROJECT)
    });
    if !names_team {
        return missing("Not found: the resource belongs to a team; `teamId` is missing or wrong")
            .into_response();
    }
    next.run(request).await
}

/// There is one project, by id or by name.
async fn of_project(State(ctx): State<Ctx>, request: Request, next: Next) -> Response {
    let named = request.uri().path().split('/').nth(3).unwrap_or_default();
    if named == PROJECT || ctx.look(|world| world.vercel.id == named) {
        return next.run(request).await;
    }
    missing("Project not found").into_response()
}
