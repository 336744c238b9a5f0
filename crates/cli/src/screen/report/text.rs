//! Words, numbers and moments of a report, the same in every form. A report is read in several places, so moments are in
//! UTC and say so once.

use std::time::Duration;

use jiff::Timestamp;
use runbook_executor::report::{Measured, Mood, Report};

use crate::words;

/// `22 Nov 2026, 21:14:03`
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%-d %b %Y, %H:%M:%S").to_string()
}

/// `21:14:03`, or with its day when that is another than the report's.
pub(super) fn clock(at: Timestamp, day_of: Timestamp) -> String {
    let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
    if day(at) == day(day_of) {
        at.strftime("%H:%M:%S").to_string()
    } else {
        at.strftime("%-d %b %H:%M:%S").to_string()
    }
}

/// `1.2s`, `2m 03s`
pub(super) fn seconds(seconds: f64) -> String {
    words::duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}

/// `+2m 03s`, `-4.0s`, `0.0s`
pub(super) fn offset(offset: f64) -> String {
    let sign = match offset {
        offset if offset.abs() < 0.05 => "",
        offset if offset < 0.0 => "-",
        _ => "+",
    };
    format!("{sign}{}", seconds(offset.abs()))
}

/// A sign that says the same without colour.
pub(super) fn sign(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "✓",
        Mood::Bad => "✗",
        Mood::Ask => "●",
        Mood::Plain => "·",
    }
}

/// What became of an objective.
pub(super) struct Judged {
    /// `3m 02s`, or a dash.
    pub(super) measured: String,
    /// `24h 00m`, or a dash.
    pub(super) target: String,
    /// In words.
    pub(super) verdict: &'static str,
    /// How it is meant.
    pub(super) mood: Mood,
}

pub(super) fn judged(measured: &Measured, over: bool) -> Judged {
    let dash = || "–".to_owned();
    let (verdict, mood) = match (measured.seconds, measured.met) {
        (None, _) => ("not measured", Mood::Plain),
        (Some(_), Some(true)) => ("kept", Mood::Good),
        (Some(_), Some(false)) => ("MISSED", Mood::Bad),
        (Some(_), None) if !over => ("so far", Mood::Ask),
        (Some(_), None) => ("no objective", Mood::Plain),
    };
    Judged {
        measured: measured.seconds.map_or_else(dash, seconds),
        target: measured
            .target_seconds
            .map_or_else(dash, |target| words::duration(Duration::from_secs(target))),
        verdict,
        mood,
    }
}

/// What the RPO and the RTO were measured from and to.
pub(super) fn how_measured(report: &Report) -> (String, String) {
    let objectives = &report.objectives;
    let began = if objectives.declared { "the declaration" } else { "the start of the run" };
    let rpo = match objectives.backup.as_ref().and_then(|backup| backup.taken_at) {
        Some(at) => {
            format!("from the restore point, {}, to {began}, {}", moment(at), moment(objectives.declared_at))
        }
        None => "no restore point is known".to_owned(),
    };
    let rto = match objectives.reopened_at {
        Some(at) => format!("from {began} to {}, {}", end_of(report), moment(at)),
        None => format!("from {began}; {} has not come", end_of(report)),
    };
    (rpo, rto)
}

fn end_of(report: &Report) -> &'static str {
    match report.head.purpose {
        runbook_core::document::Kind::Drill => "the proof of the copy",
        _ => "the reopening",
    }
}

/// The title that people know it by.
pub(super) fn title(report: &Report) -> &str {
    report.head.incident_title.as_deref().unwrap_or(&report.head.title)
}

/// How the run as a whole is meant.
pub(super) fn outcome_mood(report: &Report) -> Mood {
    use runbook_executor::driver::RunOutcome;
    match report.head.outcome {
        RunOutcome::Succeeded => Mood::Good,
        RunOutcome::Failed | RunOutcome::GivenUp | RunOutcome::Refused => Mood::Bad,
        _ => Mood::Ask,
    }
}

/// Name of a phase as a heading.
pub(super) fn phase(name: &str) -> &str {
    match name {
        "freeze" => "Declare and freeze",
        "backup" => "Choose the backup",
        "restore" => "Restore",
        "validate" => "Validate",
        "expose" => "Expose",
        "verify" => "Verify and reopen",
        other => other,
    }
}

/// What a program put into an input, on one line.
pub(super) fn value(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The head as pairs; what is not known is left out.
pub(super) fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let head = &report.head;
    let mut facts =
        vec![("Run", head.run.clone()), ("Runbook", format!("{} in {}", head.runbook, head.environment))];
    let known = [
        ("Incident", head.incident.clone()),
        ("Severity", head.severity.clone()),
        ("Led by", head.owner.clone()),
        ("Backup person", head.backup_person.clone()),
    ];
    facts.extend(known.into_iter().filter_map(|(name, text)| Some((name, text?))));
    facts.push(("Started", format!("{} UTC by {}", moment(head.started_at), head.started_by)));
    let last = if head.finished { "Ended" } else { "Last record" };
    facts.push((last, format!("{} UTC", moment(head.last_at))));
    if head.sittings > 1 {
        let idle: f64 = report.idle.iter().map(|stretch| stretch.seconds).sum();
        facts.push(("Sittings", format!("{}; nobody worked on it for {}", head.sittings, seconds(idle))));
    }
    if let Some(backup) = &report.objectives.backup {
        let size = backup.size_bytes.map(|bytes| format!(", {}", words::bytes(bytes))).unwrap_or_default();
        let done = if backup.restored { "" } else { " (chosen, not restored)" };
        facts.push(("Backup", format!("{}{size}{done}", backup.url)));
    }
    if let Some(loss) = &report.objectives.data_loss {
        let (from, until) = (moment(loss.from), moment(loss.until));
        let name =
            if head.purpose == runbook_core::document::Kind::Drill { "Would be lost" } else { "Data lost" };
        facts.push((
            name,
            format!(
                "what was written from {from} to {until} UTC, when {}: {}",
                loss.why,
                seconds(loss.seconds)
            ),
        ));
    }
    for (name, input) in head.inputs.iter().filter(|(_, input)| !input.is_null()) {
        facts.push(("Input", format!("{name} = {}", value(input))));
    }
    facts
}
