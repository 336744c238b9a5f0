//! Canaries in every spelling, and streams cut at every place.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Hard on every encoding: quotes, backslash, slash, blank, plus, percent, ampersand, umlaut, beyond the BMP.
const CANARY: &str = "Kanarie/\"x\\y'+%20&<ä 🦜>=?";

fn knowing(values: &[&str]) -> Redactor {
    let redactor = Redactor::new();
    values.iter().for_each(|value| redactor.register(value));
    redactor
}

fn streamed(redactor: &Redactor, pieces: &[&[u8]]) -> String {
    let mut out = Vec::new();
    let mut writer = RedactingWriter::new(redactor.clone(), &mut out);
    for piece in pieces {
        writer.write_all(piece).unwrap();
        writer.flush().unwrap();
    }
    writer.finish().unwrap();
    drop(writer);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn hidden(redactor: &Redactor, spelling: &str) {
    let text = format!("before {spelling} after");
    assert_eq!(redactor.redact(&text), "before ••• after", "spelling: {spelling}");
    for at in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(at);
        assert_eq!(streamed(redactor, &[head, tail]), "before ••• after", "cut at {at} of: {text}");
    }
}

#[test]
fn a_value_is_hidden_in_every_spelling() {
    let redactor = knowing(&[CANARY]);
    hidden(&redactor, CANARY);
    let json = serde_json::to_string(CANARY).unwrap();
    hidden(&redactor, json.trim_matches('"'));
    let quoted_twice = serde_json::to_string(&json[1..json.len() - 1]).unwrap();
    hidden(&redactor, &quoted_twice[1..quoted_twice.len() - 1]);
    hidden(&redactor, "Kanarie/\\\"x\\\\y'+%20&<\\u00e4 \\ud83e\\udd9c>=?");
    hidden(&redactor, "Kanarie\\/\\\"x\\\\y'+%20&<ä 🦜>=?");
    let debug = format!("{CANARY:?}");
    hidden(&redactor, &debug[1..debug.len() - 1]);
    hidden(&redactor, "Kanarie%2F%22x%5Cy%27%2B%2520%26%3C%C3%A4%20%F0%9F%A6%9C%3E%3D%3F");
    hidden(&redactor, "Kanarie%2f%22x%5cy%27%2b%2520%26%3c%c3%a4%20%f0%9f%a6%9c%3e%3d%3f");
    hidden(&redactor, "Kanarie%2F%22x%5Cy'%2B%2520%26%3C%C3%A4%20%F0%9F%A6%9C%3E%3D%3F");
    hidden(&redactor, "Kanarie%2F%22x%5Cy%27%2B%2520%26%3C%C3%A4+%F0%9F%A6%9C%3E%3D%3F");
    hidden(&redactor, &CANARY.replace('\'', "''"));
    hidden(&redactor, &CANARY.replace('\'', "'\\''"));
    hidden(&redactor, "Kanarie/&quot;x\\y&#39;+%20&amp;&lt;ä 🦜&gt;=?");
    hidden(&redactor, &hex::encode(CANARY));
    hidden(&redactor, &hex::encode_upper(CANARY));
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        hidden(&redactor, &engine.encode(CANARY));
    }
}

#[test]
fn a_value_is_hidden_anywhere_inside_of_base64() {
    for value in ["s3cr3t-Value", "s3cr3t-Value1", "s3cr3t-Value12", CANARY] {
        let redactor = knowing(&[value]);
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "@", "@h", "@ho", "\n"] {
                let text = STANDARD.encode(format!("{before}{value}{after}"));
                let shown = redactor.redact(&text);
                assert!(shown.contains(REDACTED), "{before}|{value}|{after}: {shown}");
                // What is left at the edges is mixed with the neighbours: at most two characters on each side.
                let left = shown.replace(REDACTED, "");
                assert!(left.len() <= (before.len() + after.len()).div_ceil(3) * 4 + 4, "{text}: {shown}");
            }
        }
    }
}

#[test]
fn a_value_is_hidden_when_lines_were_broken_inside_of_it() {
    let key = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let redactor = knowing(&[key]);
    for width in [1, 7, 20, 64] {
        for newline in ["\n", "\r\n"] {
            let folded: Vec<_> =
                key.as_bytes().chunks(width).map(|part| std::str::from_utf8(part).unwrap()).collect();
            hidden(&redactor, &folded.join(newline));
            let encoded = STANDARD.encode(key.repeat(2));
            let folded: Vec<_> =
                encoded.as_bytes().chunks(width).map(|part| std::str::from_utf8(part).unwrap()).collect();
            let shown = redactor.redact(&folded.join(newline));
            assert!(shown.replace(['\r', '\n'], "").len() <= 2 * REDACTED.len() + 8, "{width}: {shown}");
        }
    }
}

#[test]
fn each_line_of_a_value_of_many_lines_is_hidden() {
    let pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n  hkiG9w0BAQEFAASC \nabc\n-----END PRIVATE KEY-----\n";
    let redactor = knowing(&[pem]);
    hidden(&redactor, pem.trim());
    hidden(&redactor, &pem.trim().replace('\n', "\r\n"));
    hidden(&redactor, &pem.trim().replace('\n', "\\n"));
    hidden(&redactor, &pem.replace('\n', ""));
    hidden(&redactor, "MIIEvQIBADANBgkq");
    hidden(&redactor, "hkiG9w0BAQEFAASC");
    let armour = "-----BEGIN PRIVATE KEY----- and abc";
    assert_eq!(redactor.redact(armour), armour, "what says nothing stays");
}

#[test]
fn the_password_inside_of_a_connection_url_is_hidden_by_itself() {
    let redactor = knowing(&["postgres://ada:p%40ss%2Fword@db.example:5432/app?sslmode=require"]);
    hidden(&redactor, "p%40ss%2Fword");
    hidden(&redactor, "p@ss/word");
    assert_eq!(redactor.redact("ada at db.example:5432"), "ada at db.example:5432");
}

#[test]
fn values_that_overlap_leave_no_rest() {
    let redactor = knowing(&["abcdef", "defghijkl", "jklmno"]);
    assert_eq!(redactor.redact("<abcdefghijklmno>"), "<•••>");
    assert_eq!(redactor.redact("<abcdefabcdef>"), "<••••••>");
    for at in 0.."<abcdefghijklmno>".len() {
        let (head, tail) = "<abcdefghijklmno>".as_bytes().split_at(at);
        assert_eq!(streamed(&redactor, &[head, tail]), "<•••>", "cut at {at}");
    }
    let redactor = knowing(&["secret", "secret-and-more"]);
    assert_eq!(redactor.redact("secret-and-more, secret"), "•••, •••");
}

#[test]
fn short_values_are_not_known() {
    let redactor = knowing(&["", "a", "no", "abc", "äöü", " abc \n"]);
    let text = "no abc äöü a, and more";
    assert_eq!(redactor.redact(text), text);
    assert_eq!(knowing(&["abcd"]).redact("<abcd>"), "<•••>");
    assert_eq!(knowing(&["abcd\n"]).redact("<abcd>"), "<•••>", "without the newline, too");
}

#[test]
fn a_reference_stays_a_reference() {
    let redactor = knowing(&["postgres"]);
    redactor.keep_reference("postgres_password");
    let text = "postgres://postgres:⟦secret:postgres_password⟧@h";
    let shown = "•••://•••:⟦secret:postgres_password⟧@h";
    assert_eq!(redactor.redact(text), shown);
    for at in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(at);
        assert_eq!(streamed(&redactor, &[head, tail]), shown, "cut at {at}");
    }
    assert_eq!(redactor.redact("⟦secret:postgres⟧"), "⟦secret:•••⟧", "only names that are known");
}

#[test]
fn values_are_hidden_in_names_texts_and_numbers_of_a_json_value() {
    let redactor = knowing(&["s3cret", "735291"]);
    let mut value =
        json!({ "as3cretb": [735_291, 7_352_910, 1.5, null, true, { "k": "x s3cret" }], "k": "fine" });
    redactor.redact_value(&mut value);
    let expected = json!({ "a•••b": ["•••", "•••0", 1.5, null, true, { "k": "x •••" }], "k": "fine" });
    assert_eq!(value, expected);
}

#[test]
fn clones_learn_from_each_other_also_in_the_middle_of_a_stream() {
    let redactor = Redactor::new();
    let mut out = Vec::new();
    let mut writer = RedactingWriter::new(redactor.clone(), &mut out);
    writer.write_all(b"hunter22 ").unwrap();
    redactor.clone().register("hunter22");
    writer.write_all(b"hunter22 hunt").unwrap();
    drop(writer);
    assert_eq!(String::from_utf8(out).unwrap(), "hunter22 ••• hunt");
    assert_eq!(format!("{redactor:?}"), "Redactor");
}

#[test]
fn a_long_log_is_read_in_one_go() {
    let values: Vec<_> = (0..20).map(|n| format!("{}-secret-value-{n}", hex::encode([n; 8]))).collect();
    let redactor = Redactor::new();
    values.iter().for_each(|value| redactor.register(value));
    let line = "2027-01-15T08:00:00Z restore: copied 120000 rows of public.orders, 00000000 left\n";
    let text = line.repeat(20_000);
    let start = std::time::Instant::now();
    assert_eq!(redactor.redact(&text), text);
    println!("{} bytes against 20 values in {:?}", text.len(), start.elapsed());
    assert!(start.elapsed().as_secs() < 10);
}

proptest! {
    #[test]
    fn any_cutting_of_a_stream_shows_what_the_whole_would(
        values in prop::collection::vec("[ab]{4,7}|[a-c\n]{6,12}", 1..4),
        text in "[abc\r\n]{0,60}",
        cuts in prop::collection::vec(0usize..61, 0..6),
    ) {
        let redactor = Redactor::new();
        values.iter().for_each(|value| redactor.register(value));
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
        let shown = streamed(&redactor, &pieces);
        prop_assert_eq!(&shown, &redactor.redact(&text));
        for value in values.iter().filter(|value| value.trim().len() >= VALUE_CHARS_MIN) {
            prop_assert!(!shown.contains(value.as_str()), "`{}` in `{}`", value, shown);
        }
    }

    #[test]
    fn no_value_survives_between_any_neighbours(
        value in "\\PC{4,24}",
        before in "\\PC{0,8}",
        after in "\\PC{0,8}",
    ) {
        prop_assume!(value.trim().chars().count() >= VALUE_CHARS_MIN);
        let redactor = knowing(&[&value]);
        let shown = redactor.redact(&format!("{before}{value}{after}"));
        prop_assert!(shown.contains(REDACTED));
        prop_assert!(!shown.contains(&value) || REDACTED.contains(&value));
        let quoted = redactor.redact(&serde_json::Value::from(format!("{before}{value}{after}")).to_string());
        prop_assert!(quoted.contains(REDACTED), "{}", quoted);
        let encoded = redactor.redact(&STANDARD.encode(format!("{before}{value}{after}")));
        prop_assert!(encoded.contains(REDACTED), "{}", encoded);
    }
}
