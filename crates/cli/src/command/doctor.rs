//! `runbook doctor`: proves, read-only, that this machine and an environment are ready before the incident.
//! Asks the real systems through the actions that runbooks would use.

use std::path::Path;

use runbook_core::action::{Preview, Registry};
use runbook_core::workflow::StepPath;
use serde_json::{Value, json};

use crate::arguments::{Doctor, Global};
use crate::command::{check, journal, plan, sandbox};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::reading::Reading;
use crate::ui::Ui;
use crate::words::count;

/// One thing that was looked at.
struct Finding {
    what: String,
    said: Result<String, String>,
}

pub(crate) fn doctor(ui: &Ui, global: &Global, given: &Doctor) -> Result<Exit, Failure> {
    let state_dir = project::state_dir(global)?;
    let mut findings = vec![state(&state_dir)];
    if let Some(name) = &given.env {
        match environment(ui, global, given, name, &state_dir)? {
            None => return Ok(Exit::Invalid),
            Some(found) => findings.extend(found),
        }
    }
    for finding in &findings {
        show(ui, finding);
    }
    let bad = findings.iter().filter(|finding| finding.said.is_err()).count();
    if bad == 0 {
        ui.remark(&format!("\nready: {} looked at", count(findings.len(), "thing")));
        return Ok(Exit::Succeeded);
    }
    ui.remark(&format!("\nnot ready: {} to mend", count(bad, "thing")));
    Ok(Exit::Refused)
}

fn show(ui: &Ui, finding: &Finding) {
    let (ok, said) = match &finding.said {
        Ok(said) => (true, said),
        Err(said) => (false, said),
    };
    if ui.json {
        let line = json!({ "v": 1, "kind": "doctor", "what": finding.what, "ok": ok, "said": said });
        ui.line(&line.to_string());
    } else {
        let sign = if ok { "✓ ok     " } else { "✗ not ok " };
        ui.line(&format!("{sign}  {}: {}", finding.what, crate::screen::safe(said)));
    }
}

fn state(state_dir: &Path) -> Finding {
    let opened = journal::open(state_dir).and_then(|journal| {
        use runbook_executor::store::Journal as _;
        Ok(journal.runs()?.len())
    });
    Finding {
        what: format!("state directory {}", state_dir.display()),
        said: match opened {
            Ok(runs) => Ok(count(runs, "run")),
            Err(failure) => Err(failure.text()),
        },
    }
}

fn environment(
    ui: &Ui,
    global: &Global,
    given: &Doctor,
    name: &str,
    state_dir: &Path,
) -> Result<Option<Vec<Finding>>, Failure> {
    let runtime = super::runtime()?;
    if project::wants_sandbox(&given.dir, name) {
        runtime.block_on(sandbox::ensure(ui, state_dir))?;
    }
    let loaded = project::environment(&given.dir, name, state_dir)?;
    if check::tell(ui, &given.dir, &loaded.diagnostics, &loaded.sources) {
        return Ok(None);
    }
    let Some(environment) = loaded.environment else { return Ok(None) };
    let reading = Reading::new(environment, &given.dir, state_dir, &project::actor(global))?;
    let mut findings =
        vec![Finding { what: format!("environment {name}"), said: Ok("it has no mistakes".into()) }];
    let missing = reading.missing_secrets();
    findings.push(Finding {
        what: "secrets".into(),
        said: match missing.as_slice() {
            [] => Ok(format!("{} have a value", count(reading.environment().secrets.len(), "secret"))),
            missing => Err(missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        },
    });
    let registry = runbook_actions::registry();
    findings.extend(runtime.block_on(systems(&reading, &registry)));
    Ok(Some(findings))
}

/// Asks each system that the environment names.
async fn systems(reading: &Reading, registry: &dyn Registry) -> Vec<Finding> {
    let environment = reading.environment();
    let mut findings = Vec::new();
    for (name, connection) in &environment.connections {
        let mut connection = json!(connection);
        connection["name"] = json!(name);
        let params = json!({ "connection": connection, "sql": "select 1 as one" });
        let said = run(reading, registry, "postgres.query", params).await;
        findings.push(Finding { what: format!("database {name}"), said: said.map(|_| "it answers".into()) });
    }
    if environment.backups.is_some() {
        let said = run(reading, registry, "backup.select", json!({})).await.map(|outputs| {
            let taken = outputs["taken_at"].as_str().unwrap_or("an unknown moment").to_owned();
            format!("the newest verified one holds the data of {taken}")
        });
        findings.push(Finding { what: "backups".into(), said });
    }
    if let Some(project) = environment.supabase.as_ref().and_then(|supabase| supabase.project.as_ref()) {
        let said = run(reading, registry, "supabase.api_keys", json!({ "project": project })).await;
        let said = said.map(|_| format!("the token may read project {project}"));
        findings.push(Finding { what: "Supabase".into(), said });
    }
    if environment.vercel.is_some() {
        let said = look(reading, registry, "vercel.crons", json!({ "enabled": true })).await;
        findings.push(Finding { what: "Vercel".into(), said });
    }
    findings
}

/// Runs an action that only reads.
async fn run(
    reading: &Reading,
    registry: &dyn Registry,
    action: &str,
    params: Value,
) -> Result<Value, String> {
    let Some(found) = registry.get(action) else { return Err(format!("there is no action `{action}`")) };
    let context = reading.context(&StepPath::new("doctor"));
    match found.run(&context, params).await {
        Ok(outcome) => Ok(outcome.outputs),
        Err(error) => Err(reading.redact(&format!("could not {}", plan::chain(&error)))),
    }
}

/// Asks an action what it would do.
async fn look(
    reading: &Reading,
    registry: &dyn Registry,
    action: &str,
    params: Value,
) -> Result<String, String> {
    let Some(found) = registry.get(action) else { return Err(format!("there is no action `{action}`")) };
    let context = reading.context(&StepPath::new("doctor"));
    match found.plan(&context, params).await {
        Ok(Preview::Changes { lines, .. }) => Ok(lines.join("; ")),
        Ok(Preview::Unknown(why)) => Err(why),
        Err(error) => Err(reading.redact(&format!("could not {}", plan::chain(&error)))),
    }
}
