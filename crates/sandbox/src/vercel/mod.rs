//! Stand-in for the Vercel REST API (`https://api.vercel.com`): one team, one project.

mod config;
mod deployments;
mod env;
mod reply;
mod routes;
mod state;

pub(crate) use routes::router;
pub(crate) use state::{Deployment, Vercel};

/// Every call for the team's project must name it: `?teamId=`.
pub(crate) const TEAM: &str = "team_polarissandbox";
/// The project, by name.
pub(crate) const PROJECT: &str = "polaris";
