//! A run on a terminal: finished steps scroll up and stay; below them a block for what runs, redrawn at most
//! ten times a second. Drawn on stderr.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize as _;
use runbook_executor::event::{Event, News, Reporter};
use runbook_executor::machine::State;
use runbook_executor::record::Record;

use super::fact::{Fact, Mood, fact, is_ending};
use super::lines::amount;
use crate::words::duration;

/// Running steps shown at once; the rest is counted.
const ROWS_MAX: usize = 8;

/// The reporter for terminals.
pub(crate) struct Live {
    screen: MultiProgress,
    head: ProgressBar,
    rows: BTreeMap<String, Row>,
    color: bool,
    width: usize,
}

struct Row {
    bar: Option<ProgressBar>,
    since: Duration,
    news: String,
}

impl Live {
    /// Draws on stderr.
    pub(crate) fn new(color: bool, width: usize) -> Self {
        let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
        let head = screen.add(ProgressBar::new_spinner().with_style(plain()));
        Self { screen, head, rows: BTreeMap::new(), color, width }
    }

    fn line(&self, fact: &Fact) {
        let sign = match fact.mood {
            Mood::Good => "✓",
            Mood::Bad => "✗",
            Mood::Ask => "◷",
            Mood::Plain => "·",
        };
        let text = format!(" {sign} {:<10} {}", fact.verb, fact.text);
        let text = match (self.color, fact.mood) {
            (true, Mood::Good) => text.green().to_string(),
            (true, Mood::Bad) => text.red().to_string(),
            (true, Mood::Ask) => text.yellow().to_string(),
            _ => text,
        };
        // A terminal that is gone is no reason to end a run.
        let _unheard = self.screen.println(text);
    }

    fn follow(&mut self, event: &Event<'_>) {
        let News::Record { record, .. } = event.news else { return };
        match record {
            Record::AttemptStarted(start) => self.begin(start.step.as_str(), event.elapsed),
            Record::Fenced { .. }
            | Record::StepDone(_)
            | Record::AttemptFailed(_)
            | Record::StepFailed { .. } => {
                let row = record.step().and_then(|step| self.rows.remove(step.as_str()));
                if let Some(bar) = row.and_then(|row| row.bar) {
                    bar.finish_and_clear();
                }
            }
            Record::Closed { .. } | Record::RunFinished { .. } => {
                self.rows.values().filter_map(|row| row.bar.as_ref()).for_each(ProgressBar::finish_and_clear);
                self.head.finish_and_clear();
            }
            _ => {}
        }
    }

    fn begin(&mut self, step: &str, since: Duration) {
        let bar = (self.rows.len() < ROWS_MAX)
            .then(|| self.screen.add(ProgressBar::new_spinner().with_style(plain())));
        self.rows.insert(step.to_owned(), Row { bar, since, news: String::new() });
    }

    fn draw(&self, event: &Event<'_>) {
        if event.machine.sitting().is_none() {
            return;
        }
        let mut done = 0;
        let mut all = 0;
        for instance in event.machine.nodes().flat_map(|node| node.instances) {
            all += 1;
            done += usize::from(matches!(instance.state, State::Done | State::Skipped));
        }
        let running = self.rows.len();
        let rto = event.workflow.rto.map_or_else(String::new, |rto| match rto.checked_sub(event.elapsed) {
            Some(left) => format!("   {} of the RTO left", duration(left)),
            None => format!("   the RTO passed {} ago", duration(event.elapsed.saturating_sub(rto))),
        });
        let rule = "─".repeat(self.width.min(100).saturating_sub(1));
        let short = event.run.get(..8).unwrap_or(event.run);
        self.head.set_message(format!(
            "{rule}\n Run {short}   {done} of {all} done   {running} running   {}{rto}   Ctrl-C stops safely",
            duration(event.elapsed)
        ));
        for (step, row) in &self.rows {
            if let Some(bar) = &row.bar {
                let took = duration(event.elapsed.saturating_sub(row.since));
                bar.set_message(format!("   ● {step}   {}   {took}", row.news));
            }
        }
    }
}

impl Reporter for Live {
    fn event(&mut self, event: &Event<'_>) {
        if let News::Progress { step, progress } = event.news {
            if is_ending(event, step) && !self.rows.contains_key(step.as_str()) {
                self.begin(step.as_str(), event.elapsed);
            }
            if let Some(row) = self.rows.get_mut(step.as_str()) {
                row.news = amount(progress);
            }
            return;
        }
        if let Some(fact) = fact(event).filter(|fact| !fact.starts) {
            self.line(&fact);
        }
        self.follow(event);
        self.draw(event);
    }
}

fn plain() -> ProgressStyle {
    // The template is fixed, and this style is indicatif's own fallback for one that it cannot read.
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_spinner())
}
