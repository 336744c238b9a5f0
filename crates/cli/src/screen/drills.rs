//! `drill history`: what drills came to, and whether it is getting better. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use runbook_core::workflow::StepPath;
use runbook_executor::driver::RunOutcome;
use runbook_executor::report::{Measured, Report};
use serde::Serialize;

use super::safe;
use crate::words::duration;

/// Columns from which the wide form fits.
const WIDE: usize = 120;

/// One drill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Drill {
    /// The run.
    pub(crate) run: String,
    /// The runbook's name.
    pub(crate) runbook: String,
    /// The environment's name.
    pub(crate) environment: String,
    /// When it was started.
    pub(crate) started_at: Timestamp,
    /// `passed`, `failed`, `stopped` …
    pub(crate) outcome: &'static str,
    /// The step that stood in the way.
    pub(crate) failed_at: Option<StepPath>,
    /// Data that would have been lost.
    pub(crate) rpo: Measured,
    /// Time that it took.
    pub(crate) rto: Measured,
    /// Against the drill before it of the same runbook in the same environment: seconds more or less.
    pub(crate) rpo_trend_seconds: Option<f64>,
    /// The same for the RTO.
    pub(crate) rto_trend_seconds: Option<f64>,
}

impl Drill {
    /// From reports, newest first.
    pub(crate) fn of(reports: &[Report]) -> Vec<Self> {
        let mut drills: Vec<Self> = reports.iter().map(Self::one).collect();
        for at in 0..drills.len() {
            let (newer, older) = drills.split_at_mut(at + 1);
            let Some(drill) = newer.last_mut() else { continue };
            let same = |other: &&Self| {
                other.runbook == drill.runbook
                    && other.environment == drill.environment
                    && other.outcome == "passed"
            };
            let Some(before) = older.iter().find(same) else { continue };
            let change = |now: Measured, then: Measured| Some(now.seconds? - then.seconds?);
            drill.rpo_trend_seconds = change(drill.rpo, before.rpo);
            // How long a drill took that did not come to its end says nothing.
            drill.rto_trend_seconds = change(drill.rto, before.rto).filter(|_| drill.outcome == "passed");
        }
        drills
    }

    fn one(report: &Report) -> Self {
        let bad = |step: &&runbook_executor::report::StepLine| {
            step.handler.is_none() && step.mood == runbook_executor::report::Mood::Bad
        };
        Self {
            run: report.head.run.clone(),
            runbook: report.head.runbook.clone(),
            environment: report.head.environment.clone(),
            started_at: report.head.started_at,
            outcome: match report.head.outcome {
                RunOutcome::Succeeded => "passed",
                RunOutcome::Failed | RunOutcome::GivenUp | RunOutcome::Refused => "FAILED",
                RunOutcome::Cancelled | RunOutcome::RolledBack => "given up",
                RunOutcome::Interrupted => "not over",
                _ => "stopped",
            },
            failed_at: report.steps.iter().find(bad).map(|step| step.step.clone()),
            rpo: report.objectives.rpo,
            rto: report.objectives.rto,
            rpo_trend_seconds: None,
            rto_trend_seconds: None,
        }
    }
}

/// The screen.
pub(crate) fn drills(drills: &[Drill], now: Timestamp, width: usize) -> String {
    let Some(newest) = drills.first() else {
        return "No drill has been run yet.\n\nnext: runbook run runbooks/drill.yaml --env NAME\n".to_owned();
    };
    let passed = drills.iter().filter(|drill| drill.outcome == "passed").count();
    let last = drills.iter().find(|drill| drill.outcome == "passed");
    let mut text = format!("Drills: {passed} of {} passed", drills.len());
    match last {
        Some(last) => {
            let _ = writeln!(text, "; the last one that passed was {} ago", ago(last.started_at, now));
        }
        None => text.push_str("; none has passed\n"),
    }
    text.push('\n');
    let wide = width >= WIDE;
    text.push_str(&heading(wide));
    for drill in drills {
        text.push_str(&line(drill, now, wide));
    }
    let run = newest.run.get(..8).unwrap_or(&newest.run);
    let _ = write!(text, "\nnext: runbook report {run}\n");
    text
}

fn heading(wide: bool) -> String {
    if wide {
        let head = format!(
            "  {:8}  {:12}  {:>7}  {:16}  {:12}  {:8}  {:>9}  {:>9}  {:>9}  {:>9}  {}",
            "run",
            "started",
            "ago",
            "runbook",
            "environment",
            "outcome",
            "RPO",
            "trend",
            "RTO",
            "trend",
            "failed at"
        );
        return format!("{}\n", head.trim_end());
    }
    format!(
        "  {:8}  {:>7}  {:8}  {:>9}  {:>9}  {:>9}  {:>9}\n",
        "run", "ago", "outcome", "RPO", "trend", "RTO", "trend"
    )
}

fn line(drill: &Drill, now: Timestamp, wide: bool) -> String {
    let run = drill.run.get(..8).unwrap_or(&drill.run);
    let sign = if drill.outcome == "passed" { "✓" } else { "✗" };
    let (rpo, rto) = (figure(&drill.rpo), figure(&drill.rto));
    let (rpo_trend, rto_trend) = (trend(drill.rpo_trend_seconds), trend(drill.rto_trend_seconds));
    let ago = ago(drill.started_at, now);
    let failed_at = drill.failed_at.as_ref().map(|step| safe(step.as_str())).unwrap_or_default();
    let line = if wide {
        let at = drill.started_at.strftime("%d %b %H:%M");
        format!(
            "{sign} {run:8}  {at:12}  {ago:>7}  {:16}  {:12}  {:8}  {rpo:>9}  {rpo_trend:>9}  {rto:>9}  {rto_trend:>9}  {failed_at}",
            cut(&drill.runbook, 16),
            cut(&drill.environment, 12),
            drill.outcome,
        )
    } else {
        format!(
            "{sign} {run:8}  {ago:>7}  {:8}  {rpo:>9}  {rpo_trend:>9}  {rto:>9}  {rto_trend:>9}",
            drill.outcome
        )
    };
    let mut text = format!("{}\n", line.trim_end());
    if !wide && !failed_at.is_empty() {
        let _ = writeln!(text, "            failed at {failed_at}");
    }
    text
}

/// What was measured; an exclamation mark where it is beyond the objective.
fn figure(measured: &Measured) -> String {
    let Some(seconds) = measured.seconds else { return "–".to_owned() };
    let figure = duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
    if measured.met == Some(false) { format!("{figure} !") } else { figure }
}

/// Down is better for both.
fn trend(seconds: Option<f64>) -> String {
    let Some(change) = seconds else { return String::new() };
    let length = duration(Duration::try_from_secs_f64(change.abs()).unwrap_or_default());
    if change.abs() < 0.05 {
        "=".to_owned()
    } else if change > 0.0 {
        format!("↑ {length}")
    } else {
        format!("↓ {length}")
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    duration(Duration::try_from(now.duration_since(at)).unwrap_or_default())
}

fn cut(text: &str, chars: usize) -> String {
    let text = safe(text);
    if text.chars().count() <= chars {
        return text;
    }
    let mut cut: String = text.chars().take(chars.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn measured(target: u64, seconds: f64) -> Measured {
        let met = seconds <= target as f64;
        Measured { target_seconds: Some(target), seconds: Some(seconds), met: Some(met) }
    }

    fn drill(run: &str, started_at: &str, outcome: &'static str, rto: f64) -> Drill {
        Drill {
            run: run.to_owned(),
            runbook: "drill".to_owned(),
            environment: "production".to_owned(),
            started_at: at(started_at),
            outcome,
            failed_at: (outcome != "passed").then(|| StepPath::new("restore")),
            rpo: measured(86_400, 30_000.0),
            rto: measured(3600, rto),
            rpo_trend_seconds: Some(-60.0),
            rto_trend_seconds: (outcome == "passed").then_some(12.5),
        }
    }

    fn sample() -> Vec<Drill> {
        vec![
            drill("0aaaaaaaaaaa", "2026-11-01T03:00:00Z", "FAILED", 4000.0),
            drill("0bbbbbbbbbbb", "2026-10-01T03:00:00Z", "passed", 1800.0),
        ]
    }

    #[test]
    fn eighty_columns_are_enough() {
        let shown = drills(&sample(), at("2026-11-03T03:00:00Z"), 80);
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        insta::assert_snapshot!(shown, @r"
        Drills: 1 of 2 passed; the last one that passed was 33d 00h ago

          run           ago  outcome         RPO      trend        RTO      trend
        ✗ 0aaaaaaa   2d 00h  FAILED       8h 20m   ↓ 1m 00s   1h 06m !
                    failed at restore
        ✓ 0bbbbbbb  33d 00h  passed       8h 20m   ↓ 1m 00s    30m 00s    ↑ 12.5s

        next: runbook report 0aaaaaaa
        ");
    }

    #[test]
    fn a_wide_screen_says_where_and_what() {
        let shown = drills(&sample(), at("2026-11-03T03:00:00Z"), 160);
        assert!(shown.lines().all(|line| line.chars().count() <= 160), "{shown}");
        insta::assert_snapshot!(shown, @r"
        Drills: 1 of 2 passed; the last one that passed was 33d 00h ago

          run       started           ago  runbook           environment   outcome         RPO      trend        RTO      trend  failed at
        ✗ 0aaaaaaa  01 Nov 03:00   2d 00h  drill             production    FAILED       8h 20m   ↓ 1m 00s   1h 06m !             restore
        ✓ 0bbbbbbb  01 Oct 03:00  33d 00h  drill             production    passed       8h 20m   ↓ 1m 00s    30m 00s    ↑ 12.5s

        next: runbook report 0aaaaaaa
        ");
    }

    #[test]
    fn no_drill_is_said() {
        assert!(drills(&[], at("2026-11-03T03:00:00Z"), 80).starts_with("No drill has been run yet."));
    }
}
