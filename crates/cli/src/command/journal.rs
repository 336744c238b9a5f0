//! The commands that only read or carry journals: `list`, `verify`, `export`, `import`; and how every other
//! command finds a run.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;
use std::sync::Arc;

use runbook_executor::portable::{PortableError, export_run, import_run};
use runbook_executor::store::{Found, Journal, JournalError, RunRow, SqliteJournal};
use runbook_executor::vault::Vault;
use serde_json::json;

use crate::arguments::{Export, Global, Import, List, RunArgument};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::ui::Ui;
use crate::words::count;

/// Opens the journal of the state directory.
pub(crate) fn open(state_dir: &Path) -> Result<Arc<SqliteJournal>, Failure> {
    Ok(Arc::new(SqliteJournal::open(state_dir)?))
}

/// The run that a person means: an id, enough of its beginning, or `last`.
pub(crate) fn find(journal: &dyn Journal, given: &str) -> Result<RunRow, Failure> {
    if given == "last" {
        return journal.runs()?.into_iter().next().ok_or_else(|| {
            Failure::usage("there is no run yet").hint("start one: runbook run FILE --env NAME")
        });
    }
    match journal.find_run(given)? {
        Found::One(row) => Ok(row),
        Found::None => {
            Err(Failure::usage(format!("there is no run `{given}`")).hint("`runbook list` has them all"))
        }
        Found::Ambiguous(rows) => {
            let ids: Vec<String> = rows.iter().take(5).map(|row| row.id.clone()).collect();
            Err(Failure::usage(format!("`{given}` begins the ids of {}", count(rows.len(), "run")))
                .hint(format!("write more of it: {}", ids.join(", "))))
        }
    }
}

pub(crate) fn list(ui: &Ui, global: &Global, given: &List) -> Result<Exit, Failure> {
    let opened = super::run::open(&project::state_dir(global)?)?;
    let mut rows = opened.journal.runs()?;
    rows.retain(|row| given.env.as_ref().is_none_or(|env| &row.environment == env));
    let left_out = rows.len().saturating_sub(given.limit);
    rows.truncate(given.limit);
    for row in &rows {
        let state = super::status::state_word(&opened, &row.id);
        if ui.json {
            let line = json!({
                "v": 1, "kind": "listed", "run": row.id, "runbook": row.runbook, "environment": row.environment,
                "created_at": row.created_at, "state": state,
            });
            ui.line(&line.to_string());
        } else {
            let at = crate::screen::local_time(row.created_at);
            ui.line(&format!("{}  {at}  {:16} {:12} {state}", row.id, row.runbook, row.environment));
        }
    }
    if rows.is_empty() {
        ui.remark("no runs yet; start one: runbook run FILE --env NAME");
    } else if left_out > 0 {
        ui.remark(&format!("{} more; --limit {} shows them", left_out, left_out + rows.len()));
    }
    Ok(Exit::Succeeded)
}

pub(crate) fn verify(ui: &Ui, global: &Global, given: &RunArgument) -> Result<Exit, Failure> {
    let journal = open(&project::state_dir(global)?)?;
    let row = find(journal.as_ref(), &given.run)?;
    let verified = journal.verify(&row.id)?;
    let head: String = verified.head.iter().map(|byte| format!("{byte:02x}")).collect();
    if ui.json {
        let line =
            json!({ "v": 1, "kind": "verified", "run": row.id, "records": verified.records, "head": head });
        ui.line(&line.to_string());
    } else {
        ui.line(&format!("run {}: {}, the chain holds", row.id, count(verified.records as usize, "record")));
        ui.line(&format!("head {head}"));
        ui.remark("\nKeep the head elsewhere (a ticket, a printed report): it proves later that nothing was rewritten.");
    }
    Ok(Exit::Succeeded)
}

pub(crate) fn export(ui: &Ui, global: &Global, given: &Export) -> Result<Exit, Failure> {
    let state_dir = project::state_dir(global)?;
    let journal = open(&state_dir)?;
    let row = find(journal.as_ref(), &given.run.run)?;
    let made = Vault::of(&state_dir, &row.id)
        .and_then(|vault| vault.count())
        .map_err(|error| Failure::io(format!("count the secrets that run {} made", row.id), error))?;
    let carried = match &given.to {
        None => export_run(journal.as_ref(), &row.id, made, &mut io::stdout().lock())?,
        Some(path) => {
            let attempted = || format!("write `{}`", path.display());
            let mut file = File::create_new(path).map_err(|error| Failure::io(attempted(), error))?;
            let carried = export_run(journal.as_ref(), &row.id, made, &mut file)?;
            file.flush().and_then(|()| file.sync_all()).map_err(|error| Failure::io(attempted(), error))?;
            carried
        }
    };
    ui.remark(&format!("exported {} of run {}", count(carried.verified.records as usize, "record"), row.id));
    if carried.made_secrets_left_out > 0 {
        ui.remark(&format!(
            "{} that its steps made stay here; a resume elsewhere asks for the steps that need them",
            count(carried.made_secrets_left_out, "secret")
        ));
    }
    Ok(Exit::Succeeded)
}

pub(crate) fn import(ui: &Ui, global: &Global, given: &Import) -> Result<Exit, Failure> {
    let journal = open(&project::state_dir(global)?)?;
    let file = File::open(&given.file)
        .map_err(|error| Failure::io(format!("read `{}`", given.file.display()), error))?;
    let carried = import_run(journal.as_ref(), &mut BufReader::new(file))?;
    ui.line(&format!("run {}: {}", carried.run.id, count(carried.verified.records as usize, "record")));
    ui.remark(&format!("\nnext: runbook resume {} --plan", carried.run.id));
    Ok(Exit::Succeeded)
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Self {
        Failure::new(Exit::Internal, "could not use the journal").because(error)
    }
}

impl From<PortableError> for Failure {
    fn from(error: PortableError) -> Self {
        Failure::new(Exit::Internal, "could not carry the run over").because(error)
    }
}
