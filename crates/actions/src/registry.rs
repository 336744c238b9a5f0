//! The list of all actions. Adding one is a line here and a module of its own.

use std::collections::BTreeMap;

use runbook_core::action::{Action, Description, Registry};

use crate::typed::action;
use crate::{backup, evidence, flow, http, notify, people, postgres, secret, supabase, vercel};

struct Actions(BTreeMap<&'static str, Box<dyn Action>>);

impl Registry for Actions {
    fn get(&self, name: &str) -> Option<&dyn Action> {
        self.0.get(name).map(AsRef::as_ref)
    }
    fn descriptions(&self) -> Vec<&Description> {
        self.0.values().map(|a| a.description()).collect()
    }
}

/// Every action of this build.
pub fn registry() -> impl Registry {
    let all: Vec<Box<dyn Action>> = vec![
        action(people::Approval),
        action(backup::Select),
        action(postgres::Check),
        action(postgres::Execute),
        action(postgres::Migrate),
        action(postgres::Query),
        action(postgres::Restore),
        action(postgres::Test),
        action(evidence::Measure),
        action(evidence::Record),
        action(flow::Fail),
        action(flow::Noop),
        action(http::HttpCheck),
        action(http::Journey),
        action(people::Declare),
        action(people::Manual),
        action(notify::Notify),
        action(secret::Generate),
        action(supabase::ApiKeys),
        action(supabase::CreateProject),
        action(supabase::DeleteProject),
        action(supabase::RevokeJwt),
        action(supabase::RotateJwt),
        action(vercel::Crons),
        action(vercel::Deploy),
        action(vercel::Env),
        action(vercel::Flag),
    ];
    Actions(all.into_iter().map(|a| (a.description().name, a)).collect())
}
