//! The list of all actions. Adding one is a line here and a module of its own.

use std::collections::BTreeMap;

use runbook_core::action::{Action, Description, Registry};

use crate::typed::action;
use crate::{
    backup, dns, email, evidence, flow, http, job, metrics, notify, page, paymongo, paypal, people, postgres,
    secret, shell, storage, supabase, ticket, vercel, wait,
};

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
        action(backup::Prune),
        action(backup::Verify),
        action(backup::Write),
        action(postgres::Check),
        action(postgres::CreateDatabase),
        action(postgres::Difference),
        action(postgres::DropDatabase),
        action(postgres::Dump),
        action(postgres::Execute),
        action(postgres::ExtractRows),
        action(postgres::LeakCheck),
        action(postgres::Mask),
        action(postgres::Migrate),
        action(postgres::Query),
        action(postgres::ReadOnly),
        action(postgres::Restore),
        action(postgres::RestoreTable),
        action(postgres::Test),
        action(dns::Set),
        action(postgres::Upsert),
        action(flow::Fail),
        action(flow::Noop),
        action(http::HttpCheck),
        action(http::HttpRequest),
        action(job::Run),
        action(metrics::Query),
        action(metrics::Watch),
        action(people::Decide),
        action(evidence::Measure),
        action(evidence::Record),
        action(flow::Fail),
        action(flow::Noop),
        action(http::HttpCheck),
        action(http::Journey),
        action(people::Declare),
        action(people::Manual),
        action(notify::Notify),
        action(page::Page),
        action(secret::Generate),
        action(storage::Diff),
        action(storage::Restore),
        action(storage::Snapshot),
        action(storage::Verify),
        action(shell::Run),
        action(email::RevokeKey),
        action(email::RotateKey),
        action(paymongo::MissedEvents),
        action(paymongo::Pause),
        action(paymongo::Repoint),
        action(paymongo::Resume),
        action(paymongo::RotateSecret),
        action(paymongo::TestEvent),
        action(paypal::MissedEvents),
        action(paypal::Pause),
        action(paypal::Repoint),
        action(paypal::Resume),
        action(paypal::Secrets),
        action(paypal::TestEvent),
        action(paypal::VerifySignature),
        action(secret::Distribute),
        action(secret::Generate),
        action(secret::Rotate),
        action(supabase::RevokeApiKeys),
        action(supabase::RotateApiKey),
        action(supabase::ApiKeys),
        action(supabase::CreateProject),
        action(supabase::Label),
        action(supabase::DeleteProject),
        action(supabase::RevokeJwt),
        action(supabase::RotateJwt),
        action(ticket::Create),
        action(vercel::Crons),
        action(vercel::Deploy),
        action(vercel::Env),
        action(vercel::Flag),
        action(vercel::Promote),
        action(vercel::Rollback),
        action(wait::Until),
        action(vercel::Serving),
        action(evidence::Save),
    ];
    Actions(all.into_iter().map(|a| (a.description().name, a)).collect())
}
