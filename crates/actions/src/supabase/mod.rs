//! Supabase, through its Management API. Facts: Supabase's OpenAPI document and its guides on signing
//! keys and API keys, as of 2026. Databases themselves are the business of `postgres`.

mod api;
mod delete;
mod jwt;
mod keys;
mod label;
mod place;
mod project;
mod revoke;
mod rotate_key;
mod signing;

pub(crate) use api::{project_ref, project_url};
pub use delete::DeleteProject;
pub use jwt::RotateJwt;
pub use keys::ApiKeys;
pub(crate) use keys::service_key;
pub use label::Label;
pub(crate) use place::put_secret;
pub use project::CreateProject;
pub use revoke::RevokeJwt;
pub use rotate_key::{RevokeApiKeys, RotateApiKey};

#[cfg(test)]
mod tests;
