//! Shapes of personal data and of credentials. Says that something is there and of what kind; what it is stays
//! with the caller.

use std::sync::LazyLock;

use regex::Regex;

use super::pseudonym::{MAIL_DOMAIN, PHONE_PREFIX};

/// What a leak check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Finding {
    /// A source value of a masked column.
    Taint,
    Canary,
    Email,
    Phone,
    Card,
    Token,
}

impl Finding {
    pub(super) const NAMES: [(&str, Self); 6] = [
        ("taint", Self::Taint),
        ("canary", Self::Canary),
        ("email", Self::Email),
        ("phone", Self::Phone),
        ("card", Self::Card),
        ("token", Self::Token),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// `hold a source value …`, after a number of values.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Taint => "with source data of masked columns",
            Self::Canary => "with a canary",
            Self::Email => "shaped like an e-mail address",
            Self::Phone => "shaped like a phone number",
            Self::Card => "shaped like a card number",
            Self::Token => "shaped like a credential",
        }
    }
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the pattern is a constant")
}

static EMAIL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[[:alnum:]._%+\-]+@[[:alnum:]\-]+(?:\.[[:alnum:]\-]+)+"));
static DIGITS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\+?\(?[0-9][0-9 ().\-]{5,22}[0-9]"));
static NATIONAL: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^(?:\([0-9]{3}\) ?|[0-9]{3}[ .\-])[0-9]{3}[ .\-][0-9]{4}$"));
static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"eyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]+",
        r"|\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}",
        r"|\bgh[pousr]_[A-Za-z0-9]{30,}|\bsbp_[A-Za-z0-9]{30,}",
        r"|\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}"
    ))
});

/// E-mail addresses in a text, save those that masking made.
pub(super) fn emails(text: &str) -> impl Iterator<Item = &str> {
    // The pattern is slow where nothing can match.
    let text = if text.contains('@') { text } else { "" };
    EMAIL
        .find_iter(text)
        .map(|found| found.as_str())
        .filter(|mail| !mail.to_lowercase().ends_with(MAIL_DOMAIN))
}

/// Runs of digits that could be dialled, with what stands between the digits, save those that masking made.
fn runs(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    DIGITS.find_iter(text).filter_map(move |found| {
        let before = text[..found.start()].chars().next_back();
        let after = text[found.end()..].chars().next();
        let is_cut = before.is_some_and(is_part) || after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let run = found.as_str();
        (!is_cut && !run.starts_with(PHONE_PREFIX)).then_some(run)
    })
}

fn digits(run: &str) -> String {
    run.chars().filter(char::is_ascii_digit).collect()
}

/// The digits of everything in a text that could be a phone number.
pub(super) fn phones(text: &str) -> impl Iterator<Item = String> {
    runs(text).map(digits).filter(|digits| (7..=15).contains(&digits.len()))
}

fn is_phone(run: &str) -> bool {
    (run.starts_with('+') && (9..=15).contains(&digits(run).len())) || NATIONAL.is_match(run)
}

fn is_card(run: &str) -> bool {
    let digits = digits(run);
    let is_network = matches!(digits.as_bytes().first(), Some(b'3'..=b'6'));
    if !(13..=19).contains(&digits.len()) || !is_network || run.contains(['(', ')', '.', '+']) {
        return false;
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| {
            let digit = u32::from(byte - b'0') * if at % 2 == 1 { 2 } else { 1 };
            if digit > 9 { digit - 9 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The shapes in a text.
pub(super) fn shapes(text: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    if emails(text).next().is_some() {
        found.push(Finding::Email);
    }
    if runs(text).any(is_phone) {
        found.push(Finding::Phone);
    }
    if runs(text).any(is_card) {
        found.push(Finding::Card);
    }
    if TOKEN.is_match(text) {
        found.push(Finding::Token);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_told_from_what_only_looks_alike() {
        let cases: [(&str, &[Finding]); 16] = [
            ("write to anna.b+x@mail.example.test now", &[Finding::Email]),
            ("u0123456789abcdef0123@masked.invalid", &[]),
            ("call +49 170 1234567", &[Finding::Phone]),
            ("(555) 010-9999", &[Finding::Phone]),
            ("555-010-9999", &[Finding::Phone]),
            ("+999123456789012", &[]),
            ("00000000-0000-4000-8000-000000000012", &[]),
            ("2026-11-22 03:00:00+00", &[]),
            ("192.168.100.200", &[]),
            ("d41d8cd98f00b204e9800998ecf8427e", &[]),
            ("4111 1111 1111 1111", &[Finding::Card]),
            ("4111 1111 1111 1112", &[]),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0abc.c2lnbmF0dXJl", &[Finding::Token]),
            ("order 1234567890", &[]),
            ("score 12.50 of 100", &[]),
            ("", &[]),
        ];
        for (text, wanted) in cases {
            assert_eq!(shapes(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_phone_number_is_its_digits() {
        for text in ["+49 (170) 123-45 67", "491701234567", "tel 49.170.1234567!"] {
            assert_eq!(phones(text).collect::<Vec<_>>(), ["491701234567"], "{text}");
        }
        assert_eq!(phones("00000000-0000-4000-8000-000000000012").count(), 0);
    }
}
