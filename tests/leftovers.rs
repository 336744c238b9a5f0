//! What a dead process leaves behind: the environment that its run had.

use crate::world::World;

const SECRET: &str = "
name: own
kind: maintenance
steps:
  - { id: make, uses: secret.generate, with: {} }
  - { id: rest, uses: flow.noop }
finally:
  - { id: tidy, uses: flow.noop }
";

/// A run that was killed when record `seq` was durable, and the file that it came from.
fn killed_at(world: &World, seq: usize) -> (String, String) {
    world.write("environments/desk.yaml", "name: desk\nkind: local\ndata: synthetic\n");
    let file = world.write("own.yaml", SECRET).to_str().unwrap().to_owned();
    let seq = seq.to_string();
    let said = world.runbook(&["--json", "run", &file, "--env", "desk", "--die-after", &seq]);
    assert_eq!(said.status, None, "{}", said.stderr);
    (said.run(), file)
}

#[test]
fn a_cancel_of_a_run_that_nobody_works_on_ends_it_and_frees_its_environment() {
    let world = World::bare();
    let (run, file) = killed_at(&world, 4);
    let refused = world.runbook(&["run", &file, "--env", "desk"]).ended(8);
    assert!(refused.stderr.contains(&format!("runbook cancel {run}")), "{}", refused.stderr);
    let said = world.runbook(&["--json", "cancel", &run]).ended(0);
    assert_eq!(said.last()["outcome"], "cancelled", "{}", said.stdout);
    world.runbook(&["run", &file, "--env", "desk"]).ended(0);
}

#[test]
fn a_run_that_died_after_its_last_record_is_in_nobody_s_way() {
    let unbroken = World::bare();
    unbroken.write("environments/desk.yaml", "name: desk\nkind: local\ndata: synthetic\n");
    let file = unbroken.write("own.yaml", SECRET);
    let whole = unbroken.runbook(&["--json", "run", file.to_str().unwrap(), "--env", "desk"]).ended(0);
    let records = unbroken.records(&whole.run()).len();

    let world = World::bare();
    let (run, file) = killed_at(&world, records);
    assert_eq!(world.records(&run).last().unwrap()["kind"], "run_finished");
    world.runbook(&["run", &file, "--env", "desk"]).ended(0);
    world.runbook(&["resume", &run]).ended(0);
}
