//! What a run looks like: live on a terminal, lines in a pipe, JSON lines for programs; and the screens of
//! `status` and `plan`. Screens are pure functions of what they show.

mod backups;
mod crash;
mod end;
mod fact;
mod json;
mod lines;
mod live;
mod plan;
mod status;

pub(crate) use backups::{Shelf, backups, inspection, verification};
pub(crate) use crash::DieAfter;
pub(crate) use end::{end, end_line};
pub(crate) use json::{JsonLines, events_schema, record_line, sources_left_out};
pub(crate) use lines::Lines;
pub(crate) use live::Live;
pub(crate) use plan::{PlannedStep, plan, plan_line};
pub(crate) use status::{state_word, status, status_line};

pub(crate) use fact::fact;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment as people read it: local, to the second.
pub(crate) fn local_time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%d %b %H:%M:%S").to_string()
}

/// Text of many lines from outside, safe for a terminal.
pub(crate) fn safe_lines(text: &str) -> String {
    text.lines()
        .map(|line| format!("{}\n", line.split('\t').map(safe).collect::<Vec<_>>().join("\t")))
        .collect()
}

/// Text from outside, safe for a terminal: control characters are shown, not sent.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => safe.push(' '),
            c if c.is_control() => safe.extend(c.escape_default()),
            // Marks that turn the direction of text would let a name show another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.extend(c.escape_default()),
            c => safe.push(c),
        }
    }
    safe
}
