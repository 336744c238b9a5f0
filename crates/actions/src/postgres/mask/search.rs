//! How values are compared with source values: in lower case, as words with single spaces between, phone numbers
//! by their digits. Both sides go through here, so that they meet.
//!
//! What this cannot find: values of less than [`CHARS_MIN`] characters; parts of a word; a value of more than
//! [`PHRASE_WORDS`] words inside a longer text, other than its e-mail addresses and phone numbers.

use super::detect::{emails, phones};

/// A shorter value is found everywhere by accident.
pub(super) const CHARS_MIN: usize = 6;
/// Words that are looked up together.
pub(super) const PHRASE_WORDS: usize = 4;

/// The words of a text in lower case.
fn words(lower: &str) -> Vec<&str> {
    let parts =
        |c: char| c.is_whitespace() || c.is_control() || ",;:|()<>[]{}\"'=&?!/\\*#~`«»“”„‘’".contains(c);
    lower
        .split(parts)
        .map(|word| word.trim_matches(['.', '-', '_', '+', '…']))
        .filter(|word| !word.is_empty())
        .collect()
}

fn is_long_enough(text: &str) -> bool {
    text.chars().nth(CHARS_MIN - 1).is_some()
}

/// What to remember of a source value.
pub(super) fn of_source(value: &str, mut remember: impl FnMut(&str)) {
    let lower = value.to_lowercase();
    let words = words(&lower);
    let whole = words.join(" ");
    if is_long_enough(&whole) {
        remember(&whole);
    }
    for phone in phones(value) {
        remember(&format!("tel:{phone}"));
    }
    if words.len() > 1 {
        emails(&lower).filter(|mail| is_long_enough(mail)).for_each(remember);
    }
}

/// Whether anything in a value is known.
pub(super) fn is_known(value: &str, knows: impl Fn(&str) -> bool) -> bool {
    let lower = value.to_lowercase();
    let words = words(&lower);
    let mut phrase = String::new();
    for from in 0..words.len() {
        phrase.clear();
        for word in words.iter().skip(from).take(PHRASE_WORDS) {
            if !phrase.is_empty() {
                phrase.push(' ');
            }
            phrase.push_str(word);
            if is_long_enough(&phrase) && knows(&phrase) {
                return true;
            }
        }
    }
    (words.len() > PHRASE_WORDS && knows(&words.join(" ")))
        || phones(value).any(|phone| knows(&format!("tel:{phone}")))
        || emails(&lower).any(&knows)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn found(source: &str, in_text: &str) -> bool {
        let mut known = BTreeSet::new();
        of_source(source, |value| {
            known.insert(value.to_owned());
        });
        is_known(in_text, |value| known.contains(value))
    }

    #[test]
    fn a_value_is_found_whole_in_other_spellings_and_inside_a_text() {
        for (source, text) in [
            ("Anna.Berg@Example.test", "anna.berg@example.test"),
            ("Anna.Berg@Example.test", "write to <anna.berg@example.test>."),
            ("Anna  Berg", "said \"ANNA BERG\", twice"),
            ("+49 170 1234567", "dial 49-170-1234567 today"),
            ("one two three four five six", "One  two three,\nfour five six!"),
            ("a long note about anna@x.example and more", "mail anna@x.example"),
            ("pilot00001", "/u/pilot00001/avatar"),
            ("花子と申します", "花子と申します"),
        ] {
            assert!(found(source, text), "{source} in {text}");
        }
        for (source, text) in [
            ("Anna", "Anna"),
            ("pilot00001", "pilot000012"),
            ("Anna Berg", "Anna and Berg"),
            ("", ""),
            ("one two three four five six", "well, one two three four five six"),
        ] {
            assert!(!found(source, text), "{source} in {text}");
        }
    }
}
