//! Every action's example is a step: it parses, names its action, and its parameters are the action's.

use std::sync::Arc;
use std::time::Duration;

use runbook_core::action::{
    Action, ActionError, BoxFuture, Checkpoints, Context, Progress, ProgressSink, Registry as _, StopSignal,
};
use runbook_core::environment::{DataKind, Environment, EnvironmentKind};
use runbook_core::secret::{Revealed, SecretError, SecretText, Secrets};
use runbook_core::workflow::StepPath;
use serde_json::{Value, json};

const STEP_KEYS: &[&str] = &[
    "id",
    "title",
    "uses",
    "with",
    "needs",
    "if",
    "preconditions",
    "postconditions",
    "for_each",
    "timeout",
    "retry",
    "idempotency_key",
    "probe",
    "approval",
    "continue_on_error",
    "undo",
    "point_of_no_return",
    "tags",
    "why",
    "if_it_fails",
    "expect",
];

struct Nothing;

impl Secrets for Nothing {
    fn reveal(&self, _: &SecretText) -> Result<Revealed, SecretError> {
        Err(SecretError::Unknown("none".into()))
    }
    fn keep(&self, field: &str, _: &str) -> Result<SecretText, SecretError> {
        Ok(SecretText::reference(field))
    }
    fn kept(&self, _: &str) -> Result<Option<Revealed>, SecretError> {
        Ok(None)
    }
}

impl ProgressSink for Nothing {
    fn report(&self, _: Progress) {}
}

impl Checkpoints for Nothing {
    fn get(&self, _: &str) -> Option<Value> {
        None
    }
    fn save<'a>(&'a self, _: &'a str, _: Value) -> BoxFuture<'a, Result<(), ActionError>> {
        Box::pin(async { Ok(()) })
    }
}

impl StopSignal for Nothing {
    fn requested(&self) -> bool {
        false
    }
    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

fn context() -> Context {
    Context {
        run: "0123456789abcdef".into(),
        run_short: "01234567".into(),
        step: StepPath::new("step"),
        attempt: 1,
        epoch: 1,
        key: "k".into(),
        started_at: jiff::Timestamp::now(),
        actor: "ana".into(),
        environment: Arc::new(Environment::new("nowhere", EnvironmentKind::Local, DataKind::Synthetic)),
        base: "/nonexistent".into(),
        artifacts: "/nonexistent".into(),
        secrets: Arc::new(Nothing),
        progress: Arc::new(Nothing),
        checkpoints: Arc::new(Nothing),
        stop: Arc::new(Nothing),
    }
}

/// Any value that the schema allows; what a template would give at run time.
fn sample(schema: &Value) -> Value {
    if let Some(value) =
        schema.get("const").or_else(|| schema.get("default")).or_else(|| schema.pointer("/enum/0"))
    {
        return value.clone();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.pointer(&format!("/{choice}/0")) {
            return sample(first);
        }
    }
    let kind = schema.get("type").map(|t| t.as_str().or_else(|| t.get(0)?.as_str()).unwrap_or("null"));
    match kind {
        Some("object") => {
            let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
            let fields = required.iter().filter_map(Value::as_str).map(|name| {
                (
                    name.to_owned(),
                    sample(schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null)),
                )
            });
            Value::Object(fields.collect())
        }
        Some("array") => json!([]),
        Some("integer" | "number") => json!(16),
        Some("boolean") => json!(true),
        Some("string") => match schema.get("format").and_then(Value::as_str) {
            Some("date-time") => json!("2026-01-01T00:00:00Z"),
            _ if schema.get("pattern").and_then(Value::as_str).is_some_and(|p| p.contains("(ms|s")) => {
                json!("1m")
            }
            _ => json!("text"),
        },
        _ => json!("text"),
    }
}

/// Replaces text that holds a template by a value of the kind that stands there.
fn fill(value: &Value, schema: &Value) -> Value {
    match value {
        Value::String(text) if text.contains("{{") => sample(schema),
        Value::Object(map) => {
            let of = |name: &String| {
                schema
                    .get("properties")
                    .and_then(|p| p.get(name))
                    .or_else(|| schema.get("additionalProperties"))
                    .unwrap_or(&Value::Null)
            };
            Value::Object(map.iter().map(|(k, v)| (k.clone(), fill(v, of(k)))).collect())
        }
        Value::Array(items) => {
            let of = schema.get("items").unwrap_or(&Value::Null);
            Value::Array(items.iter().map(|item| fill(item, of)).collect())
        }
        other => other.clone(),
    }
}

async fn problem(action: &dyn Action) -> Option<String> {
    let about = action.description();
    let step: Value = match serde_yaml::from_str(about.example) {
        Ok(step) => step,
        Err(error) => return Some(format!("its example is no YAML: {error}")),
    };
    // A step may be written as the list item that it will be, with those that it needs.
    let own = |steps: &Vec<Value>| steps.iter().find(|step| step["uses"] == about.name).cloned();
    let step = &step.as_array().and_then(own).unwrap_or(step);
    let Some(map) = step.as_object() else { return Some("its example is no map".into()) };
    if let Some(key) = map.keys().find(|key| !STEP_KEYS.contains(&key.as_str())) {
        return Some(format!("`{key}` is no key of a step"));
    }
    if step["uses"] != about.name || !step["id"].is_string() {
        return Some("its example lacks `id` or uses another action".into());
    }
    let with = fill(step.get("with").unwrap_or(&json!({})), &about.params);
    let ctx = context();
    // The environment is empty, so a preview fails; it reads its parameters first, which is what counts.
    let planned = tokio::time::timeout(Duration::from_secs(5), action.plan(&ctx, with.clone())).await;
    match planned {
        Ok(Err(error)) if error.attempted.starts_with("read the parameters") => {
            Some(format!("{}: {:?} in {with}", error.attempted, error.source.map(|s| s.to_string())))
        }
        _ => None,
    }
}

#[tokio::test]
async fn every_example_is_a_step_with_parameters_of_its_action() {
    let registry = runbook_actions::registry();
    let mut problems = Vec::new();
    for about in registry.descriptions() {
        let action = registry.get(about.name).expect("a described action can be had");
        if let Some(problem) = problem(action).await {
            problems.push(format!("{}: {problem}", about.name));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn every_field_of_every_action_is_explained() {
    let registry = runbook_actions::registry();
    for about in registry.descriptions() {
        for (side, schema) in [("parameter", &about.params), ("output", &about.outputs)] {
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                let help = field.get("description").and_then(Value::as_str).unwrap_or_default();
                assert!(!help.trim().is_empty(), "{}: {side} `{name}` has no help", about.name);
            }
        }
        assert!(about.summary.ends_with('.'), "{}: {}", about.name, about.summary);
    }
}
