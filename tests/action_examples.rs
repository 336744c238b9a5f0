//! The example on each action's help page is a step that runs, on the sandbox as it is after `start`, `seed` and
//! `backup`. An action that has no row here fails the test, so nobody copies an example that never ran.
//!
//! A row is the action's name, `row("vercel.crons")`, and what is particular about it. A step that the example refers to
//! (`steps.backup`) is put before it from [`BEFORE`]; an input (`inputs.owner`) from [`INPUTS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::world::{World, root};

/// An example and what it needs beside the steps that it refers to.
struct Row {
    action: &'static str,
    /// A step of [`BEFORE`] that the example does not refer to, and which has to come first.
    before: &'static str,
    /// Steps that put back what later examples would stumble over.
    after: &'static str,
    /// Texts of the example that would take hours, and what stands for them here.
    instead: &'static [(&'static str, &'static str)],
    /// Exit status of the run.
    ends: i32,
}

fn row(action: &'static str) -> Row {
    Row { action, before: "", after: "", instead: &[], ends: 0 }
}

/// In the order in which they run: each finds the world as those before it left it.
fn rows() -> Vec<Row> {
    let mut rows = from_a_to_p();
    rows.extend(from_s_to_w());
    rows
}

fn from_a_to_p() -> Vec<Row> {
    vec![
        row("approval"),
        row("backup.prune"),
        row("backup.select"),
        row("backup.verify"),
        row("backup.write"),
        row("decide"),
        row("dns.set"),
        row("email.revoke_key"),
        row("email.rotate_key"),
        row("evidence.record"),
        row("evidence.save"),
        Row { ends: 5, ..row("flow.fail") },
        row("flow.noop"),
        row("http.check"),
        row("http.journey"),
        row("http.request"),
        row("incident.declare"),
        row("job.run"),
        row("manual"),
        row("metrics.query"),
        row("notify"),
        row("objectives.measure"),
        row("page"),
        row("paymongo.missed_events"),
        row("paymongo.pause"),
        row("paymongo.resume"),
        row("paymongo.repoint"),
        row("paymongo.rotate_secret"),
        row("paymongo.test_event"),
        row("paypal.missed_events"),
        row("paypal.pause"),
        row("paypal.resume"),
        row("paypal.repoint"),
        row("paypal.secrets"),
        row("paypal.test_event"),
        // The application takes what is signed for its own webhook: it has to be built with the new id first.
        Row { before: "deploy", ..row("paypal.verify_signature") },
        row("postgres.check"),
        row("postgres.create_database"),
        row("postgres.difference"),
        row("postgres.drop_database"),
        row("postgres.dump"),
        row("postgres.execute"),
        row("postgres.extract_rows"),
        row("postgres.leak_check"),
        row("postgres.mask"),
        row("postgres.migrate"),
        row("postgres.query"),
        Row { after: OPEN_DATABASE, ..row("postgres.read_only") },
        row("postgres.restore"),
        row("postgres.restore_table"),
        row("postgres.test"),
        row("postgres.upsert"),
    ]
}

fn from_s_to_w() -> Vec<Row> {
    vec![
        row("secret.distribute"),
        row("secret.generate"),
        row("secret.rotate"),
        row("shell.run"),
        row("slo.watch"),
        row("storage.diff"),
        row("storage.restore"),
        row("storage.snapshot"),
        row("storage.verify"),
        row("supabase.api_keys"),
        row("supabase.create_project"),
        row("supabase.delete_project"),
        row("supabase.label"),
        row("supabase.revoke_api_keys"),
        // A key is revoked when the tokens that it signed have ended, in more than an hour.
        Row {
            instead: &[("{{ steps.rotate.revoke_after }}", "{{ run.started_at }}")],
            ..row("supabase.revoke_jwt")
        },
        row("supabase.rotate_api_key"),
        row("supabase.rotate_jwt"),
        row("ticket.create"),
        row("vercel.crons"),
        row("vercel.deploy"),
        row("vercel.deployment"),
        row("vercel.env"),
        row("vercel.flag"),
        row("vercel.rollback"),
        row("vercel.promote"),
        row("wait.until"),
    ]
}

const OPEN_DATABASE: &str = "
- id: open-database
  uses: postgres.read_only
  with: { connection: \"{{ connections.live }}\", read_only: false }";

/// Steps that examples refer to, by id; they may refer to each other.
const BEFORE: &[(&str, &str)] = &[
    ("backup", "uses: backup.select"),
    ("password", "uses: secret.generate"),
    (
        "database",
        "uses: supabase.create_project\n\
         with: { name: \"example-{{ run.short_id }}\", db_password: \"{{ steps.password.value }}\" }",
    ),
    ("keys", "uses: supabase.api_keys\nwith: { project: \"{{ steps.database.ref }}\" }"),
    ("rotate", "uses: supabase.rotate_jwt"),
    (
        "restore",
        "uses: postgres.restore\n\
         with: { backup: \"{{ steps.backup }}\", into: \"{{ steps.database.connection }}\", profile: supabase, \
         mask: ../examples/polaris/masking.yaml, mask_key: \"{{ secrets.masking_key }}\" }",
    ),
    ("deploy", "uses: vercel.deploy\ntags: [expose]"),
];

/// Inputs that examples refer to, with what they are.
const INPUTS: &[(&str, &str)] = &[("owner", "ana"), ("seen", "rows")];

/// Examples touch what is live without a freeze around them: they are one step each.
const WAIVED: [&str; 7] = ["G01", "G03", "G04", "G05", "G06", "G07", "G08"];

#[test]
fn the_example_of_every_action_runs() {
    let world = World::with_backup();
    world.hurry();
    let rules = std::fs::read_to_string(root().join("examples/polaris/masking.yaml")).unwrap();
    world.write("examples/polaris/masking.yaml", &rules);
    let listed = world.runbook(&["--json", "actions"]).ended(0).lines();
    let mut examples: BTreeMap<String, String> = listed
        .iter()
        .map(|line| &line["action"])
        .map(|action| {
            (action["name"].as_str().unwrap().to_owned(), action["example"].as_str().unwrap().to_owned())
        })
        .collect();
    let mut problems = Vec::new();
    for row in rows() {
        match examples.remove(row.action) {
            Some(example) => problems.extend(problem(&world, &row, &example)),
            None => problems.push(format!("{}: there is no such action (any more)", row.action)),
        }
    }
    problems.extend(
        examples.keys().map(|name| format!("{name}: its example has no row in tests/action_examples.rs")),
    );
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// What went wrong with an example.
fn problem(world: &World, row: &Row, example: &str) -> Option<String> {
    let text = runbook(row, example);
    let file = world.runbook_file(&text);
    let mut arguments =
        vec!["--json", "run", &file, "--env", "local", "--yes", "--no-wait", "--reason", "an example"];
    arguments.extend(WAIVED.iter().flat_map(|guard| ["--waive", guard]));
    let said = world.runbook(&arguments);
    if said.status != Some(0) && said.stdout.contains("\"run\"") {
        // A run that is not over holds the environment.
        world.runbook(&["cancel", &said.run()]);
    }
    (said.status != Some(row.ends)).then(|| {
        let end = said.stdout.lines().last().unwrap_or_default();
        format!("{} ended with {:?}\n{text}\n{end}\n{}", row.action, said.status, said.stderr)
    })
}

/// A runbook around an example.
fn runbook(row: &Row, example: &str) -> String {
    let mut example = example.to_owned();
    for (text, instead) in row.instead {
        assert!(example.contains(text), "the example of {} has no {text}", row.action);
        example = example.replace(text, instead);
    }
    let example = example.strip_prefix("- ").map_or_else(|| indented(&example, "  "), str::to_owned);
    let mut before = String::new();
    for id in needed(&format!(
        "{} {example}",
        if row.before.is_empty() { String::new() } else { format!("steps.{}", row.before) }
    )) {
        let (_, step) = BEFORE.iter().find(|(known, _)| *known == id).unwrap();
        let _ = writeln!(before, "- id: {id}\n{}", indented(step, "  ").replacen("uses", "  uses", 1));
    }
    let mut inputs = String::new();
    for (name, value) in INPUTS.iter().filter(|(name, _)| example.contains(&format!("inputs.{name}"))) {
        let _ = writeln!(inputs, "  {name}: {{ type: string, default: {value} }}");
    }
    let inputs = if inputs.is_empty() { String::new() } else { format!("inputs:\n{inputs}") };
    let steps = indented(&format!("{before}- {example}{}", row.after), "  ");
    format!("name: example\nkind: maintenance\n{inputs}steps:\n  {steps}")
}

/// The steps that a text refers to, each after those that it needs itself.
fn needed(text: &str) -> Vec<&'static str> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    collect(text, &mut seen, &mut order);
    order
}

fn collect(text: &str, seen: &mut BTreeSet<&'static str>, order: &mut Vec<&'static str>) {
    for (id, step) in BEFORE {
        let refers = text.match_indices(&format!("steps.{id}")).any(|(at, found)| {
            !text[at + found.len()..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        });
        if refers && seen.insert(id) {
            collect(step, seen, order);
            order.push(id);
        }
    }
}

/// Every line but the first moved to the right.
fn indented(text: &str, by: &str) -> String {
    text.trim_end().replace('\n', &format!("\n{by}"))
}
