//! The checklist after a restore, asked of the running application.

use serde_json::{Value, json};

use crate::path_b::outputs;
use crate::world::World;

const RUN: [&str; 5] = ["--json", "run", "runbooks/validation.yaml", "--env", "local"];

/// Attempts at drills: what the checklist writes and takes away.
fn attempts(world: &World) -> String {
    world.sql(&world.live(), "select count(*), max(id) from public.attempts")
}

#[test]
fn the_checklist_passes_and_leaves_nothing_behind() {
    let world = World::with_data();
    let before = world.sql(&world.live(), "select count(*) from public.attempts");
    let said = world.runbook(&RUN).ended(0);
    assert_eq!(said.last()["outputs"]["passed"], 21);
    assert_eq!(world.sql(&world.live(), "select count(*) from public.attempts"), before);
    let files = "select count(*) from storage.objects where name like 'checklist-%'";
    assert_eq!(world.sql(&world.live(), files), "0", "the recording is taken away again");
    let payment = outputs(&world.records(&said.run()), "payment")["payment"].as_str().unwrap().to_owned();
    let rows = format!(
        "select count(*) || ' ' || (select count(*) from public.entitlements where external_id = '{payment}') \
         from public.ledger where payment_id = '{payment}'"
    );
    assert_eq!(world.sql(&world.live(), &rows), "1 1", "one row in the ledger, one entitlement");
    let drill = outputs(&world.records(&said.run()), "drill");
    assert!(drill["results"].as_array().unwrap().iter().all(|r| r["passed"] == true), "{drill}");
}

#[test]
fn a_lost_policy_and_a_lost_password_are_found() {
    let world = World::with_data();
    let failed = |world: &World| -> (String, String) {
        let said = world.runbook(&RUN).ended(5);
        let problem = said.last()["problems"][0].clone();
        let run = said.run();
        world.runbook(&["cancel", &run]);
        (problem["step"].as_str().unwrap().to_owned(), problem["message"].as_str().unwrap().to_owned())
    };
    world.sql(&world.live(), "drop policy \"People record their own attempts\" on public.attempts");
    let (step, message) = failed(&world);
    assert_eq!(step, "drill", "{message}");
    assert!(message.contains("start it: status 503 instead of 201"), "{message}");

    let other = "update auth.users set encrypted_password = extensions.crypt('other', extensions.gen_salt('bf', 4)) \
                 where email = 'pilot00001@example.test'";
    world.sql(&world.live(), other);
    let (step, message) = failed(&world);
    assert_eq!(step, "profile", "{message}");
    assert!(message.contains("sign in: status 400 instead of 200"), "{message}");
}

#[test]
fn killed_again_and_again_nothing_is_done_twice() {
    let world = World::with_data();
    let before = attempts(&world);
    let killed = world.command(&[&RUN[..], &["--die-after", "2"]].concat()).output().unwrap();
    let line = String::from_utf8(killed.stdout).unwrap();
    let run = serde_json::from_str::<Value>(line.lines().next().unwrap()).unwrap()["run"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(crate::path_b::killed_to_the_end(&world, &run) > 1);
    assert_eq!(attempts(&world), before);
    let status = world.status(&run);
    assert_eq!(status["state"], json!("succeeded"), "{status}");
}
