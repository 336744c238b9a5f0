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
//! | `email`    | the API for keys of Resend and SendGrid |
//! | `paymongo` | the PayMongo API |
//! | `paypal`   | the PayPal REST API |
//! | `notify`   | chat webhooks |
//! | `people`   | nobody: takes the answers that the executor asked for |
//! | `ready`    | each system, read-only: is it there, and does it take the credential |
//! | `secret`   | the run's vault |
//! | `storage` | Supabase Storage, and the copies of its files in the backup bucket |
//! | `secret`   | the run's vault, and through the modules beside it the places of a secret |
//! | `supabase` | the Supabase Management API |
//! | `dns`      | Cloudflare |
//! | `job`      | the application's scheduled jobs |
//! | `metrics`  | Prometheus |
//! | `page`     | PagerDuty |
//! | `shell`    | programs of this machine |
//! | `ticket`   | GitHub issues |
//! | `wait`     | any URL, and the clock |
//! | `vercel`   | the Vercel REST API |
//!
//! The one rule: an action never decides whether it may run again. It says what the world looks
//! like (`Aftermath`), and the executor decides.

mod arrivals;
pub mod backup;
pub mod dns;
pub mod email;
pub mod evidence;
pub mod flow;
pub mod http;
mod intent;
pub mod job;
pub mod metrics;
pub mod notify;
pub mod page;
pub mod paymongo;
pub mod paypal;
pub mod people;
pub mod period;
pub mod postgres;
pub mod ready;
mod registry;
pub mod s3;
pub mod secret;
pub mod shell;
pub mod storage;
pub mod supabase;
#[cfg(test)]
mod testing;
pub mod ticket;
pub mod typed;
pub mod vercel;
pub mod wait;

pub use registry::registry;
