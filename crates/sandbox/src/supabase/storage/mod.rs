//! Stand-in for the Storage API of a project, `/projects/{ref}/storage/v1`. Rows live in the project's own
//! database, bytes in `STATE/sandbox/storage/{ref}/{bucket}/{name}/{version}`: a dump brings the rows and never
//! the bytes, as in the real service. Nothing here knows what a runbook wants.

mod bucket;
mod files;
mod list;
mod object;
mod reply;
mod rows;
mod sample;
mod sign;
mod tus;

use axum::Router;
use axum::extract::{DefaultBodyLimit, RawPathParams, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, head, post};

use crate::shared::Ctx;
use reply::Refusal;

pub(crate) use files::forget;
pub(crate) use rows::Pool;
pub(crate) use sample::{back_up, lose, plant};

/// One request's body; the real service advises resumable uploads above 6 MB.
const UPLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Everything behind `/projects/{ref}/storage/v1`.
pub(super) fn router(ctx: &Ctx) -> Router<Ctx> {
    let keyed = Router::new()
        .route("/bucket", get(bucket::list).post(bucket::create))
        .route("/bucket/", get(bucket::list).post(bucket::create))
        .route("/bucket/{bucket}", get(bucket::show).put(bucket::change).delete(bucket::delete))
        .route("/object/list-v2/{bucket}", post(list::list))
        .route("/object/sign/{bucket}", post(sign::sign_many))
        .route("/object/info/{*rest}", get(object::info))
        .route("/object/authenticated/{bucket}/{*name}", get(object::download).head(object::head))
        .route("/object/{bucket}", axum::routing::delete(object::delete_many))
        .route(
            "/object/{bucket}/{*name}",
            get(object::download)
                .head(object::head)
                .post(object::upload)
                .put(object::replace)
                .delete(object::delete),
        )
        .route("/upload/resumable", post(tus::create))
        .route("/upload/resumable/", post(tus::create))
        .route("/upload/resumable/{id}", head(tus::offset).patch(tus::append).delete(tus::end))
        .route_layer(middleware::from_fn_with_state(ctx.clone(), authorize));
    // A signed URL and a public bucket want no key; POST makes signed URLs and wants one.
    let open = Router::new()
        .route("/object/public/{bucket}/{*name}", get(object::public).head(object::public_head))
        .route("/object/sign/{bucket}/{*name}", get(sign::fetch));
    let sign = Router::new()
        .route("/object/sign/{bucket}/{*name}", post(sign::sign))
        .route_layer(middleware::from_fn_with_state(ctx.clone(), authorize));
    keyed.merge(open).merge(sign).layer(DefaultBodyLimit::max(UPLOAD_BYTES_MAX)).fallback(unknown)
}

async fn unknown(request: Request) -> Response {
    let path = request.uri().path();
    Refusal::new(404, "RouteNotFound", "not_found", format!("Route {} {path} not found", request.method()))
        .into_response()
}

async fn authorize(State(ctx): State<Ctx>, params: RawPathParams, request: Request, next: Next) -> Response {
    let reference = params.iter().find(|(name, _)| *name == "ref").map(|(_, value)| value.to_owned());
    match allowed(&ctx, reference.as_deref().unwrap_or_default(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

/// Whoever has the project's `service_role` key or a secret key may do everything; nobody else comes in here.
fn allowed(ctx: &Ctx, reference: &str, headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let key = text(header::HeaderName::from_static("apikey"));
    let Some(given) = bearer.or(key) else {
        return Err(Refusal::gateway("No API key found in request"));
    };
    if key.is_some_and(|key| key != given) {
        return Err(Refusal::gateway("Invalid API key"));
    }
    let found = ctx.look(|world| {
        let project = world.projects.get(reference)?;
        let key = project.api_keys.iter().find(|key| key.value == given);
        Some((project.legacy_enabled, key.map(|key| (key.kind.clone(), key.id.clone()))))
    });
    match found {
        None => Err(Refusal::new(
            400,
            "TenantNotFound",
            "tenant_not_found",
            format!("Missing tenant config for tenant {reference}"),
        )),
        Some((_, None)) => Err(Refusal::gateway("Invalid API key")),
        Some((false, Some((kind, _)))) if kind == "legacy" => {
            Err(Refusal::gateway("Legacy API keys are disabled"))
        }
        Some((_, Some((kind, id)))) if kind == "secret" || id == "service_role" => Ok(()),
        Some(_) => Err(Refusal::new(
            403,
            "AccessDenied",
            "Unauthorized",
            "new row violates row-level security policy".to_owned(),
        )),
    }
}
