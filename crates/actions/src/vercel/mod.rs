//! Vercel, through its REST API: variables, crons, flags, deployments. Facts: Vercel's SDK, CLI and
//! Terraform provider, as of 2026.

mod api;
mod crons;
mod deploy;
mod deployment;
mod env;
mod flag;
mod place;
mod point;
mod promote;
mod rollback;
mod serving;
mod variables;

pub use crons::Crons;
pub use deploy::Deploy;
pub use env::Env;
pub use flag::Flag;
pub(crate) use place::put_secret;
pub use promote::Promote;
pub use rollback::Rollback;
pub use serving::Serving;

#[cfg(test)]
mod tests;
