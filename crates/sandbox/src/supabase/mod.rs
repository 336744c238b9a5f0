//! Stand-in for the Supabase Management API (`https://api.supabase.com`), and for what recovery needs of a
//! project's own URLs: its JWKS, signing in, and its Storage. Paths, statuses and bodies follow the published
//! description.

mod auth;
mod database;
mod keys;
mod project;
mod rename;
mod reply;
mod routes;
mod sign_in;
pub(crate) mod storage;

pub(crate) use project::{Phase, Project, provision};
pub(crate) use routes::router;
pub(crate) use sign_in::{Denied, bearer, claims, sign_in};
pub(crate) use storage::Pool;

/// Slug of the one organisation.
pub(crate) const ORGANIZATION: &str = "polaris-sandbox";
/// Region of the live project.
pub(crate) const REGION: &str = "ap-southeast-1";
