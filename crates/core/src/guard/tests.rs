//! Each guard: the runbook of its explanation that it refuses, the nearest that it lets through, and the
//! ways round it that somebody would try.

use serde_json::json;

use super::*;
use crate::environment::EnvironmentKind;
use crate::testing::{actions, compile_files, each, environment, mistakes, runbook, shown, step, workflow};
use crate::workflow::{Expression, Phase, Step, StepPath};

/// Guards that this version checks.
const CHECKED: [&str; 7] = ["G01", "G04", "G05", "G06", "G07", "G08", "G09"];

#[test]
fn each_guard_refuses_its_bad_example_and_allows_the_good_one() {
    for code in CHECKED {
        let explanation = explain(code).unwrap();
        let refused = mistakes(explanation.refused);
        assert!(!refused.is_empty() && refused.iter().all(|m| m.starts_with(code)), "{code}: {refused:#?}");
        assert_eq!(mistakes(explanation.allowed), Vec::<String>::new(), "{code}");
    }
}

#[test]
fn a_guard_that_is_not_checked_says_so() {
    for code in ["G02", "G03"] {
        assert!(explain(code).unwrap().rule.contains("not check it yet"), "{code}");
    }
}

#[test]
fn every_code_is_explained_once() {
    let all: Vec<_> = codes().collect();
    for code in &all {
        assert!(explain(&code.to_uppercase()).is_some(), "{code}");
        assert_eq!(all.iter().filter(|other| *other == code).count(), 1, "{code}");
    }
    assert!(explain("G10").is_none());
}

#[test]
fn a_waived_guard_is_a_warning_that_names_who_waived() {
    let waivers = [Waiver { guard: "G08".into(), reason: "only a status page".into(), by: "ana".into() }];
    let compiled = compile_files(&[("t.yaml", &runbook(explain("G08").unwrap().refused))], &waivers);
    assert!(compiled.workflow.is_some());
    assert_eq!(compiled.diagnostics[0].severity, Severity::Warning);
    assert!(compiled.diagnostics[0].message.ends_with("(waived by ana: only a status page)"));
}

#[test]
fn a_waiver_of_no_guard_is_an_error() {
    let waivers = [Waiver { guard: "g8".into(), reason: "x".into(), by: "ana".into() }];
    let compiled = compile_files(&[("t.yaml", &runbook("  - { id: a, uses: test.read }\n"))], &waivers);
    assert!(compiled.workflow.is_none());
    assert!(shown(&compiled)[0].starts_with("unknown-guard"));
}

#[test]
fn every_code_in_the_sources_is_explained() {
    let known: Vec<_> = codes().collect();
    let mut open = vec![std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut seen = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for before in ["Diagnostic::error(", "Diagnostic::warning(", "Mistake::new(", "code:"] {
            for (at, _) in text.match_indices(before) {
                let rest = text[at + before.len()..].trim_start();
                let code = rest.strip_prefix('"').and_then(|rest| rest.split('"').next());
                if let Some(code) = code.filter(|code| !code.is_empty()) {
                    seen += 1;
                    assert!(known.contains(&code), "{code} of {} is not explained", path.display());
                }
            }
        }
    }
    assert!(seen > 40, "{seen} codes were found; the search is broken");
}

/// A freeze on the live database, then what follows, then an unfreeze in any case.
fn frozen(freeze: &str, then: &str) -> Vec<String> {
    mistakes(&format!(
        r#"steps:
  - id: stop
    uses: postgres.execute
    tags: [freeze]
    {freeze}
    with: {{ on: "{{{{ connections.main }}}}" }}
{then}
finally:
  - id: go
    uses: postgres.execute
    tags: [unfreeze]
    {freeze}
    with: {{ on: "{{{{ connections.main }}}}" }}
"#
    ))
}

const REPAIR: &str = r#"  - id: repair
    uses: postgres.execute
    approval: { prompt: Sure? }
    with: { on: "{{ connections.main }}" }"#;

#[test]
fn g01_wants_the_freeze_on_every_path() {
    assert_eq!(frozen("", REPAIR), Vec::<String>::new());
    let skippable = frozen("if: env.kind == 'local'", REPAIR);
    assert!(skippable[0].starts_with("G01"), "{skippable:?}");
    let same_condition = format!("{REPAIR}\n    if: env.kind == 'local'");
    assert_eq!(frozen("if: env.kind == 'local'", &same_condition), Vec::<String>::new());
    let beside = frozen("", &format!("{REPAIR}\n    needs: []"));
    assert!(beside[0].starts_with("G01") && beside[0].contains("add `stop`"), "{beside:?}");
}

#[test]
fn g01_sees_a_live_connection_through_inputs_outputs_items_and_literals() {
    let inner = "name: inner\nkind: maintenance\ninputs: { target: { type: map } }\nsteps:\n  - id: write\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    with: { on: \"{{ inputs.target }}\" }\noutputs: { same: \"{{ inputs.target }}\" }\n";
    let outer =
        runbook("  - id: sub\n    uses: ./inner.yaml\n    with: { target: \"{{ connections.main }}\" }\n");
    let found = shown(&compile_files(&[("t.yaml", &outer), ("inner.yaml", inner)], &[]));
    assert!(found.len() == 1 && found[0].starts_with("G01"), "{found:?}");

    let quiet = outer.replace("connections.main", "connections.scratch");
    let through = format!(
        "{quiet}  - id: again\n    uses: postgres.execute\n    approval: {{ prompt: Sure? }}\n    with: {{ on: \"{{{{ steps.sub.same }}}}\" }}\n"
    );
    assert_eq!(
        shown(&compile_files(&[("t.yaml", &through), ("inner.yaml", inner)], &[])),
        Vec::<String>::new()
    );
    let live = through.replace("connections.scratch", "connections.main");
    let found = shown(&compile_files(&[("t.yaml", &live), ("inner.yaml", inner)], &[]));
    assert_eq!(found.iter().filter(|m| m.starts_with("G01")).count(), 2, "{found:?}");

    let item = "  - id: each\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    for_each: { items: [\"{{ connections.main }}\"], as: db, key: \"{{ db.host }}\" }\n    with: { on: \"{{ db }}\" }\n";
    assert!(mistakes(item)[0].starts_with("G01"));
    let literal = "  - id: raw\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    with: { on: { host: DB.example.org., user: u, database: postgres, password: \"{{ secrets.token }}\" } }\n";
    assert!(mistakes(literal)[0].starts_with("G01"));
}

#[test]
fn a_tag_does_not_excuse_a_restore_or_a_removal() {
    let found = mistakes(
        "  - id: x\n    uses: postgres.drop\n    tags: [freeze, unfreeze]\n    with: { on: \"{{ connections.main }}\" }\n",
    );
    assert!(
        found.iter().any(|m| m.starts_with("G01")) && found.iter().any(|m| m.starts_with("G05")),
        "{found:?}"
    );
}

#[test]
fn g04_looks_at_written_backups() {
    let restore = |sha: &str| {
        mistakes(&format!(
            "  - id: db\n    uses: supabase.create_project\n    with: {{ name: x }}\n  - id: r\n    uses: postgres.restore\n    with: {{ backup: {{ url: \"file:///d\"{sha} }}, into: \"{{{{ steps.db.connection }}}}\" }}\n"
        ))
    };
    assert!(restore("")[0].starts_with("G04"));
    assert!(restore(", sha256: abc")[0].starts_with("G04"));
    assert_eq!(restore(&format!(", sha256: {}", "a1".repeat(32))), Vec::<String>::new());
}

#[test]
fn g05_takes_a_question_that_no_path_goes_round() {
    let drop = |ask: &str, needs: &str| {
        mistakes(&format!(
            "  - id: ask\n    uses: approval\n    {ask}\n    with: {{ prompt: Sure? }}\n  - id: drop\n    uses: postgres.drop\n    needs: [{needs}]\n    with: {{ on: \"{{{{ connections.scratch }}}}\" }}\n"
        ))
    };
    assert_eq!(drop("", "ask"), Vec::<String>::new());
    assert!(drop("", "")[0].starts_with("G05"));
    assert!(drop("continue_on_error: true", "ask")[0].starts_with("G05"));
    assert!(drop("if: vars.retries > 5", "ask")[0].starts_with("G05"));
    assert!(drop("for_each: { items: [], key: a }", "ask")[0].starts_with("G05"));
}

#[test]
fn g05_takes_the_approval_of_the_runbook_around_a_step() {
    let inner = "name: inner\nkind: maintenance\nsteps:\n  - id: drop\n    uses: postgres.drop\n    with: { on: \"{{ connections.scratch }}\" }\n";
    let outer = |approval: &str| {
        let text = runbook(&format!(
            "  - id: sub\n    uses: ./inner.yaml\n{approval}  - id: after\n    uses: postgres.drop\n    with: {{ on: \"{{{{ connections.scratch }}}}\" }}\n"
        ));
        shown(&compile_files(&[("t.yaml", &text), ("inner.yaml", inner)], &[]))
    };
    assert_eq!(outer("").len(), 2);
    // It is given for what is inside, not for what comes after.
    let found = outer("    approval: { prompt: Sure? }\n");
    assert!(found.len() == 1 && found[0].contains("step `after`"), "{found:?}");
}

#[test]
fn g06_wants_an_unfreeze_that_runs_whenever_the_freeze_ran() {
    let found = |tag: &str, change: &dyn Fn(&mut Step)| -> Vec<&'static str> {
        let mut stop = step("stop", "");
        stop.tags = vec!["freeze:crons".to_owned()];
        let mut go = step("go", "");
        go.tags = vec![tag.to_owned()];
        go.needs = vec![stop.path.clone()];
        change(&mut go);
        let workflow = workflow(vec![stop, go]);
        let mut found = Vec::new();
        check(&workflow, None, &actions(), &[], &mut found);
        found.iter().map(|mistake| mistake.code).collect()
    };
    let as_it_is = |_: &mut Step| {};
    assert_eq!(found("unfreeze:crons", &as_it_is), Vec::<&str>::new());
    assert_eq!(found("unfreeze", &as_it_is), ["G06"]);
    assert_eq!(found("unfreeze:crons", &|go| go.condition = Some(Expression("false".into()))), ["G06"]);
    assert_eq!(found("unfreeze:crons", &|go| go.needs.clear()), ["G06"]);
    assert_eq!(found("unfreeze:crons", &|go| go.for_each = Some(each(json!("{{ inputs.l }}")))), ["G06"]);
    let in_finally = |go: &mut Step| {
        go.needs.clear();
        go.phase = Phase::Finally;
    };
    assert_eq!(found("unfreeze:crons", &in_finally), Vec::<&str>::new());
}

#[test]
fn g09_wants_the_new_value_at_every_place_whenever_it_was_made() {
    let found = |rotate: &str, places: &str| {
        mistakes(&format!(
            "  - id: rotate\n    uses: supabase.rotate\n    tags: [\"rotate:jwt\"]\n{rotate}  - id: places\n    uses: secret.distribute\n{places}"
        ))
    };
    let whole = "    with: { secret: jwt, value: \"{{ steps.rotate.jwt }}\" }\n";
    assert_eq!(found("", whole), Vec::<String>::new());
    for (rotate, places) in [
        ("", "    if: vars.retries > 5\n"),
        ("", "    continue_on_error: true\n"),
        ("", "    for_each: { items: [], key: a }\n"),
        ("    if: vars.retries > 5\n", "    if: vars.retries > 6\n"),
    ] {
        let mistakes = found(rotate, &format!("{places}{whole}"));
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("G09"), "{places}: {mistakes:?}");
    }
    for other in [
        "    with: { secret: other, value: \"{{ steps.rotate.jwt }}\" }\n",
        "    with: { secret: jwt, value: \"{{ secrets.token }}\" }\n",
    ] {
        let mistakes = found("", other);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("G09"), "{other}: {mistakes:?}");
    }
    assert_eq!(
        found("    if: vars.retries > 5\n", &format!("    if: vars.retries > 5\n{whole}")),
        Vec::<String>::new()
    );
    let unlisted = "  - { id: rotate, uses: supabase.rotate, tags: [\"rotate:unlisted\"] }\n";
    assert_eq!(mistakes(unlisted), Vec::<String>::new());
}

#[test]
fn g09_knows_the_name_through_lists_and_inputs() {
    let each = "for_each: { items: [jwt], as: name, key: \"{{ name }}\" }";
    let rotate = format!(
        "  - id: make\n    uses: secret.rotate\n    {each}\n    with: {{ secret: \"{{{{ name }}}}\" }}\n"
    );
    assert!(mistakes(&rotate)[0].starts_with("G09"));
    let both = format!(
        "{rotate}  - id: places\n    uses: secret.distribute\n    {each}\n    with: {{ secret: \"{{{{ name }}}}\", value: \"{{{{ steps.make[name].value }}}}\" }}\n"
    );
    assert_eq!(mistakes(&both), Vec::<String>::new());

    let inner = "name: inner\nkind: maintenance\ninputs: { which: { type: string } }\nsteps:\n  - id: make\n    uses: secret.rotate\n    with: { secret: \"{{ inputs.which }}\" }\n";
    let outer = runbook("  - id: sub\n    uses: ./inner.yaml\n    with: { which: jwt }\n");
    let found = shown(&compile_files(&[("t.yaml", &outer), ("inner.yaml", inner)], &[]));
    assert!(found.len() == 1 && found[0].starts_with("G09"), "{found:?}");
}

#[test]
fn at_run_time_the_rendered_target_counts() {
    let text = runbook(
        "inputs: { db: { type: map } }\nsteps:\n  - id: backup\n    uses: backup.select\n  - id: restore\n    uses: postgres.restore\n    with: { backup: \"{{ steps.backup }}\", into: \"{{ inputs.db }}\", overwrite: false }\n",
    );
    let compiled = compile_files(&[("t.yaml", &text)], &[]);
    let workflow = compiled.workflow.unwrap();
    let step = workflow.step(&StepPath::new("restore")).unwrap();
    let environment = environment(EnvironmentKind::Production);
    let sha = "0f".repeat(32);
    let codes = |host: &str, backup: serde_json::Value, waivers: &[Waiver]| -> Vec<&str> {
        let params =
            json!({ "backup": backup, "into": { "host": host, "port": 5432, "database": "postgres" } });
        let found = at_run_time(&workflow, step, &params, &environment, &actions(), waivers);
        found.iter().map(|violation| violation.guard).collect()
    };
    assert_eq!(codes("new.example.org", json!({ "sha256": sha }), &[]), Vec::<&str>::new());
    assert_eq!(codes("new.example.org", json!({}), &[]), ["G04"]);
    assert_eq!(codes("DB.example.org.", json!({ "sha256": sha }), &[]), ["G01", "G05", "G07", "G07"]);
    assert_eq!(codes("scratch.example.org", json!({ "sha256": sha }), &[]), ["G07", "G07"]);
    let waiver = Waiver { guard: "G07".into(), reason: "empty".into(), by: "ana".into() };
    assert_eq!(codes("scratch.example.org", json!({ "sha256": sha }), &[waiver]), Vec::<&str>::new());
}
