//! `runbook backups`: what the bucket holds, how far a backup can be trusted, what is inside it. Reads, and changes
//! nothing.

use std::path::Path;

use jiff::Timestamp;
use runbook_actions::backup::catalog::{catalog, find};
use runbook_actions::backup::inspect::{Wanted, inspect};
use runbook_actions::backup::verify::verify;
use runbook_core::action::{ActionError, Aftermath, Context};
use runbook_core::workflow::StepPath;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::arguments::{
    Backups, BackupsCommand, BackupsInspect, BackupsList, BackupsPlace, BackupsVerify, Global,
};
use crate::command::{check, needs, plan, sandbox};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::reading::Reading;
use crate::screen;
use crate::ui::Ui;

pub(crate) fn backups(ui: &Ui, global: &Global, given: &Backups) -> Result<Exit, Failure> {
    let place = match &given.command {
        BackupsCommand::List(given) => &given.place,
        BackupsCommand::Verify(given) => &given.place,
        BackupsCommand::Inspect(given) => &given.place,
    };
    let runtime = super::runtime()?;
    let Some(asked) = ask(ui, global, place, &runtime)? else { return Ok(Exit::Invalid) };
    runtime.block_on(async {
        match &given.command {
            BackupsCommand::List(given) => list(ui, &asked, given).await,
            BackupsCommand::Verify(given) => verified(ui, &asked, given).await,
            BackupsCommand::Inspect(given) => inspected(ui, &asked, given).await,
        }
    })
}

/// An environment, ready to be asked.
struct Asked {
    reading: Reading,
    context: Context,
    dir: std::path::PathBuf,
    env: String,
}

fn ask(ui: &Ui, global: &Global, place: &BackupsPlace, runtime: &Runtime) -> Result<Option<Asked>, Failure> {
    let state_dir = project::state_dir(global)?;
    let env = match &place.env {
        Some(env) => env.clone(),
        None => only_environment(&place.dir)?,
    };
    if project::wants_sandbox(&place.dir, &env) {
        runtime.block_on(sandbox::ensure(ui, &state_dir))?;
    }
    let loaded = project::environment(&place.dir, &env, &state_dir)?;
    if check::tell(ui, &place.dir, &loaded.diagnostics, &loaded.sources) {
        return Ok(None);
    }
    let Some(environment) = loaded.environment else { return Ok(None) };
    let reading = Reading::new(environment, &place.dir, &state_dir, &project::actor(global))?;
    let context = reading.context(&StepPath::new("backups"));
    Ok(Some(Asked { reading, context, dir: place.dir.clone(), env }))
}

fn only_environment(dir: &Path) -> Result<String, Failure> {
    let names = project::environments(dir);
    match names.as_slice() {
        [one] => Ok(one.clone()),
        _ => Err(Failure::usage("it is not clear whose backups: --env NAME is missing")
            .hint(format!("there is {}", crate::words::list(&names)))),
    }
}

impl Asked {
    fn failed(&self, error: &ActionError) -> Failure {
        let exit = if error.aftermath == Aftermath::Refused { Exit::Refused } else { Exit::Failed };
        let text = self.reading.redact(&format!("could not {}", plan::chain(error)));
        let failure = Failure::new(exit, text).note("Nothing was changed.");
        match &error.hint {
            Some(hint) => failure.hint(self.reading.redact(hint)),
            None => failure,
        }
    }

    /// What the newest verified backup may be old.
    fn rpo(&self) -> Option<std::time::Duration> {
        let environment = self.reading.environment();
        environment.readiness.rpo.or_else(|| needs::look(&self.dir, Some(environment)).rpo)
    }
}

async fn list(ui: &Ui, asked: &Asked, given: &BackupsList) -> Result<Exit, Failure> {
    let catalog = catalog(&asked.context).await.map_err(|error| asked.failed(&error))?;
    let now = Timestamp::now();
    let rpo = asked.rpo();
    if ui.json {
        for dump in catalog.dumps.iter().take(given.limit) {
            let mut line = said("backup", dump);
            line["age_seconds"] = json!(now.duration_since(dump.taken_at).as_secs());
            line["within_rpo"] = json!(rpo.map(|rpo| screen::Shelf::is_within(dump.taken_at, rpo, now)));
            ui.line(&line.to_string());
        }
        return Ok(Exit::Succeeded);
    }
    let shelf = screen::Shelf { catalog: &catalog, rpo, now, limit: given.limit, env: &asked.env };
    ui.block(&screen::backups(&shelf));
    Ok(Exit::Succeeded)
}

async fn verified(ui: &Ui, asked: &Asked, given: &BackupsVerify) -> Result<Exit, Failure> {
    let wrong = |error: ActionError| asked.failed(&error);
    let backup = find(&asked.context, &given.key).await.map_err(wrong)?;
    let found = verify(&asked.context, backup, &given.table).await.map_err(wrong)?;
    if ui.json {
        ui.line(&said("backup_verified", &found).to_string());
    } else {
        ui.block(&screen::verification(&found, &asked.env));
    }
    Ok(if found.failed().next().is_some() { Exit::Refused } else { Exit::Succeeded })
}

async fn inspected(ui: &Ui, asked: &Asked, given: &BackupsInspect) -> Result<Exit, Failure> {
    let wrong = |error: ActionError| asked.failed(&error);
    let backup = find(&asked.context, &given.key).await.map_err(wrong)?;
    let wanted = Wanted { schema: given.schema, rows: given.rows };
    let found = inspect(&asked.context, backup, wanted).await.map_err(wrong)?;
    if ui.json {
        ui.line(&said("backup_inspected", &found).to_string());
    } else if let Some(schema) = &found.schema {
        ui.block(&screen::safe_lines(schema));
    } else {
        ui.block(&screen::inspection(&found, &asked.env));
    }
    Ok(Exit::Succeeded)
}

/// A line of `--json`: what was found, with its kind.
fn said(kind: &str, found: &impl serde::Serialize) -> Value {
    let mut line = json!({ "v": 1, "kind": kind });
    if let (Value::Object(line), Ok(Value::Object(found))) = (&mut line, serde_json::to_value(found)) {
        line.extend(found);
    }
    line
}
