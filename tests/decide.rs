//! A question with several answers: who chooses, how it is recorded, and what is not a choice. And what else a
//! runbook that goes on with one of several others needs of the language.

use serde_json::{Value, json};

use crate::world::World;

const WHICH: &str = "
name: which
kind: maintenance
inputs:
  seen: { type: string, required: false }
  why: { type: string, required: false }
steps:
  - id: seen
    uses: decide
    with:
      question: What was seen?
      options: { rows: Rows are missing., schema: The schema is broken. }
      answer: \"{{ inputs.seen }}\"
      reason: \"{{ inputs.why }}\"
outputs:
  choice: \"{{ steps.seen.choice }}\"
  reason: \"{{ steps.seen.reason }}\"
  by: \"{{ steps.seen.decided_by }}\"
";

fn world() -> (World, String) {
    let world = World::with_data();
    let file = world.runbook_file(WHICH);
    (world, file)
}

#[test]
fn a_person_chooses_with_a_reason_and_yes_is_no_choice() {
    let (world, file) = world();
    let asked = world.runbook(&["--json", "run", &file, "--env", "local", "--yes", "--no-wait"]).ended(7);
    let run = asked.run();
    let problem = &asked.last()["problems"][0];
    assert_eq!(problem["message"], "What was seen?");
    assert_eq!(problem["options"][1], json!({ "name": "schema", "text": "The schema is broken." }));
    let shown = world.runbook(&["status", &run]).ended(0).stdout;
    assert!(shown.contains("rows: Rows are missing. schema: The schema is broken."), "{shown}");
    assert!(shown.contains("seen --choose rows|schema --reason"), "{shown}");

    world.runbook(&["approve", &run, "--choose", "schema"]).ended(2);
    world.runbook(&["approve", &run, "--choose", "files", "--reason", "x"]).ended(4);
    let said = world.runbook(&["approve", &run, "--reason", "yes"]).ended(4).stderr;
    assert!(said.contains("it asks which: rows, schema"), "{said}");
    world.runbook(&["approve", &run, "--choose", "schema", "--reason", "a policy is gone"]).ended(0);

    let end = world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(0).last();
    assert_eq!(end["outputs"], json!({ "choice": "schema", "reason": "a policy is gone", "by": "tester" }));
    let records = world.records(&run);
    let given = records.iter().find(|record| record["kind"] == "approval_given").unwrap();
    assert_eq!((&given["choice"], &given["by"]), (&json!("schema"), &json!("tester")));
}

#[test]
fn a_choice_that_is_an_input_is_recorded_as_the_starters() {
    let (world, file) = world();
    let run = |inputs: &[&str]| {
        let mut arguments = vec!["--json", "run", file.as_str(), "--env", "local", "--no-wait"];
        arguments.extend(inputs.iter().flat_map(|input| ["--input", input]));
        world.runbook(&arguments)
    };
    let outputs = run(&["seen=rows", "why=twelve of them"]).ended(0).last()["outputs"].clone();
    assert_eq!(outputs, json!({ "choice": "rows", "reason": "twelve of them", "by": "tester" }));
    let refused = run(&["seen=files"]).ended(5).last();
    let message = refused["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("`files`: it is none of the options"), "{message}");
}

#[test]
fn a_no_leaves_the_question_open_and_says_why() {
    let (world, file) = world();
    let run = world.runbook(&["--json", "run", &file, "--env", "local", "--no-wait"]).ended(7).run();
    world.runbook(&["deny", &run, "--reason", "none of these"]).ended(0);
    let end = world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(7).last();
    assert_eq!(end["problems"][0]["message"], "tester said no: none of these");
    assert_eq!(end["problems"][0]["options"].as_array().unwrap().len(), 2, "it is asked again");
}

#[test]
fn a_decision_is_no_approval() {
    let world = World::with_data();
    let file = world.runbook_file(
        "
name: over
kind: maintenance
steps:
  - id: sure
    uses: decide
    with: { question: Over the live one?, options: { a: Yes., b: No. } }
  - id: backup
    uses: backup.select
  - id: stop
    uses: vercel.flag
    tags: [freeze]
    with: { key: read_only, value: true }
  - id: restore
    uses: postgres.restore
    with: { backup: \"{{ steps.backup }}\", into: \"{{ connections.live }}\", overwrite: true }
finally:
  - id: go
    uses: vercel.flag
    tags: [unfreeze]
    with: { key: read_only, value: false }
",
    );
    let said = world.runbook(&["check", &file, "--env", "local"]).ended(3);
    assert!(
        said.stdout.contains("error[G07]") && said.stdout.contains("nobody approves it"),
        "{}",
        said.stdout
    );
}

/// A runbook that uses another one, `part.yaml`, which wants a `table`.
fn parts(step: &str) -> (World, String) {
    let world = World::with_data();
    let file = world.runbook_file(&format!(
        "
name: whole
kind: maintenance
inputs: {{ table: {{ type: string, required: false }}, go: {{ type: boolean, default: true }} }}
steps:
  - id: part
    uses: ./part.yaml
{step}
outputs:
  rows: \"{{{{ steps.part.rows if steps.part else none }}}}\"
"
    ));
    world.write(
        "runbooks/part.yaml",
        "
name: part
kind: maintenance
inputs: { table: { type: string } }
steps:
  - id: first
    uses: flow.noop
    with: { value: \"{{ inputs.table }}\" }
outputs: { rows: \"{{ steps.first.value }}\" }
",
    );
    (world, file)
}

fn done(world: &World, run: &str) -> Vec<Value> {
    world.records(run).into_iter().filter(|record| record["kind"] == "step_done").collect()
}

#[test]
fn what_a_used_runbook_cannot_do_without_is_missed_before_anything_in_it_is_done() {
    let (world, file) = parts("    if: inputs.go\n    with: { table: \"{{ inputs.table }}\" }");
    let start = ["--json", "run", file.as_str(), "--env", "local", "--no-wait"];
    let refused = world.runbook(&start).ended(4);
    let message = refused.last()["problems"][0]["message"].clone();
    assert_eq!(message, "`./part.yaml` needs the input `table`, and nothing was given");
    assert_eq!(done(&world, &refused.run()), [] as [Value; 0]);
    world.runbook(&["cancel", &refused.run()]);

    let given = world.runbook(&[&start[..], &["--input", "table=messages"]].concat()).ended(0).last();
    assert_eq!(given["outputs"], json!({ "rows": "messages" }));
    let skipped = world.runbook(&[&start[..], &["--input", "go=false"]].concat()).ended(0).last();
    assert_eq!(skipped["outputs"], json!({ "rows": null }), "what a skipped runbook gives is none");
}

#[test]
fn the_approval_of_a_used_runbook_is_asked_before_anything_in_it() {
    let (world, file) = parts("    with: { table: messages }\n    approval: { prompt: Sure? }");
    let start = ["--json", "run", file.as_str(), "--env", "local", "--no-wait"];
    let asked = world.runbook(&start).ended(7);
    let run = asked.run();
    assert_eq!(asked.last()["problems"][0]["message"], "Sure?");
    assert_eq!(done(&world, &run), [] as [Value; 0]);
    world.runbook(&["approve", &run]).ended(0);
    let end = world.runbook(&["--json", "resume", &run, "--no-wait"]).ended(0).last();
    assert_eq!(end["outputs"], json!({ "rows": "messages" }));
}
