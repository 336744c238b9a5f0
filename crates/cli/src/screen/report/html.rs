//! The report as one HTML file: no script, nothing from outside, readable from a telephone to a wall, in the light and in
//! the dark, and on paper. Every text is escaped, whatever it is.

use std::fmt::Write as _;

use runbook_executor::report::{Mood, Report};

use super::chart::chart;
use super::text::{self, clock, facts, how_measured, judged, moment, offset, seconds, sign};

/// The look, inside the file.
const STYLE: &str = include_str!("report.css");

/// The whole report.
pub(crate) fn html(report: &Report) -> String {
    let mut page = String::with_capacity(64 << 10);
    let title = escaped(text::title(report));
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"content-security-policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{title} · {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escaped(&report.head.run),
    );
    head(&mut page, report, &title);
    objectives(&mut page, report);
    timeline(&mut page, report);
    decisions(&mut page, report);
    changes(&mut page, report);
    evidence(&mut page, report);
    rest(&mut page, report);
    proof(&mut page, report);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Text that shows as it is, in content and in attributes. Control characters, and marks that turn the direction of text,
/// are shown and not obeyed.
pub(super) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in crate::screen::safe(text).chars() {
        match c {
            '&' => shown.push_str("&amp;"),
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            c => shown.push(c),
        }
    }
    shown
}

fn class(mood: Mood) -> &'static str {
    match mood {
        Mood::Good => "good",
        Mood::Bad => "bad",
        Mood::Ask => "ask",
        Mood::Plain => "plain",
    }
}

fn head(page: &mut String, report: &Report, title: &str) {
    let mood = text::outcome_mood(report);
    let severity =
        report.head.severity.as_ref().map(|severity| format!(" · {}", escaped(severity))).unwrap_or_default();
    let _ = write!(
        page,
        "<header>\n<p class=\"kind\">{} · {}{severity}</p>\n<h1>{title}</h1>\n<p class=\"outcome {}\">{} {}</p>\n",
        match report.head.purpose {
            runbook_core::document::Kind::Incident => "Incident report",
            runbook_core::document::Kind::Drill => "Drill report",
            runbook_core::document::Kind::Maintenance => "Report",
        },
        escaped(&report.head.environment),
        class(mood),
        sign(mood),
        escaped(&report.head.outcome_words),
    );
    if !report.head.reasons.is_empty() {
        list(page, report.head.reasons.iter().map(|reason| escaped(reason)));
    }
    page.push_str("<dl>\n");
    for (name, text) in facts(report) {
        let _ = writeln!(page, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&text));
    }
    page.push_str("</dl>\n<p class=\"note\">All times are UTC.</p>\n</header>\n");
}

fn objectives(page: &mut String, report: &Report) {
    let objectives = &report.objectives;
    let (rpo_how, rto_how) = how_measured(report);
    page.push_str("<section>\n<h2>Objectives</h2>\n<div class=\"cards\">\n");
    let over = objectives.reopened_at.is_some();
    for (name, what, measured, over, how) in [
        ("RPO", "data lost", &objectives.rpo, true, rpo_how),
        ("RTO", "time to reopen", &objectives.rto, over, rto_how),
    ] {
        let judged = judged(measured, over);
        let _ = write!(
            page,
            "<div class=\"card {}\">\n<p class=\"label\">{name} <span>{what}</span></p>\n<p class=\"figure\">{}</p>\n\
             <p class=\"verdict\">{} {} <span>objective {}</span></p>\n<p class=\"note\">{}</p>\n</div>\n",
            class(judged.mood),
            escaped(&judged.measured),
            sign(judged.mood),
            judged.verdict,
            escaped(&judged.target),
            escaped(&how),
        );
    }
    page.push_str("</div>\n");
    phases(page, report);
    page.push_str("</section>\n");
}

/// The phases as one bar of their shares, and as words.
fn phases(page: &mut String, report: &Report) {
    let whole: f64 = report.phases.iter().map(|phase| phase.seconds).sum();
    if whole <= 0.0 {
        return;
    }
    page.push_str("<svg class=\"phases\" width=\"100%\" height=\"18\" role=\"img\" aria-label=\"Share of each phase\">\n");
    let mut x = 0.0;
    for (at, phase) in report.phases.iter().enumerate() {
        let width = phase.seconds / whole * 100.0;
        let name = escaped(text::phase(&phase.name));
        let _ = writeln!(
            page,
            "<rect class=\"p{}\" x=\"{x:.2}%\" y=\"0\" width=\"{width:.2}%\" height=\"18\"><title>{name}: {}</title></rect>",
            at % 6,
            seconds(phase.seconds),
        );
        x += width;
    }
    page.push_str("</svg>\n<ul class=\"legend\">\n");
    for (at, phase) in report.phases.iter().enumerate() {
        let _ = writeln!(
            page,
            "<li><i class=\"p{}\"></i>{} <b>{}</b></li>",
            at % 6,
            escaped(text::phase(&phase.name)),
            seconds(phase.seconds)
        );
    }
    page.push_str("</ul>\n");
}

fn timeline(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Timeline</h2>\n");
    if let Some(chart) = chart(report) {
        page.push_str(&chart);
        page.push_str(
            "<ul class=\"legend\">\n<li><i class=\"good\"></i>succeeded</li><li><i class=\"bad\"></i>failed</li>\
             <li><i class=\"cut\"></i>cut off</li><li><i class=\"asked\"></i>waited for people</li>\
             <li><i class=\"undone\"></i>taken back</li><li><i class=\"idle\"></i>nobody worked on it</li>\n</ul>\n",
        );
    }
    let rows = report.timeline.iter().map(|line| {
        let by = line.by.as_ref().map(|by| format!("<b>{}</b> ", escaped(by))).unwrap_or_default();
        let step = line
            .step
            .as_ref()
            .map(|step| format!(" <code>{}</code>", escaped(step.as_str())))
            .unwrap_or_default();
        vec![
            format!("<time datetime=\"{}\">{}</time>", line.at, clock(line.at, report.head.started_at)),
            offset(line.offset_seconds),
            format!(
                "<span class=\"{}\">{}</span> {by}{}{step}",
                class(line.mood),
                sign(line.mood),
                escaped(&line.text)
            ),
        ]
    });
    table(page, "timeline", &["UTC", "Since declared", "What happened"], rows);
    page.push_str("</section>\n");
}

fn decisions(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Decisions and approvals</h2>\n");
    let rows = report.decisions.iter().map(|decision| {
        let step = decision
            .step
            .as_ref()
            .map(|step| format!(" <code>{}</code>", escaped(step.as_str())))
            .unwrap_or_default();
        vec![
            clock(decision.at, report.head.started_at),
            escaped(decision.by.as_deref().unwrap_or("nobody")),
            format!(
                "<span class=\"{}\">{} {}</span>",
                class(decision.mood),
                sign(decision.mood),
                escaped(&decision.verdict)
            ),
            format!("{}{step}", escaped(&decision.about)),
            decision.reason.as_ref().map_or_else(|| "–".to_owned(), |reason| escaped(reason)),
        ]
    });
    table(page, "decisions", &["UTC", "Who", "Decision", "About", "Reason"], rows);
    page.push_str("</section>\n");
}

fn changes(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>What changed</h2>\n");
    if report.changes.is_empty() {
        page.push_str("<p>Nothing.</p>\n");
    }
    for system in &report.changes {
        let _ = writeln!(page, "<h3>{}</h3>", escaped(&system.system));
        list(
            page,
            system.changes.iter().map(|change| {
                let note = change
                    .note
                    .as_ref()
                    .map(|note| format!(" <em>{}</em>", escaped(note)))
                    .unwrap_or_default();
                format!("{}{note} <code>{}</code>", escaped(&change.text), escaped(change.step.as_str()))
            }),
        );
    }
    page.push_str("</section>\n");
}

fn evidence(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Evidence</h2>\n<ol class=\"levels\">\n");
    for level in &report.evidence.levels {
        let by: Vec<String> =
            level.proven_by.iter().map(|step| format!("<code>{}</code>", escaped(step.as_str()))).collect();
        let (class, words) =
            if by.is_empty() { ("plain", "not shown".to_owned()) } else { ("good", by.join(" ")) };
        let sign = if class == "good" { "✓" } else { "–" };
        let _ = writeln!(
            page,
            "<li class=\"{class}\"><b>{sign} {}</b> {} <span>{words}</span></li>",
            escaped(&level.level),
            escaped(&level.meaning)
        );
    }
    page.push_str("</ol>\n");
    let rows = report.evidence.checks.iter().map(|line| {
        let (class, sign) = if line.check.ok { ("good", "✓") } else { ("bad", "✗") };
        vec![
            format!("<span class=\"{class}\">{sign}</span>"),
            format!("{} <code>{}</code>", escaped(&line.check.name), escaped(line.step.as_str())),
            escaped(&line.check.expected),
            escaped(&line.check.observed),
        ]
    });
    table(page, "checks", &["", "Check", "Expected", "Observed"], rows);
    page.push_str("</section>\n");
}

fn rest(page: &mut String, report: &Report) {
    page.push_str("<section>\n<h2>Skipped or waived</h2>\n");
    list(
        page,
        report.left_out.iter().map(|left| {
            let title =
                if left.title == left.what { String::new() } else { format!(" {}", escaped(&left.title)) };
            let class = if left.how == "waived" { "bad" } else { "plain" };
            format!(
                "<span class=\"{class}\">{}</span> <code>{}</code>{title}: {}",
                escaped(&left.how),
                escaped(&left.what),
                escaped(&left.why)
            )
        }),
    );
    page.push_str("</section>\n<section>\n<h2>Still in force</h2>\n");
    list(
        page,
        report.in_force.iter().map(|force| {
            format!(
                "{} <code>{}</code> since {}",
                escaped(&force.text),
                escaped(force.step.as_str()),
                moment(force.since)
            )
        }),
    );
    page.push_str("</section>\n<section>\n<h2>Follow-ups</h2>\n");
    list(
        page,
        report.follow_ups.iter().map(|task| {
            // Only an address of the web becomes a link; anything else a remote sent is shown as text.
            let url = task.url.as_deref().map(|url| {
                match url.starts_with("https://") || url.starts_with("http://") {
                    true => format!(" <a href=\"{0}\">{0}</a>", escaped(url)),
                    false => format!(" {}", escaped(url)),
                }
            });
            format!(
                "{}: {}{} <code>{}</code>",
                escaped(&task.how),
                escaped(&task.text),
                url.unwrap_or_default(),
                escaped(&task.from)
            )
        }),
    );
    page.push_str("</section>\n");
}

fn proof(page: &mut String, report: &Report) {
    let chain = &report.chain;
    let (class, verdict) = if chain.verifies {
        ("good", "✓ each follows from the one before")
    } else {
        ("bad", "✗ the chain is BROKEN")
    };
    let _ = write!(
        page,
        "<section class=\"proof\">\n<h2>Proof</h2>\n<p>{} records: <span class=\"{class}\">{verdict}</span></p>\n<dl>\n\
         <div><dt>Last record</dt><dd><code>{}</code></dd></div>\n<div><dt>Plan</dt><dd><code>{}</code></dd></div>\n\
         <div><dt>Made by</dt><dd>runbook {}; <code>runbook verify {}</code> proves it again</dd></div>\n</dl>\n</section>\n",
        chain.records,
        escaped(&chain.head),
        escaped(&chain.plan),
        escaped(&report.head.version),
        escaped(&report.head.run),
    );
}

/// Cells are HTML already. On a narrow screen a row becomes a block; its cells then carry their heading with them.
fn table(page: &mut String, class: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut any = false;
    for row in rows {
        if !any {
            let cells: String = heads.iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
            let _ = writeln!(page, "<table class=\"{class}\">\n<thead><tr>{cells}</tr></thead>\n<tbody>");
        }
        any = true;
        let cells: String = heads
            .iter()
            .zip(row)
            .map(|(head, cell)| format!("<td data-head=\"{head}\">{cell}</td>"))
            .collect();
        let _ = writeln!(page, "<tr>{cells}</tr>");
    }
    page.push_str(if any { "</tbody>\n</table>\n" } else { "<p>None.</p>\n" });
}

/// Lines are HTML already.
fn list(page: &mut String, lines: impl Iterator<Item = String>) {
    let mut any = false;
    for line in lines {
        if !any {
            page.push_str("<ul>\n");
        }
        any = true;
        let _ = writeln!(page, "<li>{line}</li>");
    }
    page.push_str(if any { "</ul>\n" } else { "<p>None.</p>\n" });
}
