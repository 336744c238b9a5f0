//! `runbook plan`: what a run would do to the real targets. Looks, and changes nothing: previews come from
//! each action's `plan`; steps that only read are asked when later steps need what they give.

use std::collections::BTreeMap;

use runbook_core::action::{ActionError, Description, Effect, Preview, Registry};
use runbook_core::secret::SecretText;
use runbook_core::template::{references, render};
use runbook_core::workflow::{Step, StepPath, Template, Work, Workflow};
use serde_json::{Map, Value};

use crate::arguments::{Global, Plan};
use crate::command::bound::{self, Bounded};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::reading::Reading;
use crate::screen::{self, PlannedStep};
use crate::ui::Ui;

pub(crate) fn plan(ui: &Ui, global: &Global, given: &Plan) -> Result<Exit, Failure> {
    let registry = runbook_actions::registry();
    let state_dir = project::state_dir(global)?;
    let runtime = super::runtime()?;
    let Some(bounded) = runtime.block_on(bound::bind(ui, global, &given.bound, &registry))? else {
        return Ok(Exit::Invalid);
    };
    let Bounded { workflow, environment, base, .. } = bounded;
    let name = environment.name.clone();
    let reading = Reading::new(environment, &base, &state_dir, &project::actor(global))?;
    let looker =
        Looker { reading: &reading, workflow: &workflow, registry: &registry, offline: given.offline };
    let steps = runtime.block_on(looker.look());
    if ui.json {
        ui.line(&screen::plan_line(&workflow, &name, &steps).to_string());
    } else {
        ui.block(&screen::plan(&workflow, &name, &steps, ui.width));
        let digest = workflow.digest.get(..12).unwrap_or(&workflow.digest);
        let shown = given.bound.runbook.display();
        ui.remark(&format!("\nnext: runbook run {shown} --env {name} --plan {digest}"));
    }
    Ok(Exit::Succeeded)
}

struct Looker<'a> {
    reading: &'a Reading,
    workflow: &'a Workflow,
    registry: &'a dyn Registry,
    offline: bool,
}

impl<'a> Looker<'a> {
    async fn look(&self) -> Vec<PlannedStep<'a>> {
        let mut known: BTreeMap<StepPath, Value> = BTreeMap::new();
        let mut planned = Vec::new();
        for step in &self.workflow.steps {
            match &step.work {
                Work::Begin => {
                    if let Ok(inputs) = self.rendered(step, &step.with, &known) {
                        known.insert(step.path.clone(), inputs);
                    }
                }
                Work::End { outputs } => {
                    if let Ok(outputs) = self.rendered(step, outputs, &known) {
                        known.insert(step.path.clone(), outputs);
                    }
                }
                Work::Action { name } => {
                    let Some(action) = self.registry.get(name) else { continue };
                    let preview = self.preview(step, name, &mut known).await;
                    known.entry(step.path.clone()).or_insert_with(|| secrets_of(action.description()));
                    planned.push(PlannedStep { step, action: action.description(), preview });
                }
            }
        }
        planned
    }

    async fn preview(&self, step: &Step, name: &str, known: &mut BTreeMap<StepPath, Value>) -> Preview {
        if step.for_each.is_some() {
            return Preview::Unknown("it runs once for each item of its list".into());
        }
        let Some(action) = self.registry.get(name) else {
            return Preview::Unknown(format!("there is no action `{name}`"));
        };
        let params = match self.rendered(step, &step.with, known) {
            Ok(params) => params,
            Err(why) => return Preview::Unknown(why),
        };
        if self.offline {
            return Preview::Unknown("--offline".into());
        }
        let context = self.reading.context(&step.path);
        let description = action.description();
        if description.effect == Effect::Read
            && self.is_referred_to(step)
            && let Ok(outcome) = action.run(&context, params.clone()).await
        {
            known.insert(step.path.clone(), outcome.outputs);
            if !description.has_plan {
                return Preview::Changes { lines: vec![outcome.summary], destroys: None };
            }
        }
        if !description.has_plan {
            return Preview::Unknown("this action does not look ahead".into());
        }
        match action.plan(&context, params).await {
            Ok(preview) => preview,
            Err(error) => Preview::Unknown(self.reading.redact(&chain(&error))),
        }
    }

    /// Parameters, as far as they can be known: what an earlier step would give is not.
    fn rendered(
        &self,
        step: &Step,
        templates: &BTreeMap<String, Template>,
        known: &BTreeMap<StepPath, Value>,
    ) -> Result<Value, String> {
        let output = |path: &StepPath| known.get(path).cloned();
        let environment = self.reading.environment();
        let scope = self.workflow.scope(step, environment, self.reading.facts(), &output, None);
        let mut values = Map::new();
        for (name, template) in templates {
            let value =
                render(template, &scope).map_err(|error| self.why_not(step, template, &error.to_string()))?;
            values.insert(name.clone(), value);
        }
        Ok(Value::Object(values))
    }

    /// Why a parameter is not known: mostly because an earlier step makes it.
    fn why_not(&self, step: &Step, template: &Template, error: &str) -> String {
        let maker = self.workflow.steps.iter().find(|earlier| {
            let changes = match &earlier.work {
                Work::Action { name } => {
                    self.registry.get(name).map(|a| a.description().effect != Effect::Read)
                }
                _ => None,
            };
            changes == Some(true) && mentions(&template.0, step, &earlier.path)
        });
        match maker {
            Some(maker) => {
                format!("it works on what step `{}` makes, which is not there before the run", maker.path)
            }
            None => self.reading.redact(error),
        }
    }

    fn is_referred_to(&self, step: &Step) -> bool {
        self.workflow.steps.iter().any(|later| {
            let outputs = match &later.work {
                Work::End { outputs } => Some(outputs),
                _ => None,
            };
            let templates = later.with.values().chain(outputs.into_iter().flat_map(BTreeMap::values));
            later.path != step.path && templates.into_iter().any(|t| mentions(&t.0, later, &step.path))
        })
    }
}

/// What is known of a step's outputs before it ran: that its secrets will be references.
fn secrets_of(description: &Description) -> Value {
    let fields = description.outputs.get("properties").and_then(Value::as_object).into_iter().flatten();
    let secrets = fields.filter(|(_, schema)| schema.get("format").and_then(Value::as_str) == Some("secret"));
    secrets
        .map(|(name, _)| (name.clone(), Value::from(SecretText::reference(&format!("plan/{name}")).marked())))
        .collect()
}

/// Whether a template of a step speaks of another step's output.
fn mentions(value: &Value, step: &Step, other: &StepPath) -> bool {
    let Some(id) = other.as_str().strip_prefix(step.scope.as_str()) else { return false };
    match value {
        Value::String(text) => references(text).iter().any(
            |used| matches!(used.path.as_slice(), [first, second, ..] if first == "steps" && second == id),
        ),
        Value::Array(items) => items.iter().any(|item| mentions(item, step, other)),
        Value::Object(map) => map.values().any(|item| mentions(item, step, other)),
        _ => false,
    }
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &ActionError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
