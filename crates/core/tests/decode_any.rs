//! Whatever the bytes, decoding ends with a document or with mistakes, never with a panic.

use proptest::prelude::*;
use runbook_core::diagnostic::{Diagnostic, Sources};
use runbook_core::{decode, environment_file};

const RUNBOOK: &str = r#"name: path-b
title: Bad migration or schema corruption
kind: incident
objectives: { rpo: 24h, rto: 60m }
inputs:
  restore_point: { type: timestamp, default: latest, help: "Restore the newest." }
  migration:     { type: string, required: false, enum: [a, b] }
steps:
  - id: backup
    uses: backup.select
    with: &with { at_or_before: "{{ inputs.restore_point }}", list: [1, -2.5, ~, "é⟦"] }
  - id: restore
    uses: ./triage.yaml
    needs: [backup]
    with: *with
    timeout: 1h 30m
    retry: { max_attempts: 3, initial_interval: 5s, max_interval: 2m }
    for_each: { items: "{{ inputs.x }}", as: it, key: "{{ it }}" }
    why: >-
      The damaged database is left
      as it is.
    undo: { uses: postgres.drop, with: {} }
    approval: { prompt: "Send?", min_approvals: 1, timeout: 2h }
finally:
  - { id: unfreeze, uses: vercel.crons, if: "env.kind != 'local'" }
outputs: { url: "{{ steps.restore.url }}" }
"#;

const ENVIRONMENT: &str = r#"name: local
extends: sandbox
kind: local
data: synthetic
connections:
  main: { host: h, port: "{{ vars.port }}", user: u, database: d, password: "{{ secrets.p }}", live: true }
secrets: { p: { env: P }, q: { command: [pass, show] } }
vars: { port: 5432, list: [1, { a: b }] }
"#;

/// Decodes a text as both kinds of file; the places of all mistakes are inside it.
fn decode_both(text: &str) -> Result<(), TestCaseError> {
    decode_runbook(text)?;
    decode_environment(text)
}

fn decode_runbook(text: &str) -> Result<(), TestCaseError> {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", text);
    let (document, mistakes) = decode::runbook(&sources, id);
    prop_assert!(document.is_some() || !mistakes.is_empty(), "{text:?}");
    check_places(&sources, &mistakes)
}

fn decode_environment(text: &str) -> Result<(), TestCaseError> {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", text);
    let base = sources.add("base.yaml", "name: base\nkind: local\ndata: masked\nvars: { port: 1 }\n");
    for base in [None, Some(base)] {
        let loaded = environment_file::decode(&sources, id, base);
        prop_assert!(loaded.environment.is_some() || !loaded.diagnostics.is_empty(), "{text:?}");
        check_places(&sources, &loaded.diagnostics)?;
    }
    environment_file::extends(&sources, id);
    Ok(())
}

fn check_places(sources: &Sources, mistakes: &[Diagnostic]) -> Result<(), TestCaseError> {
    for mistake in mistakes {
        let related = mistake.related.iter().map(|(span, _)| *span);
        for span in mistake.span.into_iter().chain(related) {
            let text = &sources.get(span.source).text;
            prop_assert!(text.get(span.start..span.end).is_some(), "{mistake:?} is outside of {text:?}");
        }
    }
    Ok(())
}

/// Cuts at a character, so that the text stays text.
fn cut(text: &str, at: usize) -> &str {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

#[test]
fn the_whole_examples_have_no_mistakes() {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", RUNBOOK);
    assert_eq!(decode::runbook(&sources, id).1, []);
    let id = sources.add("b.yaml", ENVIRONMENT.replace("extends: sandbox\n", ""));
    assert_eq!(environment_file::decode(&sources, id, None).diagnostics, []);
}

#[test]
fn every_truncation_ends_with_a_document_or_mistakes() {
    for at in 0..RUNBOOK.len() {
        decode_runbook(cut(RUNBOOK, at)).unwrap();
    }
    for at in 0..ENVIRONMENT.len() {
        decode_environment(cut(ENVIRONMENT, at)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_ends_with_a_document_or_mistakes(text in any::<String>()) {
        decode_both(&text)?;
    }

    #[test]
    fn any_soup_of_yaml_ends_with_a_document_or_mistakes(
        text in "([a-z0-9]|[ \n\t]|[:?&*!%@`|>'\"#,{}\\[\\]-]|\u{feff}|é|steps: |- id: |uses: |\\{\\{ |\\}\\}|<<: |\\*a|&a |---\n){0,120}"
    ) {
        decode_both(&text)?;
    }

    #[test]
    fn a_runbook_with_any_bytes_put_in_ends_with_a_document_or_mistakes(
        at in 0..RUNBOOK.len(),
        length in 0..20usize,
        bytes in proptest::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut text = RUNBOOK.as_bytes().to_vec();
        let end = (at + length).min(text.len());
        text.splice(at..end, bytes);
        decode_both(&String::from_utf8_lossy(&text))?;
    }
}
