//! What happened in order, in words, and what people decided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::workflow::StepPath;

use super::{Decision, Facts, Moment, Mood};
use crate::record::{Ended, Final, Record, RefusedWhy, Then, Verdict};

/// What a record says: how it is meant, who did it, and the words.
type Said = (Mood, Option<String>, String);

pub(super) fn moments(facts: &Facts<'_>, declared_at: Timestamp) -> Vec<Moment> {
    let titles = titles(facts);
    let mut found = Vec::new();
    let mut closed = true;
    for (seq, (at, record)) in (1..).zip(&facts.loaded.records) {
        if let Record::Opened { epoch, .. } = record
            && *epoch > 1
            && !closed
        {
            let text = "the process that worked on it was killed before this".to_owned();
            found.push(line(seq, *at, declared_at, None, (Mood::Bad, None, text)));
        }
        match record {
            Record::Opened { .. } => closed = false,
            Record::Closed { .. } => closed = true,
            _ => {}
        }
        let title = record.step().and_then(|step| titles.get(bare(step)));
        if let Some(said) = said(record, title.map_or("", String::as_str)) {
            found.push(line(seq, *at, declared_at, record.step().cloned(), said));
        }
    }
    found
}

fn line(
    seq: u64,
    at: Timestamp,
    declared_at: Timestamp,
    step: Option<StepPath>,
    (mood, by, text): Said,
) -> Moment {
    let offset_seconds = at.duration_since(declared_at).as_secs_f64();
    Moment { seq, at, offset_seconds, mood, step, by, text }
}

/// Titles of steps that call an action.
fn titles<'a>(facts: &Facts<'a>) -> BTreeMap<&'a str, String> {
    let steps = facts.loaded.workflow.steps.iter();
    steps.filter(|s| super::action_of(s).is_some()).map(|s| (s.path.as_str(), s.title.clone())).collect()
}

/// The path of a step without the key of its item.
fn bare(step: &StepPath) -> &str {
    step.as_str().split('[').next().unwrap_or_default()
}

fn said(record: &Record, title: &str) -> Option<Said> {
    of_run(record).or_else(|| of_people(record)).or_else(|| of_step(record, title))
}

fn plain(text: impl Into<String>) -> Option<Said> {
    Some((Mood::Plain, None, text.into()))
}

fn of_run(record: &Record) -> Option<Said> {
    match record {
        Record::RunStarted(started) => Some((
            Mood::Plain,
            Some(started.actor.clone()),
            format!("the run of {} was started", started.name),
        )),
        Record::Opened { epoch, actor, host, pid } if *epoch > 1 => {
            Some((Mood::Plain, Some(actor.clone()), format!("resumed on {host} (process {pid})")))
        }
        Record::Closed { why, .. } => {
            let (mood, text) = match why {
                Ended::Failed => (Mood::Bad, "stopped: a step failed"),
                Ended::InDoubt => (Mood::Ask, "stopped: a step is in doubt"),
                Ended::Refused => (Mood::Bad, "stopped: a step was refused"),
                Ended::Paused => (Mood::Ask, "paused"),
                Ended::Deadline => (Mood::Ask, "stopped at its deadline"),
                Ended::Waiting => (Mood::Ask, "stopped: it waits for people"),
                Ended::Stopped => (Mood::Ask, "stopped as asked"),
            };
            Some((mood, None, text.to_owned()))
        }
        Record::RunFinished { outcome } => {
            let (mood, text) = match outcome {
                Final::Succeeded => (Mood::Good, "the run succeeded"),
                Final::Failed => (Mood::Bad, "the run failed"),
                Final::Cancelled => (Mood::Ask, "the run was cancelled"),
                Final::RolledBack => (Mood::Ask, "the run was rolled back"),
            };
            Some((mood, None, text.to_owned()))
        }
        _ => None,
    }
}

fn of_people(record: &Record) -> Option<Said> {
    let because =
        |reason: &Option<String>| reason.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let ask = |by: &str, text: String| Some((Mood::Ask, Some(by.to_owned()), text));
    match record {
        Record::ApprovalRequested(asked) => Some((Mood::Ask, None, format!("asked: {}", asked.prompt))),
        Record::ApprovalGiven { by, reason, .. } => ask(by, format!("approved{}", because(reason))),
        Record::ApprovalDenied { by, reason, .. } => ask(by, format!("denied{}", because(reason))),
        Record::ApprovalExpired { .. } => {
            Some((Mood::Bad, None, "the question expired without enough answers".into()))
        }
        Record::ApprovalVoided { why, .. } => {
            Some((Mood::Bad, None, format!("the approval no longer holds: {why}")))
        }
        Record::Resolved { verdict, by, reason, .. } => {
            let what = match verdict {
                Verdict::Done => "said that its effect is there",
                Verdict::Again => "said that it is not done",
            };
            ask(by, format!("{what}: {reason}"))
        }
        Record::PauseRequested { by, reason } => ask(by, format!("asked for a pause{}", because(reason))),
        Record::CancelRequested { by, reason } => ask(by, format!("cancelled{}", because(reason))),
        Record::RollbackRequested { by, reason } => {
            ask(by, format!("asked for a rollback{}", because(reason)))
        }
        Record::Rerun { by, reason, .. } => ask(by, format!("wants it done once more: {reason}")),
        Record::Noted { by, text } => Some((Mood::Plain, Some(by.clone()), format!("note: {text}"))),
        Record::GuardWaived { guard, by, reason } => ask(by, format!("waived guard {guard}: {reason}")),
        _ => None,
    }
}

fn of_step(record: &Record, title: &str) -> Option<Said> {
    match record {
        Record::AttemptFailed(failed) => {
            let then = match failed.then {
                Then::Retry(_) => "; it is tried again",
                Then::GiveUp => "",
                Then::Stopped => "; it stopped as asked",
            };
            let mood = if matches!(failed.then, Then::Stopped) { Mood::Ask } else { Mood::Bad };
            Some((
                mood,
                None,
                format!("{title}: attempt {} could not {}{then}", failed.attempt, failed.message),
            ))
        }
        Record::Fenced { ended, .. } if *ended > 0 => {
            plain(format!("{title}: {ended} pieces of an earlier attempt's work were ended"))
        }
        Record::StepDone(_) if title.is_empty() => None,
        Record::StepDone(done) => {
            let by_key =
                done.by_key_of.as_ref().map(|by| format!(" (done before, by {by})")).unwrap_or_default();
            let summary = Some(done.outcome.summary.as_str()).filter(|text| !text.is_empty());
            let summary = summary.map_or_else(|| "done".to_owned(), str::to_owned);
            Some((Mood::Good, None, format!("{title}: {summary}{by_key}")))
        }
        Record::StepRefused { why, message, .. } => {
            let why = match why {
                RefusedWhy::Precondition => "refused by a precondition",
                RefusedWhy::Guard => "refused by a guard",
                RefusedWhy::Key => "refused: its key is taken",
            };
            Some((Mood::Bad, None, format!("{title}: {why}: {message}")))
        }
        Record::StepFailed { message, .. } => {
            Some((Mood::Bad, None, format!("{title}: could not {message}")))
        }
        Record::StepInDoubt { why, .. } => Some((Mood::Ask, None, format!("{title}: in doubt: {why}"))),
        Record::Undone { outcome, .. } => {
            Some((Mood::Ask, None, format!("{title}: taken back{}", after_colon(&outcome.summary))))
        }
        Record::UndoFailed { message, .. } => {
            Some((Mood::Bad, None, format!("{title}: could not be taken back: {message}")))
        }
        Record::UndoSkipped { why, .. } => Some((Mood::Ask, None, format!("{title}: left as it is: {why}"))),
        _ => None,
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

pub(super) fn decisions(facts: &Facts<'_>) -> Vec<Decision> {
    let mut asked: BTreeMap<&StepPath, &str> = BTreeMap::new();
    let mut found: Vec<Decision> = Vec::new();
    for (at, record) in &facts.loaded.records {
        if let Record::RunStarted(started) = record {
            let waived = started.waivers.iter();
            found.extend(waived.map(|waiver| waived_guard(*at, &waiver.guard, &waiver.by, &waiver.reason)));
        }
        if let Record::ApprovalRequested(request) = record {
            asked.insert(&request.step, &request.prompt);
        }
        found.extend(decision(*at, record, &asked));
    }
    found
}

fn waived_guard(at: Timestamp, guard: &str, by: &str, reason: &str) -> Decision {
    let rule = runbook_core::guard::explain(guard).map(|explanation| explanation.rule.to_owned());
    Decision {
        at,
        by: Some(by.to_owned()),
        verdict: format!("waived {guard}"),
        mood: Mood::Bad,
        step: None,
        about: rule.unwrap_or_else(|| format!("guard {guard}")),
        reason: Some(reason.to_owned()),
    }
}

fn decision(at: Timestamp, record: &Record, asked: &BTreeMap<&StepPath, &str>) -> Option<Decision> {
    let question = |step: &StepPath| asked.get(step).map_or_else(String::new, |prompt| (*prompt).to_owned());
    let of = |verdict: &str,
              mood,
              by: Option<&String>,
              step: Option<&StepPath>,
              about: String,
              reason: Option<&String>| {
        Some(Decision {
            at,
            by: by.cloned(),
            verdict: verdict.to_owned(),
            mood,
            step: step.cloned(),
            about,
            reason: reason.cloned(),
        })
    };
    match record {
        Record::ApprovalGiven { step, by, reason, .. } => {
            of("approved", Mood::Good, Some(by), Some(step), question(step), reason.as_ref())
        }
        Record::ApprovalDenied { step, by, reason, .. } => {
            of("denied", Mood::Bad, Some(by), Some(step), question(step), reason.as_ref())
        }
        Record::ApprovalExpired { step } => {
            of("not answered", Mood::Bad, None, Some(step), question(step), None)
        }
        Record::ApprovalVoided { step, why } => {
            of("voided", Mood::Bad, None, Some(step), question(step), Some(why))
        }
        Record::Resolved { step, verdict, by, reason, .. } => {
            let verdict = match verdict {
                Verdict::Done => "taken as done",
                Verdict::Again => "done again",
            };
            of(verdict, Mood::Ask, Some(by), Some(step), "the step was in doubt".to_owned(), Some(reason))
        }
        Record::Rerun { step, by, reason } => of(
            "done once more",
            Mood::Ask,
            Some(by),
            Some(step),
            "the step was finished".to_owned(),
            Some(reason),
        ),
        Record::PauseRequested { by, reason } => {
            of("paused", Mood::Ask, Some(by), None, "the run".to_owned(), reason.as_ref())
        }
        Record::CancelRequested { by, reason } => {
            of("cancelled", Mood::Bad, Some(by), None, "the run".to_owned(), reason.as_ref())
        }
        Record::RollbackRequested { by, reason } => {
            of("rolled back", Mood::Bad, Some(by), None, "the run".to_owned(), reason.as_ref())
        }
        Record::GuardWaived { guard, by, reason } => Some(waived_guard(at, guard, by, reason)),
        _ => None,
    }
}
