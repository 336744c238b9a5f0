//! What an action said, to records: validated, redacted, cut to size. Decides what follows a failure.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::{ActionError, Aftermath, Effect, Outcome, Probed};
use runbook_core::workflow::{Retry, StepPath, Work};
use serde_json::Value;

use super::attempt::TaskEnd;
use super::commit::After;
use super::rehearsal::DELAY_MAX;
use super::secret_fields::misplaced_secret;
use super::sitting::Sitting;
use crate::record::{AttemptFailed, Found, Record, StepDone, Then};

/// Longest message in a record, in bytes; what is longer belongs into an artifact.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// Largest outputs of a step, in bytes of JSON: they are held in memory and read at every replay.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// Longest wait before a retry, also when a remote asks for more.
const RETRY_DELAY_MAX: Duration = Duration::from_secs(3600);

/// An error with its causes, in one line.
pub(super) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause in their own text.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl Sitting {
    /// A text from outside as it may be kept.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut text = self.shared.redactor.redact(text);
        if text.len() > MESSAGE_BYTES_MAX {
            let cut = (0..=MESSAGE_BYTES_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(cut);
            text.push('…');
        }
        text
    }

    pub(super) fn settle(&mut self, step: &StepPath, end: TaskEnd) {
        self.busy.remove(step);
        match end {
            TaskEnd::Attempt(Ok(outcome), took) => self.attempt_succeeded(step, outcome, took),
            TaskEnd::Attempt(Err(error), took) => self.attempt_failed(step, &error, took),
            TaskEnd::Fence(Ok(ended)) => {
                let epoch = self.epoch;
                self.push(Record::Fenced { step: step.clone(), epoch, ended }, After::Nothing);
            }
            TaskEnd::Fence(Err(error)) => self.fence_failed(step, &error),
            TaskEnd::Probe(probed) => self.probed(step, probed),
            TaskEnd::Undo(Ok(mut outcome)) => {
                self.shared.redactor.redact_value(&mut outcome.outputs);
                outcome.summary = self.clean(&outcome.summary);
                self.push(Record::Undone { step: step.clone(), outcome }, After::Nothing);
            }
            TaskEnd::Undo(Err(error)) => {
                let (message, hint) = self.words(&error);
                self.push(Record::UndoFailed { step: step.clone(), message, hint }, After::Nothing);
            }
        }
    }

    fn words(&self, error: &ActionError) -> (String, Option<String>) {
        (self.clean(&error_chain(error)), error.hint.as_ref().map(|hint| self.clean(hint)))
    }

    fn fence_failed(&mut self, step: &StepPath, error: &ActionError) {
        let (why, hint) = self.words(error);
        let message = format!("prove that nothing of an earlier attempt is alive: {why}");
        let in_rollback = self.machine.rolling_back().is_some()
            && self
                .machine
                .instance(step)
                .is_some_and(|i| !matches!(i.state, crate::machine::State::Interrupted { .. }));
        let record = if in_rollback {
            Record::UndoFailed { step: step.clone(), message, hint }
        } else {
            Record::StepFailed { step: step.clone(), message, hint }
        };
        self.push(record, After::Nothing);
    }

    fn probed(&mut self, step: &StepPath, probed: Result<Probed, ActionError>) {
        let (found, why, outcome) = match probed {
            Ok(Probed::Happened(outcome)) => (Found::Happened, None, Some(outcome)),
            Ok(Probed::Absent) => (Found::Absent, None, None),
            Ok(Probed::Unclear(why)) => (Found::Unclear, Some(self.clean(&why)), None),
            Err(error) => (Found::Unclear, Some(self.words(&error).0), None),
        };
        let outcome = outcome.map(|outcome| self.accepted(step, outcome));
        if let Some(Err(why)) = outcome {
            // It happened, and what came of it cannot be used: for a person.
            let why = format!("the probe found the effect, but {why}");
            self.push(Record::StepInDoubt { step: step.clone(), why }, After::Nothing);
            return;
        }
        self.push(Record::Probed { step: step.clone(), found, why }, After::Nothing);
        if let Some(Ok(outcome)) = outcome {
            self.push_done(step, outcome, Duration::ZERO);
        }
    }

    fn attempt_succeeded(&mut self, step: &StepPath, outcome: Outcome, took: Duration) {
        match self.accepted(step, outcome) {
            Ok(outcome) => self.push_done(step, outcome, took),
            Err(why) => self.spoiled(step, &why, took),
        }
    }

    fn push_done(&mut self, step: &StepPath, outcome: Outcome, took: Duration) {
        let key = self.shared_keys.remove(step);
        let after = match key {
            Some(key) => After::FinishKey { key, outputs: outcome.outputs.clone() },
            None => After::Nothing,
        };
        let done = StepDone { step: step.clone(), outcome, duration_ms: millis(took), by_key_of: None };
        self.push(Record::StepDone(Box::new(done)), after);
    }

    /// The outcome as it may be kept, or why it cannot count as success.
    fn accepted(&self, step: &StepPath, mut outcome: Outcome) -> Result<Outcome, String> {
        let name = self.step_of(step).and_then(|s| match &s.work {
            Work::Action { name } => Some(name.clone()),
            _ => None,
        });
        let action = name.as_deref().and_then(|name| self.shared.registry.get(name));
        let schema = action.map_or(&Value::Null, |action| &action.description().outputs);
        if let Some(at) = misplaced_secret(schema, &outcome.outputs) {
            return Err(format!("its output `{at}` holds a secret, in a field that is shown"));
        }
        self.shared.redactor.redact_value(&mut outcome.outputs);
        outcome.summary = self.clean(&outcome.summary);
        for force in &mut outcome.in_force {
            force.text = self.clean(&force.text);
        }
        let bytes = outcome.outputs.to_string().len();
        if bytes > OUTPUT_BYTES_MAX {
            return Err(format!("its outputs have {bytes} bytes, the limit is {OUTPUT_BYTES_MAX}"));
        }
        match self.broken_postcondition(step, &outcome.outputs) {
            Some(why) => Err(format!("a postcondition does not hold: {}", self.clean(&why))),
            None => Ok(outcome),
        }
    }

    /// The effect is there and the step has not succeeded: what must not be repeated is for a person.
    fn spoiled(&mut self, step: &StepPath, why: &str, took: Duration) {
        let effect = self.machine.bone(step).map_or(Effect::Once, |bone| bone.effect);
        if effect == Effect::Once {
            let why = format!("the effect happened, but {why}");
            self.push(Record::StepInDoubt { step: step.clone(), why }, After::Nothing);
            return;
        }
        let attempt = self.machine.instance(step).map_or(0, |i| i.attempts);
        let failed = AttemptFailed {
            step: step.clone(),
            attempt,
            message: format!("call it done: {why}"),
            hint: None,
            code: Some("not-accepted".to_owned()),
            aftermath: Aftermath::Refused,
            then: Then::GiveUp,
            duration_ms: millis(took),
        };
        self.push(Record::AttemptFailed(Box::new(failed)), After::Nothing);
    }

    fn attempt_failed(&mut self, step: &StepPath, error: &ActionError, took: Duration) {
        let (message, hint) = self.words(error);
        let (attempt, tries) = self.machine.instance(step).map_or((0, 0), |i| (i.attempts, i.tries));
        let then = self.then(step, error, tries);
        let drops_key = then == Then::GiveUp && error.aftermath != Aftermath::Unknown;
        let key = drops_key.then(|| self.shared_keys.remove(step)).flatten();
        let failed = AttemptFailed {
            step: step.clone(),
            attempt,
            message,
            hint,
            code: error.code.map(str::to_owned),
            aftermath: error.aftermath.clone(),
            then,
            duration_ms: millis(took),
        };
        let after = key.map_or(After::Nothing, |key| After::DropKey { key });
        self.push(Record::AttemptFailed(Box::new(failed)), after);
    }

    fn then(&self, step: &StepPath, error: &ActionError, tries: u32) -> Then {
        let asked = self.tokens.get(step).is_some_and(super::stop::Stop::is_wanted);
        if asked && error.code == Some("stopped") {
            return Then::Stopped;
        }
        let retry = self.step_of(step).map_or_else(Retry::default, |s| s.retry);
        let wanted = match &error.aftermath {
            Aftermath::Refused => return Then::GiveUp,
            Aftermath::Unchanged { retry_after } => *retry_after,
            Aftermath::Unknown => None,
        };
        if tries >= retry.max_attempts.max(1) {
            return Then::GiveUp;
        }
        let longest = if self.options.rehearsal.is_some() { DELAY_MAX } else { RETRY_DELAY_MAX };
        let delay = backoff(&retry, tries, rand::random()).max(wanted.unwrap_or_default()).min(longest);
        Then::Retry(later(self.now(), delay))
    }
}

pub(super) fn later(now: Timestamp, delay: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| now.checked_add(delay).ok())
        .unwrap_or(Timestamp::MAX)
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// The wait after so many tries: grows, is capped, and is spread so that steps do not come back together.
/// `dice` is between 0 and 1.
fn backoff(retry: &Retry, tries: u32, dice: f64) -> Duration {
    let growth = retry.multiplier.max(1.0).powi(i32::try_from(tries.saturating_sub(1)).unwrap_or(i32::MAX));
    let full = (retry.initial_interval.as_secs_f64() * growth).min(retry.max_interval.as_secs_f64());
    let spread = retry.jitter.clamp(0.0, 1.0) * (2.0 * dice - 1.0);
    Duration::try_from_secs_f64((full * (1.0 + spread)).max(0.0)).unwrap_or(RETRY_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_up_to_their_limit_and_spread_around_it() {
        let retry = Retry { jitter: 0.5, ..Retry::default() };
        assert_eq!(backoff(&retry, 1, 0.5), Duration::from_secs(2));
        assert_eq!(backoff(&retry, 3, 0.5), Duration::from_secs(8));
        assert_eq!(backoff(&retry, 90, 0.5), Duration::from_secs(60));
        assert_eq!(backoff(&retry, 1, 0.0), Duration::from_secs(1));
        assert_eq!(backoff(&retry, 1, 1.0), Duration::from_secs(3));
    }
}
