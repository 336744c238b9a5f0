//! Each guard: the runbook of its explanation that it refuses, the nearest that it lets through, and the
//! ways round it that somebody would try.

use serde_json::json;

use super::*;
use crate::environment::EnvironmentKind;
use crate::testing::{
    actions, compile_files, compile_in, each, environment, mistakes, mistakes_in, runbook, shown, step,
    workflow,
};
use crate::workflow::{Expression, Phase, Step, StepPath};

/// Guards that this version checks.
const CHECKED: [&str; 9] = ["G01", "G02", "G03", "G04", "G05", "G06", "G07", "G08", "G09"];

#[test]
fn each_guard_refuses_its_bad_example_and_allows_the_good_one() {
    for code in CHECKED {
        let explanation = explain(code).unwrap();
        // Production may hold production's data.
        let kind = if code == "G03" { EnvironmentKind::Staging } else { EnvironmentKind::Production };
        let mistakes = |steps: &str| mistakes_in(kind, steps);
        let refused = mistakes(explanation.refused);
        assert!(!refused.is_empty() && refused.iter().all(|m| m.starts_with(code)), "{code}: {refused:#?}");
        assert_eq!(mistakes(explanation.allowed), Vec::<String>::new(), "{code}");
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
    with: {{ connection: "{{{{ connections.main }}}}" }}
{then}
finally:
  - id: go
    uses: postgres.execute
    tags: [unfreeze]
    {freeze}
    with: {{ connection: "{{{{ connections.main }}}}" }}
"#
    ))
}

const REPAIR: &str = r#"  - id: repair
    uses: postgres.execute
    approval: { prompt: Sure? }
    with: { connection: "{{ connections.main }}" }"#;

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
    let inner = "name: inner\nkind: maintenance\ninputs: { target: { type: map } }\nsteps:\n  - id: write\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    with: { connection: \"{{ inputs.target }}\" }\noutputs: { same: \"{{ inputs.target }}\" }\n";
    let outer =
        runbook("  - id: sub\n    uses: ./inner.yaml\n    with: { target: \"{{ connections.main }}\" }\n");
    let found = shown(&compile_files(&[("t.yaml", &outer), ("inner.yaml", inner)], &[]));
    assert!(found.len() == 1 && found[0].starts_with("G01"), "{found:?}");

    let quiet = outer.replace("connections.main", "connections.scratch");
    let through = format!(
        "{quiet}  - id: again\n    uses: postgres.execute\n    approval: {{ prompt: Sure? }}\n    with: {{ connection: \"{{{{ steps.sub.same }}}}\" }}\n"
    );
    assert_eq!(
        shown(&compile_files(&[("t.yaml", &through), ("inner.yaml", inner)], &[])),
        Vec::<String>::new()
    );
    let live = through.replace("connections.scratch", "connections.main");
    let found = shown(&compile_files(&[("t.yaml", &live), ("inner.yaml", inner)], &[]));
    assert_eq!(found.iter().filter(|m| m.starts_with("G01")).count(), 2, "{found:?}");

    let item = "  - id: each\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    for_each: { items: [\"{{ connections.main }}\"], as: db, key: \"{{ db.host }}\" }\n    with: { connection: \"{{ db }}\" }\n";
    assert!(mistakes(item)[0].starts_with("G01"));
    let literal = "  - id: raw\n    uses: postgres.execute\n    approval: { prompt: Sure? }\n    with: { connection: { host: DB.example.org., user: u, database: postgres, password: \"{{ secrets.token }}\" } }\n";
    assert!(mistakes(literal)[0].starts_with("G01"));
}

#[test]
fn a_tag_does_not_excuse_a_restore_or_a_removal() {
    let found = mistakes(
        "  - id: x\n    uses: postgres.drop\n    tags: [freeze, unfreeze]\n    with: { connection: \"{{ connections.main }}\" }\n",
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
            "  - id: ask\n    uses: approval\n    {ask}\n    with: {{ prompt: Sure? }}\n  - id: drop\n    uses: postgres.drop\n    needs: [{needs}]\n    with: {{ connection: \"{{{{ connections.scratch }}}}\" }}\n"
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
    let inner = "name: inner\nkind: maintenance\nsteps:\n  - id: drop\n    uses: postgres.drop\n    with: { connection: \"{{ connections.scratch }}\" }\n";
    let outer = |approval: &str| {
        let text = runbook(&format!(
            "  - id: sub\n    uses: ./inner.yaml\n{approval}  - id: after\n    uses: postgres.drop\n    with: {{ connection: \"{{{{ connections.scratch }}}}\" }}\n"
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

/// A production dump into staging, with what masks it and what proves that.
fn refresh(restore: &str, rest: &str) -> Vec<String> {
    mistakes_in(
        EnvironmentKind::Staging,
        &format!(
            r#"  - {{ id: backup, uses: backup.select, with: {{ source: production }} }}
  - {{ id: db, uses: supabase.create_project, with: {{ name: x }} }}
  - id: load
    uses: postgres.restore
    with: {{ backup: "{{{{ steps.backup }}}}", into: "{{{{ steps.db.connection }}}}"{restore} }}
{rest}"#
        ),
    )
}

const MASKED: &str = ", mask: m.yaml, mask_key: \"{{ secrets.token }}\"";
const LEAKS: &str = "  - { id: leaks, uses: postgres.leak_check, tags: [validate], with: { connection: \"{{ steps.db.connection }}\" } }\n";
const OPEN: &str = "  - { id: open, uses: vercel.env, tags: [expose], with: { set: {} } }\n";

#[test]
fn g03_wants_a_mask_and_a_leak_check_before_success_and_before_what_exposes() {
    assert_eq!(refresh(MASKED, &format!("{LEAKS}{OPEN}")), Vec::<String>::new());
    let in_place = format!(
        "  - {{ id: mask, uses: postgres.mask, with: {{ connection: \"{{{{ steps.db.connection }}}}\" }} }}\n{LEAKS}{OPEN}"
    );
    assert_eq!(refresh("", &in_place), Vec::<String>::new());
    for (restore, rest) in [
        ("", String::new()),
        (MASKED, String::new()),
        ("", LEAKS.to_owned()),
        (MASKED, LEAKS.replace("tags:", "if: vars.retries > 5, tags:")),
        (MASKED, format!("{LEAKS}{}", OPEN.replace("tags:", "needs: [load], tags:"))),
        ("", in_place.replace("uses: postgres.mask,", "uses: postgres.mask, if: vars.retries > 5,")),
        (MASKED, LEAKS.replace("tags:", "continue_on_error: true, tags:")),
        (MASKED, LEAKS.replace("steps.db.connection", "connections.scratch")),
    ] {
        let found = refresh(restore, &rest);
        let g03 = found.iter().filter(|mistake| mistake.starts_with("G03")).count();
        assert_eq!(g03, 1, "{restore} {rest}: {found:?}");
    }
}

#[test]
fn g03_takes_any_source_for_production_that_does_not_say_otherwise() {
    let select = |source: &str| {
        mistakes_in(
            EnvironmentKind::Staging,
            &format!(
                "  - {{ id: backup, uses: backup.select, with: {{ {source} }} }}\n  - {{ id: db, uses: supabase.create_project, with: {{ name: x }} }}\n  - {{ id: load, uses: postgres.restore, with: {{ backup: \"{{{{ steps.backup }}}}\", into: \"{{{{ steps.db.connection }}}}\" }} }}\n"
            ),
        )
        .len()
    };
    assert_eq!(select("source: made_up"), 0);
    assert_eq!(select("source: nobody_knows"), 1);
    assert_eq!(select("source: \"{{ vars.site }}\""), 1);
    // The environment's own dumps hold what its databases hold, and these say production.
    assert_eq!(select(""), 1);
}

#[test]
fn at_run_time_g03_wants_the_mask_that_a_template_left_out() {
    let text = runbook(
        "inputs: { rules: { type: string, required: false } }\nsteps:\n  - { id: backup, uses: backup.select, with: { source: production } }\n  - { id: db, uses: supabase.create_project, with: { name: x } }\n  - { id: load, uses: postgres.restore, with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.db.connection }}\", mask: \"{{ inputs.rules }}\" } }\n  - { id: leaks, uses: postgres.leak_check, with: { connection: \"{{ steps.db.connection }}\" } }\n",
    );
    let compiled = compile_in(EnvironmentKind::Staging, &[("t.yaml", &text)], &[]);
    let workflow = compiled.workflow.unwrap();
    let step = workflow.step(&StepPath::new("load")).unwrap();
    let codes = |kind, backup: serde_json::Value, mask: serde_json::Value| -> Vec<&str> {
        let params =
            json!({ "backup": backup, "into": { "host": "new.example.org", "database": "x" }, "mask": mask });
        let found = at_run_time(&workflow, step, &params, &environment(kind), &actions(), &[]);
        found.iter().map(|violation| violation.guard).collect()
    };
    let production = json!({ "sha256": "0f".repeat(32), "data": "production" });
    let masked = json!({ "sha256": "0f".repeat(32), "data": "masked" });
    let none = Vec::<&str>::new();
    assert_eq!(codes(EnvironmentKind::Staging, production.clone(), json!(null)), ["G03"]);
    assert_eq!(codes(EnvironmentKind::Staging, production.clone(), json!("m.yaml")), none);
    assert_eq!(codes(EnvironmentKind::Production, production, json!(null)), none);
    assert_eq!(codes(EnvironmentKind::Staging, masked, json!(null)), none);
}

#[test]
fn at_run_time_a_drill_writes_only_while_every_live_database_is_known() {
    let text = runbook(
        "steps:\n  - { id: db, uses: supabase.create_project, with: { name: x } }\n  - { id: write, uses: postgres.execute, with: { connection: \"{{ steps.db.connection }}\" } }\n",
    )
    .replace("kind: maintenance", "kind: drill");
    let workflow = compile_files(&[("t.yaml", &text)], &[]).workflow.unwrap();
    let step = workflow.step(&StepPath::new("write")).unwrap();
    let live = |identity: Option<&str>| crate::environment::LiveDatabase {
        environment: "prod".into(),
        connection: "main".into(),
        identity: identity.map(Into::into),
    };
    let codes = |guarded, waivers: &[Waiver]| -> Vec<String> {
        let environment = Environment { guarded, ..environment(EnvironmentKind::Staging) };
        let params = json!({ "connection": { "host": "new.example.org", "database": "x" } });
        let found = at_run_time(&workflow, step, &params, &environment, &actions(), waivers);
        found.into_iter().map(|violation| violation.message).collect()
    };
    assert_eq!(codes(Some(vec![live(Some("7/postgres"))]), &[]), Vec::<String>::new());
    let unknown = codes(Some(vec![live(Some("7/postgres")), live(None)]), &[]);
    assert!(unknown.len() == 1 && unknown[0].contains("`prod/main`"), "{unknown:?}");
    assert_eq!(codes(None, &[]).len(), 1);
    let waiver = Waiver { guard: "G02".into(), reason: "x".into(), by: "ana".into() };
    assert_eq!(codes(None, &[waiver]), Vec::<String>::new());
}

#[test]
fn g02_looks_at_drills_only_and_at_what_users_are_served() {
    let drill = |steps: &str| mistakes(&format!("steps:\n{steps}")).len();
    let text = "  - { id: smoke, uses: postgres.query, tags: [validate], with: { connection: \"{{ connections.scratch }}\" } }\n  - { id: open, uses: vercel.env, tags: [expose], with: { set: {} } }\n";
    assert_eq!(drill(text), 0);
    let found =
        shown(&compile_files(&[("t.yaml", &runbook(text).replace("kind: maintenance", "kind: drill"))], &[]));
    assert!(found.len() == 1 && found[0].starts_with("G02"), "{found:?}");
}
