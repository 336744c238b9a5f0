//! What is read from a good file, and the bounds. Mistakes one by one are in `tests/broken`.

use std::time::Duration;

use serde_json::{Value, json};

use super::fields::MISTAKES_MAX;
use super::{STEPS_MAX, coerce_input, runbook};
use crate::diagnostic::{Diagnostic, Sources};
use crate::document::{Document, Kind, UndoDecl};
use crate::workflow::OnExhausted;

/// Decodes one text; each mistake as `code line:column`.
fn read(text: &str) -> (Option<Document>, Vec<String>) {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", text);
    let (document, mistakes) = runbook(&sources, id);
    let place = |one: &Diagnostic| {
        let (line, column) = one.span.map_or((0, 0), |span| sources.line_column(span));
        format!("{} {line}:{column}", one.code)
    };
    let mistakes = mistakes.iter().map(place).collect();
    (document, mistakes)
}

fn good(text: &str) -> Document {
    let (document, mistakes) = read(text);
    assert_eq!(mistakes, [""; 0], "{text}");
    document.unwrap()
}

fn check(text: &str, expected: &[&str]) {
    let (_, mistakes) = read(text);
    assert_eq!(mistakes, expected, "{text}");
}

/// A runbook with one step that has these further lines.
fn with_step(lines: &str) -> String {
    format!("name: a\nkind: drill\nsteps:\n  - id: a\n    uses: x.y\n    {}\n", lines.replace('\n', "\n    "))
}

#[test]
fn every_key_of_a_runbook_is_read() {
    let document = good(
        "name: path-b\ntitle: T\nwhy: W\nkind: incident\nobjectives: { rpo: 24h, rto: 60m }\ndeadline: 2h\n\
         inputs:\n  point: { type: timestamp, default: latest, help: H }\n  n: { type: integer, required: false }\n\
         steps:\n  - { id: one, uses: x.y }\non_failure:\n  - { id: two, uses: ./b.yaml }\n\
         finally:\n  - { id: three, uses: x.z }\noutputs: { url: \"{{ steps.one.url }}\" }\n",
    );
    assert_eq!((document.name.value.as_str(), document.kind.value), ("path-b", Kind::Incident));
    assert_eq!(document.objectives.rto.map(|rto| rto.value), Some(Duration::from_secs(3600)));
    assert_eq!(document.deadline.map(|deadline| deadline.value), Some(Duration::from_secs(7200)));
    let required: Vec<bool> = document.inputs.iter().map(|input| input.required).collect();
    assert_eq!(required, [false, false]);
    let lists = [&document.steps, &document.on_failure, &document.finally];
    let ids: Vec<&str> =
        lists.iter().flat_map(|steps| steps.iter()).map(|step| step.id.value.as_str()).collect();
    assert_eq!(ids, ["one", "two", "three"]);
    assert_eq!(document.outputs[0].1.as_str(), Some("{{ steps.one.url }}"));
}

#[test]
fn every_key_of_a_step_is_read() {
    let document = good(&with_step(
        "title: T\nwith: { a: 1, b: [x, null] }\nneeds: []\nif: env.kind != 'local'\n\
         preconditions: [{ check: a, message: M }]\npostconditions: [{ check: true }]\n\
         for_each: { items: [a, b], as: it, key: \"{{ it }}\", max_parallel: 4 }\ntimeout: 1h 30m\n\
         retry: { max_attempts: 5, initial_interval: 500ms, multiplier: 1.5, max_interval: 1m, jitter: 0, \
         on_exhausted: fail }\nidempotency_key: k\nprobe: { uses: x.look, with: {}, happened: probe.found }\n\
         approval: { prompt: P, min_approvals: 2, timeout: 2h, approvers: [ana] }\ncontinue_on_error: true\n\
         undo: { uses: x.drop }\npoint_of_no_return: true\ntags: [freeze, expose]\nwhy: W\nif_it_fails: F\n\
         expect: { duration: 5m }",
    ));
    let step = &document.steps[0];
    assert_eq!(step.with.as_ref().unwrap().to_value(), json!({ "a": 1, "b": ["x", null] }));
    assert_eq!(step.needs, Some(vec![]));
    assert_eq!(step.postconditions[0].check.value, "true");
    assert_eq!(step.for_each.as_ref().unwrap().max_parallel, 4);
    assert_eq!(step.timeout.unwrap().value, Duration::from_secs(5400));
    let retry = step.retry.as_ref().unwrap();
    assert_eq!((retry.max_attempts, retry.jitter), (Some(5), Some(0.0)));
    assert_eq!(
        (retry.initial_interval, retry.on_exhausted),
        (Some(Duration::from_millis(500)), Some(OnExhausted::Fail))
    );
    assert_eq!(step.approval.as_ref().unwrap().min_approvals, 2);
    assert!(matches!(&step.undo, Some(UndoDecl::Uses { uses, with: None }) if uses.value == "x.drop"));
    assert!(step.continue_on_error && step.point_of_no_return);
    assert_eq!(step.expect_duration.unwrap().value, Duration::from_secs(300));
}

#[test]
fn left_out_is_not_the_same_as_empty() {
    let document = good(&with_step("undo: none"));
    let step = &document.steps[0];
    assert_eq!((&step.needs, &step.with, &step.for_each), (&None, &None, &None));
    assert!(matches!(step.undo, Some(UndoDecl::None(_))));
}

#[test]
fn words_of_yaml_1_1_are_text_and_so_are_odd_numbers() {
    let document = good(&with_step("with: { a: no, b: on, c: 0755, d: 1_000, e: 1e3, f: 0x10, g: ~ }"));
    let with = document.steps[0].with.as_ref().unwrap().to_value();
    assert_eq!(
        with,
        json!({ "a": "no", "b": "on", "c": "0755", "d": "1_000", "e": 1000.0, "f": 16, "g": null })
    );
}

#[test]
fn aliases_share_values_and_keep_the_place_where_they_were_written() {
    let text = with_step("retry: &r { max_attempts: 2 }\n")
        .replace("steps:", "steps:\n  - { id: b, uses: x.y }")
        + "  - { id: c, uses: x.y, retry: *r }\n";
    let document = good(&text);
    assert_eq!(document.steps[2].retry.as_ref().unwrap().max_attempts, Some(2));
}

#[test]
fn places_count_characters_also_after_a_byte_order_mark_and_with_carriage_returns() {
    check(
        "\u{feff}name: ä\r\nkind: drill\r\nsteps:\r\n  - { id: é, uses: x.y }\r\n",
        &["bad-name 1:8", "bad-name 4:11"],
    );
}

#[test]
fn after_a_misspelt_key_decoding_goes_on_as_if_it_were_right() {
    let (document, mistakes) =
        read("name: a\nkind: drill\ninput: { x: { type: string } }\nstep:\n  - { name: a, action: x.y }\n");
    assert_eq!(mistakes, ["unknown-key 3:1", "unknown-key 4:1", "unknown-key 5:7", "unknown-key 5:16"]);
    let document = document.unwrap();
    assert_eq!((document.inputs.len(), document.steps[0].uses.value.as_str()), (1, "x.y"));
}

#[test]
fn a_name_beside_an_id_was_meant_as_title() {
    let (document, mistakes) = read(&with_step("name: Restore the database"));
    assert_eq!(mistakes, ["unknown-key 6:5"]);
    assert_eq!(document.unwrap().steps[0].title.as_ref().unwrap().value, "Restore the database");
}

#[test]
fn a_time_limit_that_names_its_unit_in_the_key_is_rewritten() {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", with_step("timeoutSeconds: 30"));
    let (_, mistakes) = runbook(&sources, id);
    assert_eq!(mistakes.len(), 1);
    assert_eq!(mistakes[0].help.as_deref(), Some("write `timeout: 30s`"));
}

#[test]
fn ids_stay_unique_also_when_they_are_written_twice() {
    let (document, mistakes) =
        read("name: a\nkind: drill\nsteps:\n  - { id: a, uses: x.y }\n  - { id: a, uses: x.y }\n");
    assert_eq!(mistakes, ["duplicate-step 5:11"]);
    let ids: Vec<String> = document.unwrap().steps.into_iter().map(|step| step.id.value).collect();
    assert_eq!(ids, ["a", "a#2"]);
}

#[test]
fn the_number_of_steps_and_of_mistakes_is_bounded() {
    let many = |count: usize, step: &str| format!("name: a\nkind: drill\nsteps:\n{}", step.repeat(count));
    let (document, mistakes) = read(&many(STEPS_MAX + 5, "- {}\n"));
    assert_eq!(document.unwrap().steps.len(), STEPS_MAX);
    assert_eq!(mistakes.len(), MISTAKES_MAX + 1);
    assert!(mistakes[MISTAKES_MAX].starts_with("too-many-mistakes"));
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    check(&"#".repeat(crate::yaml::FILE_BYTES_MAX + 1), &["file-too-large 1:1"]);
}

/// Coerces for an input with this declaration.
fn coerce(declaration: &str, given: &Value) -> Result<Value, String> {
    let document = good(&format!(
        "name: a\nkind: drill\ninputs: {{ x: {declaration} }}\nsteps: [{{ id: a, uses: x.y }}]\n"
    ));
    coerce_input(&document.inputs[0], given)
}

#[test]
fn text_from_a_command_line_takes_the_type_of_its_input() {
    let from_text = |ty: &str, text: &str| coerce(&format!("{{ type: {ty} }}"), &json!(text));
    assert_eq!(from_text("string", "1"), Ok(json!("1")));
    assert_eq!(from_text("integer", "-7"), Ok(json!(-7)));
    assert_eq!(from_text("number", "0.5"), Ok(json!(0.5)));
    assert_eq!(from_text("boolean", "true"), Ok(json!(true)));
    assert_eq!(from_text("timestamp", "latest"), Ok(json!("latest")));
    assert_eq!(from_text("timestamp", "2026-01-31T05:00:00+02:00"), Ok(json!("2026-01-31T03:00:00Z")));
    assert_eq!(from_text("duration", "1h 30m"), Ok(json!("1h 30m")));
    assert_eq!(from_text("list", "a, b"), Ok(json!(["a", "b"])));
    assert_eq!(from_text("list", "[1, 2]"), Ok(json!([1, 2])));
    assert_eq!(from_text("map", "{\"a\": 1}"), Ok(json!({ "a": 1 })));
}

#[test]
fn what_does_not_fit_its_input_is_refused_with_what_was_given() {
    let refused = |declaration: &str, given: Value| coerce(declaration, &given).unwrap_err();
    assert_eq!(refused("{ type: integer }", json!("ten")), "`ten` is not a whole number");
    assert_eq!(refused("{ type: integer }", json!(1.5)), "`1.5` is not a whole number");
    assert_eq!(refused("{ type: boolean }", json!("yes")), "`yes` is not `true` or `false`");
    assert_eq!(refused("{ type: duration }", json!("30")), "`30` has no unit");
    assert_eq!(refused("{ type: map }", json!("[1]")), "`[1]` is not a map");
    assert_eq!(refused("{ type: string }", Value::Null), "a value is needed");
    assert_eq!(refused("{ type: string, enum: [a, b] }", json!("c")), "`c` is not one of `a`, `b`");
    assert_eq!(refused("{ type: string }", json!("⟦secret:x⟧")), "the text looks like the mark of a secret");
}

#[test]
fn an_optional_input_may_be_nothing() {
    assert_eq!(coerce("{ type: string, required: false }", &Value::Null), Ok(Value::Null));
}

#[test]
fn a_file_full_of_unknown_keys_is_read_in_bounded_time() {
    let keys: String = (0..20_000).map(|n| format!("unknown_key_{n}: 1\n")).collect();
    let started = std::time::Instant::now();
    let (_, mistakes) = read(&keys);
    assert_eq!(mistakes.len(), MISTAKES_MAX + 1);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
