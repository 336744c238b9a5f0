//! What tests stand on: a real PostgreSQL, a real S3 server, and a context in memory.

mod context;
mod s3;
mod server;

pub(crate) use context::World;
pub(crate) use s3::{Bucket, Fault};
pub(crate) use server::{Cluster, Database, cluster};
