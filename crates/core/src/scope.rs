//! What a step's templates see while a run is under way: `inputs`, `steps`, `env`, `run`, `vars`,
//! `connections`, `secrets` and the item of a `for_each`. Only what the templates name is put in, so a
//! step of a large run costs no more than one of a small run. Secrets are markers, never values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::environment::Environment;
use crate::secret::SecretText;
use crate::template::{Reference, expression_references, references};
use crate::workflow::{Check, Step, StepPath, Template, Undo, Work, Workflow};

/// What `run` is in templates, and who started it. Fixed when the run starts, the same on every resume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// The run's id.
    pub id: String,
    /// First 8 characters of it, for names.
    pub short_id: String,
    /// When it was started.
    pub started_at: Timestamp,
    /// Who started it.
    pub actor: String,
}

/// The journaled outputs of a step by its path; `None` when it was skipped or has not run.
pub type Outputs<'a> = &'a dyn Fn(&StepPath) -> Option<Value>;

impl Workflow {
    /// The scope of everything written at one step: `with`, `if`, checks, approval, key, `for_each`, probe
    /// parameters. For [`Work::Begin`] that is the scope outside of the runbook used as a step. `item` is
    /// the name and value of a `for_each` instance. The output of a skipped step is none.
    ///
    /// Add [`with_own_output`] for `postconditions` and `undo`, [`with_probe`] for `probe.happened`.
    pub fn scope(
        &self,
        step: &Step,
        environment: &Environment,
        facts: &RunFacts,
        output: Outputs<'_>,
        item: Option<(&str, &Value)>,
    ) -> Value {
        let used = step_references(step);
        let mut scope = self.build(&step.scope, &used, environment, facts, output);
        if let (Some((name, value)), Some(fields)) = (item, scope.as_object_mut()) {
            fields.insert(name.to_owned(), value.clone());
        }
        scope
    }

    /// The scope of `outputs`: of the root with `None`, of a runbook used as a step with its [`Work::End`]
    /// node, whose outputs see that runbook's own inputs and steps.
    pub fn scope_of_outputs(
        &self,
        end: Option<&Step>,
        environment: &Environment,
        facts: &RunFacts,
        output: Outputs<'_>,
    ) -> Value {
        let (prefix, outputs) = match end {
            Some(Step { path, work: Work::End { outputs }, .. }) => (format!("{path}/"), outputs),
            _ => (String::new(), &self.outputs),
        };
        let mut used = Vec::new();
        for template in outputs.values() {
            template_references(&template.0, &mut used);
        }
        self.build(&prefix, &used, environment, facts, output)
    }

    fn build(
        &self,
        prefix: &str,
        used: &[Reference],
        environment: &Environment,
        facts: &RunFacts,
        output: Outputs<'_>,
    ) -> Value {
        let mut scope = Map::new();
        for reference in used {
            let root = reference.path[0].as_str();
            match (root, reference.path.get(1)) {
                ("steps", Some(id)) => {
                    let steps = scope.entry("steps").or_insert_with(|| json!({}));
                    if let Some(steps) = steps.as_object_mut().filter(|steps| !steps.contains_key(id)) {
                        let path = StepPath::new(format!("{prefix}{id}"));
                        steps.insert(id.clone(), output(&path).unwrap_or(Value::Null));
                    }
                }
                _ if scope.contains_key(root) => {}
                ("inputs", _) => {
                    scope.insert(root.to_owned(), self.inputs_of(prefix, output));
                }
                _ => {
                    if let Some(value) = global(root, environment, facts) {
                        scope.insert(root.to_owned(), value);
                    }
                }
            }
        }
        Value::Object(scope)
    }

    fn inputs_of(&self, prefix: &str, output: Outputs<'_>) -> Value {
        if prefix.is_empty() {
            return Value::Object(self.inputs.iter().map(|(k, v)| (k.clone(), v.clone())).collect());
        }
        output(&StepPath::new(format!("{prefix}(begin)"))).unwrap_or(Value::Null)
    }
}

impl Step {
    /// The node that lets this step in: a step inside a runbook used as a step, and the [`Work::End`] of
    /// one, is skipped unless its begin is done. `None` at the root. Holds in every phase: a `finally`
    /// step of a runbook that was never entered is skipped.
    pub fn begin(&self) -> Option<StepPath> {
        match &self.work {
            Work::End { .. } => Some(StepPath::new(format!("{}/(begin)", self.path))),
            _ if self.scope.is_empty() => None,
            _ => Some(StepPath::new(format!("{}(begin)", self.scope))),
        }
    }

    /// The author's id: the last part of the path, without an item key.
    pub fn id(&self) -> &str {
        let path = match &self.work {
            Work::Begin => self.path.as_str().trim_end_matches("/(begin)"),
            _ => self.path.as_str(),
        };
        path.strip_prefix(self.scope.as_str()).unwrap_or(path)
    }
}

/// Lets templates read the step's own outputs as `steps.ID`: for `postconditions` and `undo`.
#[must_use]
pub fn with_own_output(mut scope: Value, step: &Step, own: &Value) -> Value {
    if let Some(fields) = scope.as_object_mut() {
        let steps = fields.entry("steps").or_insert_with(|| json!({}));
        if let Some(steps) = steps.as_object_mut() {
            steps.insert(step.id().to_owned(), own.clone());
        }
    }
    scope
}

/// Lets `probe.happened` read the outputs of the probing action as `probe`.
#[must_use]
pub fn with_probe(mut scope: Value, outputs: &Value) -> Value {
    if let Some(fields) = scope.as_object_mut() {
        fields.insert("probe".to_owned(), outputs.clone());
    }
    scope
}

/// What is the same for every step: `env`, `run`, `vars`, `connections`, `secrets`.
fn global(root: &str, environment: &Environment, facts: &RunFacts) -> Option<Value> {
    match root {
        "run" => Some(json!({
            "id": facts.id,
            "short_id": facts.short_id,
            "started_at": facts.started_at.to_string(),
        })),
        "secrets" => Some(
            environment.secrets.keys().map(|name| (name.clone(), marker(name))).collect::<Map<_, _>>().into(),
        ),
        _ => environment_value(root, environment),
    }
}

fn marker(name: &str) -> Value {
    Value::from(SecretText::reference(name).marked())
}

/// `env`, `vars` and `connections`, which do not depend on a run. `env` leaves out what has a name of
/// its own.
pub(crate) fn environment_value(root: &str, environment: &Environment) -> Option<Value> {
    match root {
        "env" => {
            let mut value = serde_json::to_value(environment).unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                for name in ["connections", "vars", "secrets"] {
                    fields.shift_remove(name);
                }
            }
            Some(value)
        }
        "vars" => {
            Some(environment.vars.iter().map(|(k, v)| (k.clone(), v.clone())).collect::<Map<_, _>>().into())
        }
        "connections" => {
            let named = environment.connections.iter().map(|(name, connection)| {
                let named = crate::types::Connection { name: Some(name.clone()), ..connection.clone() };
                (name.clone(), serde_json::to_value(named).unwrap_or_default())
            });
            Some(named.collect::<Map<_, _>>().into())
        }
        _ => None,
    }
}

/// Every name that the templates and expressions of a step use.
pub(crate) fn step_references(step: &Step) -> Vec<Reference> {
    let mut used = Vec::new();
    map_references(&step.with, &mut used);
    checks_references(&step.preconditions, &mut used);
    checks_references(&step.postconditions, &mut used);
    if let Some(condition) = &step.condition {
        used.extend(expression_references(&condition.0));
    }
    if let Some(each) = &step.for_each {
        template_references(&each.items.0, &mut used);
        template_references(&each.key.0, &mut used);
    }
    if let Some(key) = &step.idempotency_key {
        template_references(&key.0, &mut used);
    }
    if let Some(probe) = &step.probe {
        map_references(&probe.with, &mut used);
        used.extend(expression_references(&probe.happened.0));
    }
    if let Some(approval) = &step.approval {
        template_references(&approval.prompt.0, &mut used);
    }
    if let Undo::Uses { with, .. } = &step.undo {
        map_references(with, &mut used);
    }
    used
}

fn checks_references(checks: &[Check], used: &mut Vec<Reference>) {
    for check in checks {
        used.extend(expression_references(&check.check.0));
        if let Some(message) = &check.message {
            template_references(&message.0, used);
        }
    }
}

fn map_references(with: &BTreeMap<String, Template>, used: &mut Vec<Reference>) {
    for template in with.values() {
        template_references(&template.0, used);
    }
}

/// Every name that a template uses, at any leaf.
pub(crate) fn template_references(value: &Value, used: &mut Vec<Reference>) {
    match value {
        Value::String(text) => used.extend(references(text)),
        Value::Array(items) => items.iter().for_each(|item| template_references(item, used)),
        Value::Object(fields) => fields.values().for_each(|field| template_references(field, used)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::environment::EnvironmentKind;
    use crate::template::{TemplateError, evaluate, render};
    use crate::testing::{compile_files, environment, runbook};
    use crate::workflow::Expression;

    const INNER: &str = "name: inner\nkind: drill\ninputs: { t: { type: string } }\nsteps:\n  - { id: a, uses: test.read, with: { a: \"{{ inputs.t }}\" } }\n  - { id: b, uses: test.read, with: { a: \"{{ steps.a.ok }}\" } }\noutputs: { ok: \"{{ steps.a.ok }}\" }\n";
    const OUTER: &str = "  - { id: a, uses: test.read, with: { a: \"{{ run.short_id }} {{ vars.site }} {{ env.kind }}\" } }\n  - { id: sub, uses: ./inner.yaml, with: { t: \"x{{ steps.a.ok }}\" } }\n  - { id: c, uses: supabase.create_project, with: { name: \"{{ row }}\", token: \"{{ secrets.token }}\" }, for_each: { items: [p], as: row, key: \"{{ row }}\" } }\n  - { id: d, uses: postgres.query, with: { connection: \"{{ connections.main }}\" }, postconditions: [{ check: steps.d.failed == 0 }] }\n";

    fn example() -> Workflow {
        let files = [("t.yaml", &*runbook(OUTER)), ("inner.yaml", INNER)];
        compile_files(&files, &[]).workflow.unwrap_or_else(|| crate::testing::workflow(Vec::new()))
    }

    fn facts() -> RunFacts {
        RunFacts {
            id: "0123456789".to_owned(),
            short_id: "01234567".to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
            actor: "ana".to_owned(),
        }
    }

    /// What each step would have given.
    fn output(path: &StepPath) -> Option<Value> {
        match path.as_str() {
            "a" => Some(json!({ "ok": 1 })),
            "sub/(begin)" => Some(json!({ "t": "inner" })),
            "sub/a" => Some(json!({ "ok": 2 })),
            _ => None,
        }
    }

    fn with(path: &str, param: &str, item: Option<(&str, &Value)>) -> Result<Value, TemplateError> {
        let workflow = example();
        let step = workflow.step(&StepPath::new(path)).unwrap();
        let environment = environment(EnvironmentKind::Production);
        render(&step.with[param], &workflow.scope(step, &environment, &facts(), &output, item))
    }

    #[test]
    fn each_step_sees_its_own_runbook() {
        assert_eq!(with("a", "a", None), Ok(json!("01234567 example.org production")));
        assert_eq!(with("sub/(begin)", "t", None), Ok(json!("x1")));
        assert_eq!(with("sub/a", "a", None), Ok(json!("inner")));
        assert_eq!(with("sub/b", "a", None), Ok(json!(2)));
    }

    #[test]
    fn items_secrets_and_connections_are_there() {
        assert_eq!(with("c", "name", Some(("row", &json!("p")))), Ok(json!("p")));
        assert_eq!(with("c", "token", None), Ok(json!("⟦secret:token⟧")));
        let connection = with("d", "connection", None).unwrap();
        assert_eq!((&connection["name"], &connection["live"]), (&json!("main"), &json!(true)));
    }

    #[test]
    fn outputs_of_a_used_runbook_are_read_in_its_own_scope() {
        let workflow = example();
        let end = workflow.step(&StepPath::new("sub")).unwrap();
        let environment = environment(EnvironmentKind::Production);
        let scope = workflow.scope_of_outputs(Some(end), &environment, &facts(), &output);
        let Work::End { outputs } = &end.work else { panic!("{end:?}") };
        assert_eq!(render(&outputs["ok"], &scope), Ok(json!(2)));
    }

    #[test]
    fn a_step_sees_its_own_outputs_after_the_effect() {
        let workflow = example();
        let step = workflow.step(&StepPath::new("d")).unwrap();
        let environment = environment(EnvironmentKind::Production);
        let scope = workflow.scope(step, &environment, &facts(), &output, None);
        let check = &step.postconditions[0].check;
        assert!(evaluate(check, &scope).is_err());
        assert_eq!(evaluate(check, &with_own_output(scope.clone(), step, &json!({ "failed": 0 }))), Ok(true));
        let probe = Expression("probe.there".to_owned());
        assert_eq!(evaluate(&probe, &with_probe(scope, &json!({ "there": true }))), Ok(true));
    }

    #[test]
    fn only_what_is_named_is_asked_for() {
        let workflow = example();
        let environment = environment(EnvironmentKind::Production);
        let asked = RefCell::new(Vec::new());
        let recording = |path: &StepPath| {
            asked.borrow_mut().push(path.as_str().to_owned());
            output(path)
        };
        for step in &workflow.steps {
            let _ = workflow.scope(step, &environment, &facts(), &recording, None);
        }
        assert_eq!(*asked.borrow(), ["a", "sub/(begin)", "sub/a", "d"]);
    }
}
