//! What an HTTP answer says about the world: may the call be repeated, when, and what did the remote
//! say. Pure; sends nothing.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use runbook_core::action::Aftermath;
use runbook_core::secret::Revealed;
use serde_json::Value;

/// Longest wait that a remote may ask for; more is a mistake or an outage that a person should see.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// As much of a remote's own words as an error repeats.
const MESSAGE_CHARS_MAX: usize = 500;
/// Numbers above this in a reset header are a moment (Unix seconds), below it a number of seconds.
const MOMENT_MIN: i64 = 1_000_000_000;

/// What the world looks like after a status that is no success. `repeatable`: sending the call twice
/// is the same as once.
pub(crate) fn aftermath(status: u16, retry_after: Option<Duration>, repeatable: bool) -> Aftermath {
    match status {
        // The request was turned away before it was looked at.
        408 | 425 | 429 => Aftermath::Unchanged { retry_after },
        503 if retry_after.is_some() => Aftermath::Unchanged { retry_after },
        500..=599 if repeatable => Aftermath::Unchanged { retry_after },
        500..=599 => Aftermath::Unknown,
        _ => Aftermath::Refused,
    }
}

/// The remote's wish, from `Retry-After` (seconds or a date), `X-RateLimit-Reset` (seconds or a
/// moment), or the body of a Vercel 429 (`error.limit.reset`).
pub(crate) fn retry_after(headers: &HeaderMap, body: &Value, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let wait = text(RETRY_AFTER.as_str())
        .and_then(|t| t.parse().ok().map(|n| seconds(n, now)).or_else(|| date(t, now)))
        .or_else(|| text("x-ratelimit-reset").and_then(|t| t.parse().ok()).map(|n| seconds(n, now)))
        .or_else(|| body.pointer("/error/limit/reset").and_then(Value::as_i64).map(|n| seconds(n, now)))?;
    Some(wait.min(RETRY_AFTER_MAX))
}

fn seconds(number: i64, now: Timestamp) -> Duration {
    let seconds = if number >= MOMENT_MIN { number - now.as_second() } else { number };
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn date(text: &str, now: Timestamp) -> Option<Duration> {
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// The remote's own words, made safe to show: known secrets replaced, control characters escaped, cut.
pub(crate) fn message(body: &[u8], hidden: &[Revealed]) -> String {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(value) => words(&value).unwrap_or_else(|| value.to_string()),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let mut said = said;
    for secret in hidden.iter().map(Revealed::expose).filter(|s| !s.is_empty()) {
        said = said.replace(secret, "•••");
    }
    escape(said.trim(), MESSAGE_CHARS_MAX)
}

fn words(value: &Value) -> Option<String> {
    let direct = [
        "/error/message",
        "/message",
        "/msg",
        "/error_description",
        "/error",
        "/errors/0/detail",
        "/errors/0/message",
    ];
    direct.iter().find_map(|at| value.pointer(at)?.as_str()).map(str::to_owned)
}

/// Control characters escaped, cut to so many characters.
pub(crate) fn escape(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == chars_max {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(k, v)| (reqwest::header::HeaderName::from_static(k), v.parse().unwrap())).collect()
    }

    #[test]
    fn a_remote_that_asks_for_time_gets_it_in_each_notation() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        for (given, body, expected) in [
            (headers(&[("retry-after", "7")]), json!({}), Some(7)),
            (headers(&[("retry-after", "Thu, 01 Jan 2026 00:00:09 GMT")]), json!({}), Some(9)),
            (headers(&[("retry-after", "Wed, 31 Dec 2025 00:00:09 GMT")]), json!({}), Some(0)),
            (headers(&[("x-ratelimit-reset", "57")]), json!({}), Some(57)),
            (headers(&[("x-ratelimit-reset", "1767225612")]), json!({}), Some(12)),
            (headers(&[]), json!({"error": {"limit": {"reset": 1_767_225_605}}}), Some(5)),
            (headers(&[("retry-after", "999999")]), json!({}), Some(3600)),
            (headers(&[("retry-after", "soon")]), json!({}), None),
        ] {
            assert_eq!(retry_after(&given, &body, now).map(|d| d.as_secs()), expected, "{given:?} {body}");
        }
    }

    #[test]
    fn the_status_says_whether_to_try_again() {
        let wait = Some(Duration::from_secs(3));
        assert_eq!(aftermath(429, wait, false), Aftermath::Unchanged { retry_after: wait });
        assert_eq!(aftermath(503, wait, false), Aftermath::Unchanged { retry_after: wait });
        assert_eq!(aftermath(503, None, false), Aftermath::Unknown);
        assert_eq!(aftermath(502, None, true), Aftermath::Unchanged { retry_after: None });
        assert_eq!(aftermath(404, None, true), Aftermath::Refused);
        assert_eq!(aftermath(302, None, true), Aftermath::Refused);
    }

    #[test]
    fn a_message_is_cut_escaped_and_free_of_secrets() {
        let body = json!({"message": format!("bad token hunter2\u{1b}[31m{}", "x".repeat(600))}).to_string();
        let said = message(body.as_bytes(), &[Revealed::new("hunter2")]);
        assert!(said.starts_with("bad token •••\\u{1b}[31mxxx"), "{said}");
        assert!(said.ends_with('…') && said.chars().count() < 520, "{said}");
    }
}
