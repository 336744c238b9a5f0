//! Everything that is worked out before a step starts: conditions, items, parameters, key, question. Reads the
//! machine and the pinned workflow; calls no action.

use std::collections::BTreeMap;

use runbook_core::guard;
use runbook_core::key::{default_key, params_digest};
use runbook_core::scope::with_own_output;
use runbook_core::secret::SecretText;
use runbook_core::template::{evaluate, render};
use runbook_core::workflow::{Check, Step, StepPath, Template, Undo, Work};
use serde_json::{Map, Value};

use super::pinned::waivers;
use super::settle::error_chain;
use super::sitting::Sitting;
use crate::machine::Instance;
use crate::record::{Choice, Item, RefusedWhy};

/// Most items of one `for_each`.
pub(super) const ITEMS_MAX: usize = 10_000;
/// Longest idempotency key in bytes: what providers take (Stripe and PayPal allow 255 and 108 characters; an
/// author's key is theirs to keep shorter).
const KEY_BYTES_MAX: usize = 255;

/// A step that could start.
pub(super) struct Ready {
    pub(super) params: Value,
    pub(super) params_digest: String,
    pub(super) key: String,
    /// The author gave the key: it reaches beyond this run.
    pub(super) is_shared_key: bool,
    pub(super) prompt: String,
    /// What there is to choose from.
    pub(super) options: Vec<Choice>,
    /// The choice, when the parameters hold it.
    pub(super) answer: Option<String>,
}

/// Why it cannot.
pub(super) enum NotReady {
    Refused { why: RefusedWhy, message: String, hint: Option<String> },
    Failed { message: String, hint: Option<String> },
}

impl NotReady {
    pub(super) fn failed(error: &dyn std::error::Error) -> Self {
        Self::Failed { message: error_chain(error), hint: None }
    }
}

impl Sitting {
    /// The step of the workflow that an instance belongs to.
    pub(super) fn step_of(&self, path: &StepPath) -> Option<&Step> {
        let path = self.machine.bone(path).map_or(path, |bone| &bone.path);
        self.shared.step(path)
    }

    pub(super) fn scope_of(&self, step: &Step, item: Option<&Value>) -> Value {
        let item = step.for_each.as_ref().zip(item).map(|(each, item)| (each.as_name.as_str(), item));
        let output = |path: &StepPath| self.machine.output(path);
        self.shared.workflow.scope(step, &self.shared.environment, &self.shared.facts, &output, item)
    }

    pub(super) fn decide(&self, step: &Step) -> Result<bool, NotReady> {
        let Some(condition) = &step.condition else { return Ok(true) };
        evaluate(condition, &self.scope_of(step, None)).map_err(|e| NotReady::failed(&e))
    }

    /// The items of a `for_each` with their keys.
    pub(super) fn items(&self, step: &Step) -> Result<Vec<Item>, NotReady> {
        let failed = |message: String| NotReady::Failed { message, hint: None };
        let Some(each) = &step.for_each else { return Ok(Vec::new()) };
        let scope = self.scope_of(step, None);
        let list = render(&each.items, &scope).map_err(|e| NotReady::failed(&e))?;
        let Value::Array(values) = list else {
            return Err(failed("list the items of `for_each`: `items` is not a list".into()));
        };
        if values.len() > ITEMS_MAX {
            let many = values.len();
            return Err(failed(format!(
                "list the items of `for_each`: there are {many}, the limit is {ITEMS_MAX}"
            )));
        }
        let mut items = Vec::with_capacity(values.len());
        let mut seen = std::collections::HashSet::new();
        for value in values {
            let key =
                render(&each.key, &self.scope_of(step, Some(&value))).map_err(|e| NotReady::failed(&e))?;
            let key = match key {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => {
                    return Err(failed(
                        "name an item of `for_each`: its `key` is neither text nor number".into(),
                    ));
                }
            };
            if key.is_empty() || runbook_core::secret::holds_marker(&key) {
                return Err(failed("name an item of `for_each`: its `key` is empty, or a secret".into()));
            }
            if !seen.insert(key.clone()) {
                return Err(failed(format!("name the items of `for_each`: two have the key `{key}`")));
            }
            items.push(Item { key, value });
        }
        Ok(items)
    }

    /// What leaving a runbook used as a step gives.
    pub(super) fn outputs_of(&self, step: &Step) -> Result<Value, NotReady> {
        match &step.work {
            Work::End { outputs } => {
                let output = |path: &StepPath| self.machine.output(path);
                let shared = &self.shared;
                let scope =
                    shared.workflow.scope_of_outputs(Some(step), &shared.environment, &shared.facts, &output);
                rendered(outputs, &scope)
            }
            _ => rendered(&step.with, &self.scope_of(step, None)),
        }
    }

    /// Checks and renders an instance, right before it is asked about or started.
    pub(super) fn prepare(&self, instance: &Instance) -> Result<Ready, NotReady> {
        let unknown = || NotReady::Failed { message: "find the step in the workflow".into(), hint: None };
        let step = self.step_of(&instance.path).ok_or_else(unknown)?;
        let scope = self.scope_of(step, self.machine.item(&instance.path));
        checked(&step.preconditions, &scope)?;
        let params = rendered(&step.with, &scope)?;
        self.guarded(step, &params)?;
        let (key, is_shared_key) = self.key(step, instance, &scope)?;
        let prompt = match (&step.approval, params.get("prompt").or_else(|| params.get("question"))) {
            (Some(approval), _) => render(&approval.prompt, &scope).map_err(|e| NotReady::failed(&e))?,
            (None, Some(prompt)) => prompt.clone(),
            (None, None) => Value::from(format!("Start `{}`?", instance.path)),
        };
        let (options, answer) = self.options(step, &params)?;
        Ok(Ready {
            params_digest: params_digest(&params),
            params,
            key,
            is_shared_key,
            prompt: self.shown(&prompt),
            options,
            answer,
        })
    }

    /// A value as people may read it.
    fn shown(&self, value: &Value) -> String {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        self.shared.redactor.redact(&SecretText::from_marked(text).to_string())
    }

    /// What there is to choose from, and the choice when it was handed in.
    fn options(&self, step: &Step, params: &Value) -> Result<(Vec<Choice>, Option<String>), NotReady> {
        let Work::Action { name } = &step.work else { return Ok((Vec::new(), None)) };
        if !self.shared.registry.get(name).is_some_and(|action| action.description().chooses) {
            return Ok((Vec::new(), None));
        }
        let written = params.get("options").and_then(Value::as_object);
        let options: Vec<Choice> = written
            .into_iter()
            .flatten()
            .map(|(name, text)| Choice { name: name.clone(), text: self.shown(text) })
            .collect();
        if options.is_empty() {
            let message = "ask: there is nothing to choose from".to_owned();
            return Err(NotReady::Failed { message, hint: Some("Name the `options`.".to_owned()) });
        }
        let answer = params.get("answer").and_then(Value::as_str).filter(|answer| !answer.is_empty());
        if let Some(unknown) = answer.filter(|answer| options.iter().all(|option| option.name != *answer)) {
            let names: Vec<&str> = options.iter().map(|option| option.name.as_str()).collect();
            let message =
                format!("take the answer `{}`: it is none of the options", self.shown(&Value::from(unknown)));
            return Err(NotReady::Failed { message, hint: Some(format!("They are {}.", names.join(", "))) });
        }
        Ok((options, answer.map(str::to_owned)))
    }

    fn guarded(&self, step: &Step, params: &Value) -> Result<(), NotReady> {
        let shared = &self.shared;
        let Work::Action { name } = &step.work else { return Ok(()) };
        if shared.registry.get(name).is_none_or(|action| action.description().targets.is_empty()) {
            return Ok(());
        }
        let waived = waivers(self.machine.waived());
        let registry = shared.registry.as_ref();
        let found =
            guard::at_run_time(&shared.workflow, step, params, &shared.environment, registry, &waived);
        let Some(first) = found.first() else { return Ok(()) };
        let all: Vec<_> = found.iter().map(|v| format!("{}: {}", v.guard, v.message)).collect();
        let (message, hint) = (all.join("; "), Some(first.help.clone()));
        Err(NotReady::Refused { why: RefusedWhy::Guard, message, hint })
    }

    fn key(&self, step: &Step, instance: &Instance, scope: &Value) -> Result<(String, bool), NotReady> {
        let Some(template) = &step.idempotency_key else {
            let path = match instance.reruns {
                0 => instance.path.clone(),
                // A person wants the effect once more: under the old key nothing would happen.
                n => StepPath::new(format!("{}#{n}", instance.path)),
            };
            return Ok((default_key(&self.shared.run, &path), false));
        };
        let failed =
            |why: &str| NotReady::Failed { message: format!("make the idempotency key: {why}"), hint: None };
        match render(template, scope).map_err(|e| NotReady::failed(&e))? {
            Value::String(key) if runbook_core::secret::holds_marker(&key) => {
                Err(failed("it holds a secret"))
            }
            Value::String(key) if key.is_empty() => Err(failed("it is empty")),
            Value::String(key) if key.len() > KEY_BYTES_MAX => Err(failed("it is longer than 255 bytes")),
            Value::String(key) if instance.reruns > 0 => Ok((format!("{key}#{}", instance.reruns), true)),
            Value::String(key) => Ok((key, true)),
            _ => Err(failed("it is not text")),
        }
    }

    /// A false or broken postcondition, in words.
    pub(super) fn broken_postcondition(&self, path: &StepPath, outputs: &Value) -> Option<String> {
        let step = self.step_of(path)?;
        if step.postconditions.is_empty() {
            return None;
        }
        let scope = with_own_output(self.scope_of(step, self.machine.item(path)), step, outputs);
        match checked(&step.postconditions, &scope) {
            Ok(()) => None,
            Err(NotReady::Refused { message, .. } | NotReady::Failed { message, .. }) => Some(message),
        }
    }

    /// What an undo calls: the action's name, and its parameters.
    pub(super) fn undo_call(&self, instance: &Instance) -> Result<(String, Value), NotReady> {
        let unknown = || NotReady::Failed { message: "find the step in the workflow".into(), hint: None };
        let step = self.step_of(&instance.path).ok_or_else(unknown)?;
        if let Undo::Uses { action, with } = &step.undo {
            let own = instance.outcome.as_ref().map_or(Value::Null, |o| o.outputs.clone());
            let scope = with_own_output(self.scope_of(step, self.machine.item(&instance.path)), step, &own);
            return Ok((action.clone(), rendered(with, &scope)?));
        }
        let Work::Action { name } = &step.work else { return Err(unknown()) };
        let params = instance.last.as_ref().map_or(Value::Null, |last| last.params.clone());
        Ok((name.clone(), params))
    }
}

/// Templates by name to values by name.
pub(super) fn rendered(with: &BTreeMap<String, Template>, scope: &Value) -> Result<Value, NotReady> {
    let mut values = Map::new();
    for (name, template) in with {
        values.insert(name.clone(), render(template, scope).map_err(|e| NotReady::failed(&e))?);
    }
    Ok(Value::Object(values))
}

fn checked(checks: &[Check], scope: &Value) -> Result<(), NotReady> {
    for check in checks {
        if evaluate(&check.check, scope).map_err(|e| NotReady::failed(&e))? {
            continue;
        }
        let message = match &check.message {
            Some(message) => render(message, scope).map_err(|e| NotReady::failed(&e))?,
            None => Value::Null,
        };
        let message = message.as_str().map_or_else(|| format!("`{}` is false", check.check.0), str::to_owned);
        let message = SecretText::from_marked(message).to_string();
        return Err(NotReady::Refused { why: RefusedWhy::Precondition, message, hint: None });
    }
    Ok(())
}
