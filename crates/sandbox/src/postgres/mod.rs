//! One private PostgreSQL cluster with the roles and schemas of Supabase projects.

mod binaries;
mod cluster;
mod place;
mod projects;
mod shelf;

pub(crate) use binaries::run;
pub(crate) use cluster::{Cluster, connect, end_orphan};
pub(crate) use place::Place;
