//! `status` and `logs`: from the journal alone, so also for a run that crashed.

use std::time::Duration;

use jiff::Timestamp;
use runbook_executor::record::Record;
use runbook_executor::store::Journal as _;

use crate::arguments::{Global, Logs, RunArgument};
use crate::command::journal;
use crate::command::run::{Opened, open};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::screen;
use crate::ui::Ui;

/// How often `logs --follow` looks for new records.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

pub(crate) fn status(ui: &Ui, global: &Global, given: &RunArgument) -> Result<Exit, Failure> {
    let opened = open(&project::state_dir(global)?)?;
    let row = journal::find(opened.journal.as_ref(), &given.run)?;
    let loaded = opened.engine.load(&row.id)?;
    let lease = opened.journal.lease(&row.id)?;
    if ui.json {
        ui.line(&screen::status_line(&loaded, lease.as_ref(), Timestamp::now()).to_string());
    } else {
        ui.block(&screen::status(&loaded, lease.as_ref(), Timestamp::now()));
    }
    Ok(Exit::Succeeded)
}

/// The state of a run in a word or two, also when it cannot be read whole.
pub(crate) fn state_word(opened: &Opened, run: &str) -> String {
    match (opened.engine.load(run), opened.journal.lease(run)) {
        (Ok(loaded), Ok(lease)) => screen::state_word(&loaded, lease.as_ref()).to_owned(),
        (Err(error), _) => format!("unreadable: {error}"),
        (_, Err(error)) => format!("unreadable: {error}"),
    }
}

pub(crate) fn logs(ui: &Ui, global: &Global, given: &Logs) -> Result<Exit, Failure> {
    let state_dir = project::state_dir(global)?;
    let journal = journal::open(&state_dir)?;
    let row = journal::find(journal.as_ref(), &given.run.run)?;
    let mut after = 0;
    loop {
        let mut over = false;
        for stored in journal.read(&row.id, after)? {
            after = stored.seq;
            let record = Record::decode(&stored.body)
                .map_err(|error| Failure::io(format!("read record {after} of run {}", row.id), error))?;
            over = matches!(record, Record::Closed { .. } | Record::RunFinished { .. });
            let step = record.step().map(ToString::to_string);
            if given.step.is_none() || given.step == step {
                tell(ui, &row.id, after, stored.at, &record);
            }
        }
        if !given.follow || over {
            return Ok(Exit::Succeeded);
        }
        // A watch on another process's file: there is nothing else to wait on.
        let (_never, quiet) = std::sync::mpsc::channel::<()>();
        let _elapsed = quiet.recv_timeout(FOLLOW_EVERY);
    }
}

fn tell(ui: &Ui, run: &str, seq: u64, at: Timestamp, record: &Record) {
    if ui.json {
        ui.line(&screen::record_line(run, seq, at, record).to_string());
        return;
    }
    let mut body = screen::sources_left_out(record);
    if let Some(body) = body.as_object_mut() {
        body.remove("kind");
        body.remove("step");
    }
    let step = record.step().map_or_else(String::new, |step| format!(" {step}"));
    let body = if body.as_object().is_some_and(serde_json::Map::is_empty) {
        String::new()
    } else {
        format!(" {body}")
    };
    ui.line(&format!("{seq:5}  {}  {}{step}{}", screen::local_time(at), record.kind(), screen::safe(&body)));
}
