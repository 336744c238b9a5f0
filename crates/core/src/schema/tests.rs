//! The schemas accept what `decode` accepts, and know the same keys.

use serde_json::{Value, json};

use super::{environment, runbook};
use crate::action::{Description, Effect};
use crate::decode::{fields::Shape, spellings};
use crate::diagnostic::Sources;

fn action(name: &'static str, effect: Effect, params: Value) -> Description {
    Description {
        name,
        summary: "Does it.",
        effect,
        params,
        outputs: json!({ "type": "object" }),
        targets: Vec::new(),
        exposes: false,
        asks: false,
        chooses: false,
        permissions: &[],
        example: "",
        has_probe: false,
        has_undo: false,
        has_plan: false,
    }
}

fn actions() -> [Description; 2] {
    let write = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Params",
        "type": "object",
        "properties": {
            "rows": { "type": "integer", "description": "How many." },
            "mode": { "enum": ["fast", "safe"], "default": "safe" },
            "names": { "type": "array", "items": { "type": "string" } },
            "node": { "$ref": "#/$defs/Node" },
        },
        "required": ["rows"],
        "additionalProperties": false,
        "$defs": { "Node": { "type": "object", "properties": { "next": { "$ref": "#/$defs/Node" } } } },
    });
    [
        action("demo.read", Effect::Read, json!({ "type": "object", "additionalProperties": false })),
        action("demo.write", Effect::Keyed, write),
    ]
}

fn value_of(yaml: &str) -> Value {
    let mut sources = Sources::default();
    let id = sources.add("a.yaml", yaml);
    let (tree, mistakes) = crate::yaml::parse(&sources, id);
    assert_eq!(mistakes, [], "{yaml}");
    tree.unwrap().to_value()
}

/// Whether a runbook with one step of these lines is valid.
fn step_is_valid(step: &str) -> bool {
    let actions = actions();
    let schema = runbook(&actions.iter().collect::<Vec<_>>());
    let yaml = format!("name: a\nkind: drill\nsteps:\n  - {}\n", step.replace('\n', "\n    "));
    jsonschema::validator_for(&schema).unwrap().is_valid(&value_of(&yaml))
}

#[test]
fn a_step_that_uses_every_key_is_valid() {
    let step = "id: a\ntitle: T\nuses: demo.write\nwith: { rows: 1, mode: fast, names: [x] }\nneeds: []\nif: true\n\
                preconditions: [{ check: a == 1, message: m }]\npostconditions: [{ check: a }]\n\
                for_each: { items: \"{{ inputs.x }}\", as: it, key: \"{{ it }}\", max_parallel: 2 }\ntimeout: 45m\n\
                retry: { max_attempts: 3, initial_interval: 5s, multiplier: 2, max_interval: 2m, jitter: 0.1, \
                on_exhausted: fail }\nidempotency_key: k\n\
                probe: { uses: demo.read, with: {}, happened: probe.x }\n\
                approval: { prompt: P, min_approvals: 1, timeout: 2h, approvers: [ana] }\ncontinue_on_error: true\n\
                undo: none\npoint_of_no_return: true\ntags: [freeze]\nwhy: W\nif_it_fails: I\nexpect: { duration: 1h 30m }";
    assert!(step_is_valid(step));
}

#[test]
fn a_template_may_stand_for_any_parameter() {
    let template = "id: a\nuses: demo.write\nwith: { rows: \"{{ inputs.n }}\", mode: \"{{ inputs.m }}\", names: \"{{ inputs.l }}\" }";
    assert!(step_is_valid(template));
    assert!(step_is_valid("id: a\nuses: demo.write\nwith: { rows: 1, node: { next: \"{{ inputs.n }}\" } }"));
}

#[test]
fn parameters_are_typed_by_the_action() {
    assert!(!step_is_valid("id: a\nuses: demo.write\nwith: { rows: many }"));
    assert!(!step_is_valid("id: a\nuses: demo.write\nwith: { rows: 1, mode: slow }"));
    assert!(!step_is_valid("id: a\nuses: demo.write\nwith: { rows: 1, colour: blue }"));
    assert!(!step_is_valid("id: a\nuses: demo.write\nwith: { rows: 1, node: { next: 5 } }"));
    assert!(!step_is_valid("id: a\nuses: demo.write"));
    assert!(!step_is_valid("id: a\nuses: demo.read\nwith: { rows: 1 }"));
    assert!(step_is_valid("id: a\nuses: demo.read\nundo: { uses: demo.write, with: { rows: 1 } }"));
    assert!(!step_is_valid("id: a\nuses: demo.read\nundo: { uses: demo.write, with: { rows: many } }"));
}

#[test]
fn uses_is_an_action_or_a_file() {
    assert!(step_is_valid("id: a\nuses: ./triage.yaml\nwith: { anything: 1 }"));
    assert!(!step_is_valid("id: a\nuses: demo.nothing"));
    assert!(!step_is_valid("id: a\nuses: triage.yaml"));
    assert!(!step_is_valid("id: a\nuses: demo.read\nprobe: { uses: demo.write, happened: \"true\" }"));
}

#[test]
fn a_misspelt_key_and_a_bare_number_are_refused() {
    assert!(!step_is_valid("id: a\nuses: demo.read\ndepends_on: []"));
    assert!(!step_is_valid("id: a\nuses: demo.read\ntimeout: 30"));
    assert!(!step_is_valid("id: Big\nuses: demo.read"));
}

fn keys_of(schema: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn assert_same_keys(schema: &Value, shape: &Shape) {
    let mut keys = shape.keys.to_vec();
    keys.sort_unstable();
    assert_eq!(keys_of(schema), keys, "{}", shape.what);
    for (spelling, key) in shape.spellings {
        assert!(shape.keys.contains(key), "{spelling} of {} leads nowhere", shape.what);
        assert!(!shape.keys.contains(spelling), "{spelling} of {} is a key itself", shape.what);
    }
}

#[test]
fn schemas_and_decoding_know_the_same_keys() {
    let schema = runbook(&[]);
    assert_same_keys(&schema, &spellings::RUNBOOK);
    assert_same_keys(&schema["properties"]["objectives"], &spellings::OBJECTIVES);
    assert_same_keys(&schema["properties"]["inputs"]["additionalProperties"], &spellings::INPUT);
    let step = &schema["$defs"]["step"];
    assert_same_keys(step, &spellings::STEP);
    assert_same_keys(&step["properties"]["preconditions"]["items"], &spellings::CHECK);
    assert_same_keys(&step["properties"]["for_each"], &spellings::FOR_EACH);
    assert_same_keys(&step["properties"]["retry"], &spellings::RETRY);
    assert_same_keys(&step["properties"]["probe"], &spellings::PROBE);
    assert_same_keys(&step["properties"]["approval"], &spellings::APPROVAL);
    assert_same_keys(&step["properties"]["undo"]["anyOf"][1], &spellings::UNDO);
    assert_same_keys(&step["properties"]["expect"], &spellings::EXPECT);
}

#[test]
fn environment_schema_and_decoding_know_the_same_keys() {
    use crate::environment_file::shapes;
    let schema = environment();
    let keys = &schema["properties"];
    assert_same_keys(&schema, &shapes::ENVIRONMENT);
    assert_same_keys(&keys["connections"]["additionalProperties"], &shapes::CONNECTION);
    assert_same_keys(&keys["backups"], &shapes::BACKUPS);
    assert_same_keys(&keys["supabase"], &shapes::SUPABASE);
    assert_same_keys(&keys["vercel"], &shapes::VERCEL);
    assert_same_keys(&keys["notify"]["additionalProperties"], &shapes::WEBHOOK);
    assert_same_keys(&keys["secrets"]["additionalProperties"], &shapes::SECRET);
    assert_same_keys(&keys["approvers"], &shapes::APPROVERS);
}

#[test]
fn environments_are_valid_with_references_and_not_with_literals() {
    let schema = environment();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let good = "name: a\nkind: local\ndata: masked\nconnections:\n  main: { host: h, port: \"{{ vars.p }}\", user: u, \
                database: d, password: \"{{ secrets.p }}\" }\nsecrets: { p: { env: P } }\nvars: { p: 5432 }\n";
    assert!(validator.is_valid(&value_of(good)));
    assert!(!validator.is_valid(&value_of(&good.replace("\"{{ secrets.p }}\"", "hunter2"))));
    assert!(!validator.is_valid(&value_of(&good.replace("{ env: P }", "{ env: P, file: f }"))));
    assert!(!validator.is_valid(&value_of(&good.replace("kind: local\n", ""))));
    assert!(validator.is_valid(&value_of("name: local\nextends: sandbox\n")));
}

#[test]
fn everything_that_can_be_pointed_at_has_help() {
    fn check(schema: &Value, path: &str) {
        for (name, value) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(value["description"].is_string(), "{path} has no description");
            check(value, &path);
            check(&value["items"], &path);
            check(&value["additionalProperties"], &path);
        }
    }
    let schema = runbook(&[]);
    check(&schema, "runbook");
    check(&schema["$defs"]["step"], "step");
    check(&environment(), "environment");
}
