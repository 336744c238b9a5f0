//! The ways in which one value may stand in a text. Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use zeroize::{Zeroize, Zeroizing};

use super::VALUE_CHARS_MIN;

/// Lines of a value that are shorter than this say too little to be hidden by themselves.
const LINE_CHARS_MIN: usize = 6;

/// Every spelling of `value` that a redactor looks for; none for a value that is too short.
pub(super) fn of(value: &str) -> Vec<Zeroizing<Vec<u8>>> {
    let mut texts = BTreeSet::new();
    for whole in [value, value.trim()].into_iter().filter(|text| says_enough(text)) {
        encodings(whole, &mut texts);
    }
    if let Some(password) = password_of(value).filter(|text| says_enough(text)) {
        encodings(password, &mut texts);
        if let Some(plain) = percent_decoded(password).filter(|text| says_enough(text)) {
            encodings(&plain, &mut texts);
        }
    }
    if value.contains(['\n', '\r']) {
        // Any kind of line break, or none at all, is then stepped over by the matcher.
        let joined = value.replace(['\n', '\r'], "");
        if says_enough(&joined) {
            texts.insert(joined);
        }
        for line in value.lines().map(str::trim) {
            // The armour of a PEM file is no secret, and stands in every one.
            if line.chars().count() >= LINE_CHARS_MIN && !line.starts_with("-----") {
                encodings(line, &mut texts);
            }
        }
    }
    texts.into_iter().map(|text| Zeroizing::new(text.into_bytes())).collect()
}

/// Blanks say nothing: they are everywhere.
fn says_enough(text: &str) -> bool {
    text.trim().chars().count() >= VALUE_CHARS_MIN
}

fn encodings(value: &str, texts: &mut BTreeSet<String>) {
    texts.insert(value.to_owned());
    for escaped in [json(value), json_ascii(value), value.escape_debug().to_string()] {
        // JSON in JSON: a body that was quoted in an error, which was quoted in a log line.
        texts.insert(json(&escaped));
        texts.insert(escaped.replace('/', "\\/"));
        texts.insert(escaped);
    }
    for plain in ["-._~", "-._~!*'()", "-._*", ""] {
        let encoded = percent(value, plain, "%20");
        texts.insert(lower_percent(&encoded));
        texts.insert(encoded);
    }
    let form = percent(value, "-._*", "+");
    texts.insert(lower_percent(&form));
    texts.insert(form);
    texts.insert(value.replace('\'', "''"));
    texts.insert(value.replace('\'', "'\\''"));
    texts.insert(markup(value, "&#39;"));
    texts.insert(markup(value, "&apos;"));
    texts.insert(hex::encode(value));
    texts.insert(hex::encode_upper(value));
    base64s(value.as_bytes(), texts);
}

/// In a longer base64 text a value begins at one of three places within a group of four characters. The
/// characters at its edges are mixed with its neighbours; those between are the same whatever stands around.
fn base64s(value: &[u8], texts: &mut BTreeSet<String>) {
    for engine in [STANDARD, URL_SAFE] {
        let whole = engine.encode(value);
        texts.insert(whole.trim_end_matches('=').to_owned());
        texts.insert(whole);
        for before in 0..3 {
            let mut shifted = vec![0; before];
            shifted.extend_from_slice(value);
            let mut text = engine.encode(&shifted);
            let from = (before * 8).div_ceil(6);
            let to = shifted.len() * 8 / 6;
            texts.insert(text[from..to].to_owned());
            shifted.zeroize();
            text.zeroize();
        }
    }
}

/// As it stands between the quotes.
fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As programs write it that send ASCII only.
fn json_ascii(value: &str) -> String {
    let mut text = String::new();
    for unit in json(value).encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => text.push(char::from(byte)),
            _ => {
                let _infallible = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

fn percent(value: &str, plain: &str, blank: &str) -> String {
    let mut text = String::new();
    for byte in value.bytes() {
        match byte {
            b' ' => text.push_str(blank),
            _ if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) => {
                text.push(char::from(byte))
            }
            _ => {
                let _infallible = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

fn lower_percent(encoded: &str) -> String {
    let mut rest = 0;
    let lower = |c: char| {
        if c == '%' {
            rest = 2;
            c
        } else if rest > 0 {
            rest -= 1;
            c.to_ascii_lowercase()
        } else {
            c
        }
    };
    encoded.chars().map(lower).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|digits| hex::decode(digits).ok());
        match (first, code) {
            (b'%', Some(code)) => {
                bytes.extend(code);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn markup(value: &str, quote: &str) -> String {
    let text = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', quote)
}

/// The password in a connection URL: clients print it without the URL around it.
fn password_of(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (user, _) = authority.rsplit_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}
