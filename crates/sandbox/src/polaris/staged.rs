//! Each deployment at its own address, `/deployments/ID/…` beside the pages that users see: what is built and does not
//! serve yet can be looked at, as behind the URL that Vercel gives every deployment.

use axum::Router;
use axum::extract::Request;
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::Response;

tokio::task_local! {
    /// The deployment that the request in hand asks for.
    static DEPLOYMENT: String;
}

/// The deployment that was asked for by its address; none for the one that users see.
pub(super) fn asked() -> Option<String> {
    DEPLOYMENT.try_with(Clone::clone).ok()
}

/// The pages, and the same pages below the address of each deployment.
pub(super) fn beside(pages: Router) -> Router {
    // The address must be taken off before the pages are looked up, so they stand behind this as a whole.
    Router::new().fallback_service(pages).layer(middleware::from_fn(take_off))
}

async fn take_off(mut request: Request, next: Next) -> Response {
    let parts = request.uri().path_and_query().and_then(|whole| {
        let (id, rest) = whole.as_str().strip_prefix("/deployments/")?.split_once('/')?;
        Some((id.to_owned(), format!("/{rest}").parse::<Uri>().ok()?))
    });
    match parts {
        Some((id, page)) => {
            *request.uri_mut() = page;
            DEPLOYMENT.scope(id, next.run(request)).await
        }
        None => next.run(request).await,
    }
}
