//! How it is done in the world: one module per system, each action a parameter struct, an output
//! struct and the code between.
//!
//! | module   | what it talks to                                     |
//! |----------|------------------------------------------------------|
//! | `typed`  | nothing: makes an [`runbook_core::action::Action`] of typed code |
//! | `flow`     | nothing: steps for examples and rehearsals |
//! | `evidence` | nothing outside, or the backup bucket: what a run proves |
//! | `http`     | any URL; and the client that the modules below share |
//! | `backup`   | the backup bucket |
//! | `postgres` | PostgreSQL databases |
//! | `s3`       | S3 stores and files, for the modules above; holds no action |
//! | `notify`   | chat webhooks |
//! | `people`   | nobody: takes the answers that the executor asked for |
//! | `secret`   | the run's vault |
//! | `supabase` | the Supabase Management API |
//! | `vercel`   | the Vercel REST API |
//!
//! The one rule: an action never decides whether it may run again. It says what the world looks
//! like (`Aftermath`), and the executor decides.

pub mod backup;
pub mod evidence;
pub mod flow;
pub mod http;
mod intent;
pub mod notify;
pub mod people;
pub mod period;
pub mod postgres;
mod registry;
pub mod s3;
pub mod secret;
pub mod supabase;
#[cfg(test)]
mod testing;
pub mod typed;
pub mod vercel;

pub use registry::registry;
