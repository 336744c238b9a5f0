//! `runbook sandbox …`: starts and stops the stand-ins and tells them to misbehave. The only command that
//! knows that there is a sandbox, but for `run`, which starts it for an environment that extends it.

use std::path::Path;

use runbook_sandbox as sandbox;
use runbook_sandbox::{Endpoints, SandboxError};
use serde_json::{Value, json};

use crate::arguments::{BackupFormat, Cut, Damage, Fault, Global, PaymentProvider, SandboxCommand, SeedSize};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::ui::Ui;
use crate::words::bytes;

pub(crate) fn run(ui: &Ui, global: &Global, command: &SandboxCommand) -> Result<Exit, Failure> {
    let state_dir = project::state_dir(global)?;
    super::runtime()?.block_on(carry_out(ui, &state_dir, command))?;
    Ok(Exit::Succeeded)
}

/// Starts the sandbox when it does not run, and says so.
pub(crate) async fn ensure(ui: &Ui, state_dir: &Path) -> Result<Endpoints, Failure> {
    if let Some(status) = sandbox::status(state_dir).await? {
        return Ok(status.endpoints);
    }
    ui.remark("starting the sandbox …");
    let exe = std::env::current_exe().map_err(|error| Failure::io("find this program's own file", error))?;
    Ok(sandbox::ensure_started(state_dir, &exe).await?)
}

async fn carry_out(ui: &Ui, state_dir: &Path, command: &SandboxCommand) -> Result<(), Failure> {
    match command {
        SandboxCommand::Serve => serve(ui, state_dir).await?,
        SandboxCommand::Start => {
            let endpoints = ensure(ui, state_dir).await?;
            told(ui, json!(endpoints), &format!("the sandbox runs (process {})", endpoints.pid));
            ui.remark("\nnext: runbook sandbox seed\n      runbook sandbox backup");
        }
        SandboxCommand::Stop => {
            sandbox::stop(state_dir).await?;
            told(ui, json!({}), "the sandbox is stopped; its state stays");
        }
        SandboxCommand::Reset => {
            sandbox::destroy(state_dir).await?;
            told(ui, json!({}), "the sandbox and its state are gone");
        }
        SandboxCommand::Status { all } => status(ui, state_dir, *all).await?,
        SandboxCommand::Seed { size } => {
            let size = match size {
                SeedSize::Small => sandbox::SeedSize::Small,
                SeedSize::Demo => sandbox::SeedSize::Demo,
            };
            sandbox::seed(&running(state_dir).await?, size).await?;
            told(ui, json!({}), "the live database is filled");
        }
        SandboxCommand::Backup { format, no_store_checksum } => {
            let format = match format {
                BackupFormat::Plain => sandbox::Format::Plain,
                BackupFormat::Custom => sandbox::Format::Custom,
            };
            let options = sandbox::BackupOptions {
                format,
                store_checksum: !no_store_checksum,
                ..sandbox::BackupOptions::default()
            };
            let stored = sandbox::backup(&running(state_dir).await?, options).await?;
            let text = format!("s3://{}/{} ({})", stored.bucket, stored.key, bytes(stored.size_bytes));
            told(ui, json!(stored), &text);
        }
        SandboxCommand::Break { damage } => damaged(ui, state_dir, *damage).await?,
        SandboxCommand::Metric { name, value } => {
            let wanted = metric_value(value)?;
            sandbox::metric(&running(state_dir).await?, name, wanted).await?;
            told(ui, json!({ "name": name, "value": wanted }), &format!("{name} is {value}"));
        }
        SandboxCommand::Pay { provider, handle, amount } => {
            let payment = sandbox::Payment {
                handle: handle.clone(),
                amount: amount.clone(),
                ..sandbox::Payment::default()
            };
            pay(ui, state_dir, *provider, &payment).await?;
        }
        SandboxCommand::Fault(given) => {
            let faults = faults(given)?;
            let endpoints = running(state_dir).await?;
            for fault in &faults {
                sandbox::fault(&endpoints, fault).await?;
            }
            let when =
                if given.each { "once at each path".to_owned() } else { format!("{} time(s)", given.times) };
            let shown =
                if let [fault] = faults.as_slice() { json!(fault) } else { json!({ "faults": faults }) };
            told(ui, shown, &format!("{} will misbehave {when}", given.service));
        }
    }
    Ok(())
}

async fn damaged(ui: &Ui, state_dir: &Path, damage: Damage) -> Result<(), Failure> {
    let (damage, text) = match damage {
        Damage::BadMigration => {
            (sandbox::Damage::BadMigration, "a bad migration was applied to the live database")
        }
        Damage::LostFiles => (sandbox::Damage::LostFiles, "files of the live project's Storage were lost"),
        Damage::DeletedRows => {
            (sandbox::Damage::DeletedRows, "rows of the live database were deleted and changed")
        }
    };
    sandbox::break_with(&running(state_dir).await?, damage).await?;
    told(ui, json!({}), text);
    Ok(())
}

async fn pay(
    ui: &Ui,
    state_dir: &Path,
    provider: PaymentProvider,
    payment: &sandbox::Payment,
) -> Result<(), Failure> {
    let provider = match provider {
        PaymentProvider::Paypal => sandbox::PaymentProvider::Paypal,
        PaymentProvider::Paymongo => sandbox::PaymentProvider::Paymongo,
    };
    let paid = sandbox::pay(&running(state_dir).await?, provider, payment).await?;
    let heard = if paid.delivered { "the application took it" } else { "the application did not take it" };
    told(ui, json!(paid), &format!("payment {} was made, event {}: {heard}", paid.payment, paid.event));
    Ok(())
}

async fn serve(ui: &Ui, state_dir: &Path) -> Result<(), Failure> {
    sandbox::serve(state_dir, |endpoints| {
        ui.remark(&format!("the sandbox runs (process {}); end it with Ctrl-C", endpoints.pid));
    })
    .await?;
    Ok(())
}

async fn running(state_dir: &Path) -> Result<Endpoints, Failure> {
    match sandbox::status(state_dir).await? {
        Some(status) => Ok(status.endpoints),
        None => Err(Failure::new(Exit::Internal, "the sandbox does not run").hint("runbook sandbox start")),
    }
}

async fn status(ui: &Ui, state_dir: &Path, all: bool) -> Result<(), Failure> {
    let Some(status) = sandbox::status(state_dir).await? else {
        told(ui, json!({ "running": false }), "the sandbox does not run");
        ui.remark("\nnext: runbook sandbox start");
        return Ok(());
    };
    let health = sandbox::application(&status.endpoints, "/api/health").await?;
    let count = sandbox::application(&status.endpoints, "/api/messages/count").await?;
    let app = json!({
        "ok": health["ok"], "database": health["database"], "error": health["error"],
        "read_only": health["read_only"], "deployment": health["deployment"],
        "messages": count["count"], "messages_distinct": count["distinct"],
    });
    let mut shown = json!(status);
    shown["running"] = json!(true);
    shown["app"] = app;
    if all {
        shown["state"] = sandbox::inspect(&status.endpoints).await?;
    }
    if ui.json {
        ui.line(&line(shown).to_string());
        return Ok(());
    }
    let Endpoints { s3_url, supabase_url, vercel_url, app_url, postgres_port, .. } = &status.endpoints;
    ui.line(&format!("the sandbox runs (process {})", status.endpoints.pid));
    ui.line(&format!("  PostgreSQL   127.0.0.1:{postgres_port}, {} project(s)", status.projects));
    ui.line(&format!("  S3           {s3_url}, {} backup(s)", status.backups.len()));
    ui.line(&format!("  Supabase     {supabase_url}"));
    ui.line(&format!("  Vercel       {vercel_url}"));
    let state = match health["error"].as_str() {
        Some(error) => format!("broken: {error}"),
        None => format!("serves database {}", health["database"].as_str().unwrap_or("?")),
    };
    ui.line(&format!("  application  {app_url}, {state}"));
    Ok(())
}

fn metric_value(text: &str) -> Result<Option<f64>, Failure> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Some(value)),
        _ => Err(Failure::usage(format!("`{text}` is no number")).hint("give a number, or `none`")),
    }
}

fn faults(given: &Fault) -> Result<Vec<sandbox::Fault>, Failure> {
    if given.service == "all" {
        return sandbox::Service::ALL.into_iter().map(|service| fault(given, service)).collect();
    }
    let service = serde_json::from_value(Value::String(given.service.clone())).map_err(|_| {
        Failure::usage(format!("there is no service `{}` in the sandbox", given.service))
            .hint("supabase, storage, vercel, s3, app, hooks, paypal, paymongo, resend, sendgrid, prometheus, github, pagerduty, cloudflare or all")
    })?;
    Ok(vec![fault(given, service)?])
}

fn fault(given: &Fault, service: sandbox::Service) -> Result<sandbox::Fault, Failure> {
    if given.status.is_none() && given.delay.is_none() && given.cut.is_none() {
        return Err(Failure::usage("the fault does nothing").hint("give --status, --delay or --cut"));
    }
    let mut fault = sandbox::Fault::on(service);
    fault.method.clone_from(&given.method);
    fault.path.clone_from(&given.path);
    fault.status = given.status;
    fault.times = (!given.each).then_some(given.times);
    fault.each = given.each;
    fault.delay_ms = given.delay;
    fault.retry_after = given.retry_after;
    fault.cut = given.cut.map(|cut| match cut {
        Cut::Before => sandbox::Cut::Before,
        Cut::After => sandbox::Cut::After,
    });
    Ok(fault)
}

fn told(ui: &Ui, value: Value, text: &str) {
    if ui.json {
        ui.line(&line(value).to_string());
    } else {
        ui.line(text);
    }
}

fn line(mut value: Value) -> Value {
    value["v"] = json!(1);
    value["kind"] = json!("sandbox");
    value
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        Failure::new(Exit::Internal, "could not use the sandbox").because(error)
    }
}
