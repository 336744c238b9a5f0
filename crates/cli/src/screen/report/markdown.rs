//! The report as Markdown. Text from outside cannot become markup: what has a meaning in Markdown or HTML is escaped, and
//! line ends become spaces.

use std::fmt::Write as _;

use runbook_executor::report::{Report, StepLine};

use super::text::{self, clock, facts, how_measured, judged, moment, offset, seconds, sign};
use crate::screen::safe;

/// Width of a bar of the chart, in characters.
const BAR: usize = 40;

/// The whole report.
pub(crate) fn markdown(report: &Report) -> String {
    let mut md = String::new();
    let mood = text::outcome_mood(report);
    let _ = writeln!(md, "# {}\n", escaped(text::title(report)));
    let _ = writeln!(md, "**{} {}**\n", sign(mood), escaped(&report.head.outcome_words));
    for reason in &report.head.reasons {
        let _ = writeln!(md, "- {}", escaped(reason));
    }
    if !report.head.reasons.is_empty() {
        md.push('\n');
    }
    table(&mut md, &["", ""], facts(report).into_iter().map(|(name, text)| vec![name.to_owned(), text]));
    let _ = writeln!(md, "All times are UTC.\n");
    objectives(&mut md, report);
    decisions(&mut md, report);
    timeline(&mut md, report);
    steps(&mut md, report);
    changes(&mut md, report);
    evidence(&mut md, report);
    rest(&mut md, report);
    chain(&mut md, report);
    md
}

/// Text that shows as it is, in a paragraph, a list and a table.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in safe(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' => {
                shown.push('\\');
                shown.push(c);
            }
            c => shown.push(c),
        }
    }
    shown
}

fn table(md: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    md.push_str(&line(&heads));
    md.push_str(&line(&vec!["---".to_owned(); heads.len()]));
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
        md.push_str(&line(&cells));
    }
    md.push('\n');
}

fn objectives(md: &mut String, report: &Report) {
    md.push_str("## Objectives\n\n");
    let objectives = &report.objectives;
    let (rpo_how, rto_how) = how_measured(report);
    let row = |name: &str, measured, over, how: &String| {
        let judged = judged(measured, over);
        let verdict = format!("{} {}", sign(judged.mood), judged.verdict);
        vec![name.to_owned(), judged.target, judged.measured, verdict, how.clone()]
    };
    let over = objectives.reopened_at.is_some();
    let rows = [row("RPO", &objectives.rpo, true, &rpo_how), row("RTO", &objectives.rto, over, &rto_how)];
    table(md, &["", "objective", "measured", "", "how"], rows.into_iter());
    if !report.phases.is_empty() {
        let rows = report.phases.iter().map(|phase| {
            vec![text::phase(&phase.name).to_owned(), seconds(phase.seconds), phase.steps.to_string()]
        });
        table(md, &["phase", "took", "steps"], rows);
    }
}

fn decisions(md: &mut String, report: &Report) {
    md.push_str("## Decisions and approvals\n\n");
    if report.decisions.is_empty() {
        md.push_str("None.\n\n");
        return;
    }
    let rows = report.decisions.iter().map(|decision| {
        let step = decision.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
        vec![
            clock(decision.at, report.head.started_at),
            decision.by.clone().unwrap_or_else(|| "nobody".to_owned()),
            format!("{} {}", sign(decision.mood), decision.verdict),
            format!("{step}{}", decision.about),
            decision.reason.clone().unwrap_or_else(|| "–".to_owned()),
        ]
    });
    table(md, &["when", "who", "what", "about", "reason"], rows);
}

fn timeline(md: &mut String, report: &Report) {
    md.push_str("## Timeline\n\n");
    let rows = report.timeline.iter().map(|moment| {
        let by = moment.by.as_ref().map(|by| format!("{by}: ")).unwrap_or_default();
        vec![
            clock(moment.at, report.head.started_at),
            offset(moment.offset_seconds),
            format!("{} {by}{}", sign(moment.mood), moment.text),
        ]
    });
    table(md, &["UTC", "since declared", "what"], rows);
}

fn steps(md: &mut String, report: &Report) {
    md.push_str("## Steps\n\n");
    let started: Vec<&StepLine> = report.steps.iter().filter(|step| !step.bars.is_empty()).collect();
    if started.is_empty() {
        md.push_str("None was started.\n\n");
        return;
    }
    let from = report.head.started_at;
    let whole = report.head.last_at.duration_since(from).as_secs_f64().max(0.001);
    let widest = started.iter().map(|step| step.step.as_str().chars().count()).max().unwrap_or(0).min(32);
    md.push_str("```text\n");
    for step in started {
        let mut bar = vec![' '; BAR];
        for piece in &step.bars {
            let place =
                |at: jiff::Timestamp| (at.duration_since(from).as_secs_f64() / whole * BAR as f64) as usize;
            let first = place(piece.from).min(BAR - 1);
            let last = place(piece.until).clamp(first, BAR - 1);
            let drawn = match piece.what {
                runbook_executor::report::BarKind::Asked => '░',
                runbook_executor::report::BarKind::Done => '█',
                _ => '▒',
            };
            bar[first..=last].fill(drawn);
        }
        let bar: String = bar.into_iter().collect();
        let name = safe(step.step.as_str()).replace('`', "'");
        let took = step.seconds.map(seconds).unwrap_or_default();
        let attempts =
            if step.attempts > 1 { format!("  {} attempts", step.attempts) } else { String::new() };
        let _ = writeln!(md, "{} {name:widest$} |{bar}| {took:>7}{attempts}", sign(step.mood));
    }
    md.push_str("```\n\n`█` an attempt that succeeded, `▒` one that did not, `░` waiting for people.\n\n");
}

fn changes(md: &mut String, report: &Report) {
    md.push_str("## What changed\n\n");
    if report.changes.is_empty() {
        md.push_str("Nothing.\n\n");
    }
    for system in &report.changes {
        let _ = writeln!(md, "**{}**\n", escaped(&system.system));
        for change in &system.changes {
            let note = change.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
            let _ = writeln!(md, "- {}", escaped(&format!("{}{note} [{}]", change.text, change.step)));
        }
        md.push('\n');
    }
}

fn evidence(md: &mut String, report: &Report) {
    md.push_str("## Evidence\n\n");
    let rows = report.evidence.levels.iter().map(|level| {
        let by: Vec<&str> = level.proven_by.iter().map(|step| step.as_str()).collect();
        let proven =
            if by.is_empty() { "– not shown".to_owned() } else { format!("✓ {}", by.join(", ")) };
        vec![level.level.clone(), level.meaning.clone(), proven]
    });
    table(md, &["level", "means", "proven by"], rows);
    if report.evidence.checks.is_empty() {
        md.push_str("No check was made.\n\n");
        return;
    }
    let rows = report.evidence.checks.iter().map(|line| {
        let check = &line.check;
        let sign = if check.ok { "✓" } else { "✗" };
        vec![
            sign.to_owned(),
            line.step.to_string(),
            check.name.clone(),
            check.expected.clone(),
            check.observed.clone(),
        ]
    });
    table(md, &["", "step", "check", "expected", "observed"], rows);
}

fn rest(md: &mut String, report: &Report) {
    md.push_str("## Skipped or waived\n\n");
    list(
        md,
        report.left_out.iter().map(|left| {
            let title = if left.title.is_empty() || left.title == left.what {
                String::new()
            } else {
                format!(" ({})", left.title)
            };
            format!("{}: {}{title}: {}", left.how, left.what, left.why)
        }),
    );
    md.push_str("## Still in force\n\n");
    let in_force = report.in_force.iter();
    list(md, in_force.map(|force| format!("{} [{}, since {}]", force.text, force.step, moment(force.since))));
    md.push_str("## Follow-ups\n\n");
    list(
        md,
        report.follow_ups.iter().map(|task| {
            let url = task.url.as_ref().map(|url| format!(" {url}")).unwrap_or_default();
            format!("{}: {}{url} [{}]", task.how, task.text, task.from)
        }),
    );
}

fn list(md: &mut String, lines: impl Iterator<Item = String>) {
    let mut any = false;
    for line in lines {
        any = true;
        let _ = writeln!(md, "- {}", escaped(&line));
    }
    md.push_str(if any { "\n" } else { "None.\n\n" });
}

fn chain(md: &mut String, report: &Report) {
    let chain = &report.chain;
    let verdict = if chain.verifies { "each follows from the one before" } else { "the chain is BROKEN" };
    md.push_str("## Proof\n\n");
    let _ = writeln!(md, "{} records; {verdict}.\n", chain.records);
    let _ = writeln!(md, "- hash of the last record: `{}`", chain.head);
    let _ = writeln!(md, "- plan: `{}`", chain.plan);
    let _ = writeln!(
        md,
        "- runbook {}; `runbook verify {}` proves it again",
        escaped(&report.head.version),
        report.head.run
    );
}
