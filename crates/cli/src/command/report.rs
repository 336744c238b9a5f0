//! `report` and `drill history`: runs as they are told afterwards, from the journal alone.

use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use runbook_core::document::Kind;
use runbook_executor::report::Report as Model;
use runbook_executor::store::{Journal as _, RunRow, prove};
use serde_json::json;

use crate::arguments::{DrillHistory, Global, Report, ReportForm};
use crate::command::journal;
use crate::command::run::{Opened, open};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::screen::{self, Drill};
use crate::ui::Ui;
use crate::words::count;

pub(crate) fn report(ui: &Ui, global: &Global, given: &Report) -> Result<Exit, Failure> {
    let opened = open(&project::state_dir(global)?)?;
    let row = journal::find(opened.journal.as_ref(), &given.run.run)?;
    let report = model(&opened, &row)?;
    let text = match given.format {
        ReportForm::Md if ui.json => one_line(&report)?,
        ReportForm::Md => screen::markdown(&report),
        ReportForm::Html => screen::html(&report),
        ReportForm::Json => {
            let mut text = serde_json::to_string_pretty(&report)
                .map_err(|error| Failure::io("write the report as JSON", error))?;
            text.push('\n');
            text
        }
    };
    match &given.output {
        None => ui.block(&text),
        Some(path) => {
            write(path, text.as_bytes())?;
            ui.remark(&format!("wrote the report of run {} to {}", row.id, path.display()));
        }
    }
    Ok(Exit::Succeeded)
}

fn one_line(report: &Model) -> Result<String, Failure> {
    let text =
        serde_json::to_string(report).map_err(|error| Failure::io("write the report as JSON", error))?;
    Ok(format!("{text}\n"))
}

/// A report that is made again replaces the old one, whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let attempted = || format!("write `{}`", path.display());
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let put = || {
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    put().map_err(|error| Failure::io(attempted(), error))
}

/// The report of a run. The chain is proven up to the last record that the report is made of: a live run may have
/// grown in between.
fn model(opened: &Opened, row: &RunRow) -> Result<Model, Failure> {
    let loaded = opened.engine.load(&row.id)?;
    let mut stored = opened.journal.read(&row.id, 0)?;
    stored.truncate(loaded.records.len());
    let verified = prove(row, stored)?;
    Ok(Model::of(&loaded, verified.head))
}

pub(crate) fn drill_history(ui: &Ui, global: &Global, given: &DrillHistory) -> Result<Exit, Failure> {
    let opened = open(&project::state_dir(global)?)?;
    let mut rows = opened.journal.runs()?;
    rows.retain(|row| given.env.as_ref().is_none_or(|env| &row.environment == env));
    let mut reports = Vec::new();
    let mut unreadable = 0;
    for row in &rows {
        // One more than is shown: the oldest line has a trend, too.
        if reports.len() > given.limit {
            break;
        }
        match opened.engine.load(&row.id) {
            Ok(loaded) if loaded.workflow.kind == Kind::Drill => reports.push(model(&opened, row)?),
            Ok(_) => {}
            Err(_) => unreadable += 1,
        }
    }
    let mut drills = Drill::of(&reports);
    drills.truncate(given.limit);
    let now = Timestamp::now();
    if ui.json {
        for drill in &drills {
            let line = json!({ "v": 1, "kind": "drill", "drill": drill });
            ui.line(&line.to_string());
        }
    } else {
        ui.block(&screen::drills(&drills, now, ui.width));
    }
    if unreadable > 0 {
        ui.remark(&format!(
            "{} could not be read by this version and may be drills, too",
            count(unreadable, "run")
        ));
    }
    Ok(Exit::Succeeded)
}
