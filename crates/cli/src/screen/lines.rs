//! A run as plain lines on stderr, for pipes and logs: one line a fact, the verb right-aligned to 12.
//! Progress of a step at each 5 % or 30 s.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use runbook_core::action::Progress;
use runbook_executor::event::{Event, News, Reporter};
use runbook_executor::machine::State;

use super::fact::is_ending;
use super::{fact, safe};
use crate::words::{bytes, duration, grouped};

/// Lines of progress are this far apart, unless 5 % were done before.
const PROGRESS_EVERY: Duration = Duration::from_secs(30);

/// The reporter for pipes.
#[derive(Default)]
pub(crate) struct Lines {
    shown: HashMap<String, Shown>,
    quiet: bool,
}

/// What was shown of a step's progress last.
struct Shown {
    share: u64,
    at: Duration,
}

impl Lines {
    /// Says nothing when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, ..Self::default() }
    }

    fn progress(
        &mut self,
        event: &Event<'_>,
        step: &str,
        progress: &Progress,
        first_at_once: bool,
    ) -> Option<String> {
        let share = progress.total.filter(|t| *t > 0).map_or(0, |total| progress.done * 20 / total);
        // Nothing else says that a step waits for the end of what was begun before.
        let is_first = first_at_once && !self.shown.contains_key(step);
        let shown = self.shown.entry(step.to_owned()).or_insert(Shown { share, at: event.elapsed });
        let due = is_first || share > shown.share || event.elapsed.saturating_sub(shown.at) >= PROGRESS_EVERY;
        if !due {
            return None;
        }
        *shown = Shown { share, at: event.elapsed };
        Some(format!("{step}: {}, {}", amount(progress), duration(event.elapsed)))
    }
}

impl Reporter for Lines {
    fn event(&mut self, event: &Event<'_>) {
        if self.quiet {
            return;
        }
        if let News::Progress { step, progress } = event.news {
            // The last word of a step may come after its end.
            let ends = is_ending(event, step);
            if !ends && !event.machine.instance(step).is_some_and(|i| matches!(i.state, State::Running)) {
                return;
            }
            if let Some(text) = self.progress(event, step.as_str(), progress, ends) {
                say("Progress", &text);
            }
        } else if let Some(fact) = fact(event) {
            say(fact.verb, &fact.text);
        }
    }
}

/// Whoever does not listen any more is no reason to end a run.
fn say(verb: &str, text: &str) {
    let _unheard = writeln!(std::io::stderr().lock(), "{verb:>12} {text}");
}

/// `1.0 MiB of 4.2 GiB, public.orders`
pub(crate) fn amount(progress: &Progress) -> String {
    let number = |n: u64| if progress.unit == "bytes" { bytes(n) } else { grouped(n) };
    let unit = if progress.unit == "bytes" { String::new() } else { format!(" {}", progress.unit) };
    let mut text = match progress.total {
        Some(total) => format!("{} of {}{unit}", number(progress.done), number(total)),
        None => format!("{}{unit}", number(progress.done)),
    };
    if !progress.message.is_empty() {
        text.push_str(", ");
        text.push_str(&safe(&progress.message));
    }
    text
}
