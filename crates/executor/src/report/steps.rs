//! Every step as a line, and when something was under way with it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::workflow::{Phase, StepPath};

use super::{Bar, BarKind, Facts, Mood, StepLine, Stretch, action_of, measure, mood_of, seconds};
use crate::driver::Loaded;
use crate::machine::{Instance, UndoState};
use crate::record::Record;

pub(super) fn lines(facts: &Facts<'_>) -> Vec<StepLine> {
    let workflow = &facts.loaded.workflow;
    let phases = measure::phases_of(&workflow.steps);
    let mut bars = bars(facts.loaded, facts.last_at);
    let mut found = Vec::new();
    for ((node, step), phase) in facts.loaded.machine.nodes().zip(&workflow.steps).zip(phases) {
        let Some(action) = action_of(step) else { continue };
        let blank = StepLine {
            step: step.path.clone(),
            title: step.title.clone(),
            action: action.to_owned(),
            phase,
            handler: match step.phase {
                Phase::Main => None,
                Phase::OnFailure => Some("on_failure".to_owned()),
                Phase::Finally => Some("finally".to_owned()),
            },
            state: if node.skipped.is_some() { "skipped" } else { "waiting" }.to_owned(),
            mood: Mood::Plain,
            attempts: 0,
            started_at: None,
            ended_at: None,
            seconds: None,
            expected_seconds: step.expect_duration.map(|expected| expected.as_secs()),
            summary: None,
            message: None,
            bars: Vec::new(),
        };
        if node.instances.is_empty() || node.skipped.is_some() {
            found.push(blank);
            continue;
        }
        for instance in node.instances {
            let bars = bars.remove(&instance.path).unwrap_or_default();
            found.push(filled(blank.clone(), instance, bars));
        }
    }
    found
}

fn filled(line: StepLine, i: &Instance, bars: Vec<Bar>) -> StepLine {
    let undo = i.undo.as_ref().map(|undo| match undo {
        UndoState::Started(_) => "being taken back".to_owned(),
        UndoState::Done => "taken back".to_owned(),
        UndoState::Failed(why) => format!("could not be taken back: {why}"),
        UndoState::Skipped(why) => format!("left as it is: {why}"),
    });
    let summary = i.outcome.as_ref().map(|outcome| outcome.summary.clone()).filter(|text| !text.is_empty());
    StepLine {
        step: i.path.clone(),
        state: undo.unwrap_or_else(|| i.state.word().to_owned()),
        mood: mood_of(i.state),
        attempts: i.attempts,
        started_at: i.first_started_at,
        ended_at: i.ended_at,
        seconds: i.first_started_at.zip(i.ended_at).map(|(from, until)| seconds(from, until)),
        summary,
        message: i.failure.as_ref().map(|failure| failure.message.clone()),
        bars,
        ..line
    }
}

/// What is open, by step: since when and what.
type Open = BTreeMap<StepPath, (Timestamp, BarKind)>;

struct Drawn {
    open: Open,
    bars: BTreeMap<StepPath, Vec<Bar>>,
}

impl Drawn {
    fn begin(&mut self, step: &StepPath, at: Timestamp, what: BarKind) {
        self.end(step, at, None);
        self.open.insert(step.clone(), (at, what));
    }

    /// Ends what is open with a step; as what it was when nothing else is said.
    fn end(&mut self, step: &StepPath, at: Timestamp, what: Option<BarKind>) {
        if let Some((from, was)) = self.open.remove(step) {
            let what = if was == BarKind::Running { what.unwrap_or(BarKind::Cut) } else { was };
            self.bars.entry(step.clone()).or_default().push(Bar { from, until: at, what });
        }
    }
}

/// When something was under way with each step.
fn bars(loaded: &Loaded, last_at: Timestamp) -> BTreeMap<StepPath, Vec<Bar>> {
    let mut drawn = Drawn { open: BTreeMap::new(), bars: BTreeMap::new() };
    let mut before = last_at;
    for (at, record) in &loaded.records {
        match record {
            Record::ApprovalRequested(asked) => drawn.begin(&asked.step, *at, BarKind::Asked),
            Record::AttemptStarted(started) => drawn.begin(&started.step, *at, BarKind::Running),
            Record::UndoStarted { step, .. } => drawn.begin(step, *at, BarKind::Undone),
            Record::AttemptFailed(failed) => drawn.end(&failed.step, *at, Some(BarKind::Failed)),
            Record::StepDone(done) => drawn.end(&done.step, *at, Some(BarKind::Done)),
            Record::StepFailed { step, .. } | Record::StepInDoubt { step, .. } => {
                drawn.end(step, *at, Some(BarKind::Failed));
            }
            Record::ApprovalDenied { step, .. }
            | Record::ApprovalExpired { step }
            | Record::ApprovalVoided { step, .. }
            | Record::Undone { step, .. }
            | Record::UndoFailed { step, .. } => drawn.end(step, *at, None),
            // Whoever worked before is dead: its attempts ended with its last record at the earliest.
            Record::Opened { .. } => {
                let cut: Vec<StepPath> = drawn
                    .open
                    .iter()
                    .filter(|(_, (_, what))| *what == BarKind::Running)
                    .map(|(s, _)| s.clone())
                    .collect();
                cut.iter().for_each(|step| drawn.end(step, before, Some(BarKind::Cut)));
            }
            _ => {}
        }
        if written_by_the_engine(record) {
            before = *at;
        }
    }
    let live = loaded.machine.sitting().is_some() && loaded.machine.finished().is_none();
    let open: Vec<StepPath> = drawn.open.keys().cloned().collect();
    for step in open {
        drawn.end(&step, last_at, Some(if live { BarKind::Running } else { BarKind::Cut }));
    }
    drawn.bars
}

/// Stretches in which no process worked on the run.
pub(super) fn idle(loaded: &Loaded) -> Vec<Stretch> {
    let mut found = Vec::new();
    let mut before: Option<(Timestamp, bool)> = None;
    let mut opened = false;
    for (at, record) in &loaded.records {
        if let (Record::Opened { .. }, Some((from, closed)), true) = (record, before, opened) {
            let why = if closed { "it was stopped" } else { "its process was killed" };
            found.push(Stretch { from, until: *at, seconds: seconds(from, *at), why: why.to_owned() });
        }
        opened = opened || matches!(record, Record::Opened { .. });
        // What people said while nobody worked does not end the stretch.
        if written_by_the_engine(record) {
            before = Some((*at, matches!(record, Record::Closed { .. })));
        }
    }
    found
}

fn written_by_the_engine(record: &Record) -> bool {
    !matches!(
        record,
        Record::ApprovalGiven { .. }
            | Record::ApprovalDenied { .. }
            | Record::Resolved { .. }
            | Record::PauseRequested { .. }
            | Record::CancelRequested { .. }
            | Record::RollbackRequested { .. }
            | Record::Rerun { .. }
            | Record::Noted { .. }
            | Record::GuardWaived { .. }
    )
}
