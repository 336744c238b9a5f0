//! What a finished step proves: its checks with what was expected and what was observed, and the levels V0 to V7 at
//! which a backup counts as proven. Reads outputs only, so that a report and an evidence record say the same.
//! Decides nothing about whether a run may go on.
//!
//! An action may state levels itself by an output `levels` (`["V6"]`); otherwise the table below speaks for it.
//! Checks are found in the outputs `checks` and `results`, by the shapes that the actions use.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The levels, with what each proves.
pub const LEVELS: [(&str, &str); 8] = [
    ("V0", "the backup is there, with size, age and recorded checksum"),
    ("V1", "its bytes are the recorded ones, read to the end"),
    ("V2", "it holds the schemas and tables that it should"),
    ("V3", "it was restored beside what is live, without an error that is not understood"),
    ("V4", "what was restored is what was backed up: rows, constraints, indexes"),
    ("V5", "nobody reads or writes what they must not"),
    ("V6", "the files are those that the database speaks of"),
    ("V7", "the application works on it"),
];

/// Checks of one step that are read; more belong into an artifact.
const CHECKS_MAX: usize = 500;
/// Longest text of an expectation or observation.
const TEXT_CHARS_MAX: usize = 300;

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub observed: String,
    /// Whether it holds.
    pub ok: bool,
}

/// The levels that a step proves when it succeeded, by its action and what it gave.
pub fn levels_of(action: &str, outputs: &Value) -> Vec<&'static str> {
    // Without outputs the step was not done.
    if outputs.is_null() {
        return Vec::new();
    }
    let stated = outputs.get("levels").and_then(Value::as_array);
    if let Some(stated) = stated {
        let named = |level: &&(&'static str, &str)| stated.iter().any(|one| one == level.0);
        return LEVELS.iter().filter(named).map(|level| level.0).collect();
    }
    let checks = || checks_of(action, &Value::Null, outputs);
    match action {
        "backup.select" if text(outputs, "sha256").is_some() => vec!["V0"],
        "backup.verify" => vec!["V0", "V1"],
        "postgres.restore" => vec!["V1", "V2", "V3"],
        "postgres.check" => {
            let checks = checks();
            let speaks_of = |word: &str| checks.iter().any(|check| check.ok && check.name.starts_with(word));
            let mut levels = Vec::new();
            if speaks_of("rows of") || speaks_of("constraints") {
                levels.push("V4");
            }
            if speaks_of("row-level security") || speaks_of("policy") {
                levels.push("V5");
            }
            levels
        }
        "postgres.test" if number(outputs, "passed") > 0 => vec!["V5"],
        "storage.verify" | "storage.diff" => vec!["V6"],
        "http.check" | "http.journey" if number(outputs, "passed") > 0 => vec!["V7"],
        _ => Vec::new(),
    }
}

/// The checks in what a step gave; `params` are what it was called with, null when they are not known.
pub fn checks_of(action: &str, params: &Value, outputs: &Value) -> Vec<Check> {
    let list = |key: &str| outputs.get(key).and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<Check> =
        list("checks").chain(list("results")).take(CHECKS_MAX).filter_map(check_of).collect();
    match action {
        "postgres.query" => found.extend(answer(params, outputs)),
        "postgres.restore" => found.extend(bytes(params, outputs)),
        _ => {}
    }
    found
}

/// One entry of a list of checks, in any of the shapes that actions give.
fn check_of(entry: &Value) -> Option<Check> {
    let ok = entry.get("ok").or_else(|| entry.get("passed"))?.as_bool()?;
    let name = match (text(entry, "name").or_else(|| text(entry, "file")), text(entry, "role")) {
        (Some(name), Some(role)) => format!("{name} as {role}"),
        (Some(name), None) => name.to_owned(),
        (None, _) => return None,
    };
    let problem = text(entry, "problem").or_else(|| text(entry, "error"));
    let status = entry.get("status").and_then(Value::as_u64);
    let observed = match (text(entry, "observed"), problem, status) {
        (Some(observed), ..) => observed.to_owned(),
        (None, Some(problem), _) => problem.to_owned(),
        (None, None, Some(status)) => format!("status {status}, as expected"),
        (None, None, None) if ok => "passed".to_owned(),
        (None, None, None) => "failed".to_owned(),
    };
    let expected = text(entry, "expected").map_or_else(|| "passes".to_owned(), str::to_owned);
    Some(Check { name: short(&name), expected: short(&expected), observed: short(&observed), ok })
}

/// What `postgres.query` was asked to expect. It succeeded, so all of it holds.
fn answer(params: &Value, outputs: &Value) -> Option<Check> {
    let expect = params.get("expect")?.as_object()?;
    let words: Vec<String> = expect
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(key, value)| format!("{} {}", key.replace('_', " "), shown(value)))
        .collect();
    let observed = match outputs.get("value").filter(|value| !value.is_null()) {
        Some(value) => shown(value),
        None => format!("{} rows", outputs.get("row_count").unwrap_or(&json!(0))),
    };
    let name = text(params, "sql").unwrap_or("the query").split_whitespace().collect::<Vec<_>>().join(" ");
    let check = Check {
        name: short(&name),
        expected: short(&words.join(", ")),
        observed: short(&observed),
        ok: true,
    };
    (!words.is_empty()).then_some(check)
}

/// The bytes that were loaded. A restore succeeds only when they are the recorded ones.
fn bytes(params: &Value, outputs: &Value) -> Option<Check> {
    let sha256 = params.get("backup")?.get("sha256")?.as_str()?;
    let how = text(outputs, "verified_by").unwrap_or("stream");
    Some(Check {
        name: "sha256 of the bytes that were loaded".to_owned(),
        expected: sha256.to_owned(),
        observed: format!("{sha256} (verified by: {how})"),
        ok: true,
    })
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn short(text: &str) -> String {
    if text.chars().count() <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(TEXT_CHARS_MAX).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_found_in_every_shape_that_actions_give() {
        let outputs = json!({
            "checks": [{ "name": "rows of a", "expected": "at least 1", "observed": "0", "ok": false }],
            "results": [
                { "name": "health", "passed": true, "status": 200, "problem": null },
                { "file": "anon.sql", "role": "anon", "ok": false, "error": "it could read" },
                { "odd": 1 },
            ],
        });
        let found: Vec<String> = checks_of("any", &Value::Null, &outputs)
            .into_iter()
            .map(|c| format!("{} | {} | {} | {}", c.name, c.expected, c.observed, c.ok))
            .collect();
        assert_eq!(
            found,
            [
                "rows of a | at least 1 | 0 | false",
                "health | passes | status 200, as expected | true",
                "anon.sql as anon | passes | it could read | false",
            ]
        );
    }

    #[test]
    fn a_query_and_a_restore_are_checks_too() {
        let params = json!({ "sql": "select  1", "expect": { "at_least": 1, "rows": null } });
        let found = checks_of("postgres.query", &params, &json!({ "value": 5, "row_count": 1 }));
        assert_eq!((found[0].expected.as_str(), found[0].observed.as_str()), ("at least 1", "5"));
        assert!(checks_of("postgres.query", &json!({ "sql": "x" }), &json!({ "value": 5 })).is_empty());
        let params = json!({ "backup": { "sha256": "ab" } });
        let found = checks_of("postgres.restore", &params, &json!({ "verified_by": "store" }));
        assert_eq!(found[0].observed, "ab (verified by: store)");
    }

    #[test]
    fn an_action_states_levels_by_what_it_gave_or_in_its_own_words() {
        let checks = json!({ "checks": [
            { "name": "rows of a", "expected": "", "observed": "", "ok": true },
            { "name": "row-level security in public", "expected": "", "observed": "", "ok": true },
        ] });
        assert_eq!(levels_of("postgres.check", &checks), ["V4", "V5"]);
        assert_eq!(levels_of("postgres.restore", &json!({})), ["V1", "V2", "V3"]);
        assert_eq!(levels_of("postgres.restore", &Value::Null), Vec::<&str>::new(), "it was not done");
        assert_eq!(levels_of("backup.select", &json!({ "url": "s3://a" })), Vec::<&str>::new());
        assert_eq!(levels_of("http.check", &json!({ "passed": 0 })), Vec::<&str>::new());
        assert_eq!(levels_of("own.action", &json!({ "levels": ["V6", "V9"] })), ["V6"]);
    }
}
