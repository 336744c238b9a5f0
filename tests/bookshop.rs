//! The example of a new author, as its README tells it: another product, YAML and SQL only. Checked, run on the
//! sandbox, and given data that its own checks must refuse.

use serde_json::json;

use crate::world::{World, root};

const RESTORE: &str = "examples/bookshop/runbooks/restore.yaml";

/// A sandbox with a backup of the bookshop as `pg_dump` writes it, after some SQL.
fn with_backup(sql: &str) -> World {
    let world = World::with_data();
    world.hurry();
    let schema = std::fs::read_to_string(root().join("examples/bookshop/schema.sql")).unwrap();
    world.sql("postgres", "create database bookshop");
    world.sql("bookshop", &format!("{schema}; {sql}"));
    let dump = world.dump("bookshop");
    let key = "db/bookshop/2026/03/05/bookshop-20260305T030000Z.sql";
    let sha256 = world.put(key, &dump, true);
    world.put(
        &format!("{key}.sha256"),
        format!("{sha256}  bookshop-20260305T030000Z.sql\n").as_bytes(),
        false,
    );
    world
}

#[test]
fn a_new_authors_restore_runs_with_checks_of_its_own() {
    let world = with_backup("");
    for file in [RESTORE, "examples/bookshop/runbooks/checks.yaml"] {
        let mut arguments = vec!["check", file, "--env", "local"];
        if file != RESTORE {
            arguments = vec!["check", file];
        }
        world.runbook(&arguments).ended(0);
    }
    let said = world.runbook(&["--json", "run", RESTORE, "--env", "local", "--yes", "--no-wait"]).ended(0);
    assert!(said.last()["outputs"]["checks"].as_u64().unwrap() > 1, "{}", said.last());
    let state = world.inspect();
    assert_eq!(state["vercel"]["flags"], json!({ "closed": false }));
    let made = state["projects"].as_array().unwrap().iter().find(|p| p["live"] == false).unwrap();
    let made = made["ref"].as_str().unwrap();
    assert_eq!(world.sql(made, "select count(*), sum(total_cents) from public.orders"), "3|6800");
    let told = state["hooks"][0]["body"]["text"].as_str().unwrap();
    assert!(told.contains("The bookshop is back") && told.contains("2026-03-05T03:00:00Z"), "{told}");
}

#[test]
fn wrong_totals_are_not_sold_from() {
    let world = with_backup("update public.orders set total_cents = 1 where id = 2");
    let said = world.runbook(&["--json", "run", RESTORE, "--env", "local", "--yes", "--no-wait"]).ended(5);
    let end = said.last();
    assert_eq!(end["problems"][0]["step"], "checks/totals");
    assert_eq!(
        world.inspect()["vercel"]["flags"],
        json!({ "closed": true }),
        "the shop stays closed, and it is said:"
    );
    assert_eq!(end["in_force"][0]["text"], "the shop is closed (flag closed)");
}
