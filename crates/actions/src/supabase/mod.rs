//! Supabase, through its Management API. Facts: Supabase's OpenAPI document and its guides on signing
//! keys and API keys, as of 2026. Databases themselves are the business of `postgres`.

mod api;
mod jwt;
mod keys;
mod label;
mod project;
mod revoke;
mod signing;

pub use jwt::RotateJwt;
pub use keys::ApiKeys;
pub use label::Label;
pub use project::CreateProject;
pub use revoke::RevokeJwt;

#[cfg(test)]
mod tests;
