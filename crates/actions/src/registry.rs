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
    let all = [databases(), platforms(), providers(), procedure()];
    Actions(all.into_iter().flatten().map(|a| (a.description().name, a)).collect())
}

/// Databases and their backups.
fn databases() -> Vec<Box<dyn Action>> {
    vec![
        action(backup::Prune),
        action(backup::Select),
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
        action(postgres::Upsert),
    ]
}

/// Where the application and its files live.
fn platforms() -> Vec<Box<dyn Action>> {
    vec![
        action(dns::Set),
        action(storage::Diff),
        action(storage::Restore),
        action(storage::Snapshot),
        action(storage::Verify),
        action(supabase::ApiKeys),
        action(supabase::CreateProject),
        action(supabase::DeleteProject),
        action(supabase::Label),
        action(supabase::RevokeApiKeys),
        action(supabase::RevokeJwt),
        action(supabase::RotateApiKey),
        action(supabase::RotateJwt),
        action(vercel::Crons),
        action(vercel::Deploy),
        action(vercel::Env),
        action(vercel::Flag),
        action(vercel::Promote),
        action(vercel::Rollback),
        action(vercel::Serving),
    ]
}

/// Who takes payments, sends e-mail and knows secrets.
fn providers() -> Vec<Box<dyn Action>> {
    vec![
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
    ]
}

/// People, messages, evidence, and whatever else a procedure says.
fn procedure() -> Vec<Box<dyn Action>> {
    vec![
        action(evidence::Measure),
        action(evidence::Record),
        action(evidence::Save),
        action(flow::Fail),
        action(flow::Noop),
        action(http::HttpCheck),
        action(http::HttpRequest),
        action(http::Journey),
        action(job::Run),
        action(metrics::Query),
        action(metrics::Watch),
        action(notify::Notify),
        action(page::Page),
        action(people::Approval),
        action(people::Decide),
        action(people::Declare),
        action(people::Manual),
        action(shell::Run),
        action(ticket::Create),
        action(wait::Until),
    ]
}
