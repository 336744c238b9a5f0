//! `runbook actions`: the list, or one page made from an action's description.

use std::fmt::Write as _;

use runbook_core::action::{Access, Description, Effect, Registry};
use serde_json::Value;

use crate::arguments::Actions;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::Ui;
use crate::words::wrap;

pub(crate) fn actions(ui: &Ui, given: &Actions) -> Result<Exit, Failure> {
    let registry = runbook_actions::registry();
    let descriptions = registry.descriptions();
    let Some(name) = &given.name else {
        list(ui, &descriptions);
        return Ok(Exit::Succeeded);
    };
    let Some(action) = registry.get(name) else {
        let names: Vec<&str> = descriptions.iter().map(|d| d.name).collect();
        let failure = Failure::usage(format!("there is no action `{name}`"));
        return Err(match runbook_core::suggest::closest(name, names.iter().copied()) {
            Some(near) => failure.hint(format!("did you mean `{near}`?")),
            None => failure.hint("`runbook actions` lists them"),
        });
    };
    if ui.json {
        ui.line(&serde_json::json!({ "v": 1, "kind": "action", "action": action.description() }).to_string());
    } else {
        ui.block(&page(action.description(), ui.width));
    }
    Ok(Exit::Succeeded)
}

fn list(ui: &Ui, descriptions: &[&Description]) {
    let widest = descriptions.iter().map(|d| d.name.len()).max().unwrap_or(0);
    for description in descriptions {
        if ui.json {
            let line = serde_json::json!({ "v": 1, "kind": "action", "action": description });
            ui.line(&line.to_string());
        } else {
            let head = format!("{:widest$}  {:13}  ", description.name, effect(description.effect));
            let mut rest = String::new();
            wrap(&mut rest, description.summary, head.len(), ui.width);
            ui.block(&format!("{head}{}", rest.trim_start()));
        }
    }
    if !ui.json {
        ui.remark("\nnext: runbook actions NAME   fields, defaults, permissions and an example");
    }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Idempotent => "idempotent",
        Effect::Transactional => "transactional",
        Effect::Keyed => "keyed",
        Effect::Once => "once",
    }
}

fn meaning(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "changes nothing; a step in doubt runs again",
        Effect::Idempotent => "moves the target to a named state, twice is once; a step in doubt runs again",
        Effect::Transactional => "effect and key commit together in the target; a step in doubt runs again",
        Effect::Keyed => {
            "the remote deduplicates on the key; a step in doubt is sent again with the same key"
        }
        Effect::Once => "cannot be repeated blindly; a step in doubt is settled by its probe or by a person",
    }
}

/// One page about an action.
pub(crate) fn page(description: &Description, width: usize) -> String {
    let mut text = format!("{}\n\n", description.name);
    wrap(&mut text, description.summary, 2, width);
    let _ = writeln!(text, "\n  effect class  {}", effect(description.effect));
    wrap(&mut text, meaning(description.effect), 16, width);
    let _ = writeln!(text, "  previews      {}", yes(description.has_plan));
    let _ = writeln!(text, "  undo          {}", yes(description.has_undo));
    for target in &description.targets {
        let _ = writeln!(text, "  {:13} `{}`", access(target.access), target.param);
    }
    fields(&mut text, "with", &description.params, width);
    fields(&mut text, "outputs", &description.outputs, width);
    if !description.permissions.is_empty() {
        text.push_str("\npermissions\n");
        description.permissions.iter().for_each(|p| wrap(&mut text, p, 2, width));
    }
    text.push_str("\nexample\n");
    description.example.trim_matches('\n').lines().for_each(|line| {
        let _ = writeln!(text, "  {line}");
    });
    text
}

fn yes(has: bool) -> &'static str {
    if has { "yes" } else { "no" }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "reads",
        Access::Write => "writes to",
        Access::Restore => "restores into",
        Access::Destroy => "DESTROYS",
    }
}

fn fields(text: &mut String, title: &str, schema: &Value, width: usize) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let _ = writeln!(text, "\n{title}");
    if properties.is_empty() {
        text.push_str("  (nothing)\n");
    }
    for (name, property) in properties {
        let mut facts = vec![kind(property)];
        if title == "with" && required.contains(&name.as_str()) {
            facts.push("required".to_owned());
        }
        if let Some(default) = property.get("default").filter(|d| !d.is_null()) {
            facts.push(format!("default {default}"));
        }
        let _ = writeln!(text, "  {name}  ({})", facts.join(", "));
        if let Some(help) = property.get("description").and_then(Value::as_str) {
            wrap(text, help, 6, width);
        }
    }
}

/// The type in one or two words.
fn kind(property: &Value) -> String {
    if let Some(name) = property.get("x-runbook-type").and_then(Value::as_str) {
        return name.to_owned();
    }
    if property.get("format").and_then(Value::as_str) == Some("secret") {
        return "secret text".to_owned();
    }
    if let Some(variants) = property.get("enum").and_then(Value::as_array) {
        return variants.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(any) = property.get("anyOf").or_else(|| property.get("oneOf")).and_then(Value::as_array) {
        let kinds: Vec<String> = any
            .iter()
            .filter(|v| v.get("type").and_then(Value::as_str) != Some("null"))
            .map(|v| v.get("const").map_or_else(|| kind(v), Value::to_string))
            .collect();
        return kinds.join(" | ");
    }
    match property.get("type") {
        Some(Value::String(name)) => plain(name, property),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .filter(|name| *name != "null")
            .map(|name| plain(name, property))
            .collect::<Vec<_>>()
            .join(" | "),
        _ => "anything".to_owned(),
    }
}

fn plain(name: &str, property: &Value) -> String {
    match (name, property.get("items")) {
        ("array", Some(items)) => format!("list of {}", kind(items)),
        ("array", None) => "list".to_owned(),
        ("object", _) => "map".to_owned(),
        (name, _) => name.to_owned(),
    }
}
