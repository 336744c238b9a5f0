//! What a run has come to, in a form in which two runs of one runbook in two worlds are equal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Case;
use super::names::Names;
use crate::path_b::count;
use crate::world::World;

/// Requests that make something which a second request would make again: they are counted. Of all others,
/// which move something to a named state, it only matters that they were made.
const COUNTED: [&str; 3] = ["supabase POST /v1/projects", "vercel POST /v13/deployments", "hooks POST "];

/// Everything that is there after a run.
#[track_caller]
pub(super) fn end_of(world: &World, run: &str, case: &Case) -> Value {
    let records = world.records(run);
    let last = records.last().unwrap();
    assert_eq!((&last["kind"], &last["outcome"]), (&json!("run_finished"), &json!("succeeded")), "{last}");
    for (step, times) in count(&records, "step_done") {
        assert_eq!(times, 1, "step {step} is done once");
    }
    world.runbook(&["verify", run]).ended(0);
    crate::path_b::nobody_is_left(world);

    let state = world.inspect();
    let status = world.status(run);
    let names = Names::of(run, &state, &world.live(), |text| sha256(world, text));
    let mut stand_ins = state.clone();
    for noise in ["faults", "timing"] {
        stand_ins.as_object_mut().unwrap().remove(noise);
    }
    for counter in case.grows.iter().filter_map(|path| path.strip_prefix('/')?.rsplit_once('/')) {
        let (of, name) = counter;
        if let Some(fields) = stand_ins.pointer_mut(&format!("/{of}")).and_then(Value::as_object_mut) {
            fields.remove(name);
        }
    }
    let effects = effects(&state["effects"], &names, case);
    stand_ins["effects"] = effects;
    if case.measures {
        first_lines(&mut stand_ins, "/hooks", "/body/text");
        first_lines(&mut stand_ins, "/providers/github/issues", "/body");
    }
    let steps = status["steps"].as_array().unwrap().iter();
    let steps = steps.filter(|step| !case.optional.contains(&step["step"].as_str().unwrap()));
    let steps: Map<String, Value> =
        steps.map(|step| (step["step"].as_str().unwrap().to_owned(), step["state"].clone())).collect();
    json!({
        "stand_ins": names.alike(&stand_ins),
        "databases": databases(world, &state, &names, case),
        "bucket": names.alike(&json!(files(&world.state().join("sandbox/s3")))),
        "in_force": names.alike(&json!(in_force(&status))),
        "steps": steps,
    })
}

/// Keeps the first line of a text in each thing of a list.
fn first_lines(state: &mut Value, list: &str, text: &str) {
    let things = state.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
    for shown in things.filter_map(|thing| thing.pointer_mut(text)) {
        *shown = shown.as_str().and_then(|all| all.lines().next()).unwrap_or_default().into();
    }
}

/// An end without how often it was tried: runs that gave up have told so, and what they had stored stays.
pub(super) fn however_often(mut end: Value) -> Value {
    let stand_ins = end["stand_ins"].as_object_mut().unwrap();
    stand_ins.remove("hooks");
    stand_ins["effects"].as_object_mut().unwrap().retain(|request, _| !request.starts_with("hooks "));
    let stored: BTreeSet<String> =
        end["bucket"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned()).collect();
    end["bucket"] = json!(stored);
    end
}

fn in_force(status: &Value) -> BTreeSet<&str> {
    status["in_force"].as_array().unwrap().iter().map(|force| force["key"].as_str().unwrap()).collect()
}

fn effects(counted: &Value, names: &Names, case: &Case) -> Value {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    let grows = |request: &str| case.grows.iter().any(|known| request.starts_with(known));
    for (request, times) in counted.as_object().unwrap().iter().filter(|(request, _)| !grows(request)) {
        *sums.entry(names.text(request)).or_default() += times.as_u64().unwrap();
    }
    let exact = |request: &str| {
        COUNTED.iter().any(|known| *known == request || (known.ends_with(' ') && request.starts_with(known)))
    };
    let shown = sums.into_iter().map(|(request, times)| {
        let times = if exact(&request) { json!(times) } else { json!("made") };
        (request, times)
    });
    Value::Object(shown.collect())
}

/// Schema and rows of the database of each project.
fn databases(world: &World, state: &Value, names: &Names, case: &Case) -> Value {
    let mut all = BTreeMap::new();
    for project in state["projects"].as_array().unwrap() {
        let reference = project["ref"].as_str().unwrap();
        let database = world.database(reference);
        let rows = |(table, rows): (&String, &String)| {
            let rows =
                if case.counted.contains(&table.as_str()) { rows.split(' ').next().unwrap() } else { rows };
            (table.clone(), rows.to_owned())
        };
        let all_rows = world.rows_in_any_world(reference);
        let compared = all_rows.iter().filter(|(table, _)| !case.grows.contains(&table.as_str()));
        let tables: BTreeMap<String, String> = compared.map(rows).collect();
        let schema: Vec<&str> = database.schema.lines().filter(|line| !line.is_empty()).collect();
        let sequences: Vec<&String> = database.sequences.keys().collect();
        let shown = json!({ "tables": tables, "sequences": sequences, "schema": schema });
        let name = names.text(project["name"].as_str().unwrap());
        assert!(all.insert(name.clone(), shown).is_none(), "two projects are called {name}");
    }
    json!(all)
}

fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn sha256(world: &World, text: &str) -> String {
    world.sql(
        "postgres",
        &format!("select encode(sha256(convert_to('{}', 'UTF8')), 'hex')", text.replace('\'', "''")),
    )
}

/// Demands that two ends are one, and shows the lines in which they are not.
#[track_caller]
pub(super) fn same(case: &str, reached: &Value, unbroken: &Value) {
    if reached == unbroken {
        return;
    }
    let lines = |value: &Value| -> Vec<String> {
        serde_json::to_string_pretty(value).unwrap().lines().map(str::to_owned).collect()
    };
    let (found, wanted) = (lines(reached), lines(unbroken));
    let only = |these: &[String], others: &[String]| -> String {
        let mut left: BTreeMap<&str, usize> = BTreeMap::new();
        for line in others {
            *left.entry(line).or_default() += 1;
        }
        let mut shown = Vec::new();
        for line in these {
            match left.get_mut(line.as_str()) {
                Some(n) if *n > 0 => *n -= 1,
                _ => shown.push(line.as_str()),
            }
        }
        shown.into_iter().take(40).collect::<Vec<_>>().join("\n")
    };
    panic!(
        "case {case}: the end is another one\nonly here:\n{}\nonly in the unbroken run:\n{}",
        only(&found, &wanted),
        only(&wanted, &found)
    );
}
