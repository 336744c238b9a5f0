//! Local stand-ins with real protocols, for rehearsals and tests.
//!
//! | part          | what it stands in for                                                      |
//! |---------------|----------------------------------------------------------------------------|
//! | `postgres`    | the database servers: one private cluster, one database a project          |
//! | `s3`          | the backup bucket, on a directory, signatures checked                       |
//! | `supabase`    | the Management API and the public keys of a project                        |
//! | `vercel`      | environment variables, crons, deployments, promotion, global config        |
//! | `polaris`     | the deployed application and the chat that notifications go to             |
//! | `control`     | what only a sandbox has: seed, backup, break, faults, a look at everything |
//!
//! All of it lives in one daemon ([`serve`]), apart from the process that runs runbooks: a run that
//! is killed finds its world as it was. What the daemon knows is on disk before it answers, so it
//! may be killed as well.
//!
//! The one rule: the stand-ins speak the documented protocols and nothing more. What a rehearsal
//! needs beyond them goes over the control API, which no runbook knows.
//!
//! This crate knows nothing of runbooks, runs or actions.

mod backup;
mod client;
mod control;
mod disk;
mod endpoints;
mod environment;
mod error;
mod polaris;
mod postgres;
mod providers;
mod s3;
mod seed;
mod serve;
mod shared;
mod sigv4;
mod supabase;
#[cfg(test)]
mod tests;
mod vercel;
mod web;
mod world;

pub use backup::{BackupOptions, Compression, Format, StoredBackup};
pub use client::{
    application, backup, break_with, clear_faults, destroy, ensure_started, fault, inspect, metric, pay,
    seed, status, stop, timing,
};
pub use endpoints::{Endpoints, Status};
pub use error::SandboxError;
pub use providers::payment::{Paid, Payment, PaymentProvider};
pub use seed::{Damage, SeedSize};
pub use serve::serve;
pub use shared::Timing;
pub use web::{Cut, Fault, Service};
