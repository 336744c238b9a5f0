//! The small values of the language: text, names, numbers, durations, lists of names. Each function
//! reports what is wrong at its place and gives `None`, or a value good enough to go on with.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::{Mistakes, describe, shown};
use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::document::{Tree, TreeKind};
use crate::suggest;

/// Names are parts of paths, file names and database session names.
pub(crate) const NAME_CHARS_MAX: usize = 64;
/// A hundred years; what is longer is a slip, and arithmetic with it could overflow.
const DURATION_MAX: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// Reads `90s`, `45m`, `24h`, `7d`, `500ms`, or a sum such as `1h 30m`. The error is a whole message
/// that names the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err("a duration is empty".into());
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let letters = after.len() - after.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = after.split_at(letters);
        let amount: u64 = number.parse().map_err(|_| format!("`{}` is not a duration", shown(text)))?;
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(format!("`{}` has no unit", shown(text))),
            other => return Err(format!("`{}` is no unit of time", shown(other))),
        };
        total = amount
            .checked_mul(millis)
            .and_then(|millis| total.checked_add(Duration::from_millis(millis)))
            .filter(|total| *total <= DURATION_MAX)
            .ok_or_else(|| format!("`{}` is longer than a hundred years", shown(text)))?;
        rest = after.trim_start();
    }
    Ok(total)
}

/// Reports that a value has the wrong type.
pub(crate) fn wrong_type(
    tree: &Tree,
    key: &str,
    wanted: &str,
    help: Option<String>,
    mistakes: &mut Mistakes,
) {
    let message = match tree.kind {
        TreeKind::Null => format!("`{key}` is empty; it must be {wanted}"),
        _ => format!("`{key}` must be {wanted}, found {}", describe(tree)),
    };
    let mistake = Diagnostic::error("wrong-type", tree.span, message);
    mistakes.push(match (help, &tree.kind) {
        (Some(help), _) => mistake.help(help),
        (None, TreeKind::Null) => mistake.help(format!("write a value, or remove `{key}`")),
        (None, _) => mistake,
    });
}

/// Reports a value that has the right type and cannot be used.
pub(crate) fn bad_value(span: Span, message: String, help: impl Into<String>, mistakes: &mut Mistakes) {
    mistakes.push(Diagnostic::error("bad-value", span, message).help(help));
}

/// Text that is not empty.
pub(crate) fn text(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<Spanned<String>> {
    match &tree.kind {
        TreeKind::String(value) if !value.trim().is_empty() => Some(Spanned::new(value.clone(), tree.span)),
        TreeKind::Number(number) => {
            wrong_type(tree, key, "text", Some(format!("write it in quotes: \"{number}\"")), mistakes);
            Some(Spanned::new(number.to_string(), tree.span))
        }
        TreeKind::Bool(value) => {
            wrong_type(tree, key, "text", Some(format!("write it in quotes: \"{value}\"")), mistakes);
            Some(Spanned::new(value.to_string(), tree.span))
        }
        TreeKind::String(_) => {
            wrong_type(tree, key, "text", Some(format!("write a value, or remove `{key}`")), mistakes);
            None
        }
        _ => {
            wrong_type(tree, key, "text", None, mistakes);
            None
        }
    }
}

/// `true` or `false`.
pub(crate) fn boolean(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<bool> {
    if let TreeKind::Bool(value) = tree.kind {
        return Some(value);
    }
    let meant = match &tree.kind {
        TreeKind::String(word) => match word.to_lowercase().as_str() {
            "yes" | "y" | "on" | "true" => Some(true),
            "no" | "n" | "off" | "false" => Some(false),
            _ => None,
        },
        _ => None,
    };
    let help = meant.map(|meant| format!("write `{key}: {meant}`"));
    wrong_type(tree, key, "true or false", help, mistakes);
    meant
}

/// A whole number in a range.
pub(crate) fn integer(
    tree: &Tree,
    key: &str,
    range: RangeInclusive<u32>,
    mistakes: &mut Mistakes,
) -> Option<u32> {
    let number = match &tree.kind {
        TreeKind::Number(number) => number,
        TreeKind::String(text) if text.trim().parse::<u64>().is_ok() => {
            wrong_type(tree, key, "a whole number", Some("remove the quotes".into()), mistakes);
            return None;
        }
        _ => {
            wrong_type(tree, key, "a whole number", None, mistakes);
            return None;
        }
    };
    let value = number.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| range.contains(n));
    if value.is_none() {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        bad_value(tree.span, format!("`{key}` cannot be {number}"), format!("write {allowed}"), mistakes);
    }
    value
}

/// Any number in a range.
pub(crate) fn number(
    tree: &Tree,
    key: &str,
    range: RangeInclusive<f64>,
    mistakes: &mut Mistakes,
) -> Option<f64> {
    let TreeKind::Number(number) = &tree.kind else {
        wrong_type(tree, key, "a number", None, mistakes);
        return None;
    };
    let value = number.as_f64().filter(|n| range.contains(n));
    if value.is_none() {
        let allowed = format!("write a number from {} to {}", range.start(), range.end());
        bad_value(tree.span, format!("`{key}` cannot be {number}"), allowed, mistakes);
    }
    value
}

/// A duration.
pub(crate) fn duration(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<Spanned<Duration>> {
    let problem = match &tree.kind {
        TreeKind::String(text) => match parse_duration(text) {
            Ok(value) if !value.is_zero() => return Some(Spanned::new(value, tree.span)),
            Ok(_) => (format!("`{key}` cannot be zero"), "write a duration such as `90s`".to_owned()),
            Err(message) => {
                (message, "write a number with a unit: `500ms`, `90s`, `45m`, `24h`, `7d`, `1h 30m`".into())
            }
        },
        TreeKind::Number(number) => (
            format!("`{key}` is {number} of what?"),
            format!("write the unit: `{number}s`, `{number}m` or `{number}h`"),
        ),
        _ => {
            wrong_type(tree, key, "a duration such as `45m`", None, mistakes);
            return None;
        }
    };
    mistakes.push(Diagnostic::error("bad-duration", tree.span, problem.0).help(problem.1));
    None
}

/// One of a few words.
pub(crate) fn keyword<T: Copy>(
    tree: &Tree,
    key: &str,
    words: &[(&'static str, T)],
    mistakes: &mut Mistakes,
) -> Option<Spanned<T>> {
    let names = || words.iter().map(|(word, _)| *word);
    let TreeKind::String(given) = &tree.kind else {
        let wanted = format!("one of {}", suggest::list_of(names()));
        wrong_type(tree, key, &wanted, None, mistakes);
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == given) {
        return Some(Spanned::new(*value, tree.span));
    }
    let near = suggest::closest(given, names());
    let help = match near {
        Some(near) => format!("did you mean `{near}`? There is {}", suggest::list_of(names())),
        None => format!("there is {}", suggest::list_of(names())),
    };
    bad_value(tree.span, format!("`{key}` cannot be `{}`", shown(given)), help, mistakes);
    let (_, value) = words.iter().find(|(word, _)| Some(*word) == near)?;
    Some(Spanned::new(*value, tree.span))
}

/// A list of texts. One text without the brackets is reported, and taken as a list of one.
pub(crate) fn texts(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Vec<Spanned<String>> {
    match &tree.kind {
        TreeKind::List(items) => items.iter().filter_map(|item| text(item, key, mistakes)).collect(),
        TreeKind::String(one) if !one.is_empty() => {
            let items: Vec<&str> = one.split([',', ' ']).filter(|item| !item.is_empty()).collect();
            let help = format!("write `{key}: [{}]`", shown(&items.join(", ")));
            wrong_type(tree, key, "a list", Some(help), mistakes);
            items.into_iter().map(|item| Spanned::new(item.to_owned(), tree.span)).collect()
        }
        _ => {
            wrong_type(tree, key, "a list of text", None, mistakes);
            Vec::new()
        }
    }
}

/// A bare expression, as in `if` and `check`. Braces around it are reported and taken off.
pub(crate) fn expression(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<Spanned<String>> {
    if let TreeKind::Bool(value) = tree.kind {
        return Some(Spanned::new(value.to_string(), tree.span));
    }
    let mut found = text(tree, key, mistakes)?;
    let trimmed = found.value.trim();
    let inner = trimmed.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}")).map(str::trim);
    if let Some(inner) = inner
        && !inner.contains("{{")
    {
        mistakes.push(
            Diagnostic::error(
                "braces-in-expression",
                tree.span,
                format!("`{key}` is an expression already and takes no braces"),
            )
            .help(format!("write `{key}: {}`", shown(inner))),
        );
        found.value = inner.to_owned();
    }
    Some(found)
}

/// What a name may be made of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// Lower-case letters, digits, `-` and `_`: steps and runbooks.
    Id,
    /// As an id, and `:` between its parts: `freeze:writes`.
    Tag,
    /// Letters, digits and `_`: what templates reach with a dot.
    Variable,
}

/// Text that is a name. A number in its place is one mistake, not two.
pub(crate) fn name(
    tree: &Tree,
    key: &str,
    what: &str,
    kind: NameKind,
    mistakes: &mut Mistakes,
) -> Option<Spanned<String>> {
    let name = text(tree, key, mistakes)?;
    if matches!(tree.kind, TreeKind::String(_)) {
        check_name(&name, what, kind, mistakes);
    }
    Some(name)
}

/// Checks a name; reported when it cannot be one, with the nearest that could.
pub(crate) fn check_name(
    name: &Spanned<String>,
    what: &str,
    kind: NameKind,
    mistakes: &mut Mistakes,
) -> bool {
    let good = |c: char| is_allowed(c, kind);
    let starts = |c: char| c.is_ascii_alphabetic() || (c == '_' && kind == NameKind::Variable);
    let value = &name.value;
    let is_good = value.len() <= NAME_CHARS_MAX && value.starts_with(starts) && value.chars().all(good);
    if !is_good {
        let rule = match kind {
            NameKind::Id => "lower-case letters, digits, `-` and `_`, a letter first",
            NameKind::Tag => "lower-case letters, digits, `-`, `_` and `:`, a letter first",
            NameKind::Variable => "letters, digits and `_`, no digit first",
        };
        let suggestion = mend_name(value, kind);
        let help = if suggestion.is_empty() || suggestion == *value {
            format!("use {rule}, {NAME_CHARS_MAX} at most")
        } else {
            format!("write `{suggestion}`: {rule}, {NAME_CHARS_MAX} at most")
        };
        let message = format!("`{}` cannot be the name of {what}", shown(value));
        mistakes.push(Diagnostic::error("bad-name", name.span, message).help(help));
    }
    is_good
}

fn is_allowed(c: char, kind: NameKind) -> bool {
    match kind {
        NameKind::Id => c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_',
        NameKind::Tag => is_allowed(c, NameKind::Id) || c == ':',
        NameKind::Variable => c.is_ascii_alphanumeric() || c == '_',
    }
}

fn mend_name(value: &str, kind: NameKind) -> String {
    let joint = if kind == NameKind::Variable { '_' } else { '-' };
    let mut mended = String::new();
    for c in value.chars() {
        let c = if kind == NameKind::Variable { c } else { c.to_ascii_lowercase() };
        if is_allowed(c, kind) {
            mended.push(c);
        } else if !mended.is_empty() && !mended.ends_with(joint) {
            mended.push(joint);
        }
    }
    let mended = mended.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).trim_end_matches(joint);
    mended.chars().take(NAME_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("90s"), Ok(90.0));
        assert_eq!(seconds("45m"), Ok(2700.0));
        assert_eq!(seconds("1h 30m"), Ok(5400.0));
        assert_eq!(seconds("1h30m"), Ok(5400.0));
        assert_eq!(seconds("7d"), Ok(604_800.0));
        assert_eq!(seconds("500ms"), Ok(0.5));
    }

    #[test]
    fn what_is_no_duration_is_refused_by_name() {
        for bad in
            ["", "90", "s", "1.5h", "-3s", "5 parsecs", "99999999999999999999d", "9999999d", "1h,2m", "１s"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_duration("5y"), Err("`y` is no unit of time".into()));
        assert_eq!(parse_duration("90"), Err("`90` has no unit".into()));
    }

    #[test]
    fn a_name_is_mended_into_one_that_can_be_used() {
        assert_eq!(mend_name("Restore the DB!", NameKind::Id), "restore-the-db");
        assert_eq!(mend_name("restore-point", NameKind::Variable), "restore_point");
        assert_eq!(mend_name("1st", NameKind::Id), "st");
        assert_eq!(mend_name("***", NameKind::Id), "");
    }
}
