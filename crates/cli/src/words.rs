//! Grammar and units for people: counts, sizes, durations. Pure.

use std::fmt::Write as _;
use std::time::Duration;

/// `1 table`, `2 tables`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{} {noun}s", grouped(number as u64)) }
}

/// `112,408`
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4.2 GiB`
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1.2s`, `2m 03s`, `3h 05m`, `2d 04h`
pub(crate) fn duration(duration: Duration) -> String {
    if duration < Duration::from_millis(59_950) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let seconds = duration.as_secs_f64().round() as u64;
    match seconds {
        0..=3599 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..=86_399 => format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// `a`, `a and b`, `a, b and c`
pub(crate) fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [head @ .., last] => format!("{} and {last}", head.join(", ")),
    }
}

/// Words filled into lines of the width, behind an indent.
pub(crate) fn wrap(text: &mut String, words: &str, indent: usize, width: usize) {
    let room = width.saturating_sub(indent).max(20);
    let mut line = String::new();
    for word in words.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            let _ = writeln!(text, "{:indent$}{line}", "");
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        let _ = writeln!(text, "{:indent$}{line}", "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short_and_sizes_have_units() {
        let shown = [0, 1_200, 59_960, 123_000, 11_100_000, 187_200_000]
            .map(|ms| duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["0.0s", "1.2s", "1m 00s", "2m 03s", "3h 05m", "2d 04h"]);
        assert_eq!([0, 1023, 1024, 4_509_715_661].map(bytes), ["0 B", "1023 B", "1.0 KiB", "4.2 GiB"]);
    }

    #[test]
    fn counts_and_lists_read_as_a_person_writes_them() {
        assert_eq!(count(1, "table"), "1 table");
        assert_eq!(count(112_408, "row"), "112,408 rows");
        assert_eq!(list(&["a".into(), "b".into(), "c".into()]), "a, b and c");
    }
}
