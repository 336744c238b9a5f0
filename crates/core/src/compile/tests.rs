//! Runbooks in, workflow or mistakes out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::environment::EnvironmentKind;
use crate::testing::{Files, actions, compile_files, environment, mistakes, runbook, shown};
use crate::workflow::{Phase, StepPath, Template, Work, Workflow};

#[track_caller]
fn compiled(files: &[(&str, &str)]) -> Workflow {
    let compiled = compile_files(files, &[]);
    let found = shown(&compiled);
    compiled.workflow.unwrap_or_else(|| panic!("{found:#?}"))
}

fn paths(workflow: &Workflow) -> Vec<&str> {
    workflow.steps.iter().map(|step| step.path.as_str()).collect()
}

fn needs(workflow: &Workflow, path: &str) -> Vec<String> {
    let step = workflow.step(&StepPath::new(path)).unwrap();
    step.needs.iter().map(|need| need.as_str().to_owned()).collect()
}

#[test]
fn a_step_needs_the_step_above_unless_it_says_otherwise() {
    let text = runbook(
        "  - { id: a, uses: test.read }\n  - { id: b, uses: test.read }\n  - { id: c, uses: test.read, needs: [] }\n  - { id: d, uses: test.read, needs: [a] }\n  - { id: e, uses: test.read, needs: [], with: { a: \"{{ steps.b.ok }}\" } }\n",
    );
    let workflow = compiled(&[("t.yaml", &text)]);
    assert_eq!(needs(&workflow, "a"), Vec::<String>::new());
    assert_eq!(needs(&workflow, "b"), ["a"]);
    assert_eq!(needs(&workflow, "c"), Vec::<String>::new());
    assert_eq!(needs(&workflow, "d"), ["a"]);
    assert_eq!(needs(&workflow, "e"), ["b"]);
    assert_eq!(paths(&workflow), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_later_step_may_be_written_above() {
    let text =
        runbook("  - { id: a, uses: test.read, needs: [b] }\n  - { id: b, uses: test.read, needs: [] }\n");
    assert_eq!(paths(&compiled(&[("t.yaml", &text)])), ["b", "a"]);
}

#[test]
fn a_cycle_is_shown_as_a_chain() {
    let found = mistakes(
        "  - { id: a, uses: test.read, needs: [c] }\n  - { id: b, uses: test.read }\n  - { id: c, uses: test.read }\n",
    );
    assert!(found[0].starts_with("cycle at `a`: steps wait for each other: a → c → b → a"), "{found:?}");
    let own = mistakes("  - { id: a, uses: test.read, needs: [a] }\n");
    assert!(own[0].contains("a → a"), "{own:?}");
}

const INNER: &str = "name: inner\nkind: maintenance\ninputs: { size: { type: integer, default: 3 }, name: { type: string } }\nsteps:\n  - { id: one, uses: test.read, with: { a: \"{{ inputs.size }}\" } }\n  - { id: two, uses: test.read, needs: [] }\noutputs: { ok: \"{{ steps.one.ok }}\" }\nfinally:\n  - { id: last, uses: test.read }\n";

#[test]
fn a_runbook_used_as_a_step_stands_between_begin_and_end() {
    let text = runbook(
        "  - { id: before, uses: test.read }\n  - { id: sub, uses: ./inner.yaml, if: \"vars.retries > 1\", tags: [validate], with: { name: \"{{ vars.site }}\" } }\n  - { id: after, uses: test.read, if: steps.sub.ok }\n",
    );
    let workflow = compiled(&[("r/t.yaml", &text), ("r/inner.yaml", INNER)]);
    assert_eq!(paths(&workflow), ["before", "sub/(begin)", "sub/one", "sub/two", "sub", "after", "sub/last"]);
    assert_eq!(needs(&workflow, "sub/(begin)"), ["before"]);
    assert_eq!(needs(&workflow, "sub/one"), ["sub/(begin)"]);
    assert_eq!(needs(&workflow, "sub/two"), ["sub/(begin)"]);
    assert_eq!(needs(&workflow, "sub"), ["sub/one", "sub/two"]);
    assert_eq!(needs(&workflow, "after"), ["sub"]);
    let begin = workflow.step(&StepPath::new("sub/(begin)")).unwrap();
    assert!(begin.condition.is_some() && begin.tags.is_empty());
    assert_eq!(begin.with["size"], Template(json!(3)));
    let end = workflow.step(&StepPath::new("sub")).unwrap();
    assert!(end.condition.is_none() && matches!(end.work, Work::End { .. }));
    assert_eq!(end.tags, ["validate"]);
    let last = workflow.step(&StepPath::new("sub/last")).unwrap();
    assert_eq!((last.phase, last.begin()), (Phase::Finally, Some(StepPath::new("sub/(begin)"))));
}

#[test]
fn recursion_is_refused_with_its_chain() {
    let a = runbook("  - { id: x, uses: ./b.yaml }\n");
    let b = runbook("  - { id: y, uses: ./a.yaml }\n");
    let found = shown(&compile_files(&[("a.yaml", &a), ("b.yaml", &b)], &[]));
    assert!(found[0].contains("a runbook uses itself: a.yaml → b.yaml → a.yaml"), "{found:?}");
}

#[test]
fn runbooks_that_multiply_are_stopped() {
    let files: Vec<(String, String)> = (0..11)
        .map(|at| {
            let steps: String =
                (0..8).map(|n| format!("  - {{ id: s{n}, uses: ./f{}.yaml }}\n", at + 1)).collect();
            (format!("f{at}.yaml"), runbook(&steps))
        })
        .chain([("f11.yaml".to_owned(), runbook("  - { id: s, uses: test.read }\n"))])
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let found = shown(&compile_files(&files, &[]));
    assert!(found.iter().any(|m| m.starts_with("too-many-steps")), "{:?}", found.first());
}

/// Steps, and what the only mistake begins with.
const MISTAKES: &[(&str, &str)] = &[
    (
        "  - { id: a, uses: postgres.qery }\n",
        "unknown-action at `postgres.qery`: there is no action `postgres.qery` (did you mean `postgres.query`?)",
    ),
    (
        "  - { id: a, uses: test.read }\n  - { id: b, uses: test.read, needs: [aa] }\n",
        "unknown-step at `aa`: step `b` needs `aa`, and no step has that id",
    ),
    (
        "  - { id: a, uses: test.read, with: { a: \"{{ steps.b.ok }}\" } }\n",
        "unknown-step at `steps.b.ok`: there is no step `b`",
    ),
    (
        "  - { id: a, uses: test.read }\n  - { id: b, uses: test.read, with: { a: \"{{ steps.a.okk }}\" } }\n",
        "unknown-field at `steps.a.okk`: `steps.a` has no field `okk` (did you mean `ok`?)",
    ),
    (
        "  - { id: a-b, uses: test.read }\n  - { id: c, uses: test.read, if: steps.a-b.ok }\n",
        "unknown-step at `steps.a`: there is no step `a` (a `-` subtracts; a name with one is written `steps['a-b']`)",
    ),
    (
        "  - { id: a, uses: test.read, with: { a: \"{{ inputs.x }}\" } }\n",
        "unknown-input at `inputs.x`: runbook `test` has no input `x`",
    ),
    (
        "  - { id: a, uses: test.read, with: { a: \"{{ vars.sit }}\" } }\n",
        "unknown-var at `vars.sit`: environment `prod` has no variable `sit` (did you mean `site`?)",
    ),
    (
        "  - { id: a, uses: postgres.query, with: { connection: \"{{ connections.mian }}\" } }\n",
        "unknown-connection at `connections.mian`",
    ),
    (
        "  - { id: a, uses: supabase.create_project, with: { name: x, token: \"{{ secrets.tokn }}\" } }\n",
        "unknown-secret at `secrets.tokn`",
    ),
    (
        "  - { id: a, uses: test.read, if: env.knd == 'local' }\n",
        "unknown-field at `env.knd`: `env` has no field `knd` (did you mean `kind`?)",
    ),
    (
        "  - { id: a, uses: test.read, if: nothing }\n",
        "unknown-name at `nothing`: there is no name `nothing`",
    ),
    ("  - { id: a, uses: test.read, if: steps.a.ok }\n", "own-output at `steps.a.ok`"),
    ("  - { id: a, uses: test.read, if: \"steps[vars.site].ok\" }\n", "dynamic-reference at `steps`"),
    ("  - { id: a, uses: test.read, if: 1 + }\n", "template-syntax"),
    (
        "  - { id: a, uses: test.read, with: { a: \"x {{ vars.site | uper }}\" } }\n",
        "template-syntax at `uper`: there is no filter `uper` in templates (did you mean `upper`?)",
    ),
    (
        "  - { id: a, uses: postgres.query }\n",
        "missing-parameter at `postgres.query`: action `postgres.query` needs `connection` (add `connection`: a connection)",
    ),
    (
        "  - { id: a, uses: test.read, with: { b: 1 } }\n",
        "unknown-parameter at `b`: action `test.read` has no parameter `b`",
    ),
    (
        "  - { id: a, uses: notify.chat, with: { text: 15 } }\n",
        "wrong-type at `15`: a text is wanted, and this is a whole number (write it in quotes: \"15\")",
    ),
    (
        "  - { id: a, uses: notify.chat, with: { text: \"{{ vars.retries }}\" } }\n",
        "wrong-type at `{{ vars.retries }}`: a text is wanted, and this gives a whole number",
    ),
    ("  - { id: a, uses: notify.chat, with: { text: \"token {{ secrets.token }}\" } }\n", "secret-exposed"),
    (
        "  - { id: a, uses: notify.chat, with: { text: x, fields: { all: \"{{ connections.main }}\" } } }\n",
        "secret-exposed",
    ),
    (
        "  - { id: r, uses: supabase.rotate }\n  - { id: a, uses: notify.chat, with: { text: \"{{ steps.r.jwt }}\" } }\n",
        "secret-exposed",
    ),
    ("  - { id: a, uses: test.read, if: secrets.token == 'x' }\n", "secret-computed at `secrets.token`"),
    (
        "  - { id: a, uses: supabase.create_project, with: { name: x, token: \"{{ secrets.token | upper }}\" } }\n",
        "secret-computed at `secrets.token`",
    ),
    (
        "  - { id: a, uses: supabase.create_project, with: { name: x, token: abc } }\n",
        "secret-literal at `abc`",
    ),
    (
        "  - { id: a, uses: test.read, approval: { prompt: \"Use {{ secrets.token }}?\" } }\n",
        "secret-exposed at `secrets.token`",
    ),
    (
        "  - { id: p, uses: supabase.create_project, with: { name: x } }\n  - { id: a, uses: postgres.query, with: { connection: \"{{ steps.p }}\" } }\n",
        "wrong-type at `{{ steps.p }}`: a connection is wanted, and this gives a map (did you mean `{{ steps.p.connection }}`?)",
    ),
    (
        "  - { id: b, uses: backup.select }\n  - { id: a, uses: postgres.query, with: { connection: \"{{ steps.b }}\" } }\n",
        "wrong-type at `{{ steps.b }}`: a connection is wanted, and this gives a backup",
    ),
    (
        "  - { id: a, uses: postgres.query, with: { connection: \"db {{ vars.site }}\" } }\n",
        "wrong-type at `db {{ vars.site }}`: a connection is wanted, and this gives a text",
    ),
    (
        "  - { id: a, uses: test.read, for_each: { items: \"{{ vars.site }}\", key: \"{{ item }}\" } }\n",
        "wrong-type at `\"{{ vars.site }}\"`: a list is wanted, and this gives a text",
    ),
    (
        "  - { id: a, uses: test.read, if: item.x, for_each: { items: [1], key: \"{{ item }}\" } }\n",
        "unknown-name at `item.x`: `item` is not known yet here",
    ),
    (
        "  - { id: a, uses: ./none.yaml }\n",
        "unreadable-file at `./none.yaml`: could not read `none.yaml`: no such file",
    ),
    (
        "steps:\n  - { id: a, uses: test.read }\nfinally:\n  - { id: f, uses: test.read, needs: [a] }\n",
        "need-across-lists at `a`",
    ),
    (
        "steps:\n  - { id: a, uses: test.read, if: steps.f.ok }\nfinally:\n  - { id: f, uses: test.read }\n",
        "later-step at `steps.f.ok`",
    ),
    (
        "inputs: { a: { type: string, default: \"{{ vars.site }}\" } }\nsteps:\n  - { id: a, uses: test.read }\n",
        "template-in-default",
    ),
    (
        "  - { id: a, uses: test.read, probe: { uses: notify.chat, with: { text: x }, happened: \"true\" } }\n",
        "probe-writes at `notify.chat`",
    ),
];

#[test]
fn each_mistake_is_found_at_its_place_with_its_mend() {
    for (steps, expected) in MISTAKES {
        let found = mistakes(steps);
        assert!(
            found.len() == 1 && found[0].starts_with(expected),
            "{steps}\n  wanted {expected}\n  found {found:#?}"
        );
    }
}

#[test]
fn what_is_right_is_let_through() {
    for steps in [
        "  - { id: a, uses: postgres.query, with: { connection: \"{{ connections.main }}\" } }\n  - { id: b, uses: test.read, for_each: { items: \"{{ steps.a.rows }}\", as: row, key: \"{{ row }}\" }, with: { a: \"{{ row | upper }}\" } }\n",
        "  - { id: a, uses: supabase.create_project, with: { name: \"x-{{ run.short_id }}\", token: \"Bearer {{ secrets.token }}\" }, postconditions: [{ check: \"steps.a.ref != ''\" }] }\n",
        "  - { id: a-b, uses: test.read }\n  - { id: c, uses: test.read, if: \"steps['a-b'].ok\" }\n",
        "  - { id: a, uses: test.read, probe: { uses: test.read, happened: probe.ok } }\n",
        "steps:\n  - { id: a, uses: test.read }\non_failure:\n  - { id: f, uses: notify.chat, with: { text: \"failed {{ steps.a.ok | default('?', true) }}\" } }\n",
        "  - { id: a, uses: test.read, if: \"env.kind != 'local' and vars.retries > 2\", with: { a: { deep: [\"{{ env.region }}\", 1] } } }\n",
        "  - { id: a, uses: test.read, undo: { uses: notify.chat, with: { text: \"{{ steps.a.ok }} back\" } } }\n",
    ] {
        assert_eq!(mistakes(steps), Vec::<String>::new(), "{steps}");
    }
}

#[test]
fn keys_that_mean_nothing_on_a_runbook_are_refused() {
    let text = runbook(
        "  - { id: sub, uses: ./inner.yaml, with: { name: x, sise: 1 }, for_each: { items: [1], key: a }, timeout: 5m, continue_on_error: true, undo: none }\n",
    );
    let found = shown(&compile_files(&[("t.yaml", &text), ("inner.yaml", INNER)], &[]));
    for expected in [
        "`for_each` has no",
        "`timeout` has no",
        "`continue_on_error` has no",
        "`undo` has no",
        "has no input `sise`",
    ] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn secrets_and_connections_keep_their_type_through_a_used_runbook() {
    let inner = "name: inner\nkind: maintenance\ninputs: { t: { type: string }, db: { type: map } }\nsteps:\n  - { id: say, uses: notify.chat, with: { text: \"{{ inputs.t }}\" } }\n  - { id: look, uses: postgres.query, with: { connection: \"{{ inputs.db }}\" } }\noutputs: { t: \"{{ inputs.t }}\" }\n";
    let outer = |t: &str, db: &str| {
        let text = runbook(&format!(
            "  - {{ id: sub, uses: ./inner.yaml, with: {{ t: \"{{{{ {t} }}}}\", db: \"{{{{ {db} }}}}\" }} }}\n  - {{ id: also, uses: notify.chat, with: {{ text: \"{{{{ steps.sub.t }}}}\" }} }}\n"
        ));
        shown(&compile_files(&[("t.yaml", &text), ("inner.yaml", inner)], &[]))
    };
    assert_eq!(outer("vars.site", "connections.main"), Vec::<String>::new());
    let secret = outer("secrets.token", "connections.main");
    assert_eq!(secret.iter().filter(|m| m.starts_with("secret-exposed")).count(), 2, "{secret:?}");
    let wrong = outer("vars.site", "env");
    assert!(wrong.iter().any(|m| m.contains("a connection is wanted")), "{wrong:?}");
}

fn with_inputs(text: &str, given: &[(&str, Value)]) -> Compiled {
    let environment = environment(EnvironmentKind::Local);
    let inputs: BTreeMap<String, Value> =
        given.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let request = Request {
        runbook: "t.yaml",
        environment: Some(&environment),
        inputs: Some(&inputs),
        registry: &actions(),
        waivers: &[],
    };
    compile(&request, &Files(&[("t.yaml", text)]))
}

const WITH_INPUTS: &str = "name: t\nkind: drill\ninputs: { n: { type: integer }, at: { type: timestamp, default: latest }, o: { type: string, required: false } }\nsteps:\n  - { id: a, uses: test.read, with: { a: \"{{ inputs.n }}\" } }\n";

#[test]
fn inputs_are_typed_and_completed() {
    let workflow = with_inputs(WITH_INPUTS, &[("n", json!("7"))]).workflow.unwrap();
    assert_eq!(json!(workflow.inputs), json!({ "n": 7, "at": "latest", "o": null }));
    assert!(shown(&with_inputs(WITH_INPUTS, &[]))[0].starts_with("missing-input"));
    assert!(shown(&with_inputs(WITH_INPUTS, &[("n", json!("x"))]))[0].starts_with("bad-input"));
    let unknown = shown(&with_inputs(WITH_INPUTS, &[("n", json!(1)), ("att", json!("x"))]));
    assert!(unknown[0].contains("no input `att` (did you mean `at`?)"), "{unknown:?}");
}

#[test]
fn a_check_without_environment_and_values_demands_none() {
    let text = "name: t\nkind: drill\ninputs: { n: { type: integer } }\nsteps:\n  - { id: a, uses: postgres.query, with: { connection: \"{{ connections.any }}\", sql: \"{{ vars.x }} {{ env.name }} {{ inputs.n }}\" } }\n";
    let request =
        Request { runbook: "t.yaml", environment: None, inputs: None, registry: &actions(), waivers: &[] };
    assert_eq!(shown(&compile(&request, &Files(&[("t.yaml", text)]))), Vec::<String>::new());
}

#[test]
fn the_digest_covers_what_would_be_done_and_nothing_else() {
    let digest = |text: &str, n: i64| with_inputs(text, &[("n", json!(n))]).workflow.unwrap().digest;
    let first = digest(WITH_INPUTS, 1);
    assert_eq!(first.len(), 64);
    assert_eq!(first, digest(WITH_INPUTS, 1));
    assert_eq!(first, digest(&format!("# a comment\n{WITH_INPUTS}why: prose\n"), 1));
    assert_ne!(first, digest(WITH_INPUTS, 2));
    assert_ne!(first, digest(&WITH_INPUTS.replace("id: a", "id: b"), 1));
    assert_ne!(first, digest(&format!("{WITH_INPUTS}deadline: 1h\n"), 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn in_any_graph_the_order_respects_needs(
        edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..12),
        shuffle in any::<u64>(),
    ) {
        // Needs point to a random earlier step of a hidden order; the file is written in another.
        let count = edges.len();
        let hidden = |at: usize| (at as u64).wrapping_mul(shuffle | 1) % 97;
        let mut written: Vec<usize> = (0..count).collect();
        written.sort_by_key(|&at| (hidden(at), at));
        let steps: String = written.iter().map(|&at| {
            let needs: Vec<String> = edges[at].iter().filter(|_| at > 0).map(|to| format!("s{}", to.index(at))).collect();
            format!("  - {{ id: s{at}, uses: test.read, needs: [{}] }}\n", needs.join(", "))
        }).collect();
        let workflow = compile_files(&[("t.yaml", &runbook(&steps))], &[]).workflow.unwrap();
        prop_assert_eq!(workflow.steps.len(), count);
        for (at, step) in workflow.steps.iter().enumerate() {
            for need in &step.needs {
                let place = workflow.steps.iter().position(|other| other.path == *need);
                prop_assert!(place.is_some_and(|place| place < at));
            }
        }
    }
}

#[test]
fn a_thousand_steps_compile() {
    let steps: String = (0..1000)
        .map(|at| {
            let before = if at == 0 { "vars.site".to_owned() } else { format!("steps.s{}.ok", at - 1) };
            format!("  - {{ id: s{at}, uses: test.read, if: \"env.kind != 'x'\", with: {{ a: [\"{{{{ {before} }}}}\", \"t {{{{ vars.site }}}}\"] }} }}\n")
        })
        .collect();
    let workflow = compiled(&[("t.yaml", &runbook(&steps))]);
    assert_eq!(workflow.steps.len(), 1000);
    assert_eq!(needs(&workflow, "s999"), ["s998"]);
}
