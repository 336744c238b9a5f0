//! The steps over time as an inline drawing: no script, no outside file. Positions are shares of the width, so that the
//! same drawing fits a telephone, a wide screen and paper, and its words keep their size.

use std::fmt::Write as _;

use jiff::Timestamp;
use runbook_executor::report::{BarKind, Report, StepLine};

use super::html::escaped;
use super::text;

/// Height of a row: a line of words and a bar below it.
const ROW: f64 = 34.0;
/// Height of the axis above the rows.
const AXIS: f64 = 26.0;
/// A shorter bar is drawn so wide, in shares of the width, so that it can be seen.
const NARROWEST: f64 = 0.35;
/// Rows; a longer run shows the others in the table only.
const ROWS_MAX: usize = 120;
/// Lines of the axis at most.
const TICKS: f64 = 6.0;
/// Distances of the lines, in seconds.
const STEPS: [f64; 20] = [
    0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0,
    21_600.0, 43_200.0, 86_400.0,
];

/// From the beginning of the report to its end.
struct Scale {
    from: Timestamp,
    seconds: f64,
}

impl Scale {
    fn of(report: &Report) -> Self {
        let from = report.head.started_at.min(report.objectives.declared_at);
        let seconds = report.head.last_at.duration_since(from).as_secs_f64().max(0.001);
        Self { from, seconds }
    }

    /// Where a moment is, in shares of the width. A little room is left at the right.
    fn x(&self, at: Timestamp) -> f64 {
        (at.duration_since(self.from).as_secs_f64() / self.seconds * 99.0).clamp(0.0, 99.0)
    }
}

/// The drawing; nothing when no step was started.
pub(super) fn chart(report: &Report) -> Option<String> {
    let scale = Scale::of(report);
    let all: Vec<&StepLine> = report.steps.iter().filter(|step| !step.bars.is_empty()).collect();
    let rows = &all[..all.len().min(ROWS_MAX)];
    if rows.is_empty() {
        return None;
    }
    let height = AXIS + ROW * rows.len() as f64 + 4.0;
    let mut svg = format!(
        "<svg class=\"chart\" width=\"100%\" height=\"{height:.0}\" role=\"img\" aria-label=\"Steps over time\">\n"
    );
    idle(&mut svg, report, &scale, height);
    axis(&mut svg, &scale, height);
    for (at, step) in rows.iter().enumerate() {
        row(&mut svg, step, &scale, AXIS + ROW * at as f64);
    }
    svg.push_str("</svg>\n");
    if all.len() > rows.len() {
        let _ = writeln!(
            svg,
            "<p class=\"note\">{} more steps are in the table below.</p>",
            all.len() - rows.len()
        );
    }
    Some(svg)
}

fn axis(svg: &mut String, scale: &Scale, height: f64) {
    let distance = STEPS.into_iter().find(|step| scale.seconds / step <= TICKS);
    let distance = distance.unwrap_or_else(|| (scale.seconds / TICKS / 86_400.0).ceil() * 86_400.0);
    let mut at = 0.0;
    while at <= scale.seconds {
        let x = at / scale.seconds * 99.0;
        let _ = writeln!(
            svg,
            "<line class=\"tick\" x1=\"{x:.2}%\" x2=\"{x:.2}%\" y1=\"18\" y2=\"{height:.0}\"/>"
        );
        // The last words would stick out on the right.
        if x < 90.0 {
            let words = if at == 0.0 { "0".to_owned() } else { text::seconds(at) };
            let _ = writeln!(svg, "<text class=\"tick\" x=\"{x:.2}%\" y=\"12\">{words}</text>");
        }
        at += distance;
    }
}

fn idle(svg: &mut String, report: &Report, scale: &Scale, height: f64) {
    for stretch in &report.idle {
        let (x, until) = (scale.x(stretch.from), scale.x(stretch.until));
        let _ = writeln!(
            svg,
            "<rect class=\"idle\" x=\"{x:.2}%\" y=\"18\" width=\"{:.2}%\" height=\"{:.0}\"><title>{}</title></rect>",
            (until - x).max(NARROWEST),
            height - 18.0,
            escaped(&format!("nobody worked on it for {}: {}", text::seconds(stretch.seconds), stretch.why)),
        );
    }
}

fn row(svg: &mut String, step: &StepLine, scale: &Scale, top: f64) {
    let took = step.seconds.map(|seconds| format!("  {}", text::seconds(seconds))).unwrap_or_default();
    let attempts = if step.attempts > 1 { format!(", {} attempts", step.attempts) } else { String::new() };
    // The words stand over their bars: at the beginning of the first, or before the end of the last.
    let ends = |bars: &[runbook_executor::report::Bar]| {
        Some((scale.x(bars.first()?.from), scale.x(bars.last()?.until)))
    };
    let (first, last) = ends(&step.bars).unwrap_or_default();
    let (x, anchor) = if first > 50.0 { (last.max(first + NARROWEST), "end") } else { (first, "start") };
    let _ = writeln!(
        svg,
        "<text class=\"name\" x=\"{x:.2}%\" y=\"{:.0}\" text-anchor=\"{anchor}\">{} {}<tspan class=\"took\">{took}{attempts}</tspan></text>",
        top + 13.0,
        text::sign(step.mood),
        escaped(step.step.as_str()),
    );
    for bar in &step.bars {
        let (x, until) = (scale.x(bar.from), scale.x(bar.until));
        let (class, words) = match bar.what {
            BarKind::Done => ("good", "an attempt that succeeded"),
            BarKind::Failed => ("bad", "an attempt that failed"),
            BarKind::Cut => ("cut", "an attempt that was cut off"),
            BarKind::Running => ("running", "under way"),
            BarKind::Asked => ("asked", "waited for people"),
            BarKind::Undone => ("undone", "taken back"),
        };
        let seconds = bar.until.duration_since(bar.from).as_secs_f64();
        let _ = writeln!(
            svg,
            "<rect class=\"bar {class}\" x=\"{x:.2}%\" y=\"{:.0}\" width=\"{:.2}%\" height=\"9\" rx=\"1.5\"><title>{}</title></rect>",
            top + 18.0,
            (until - x).max(NARROWEST),
            escaped(&format!("{}: {words}, {}", step.step, text::seconds(seconds))),
        );
    }
}
