//! What a reference means: which step, input or connection, and which type the value has.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::edges::{ids, is_declared, list_name};
use super::expand::Plan;
use super::texts::{Text, Use};
use super::types;
use crate::action::Registry;
use crate::environment::Environment;
use crate::scope::environment_value;
use crate::suggest;
use crate::template::Reference;
use crate::workflow::{Phase, Work};

/// The names that every template sees.
const ROOTS: &[&str] = &["inputs", "steps", "env", "run", "vars", "connections", "secrets"];
/// The fields of `env`, for a check without an environment.
const ENV_FIELDS: &[&str] =
    &["name", "kind", "data", "region", "backups", "supabase", "vercel", "notify", "approvers"];

/// A reference that means nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: Option<String>,
}

impl Mistake {
    fn new(code: &'static str, message: String, help: impl Into<Option<String>>) -> Self {
        Self { code, message, help: help.into() }
    }
}

/// Where a reference stands: in a text of a node, in the scope of an instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) node: Option<usize>,
    pub(super) instance: usize,
    pub(super) at: Use,
}

impl Place {
    pub(super) fn of(node: usize, instance: usize, text: &Text<'_>) -> Self {
        Self { node: Some(node), instance, at: text.at }
    }
}

/// Everything that is known about names; types of steps are filled in as they are checked.
pub(super) struct Names<'p, 'd> {
    pub(super) plan: &'p Plan<'d>,
    pub(super) registry: &'p dyn Registry,
    environment: Option<&'p Environment>,
    globals: HashMap<&'static str, Value>,
    /// By node: the type of its outputs.
    pub(super) outputs: HashMap<usize, Value>,
    /// By instance and input: the type of what it was really given.
    pub(super) inputs: HashMap<(usize, String), Value>,
}

impl<'p, 'd> Names<'p, 'd> {
    pub(super) fn new(
        plan: &'p Plan<'d>,
        registry: &'p dyn Registry,
        environment: Option<&'p Environment>,
    ) -> Self {
        let globals = HashMap::from([
            (
                "run",
                types::map_of(
                    ["id", "short_id", "started_at"].map(|n| (n.to_owned(), json!({ "type": "string" }))),
                ),
            ),
            ("env", environment_type("env", environment)),
            ("vars", environment_type("vars", environment)),
            ("connections", environment_type("connections", environment)),
            ("secrets", environment_type("secrets", environment)),
        ]);
        Self { plan, registry, environment, globals, outputs: HashMap::new(), inputs: HashMap::new() }
    }

    /// The type of what a reference reads, or why it reads nothing.
    pub(super) fn resolve(&self, place: Place, reference: &Reference) -> Result<Value, Mistake> {
        let root = reference.path[0].as_str();
        let rest = &reference.path[1..];
        let found = match root {
            "inputs" => self.input(place, reference),
            "steps" => self.step(place, reference),
            _ if self.is_item(place, root) => self.fields(&self.item(place), root, rest),
            "probe" if place.at == Use::Happened => self.fields(&self.probe(place), root, rest),
            _ => match self.globals.get(root) {
                Some(schema) => self.global(root, schema, rest),
                None => Err(self.unknown_root(place, reference)),
            },
        };
        let found = found.map_err(|mistake| with_hyphen(mistake, reference))?;
        Ok(if reference.dynamic { dynamic(&found) } else { found })
    }

    fn input(&self, place: Place, reference: &Reference) -> Result<Value, Mistake> {
        let document = self.plan.instances[place.instance].document;
        let Some(name) = reference.path.get(1) else {
            return Ok(types::map_of(document.inputs.iter().map(|i| (i.name.value.clone(), types::any()))));
        };
        let Some(input) = document.inputs.iter().find(|input| input.name.value == *name) else {
            let names = document.inputs.iter().map(|input| input.name.value.as_str());
            let message = format!("runbook `{}` has no input `{name}`", document.name.value);
            return Err(Mistake::new("unknown-input", message, suggest::did_you_mean(name, names)));
        };
        let given = self.inputs.get(&(place.instance, name.clone())).filter(|ty| !types::is_any(ty)).cloned();
        let schema = given.unwrap_or_else(|| types::input(input.ty.value));
        self.fields(&schema, &format!("inputs.{name}"), &reference.path[2..])
    }

    fn step(&self, place: Place, reference: &Reference) -> Result<Value, Mistake> {
        let instance = &self.plan.instances[place.instance];
        let Some(id) = reference.path.get(1) else {
            let message = "`steps` is read without the name of a step".to_owned();
            let help = "write `steps.ID…`: what a step needs must be known before anything runs".to_owned();
            return Err(Mistake::new("dynamic-reference", message, help));
        };
        let rest = &reference.path[2..];
        let label = format!("steps.{id}");
        let own = place.node.filter(|&node| self.plan.nodes[node].decl.id.value == *id);
        if let Some(node) = own.filter(|&node| self.plan.nodes[node].instance == place.instance) {
            if !place.at.sees_own() {
                let message = format!("step `{id}` reads its own output before it has one");
                let help = "only `postconditions` and `undo` see it".to_owned();
                return Err(Mistake::new("own-output", message, help));
            }
            return self.fields(&self.own_output(node), &label, rest);
        }
        let Some(slot) = instance.slots.get(id.as_str()) else {
            // A step whose runbook could not be read has no slot; that was reported.
            if is_declared(instance.document, id) {
                return Ok(types::any());
            }
            let message = format!("there is no step `{id}`");
            return Err(Mistake::new(
                "unknown-step",
                message,
                suggest::did_you_mean(id, ids(&instance.slots, None)),
            ));
        };
        let theirs = self.plan.nodes[slot.last].step.phase;
        let ours = place.node.map_or(Phase::Finally, |node| self.plan.nodes[node].step.phase);
        if later(theirs) > later(ours) {
            let message = format!("step `{id}` of `{}` comes later", list_name(theirs));
            let help = format!("`{}` starts when `{}` is over", list_name(theirs), list_name(ours));
            return Err(Mistake::new("later-step", message, help));
        }
        match self.outputs.get(&slot.last) {
            Some(schema) => self.fields(schema, &label, rest),
            None => Ok(types::any()),
        }
    }

    /// The outputs of one instance of a step, as the step itself sees them.
    fn own_output(&self, node: usize) -> Value {
        match &self.plan.nodes[node].step.work {
            Work::Action { name } => {
                self.registry.get(name).map_or_else(types::any, |a| a.description().outputs.clone())
            }
            _ => self.outputs.get(&node).cloned().unwrap_or_else(types::any),
        }
    }

    fn global(&self, root: &str, schema: &Value, rest: &[String]) -> Result<Value, Mistake> {
        types::field(schema, rest).map_err(|missing| {
            let name = &rest[missing.at];
            let near = suggest::did_you_mean(name, missing.fields.iter().map(String::as_str));
            let environment = self.environment.map_or("the environment", |e| e.name.as_str());
            if missing.at > 0 {
                return no_field(root, rest, &missing);
            }
            match root {
                "vars" => Mistake::new(
                    "unknown-var",
                    format!("environment `{environment}` has no variable `{name}`"),
                    near,
                ),
                "secrets" => Mistake::new(
                    "unknown-secret",
                    format!("environment `{environment}` has no secret `{name}`"),
                    near,
                ),
                "connections" => Mistake::new(
                    "unknown-connection",
                    format!("environment `{environment}` has no connection `{name}`"),
                    near,
                ),
                _ => no_field(root, rest, &missing),
            }
        })
    }

    fn fields(&self, schema: &Value, label: &str, rest: &[String]) -> Result<Value, Mistake> {
        types::field(schema, rest).map_err(|missing| no_field(label, rest, &missing))
    }

    fn is_item(&self, place: Place, root: &str) -> bool {
        let each = place.node.and_then(|node| self.plan.nodes[node].decl.for_each.as_ref());
        place.at.sees_item() && each.is_some_and(|each| each.as_name.value == root)
    }

    fn item(&self, place: Place) -> Value {
        let node = place.node.map(|node| &self.plan.nodes[node]);
        let items = node.and_then(|n| n.decl.for_each.as_ref()).map(|each| &each.items);
        match items.and_then(|items| items.as_str()) {
            Some(text) => {
                let place = Place { at: Use::Items, ..place };
                types::item(&self.type_of_text(place, text).schema)
            }
            None => types::any(),
        }
    }

    fn probe(&self, place: Place) -> Value {
        let probe = place.node.and_then(|node| self.plan.nodes[node].decl.probe.as_ref());
        let action = probe.and_then(|probe| self.registry.get(&probe.uses.value));
        action.map_or_else(types::any, |action| action.description().outputs.clone())
    }

    /// The type of what a text with `{{ … }}` gives. References that mean nothing count as anything: they
    /// are reported where names are checked.
    pub(super) fn type_of_text(&self, place: Place, text: &str) -> TextType {
        let references = crate::template::references(text);
        let types: Vec<Value> =
            references.iter().map(|r| self.resolve(place, r).unwrap_or_else(|_| types::any())).collect();
        let holds_secret = types.iter().any(types::holds_secret);
        if crate::template::whole_expression(text).is_none() {
            let schema = if holds_secret { types::secret() } else { json!({ "type": "string" }) };
            return TextType { schema, is_text: true, holds_secret };
        }
        let only = match (references.as_slice(), types.as_slice()) {
            ([one], [schema]) if one.alone => Some(schema.clone()),
            _ => None,
        };
        let holds_secret = holds_secret && only.is_none();
        TextType { schema: only.unwrap_or_else(types::any), is_text: false, holds_secret }
    }

    fn unknown_root(&self, place: Place, reference: &Reference) -> Mistake {
        let root = &reference.path[0];
        let each = place.node.and_then(|node| self.plan.nodes[node].decl.for_each.as_ref());
        if each.is_some_and(|each| each.as_name.value == *root) {
            let message = format!("`{root}` is not known yet here");
            let help = "`if`, `preconditions`, `approval` and `items` are worked out once, before the items"
                .to_owned();
            return Mistake::new("unknown-name", message, help);
        }
        let document = self.plan.instances[place.instance].document;
        let known = |kind: &str, name: &str| format!("write `{kind}.{name}`");
        let help = if document.inputs.iter().any(|input| input.name.value == *root) {
            Some(known("inputs", root))
        } else if is_declared(document, root) {
            Some(known("steps", root))
        } else {
            let item = each.map(|each| each.as_name.value.as_str());
            let names: Vec<&str> = ROOTS.iter().copied().chain(item).collect();
            suggest::did_you_mean(root, names)
        };
        Mistake::new("unknown-name", format!("there is no name `{root}`"), help)
    }
}

/// The type of a text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextType {
    pub(super) schema: Value,
    /// Words around an expression: the result is text.
    pub(super) is_text: bool,
    /// A secret is worked into it, in a way the schema may not show.
    pub(super) holds_secret: bool,
}

fn no_field(label: &str, rest: &[String], missing: &types::Missing) -> Mistake {
    let name = &rest[missing.at];
    let before = rest[..missing.at].iter().fold(label.to_owned(), |text, part| format!("{text}.{part}"));
    let message = if missing.fields.is_empty() {
        format!("`{before}` is {} and has no field `{name}`", missing.of)
    } else {
        format!("`{before}` has no field `{name}`")
    };
    Mistake::new(
        "unknown-field",
        message,
        suggest::did_you_mean(name, missing.fields.iter().map(String::as_str)),
    )
}

/// `steps.restore-data` is read as a subtraction; the mend is the same whatever was not found.
fn with_hyphen(mistake: Mistake, reference: &Reference) -> Mistake {
    let Some(tail) = &reference.hyphen else { return mistake };
    let [head @ .., last] = reference.path.as_slice() else { return mistake };
    let help = format!("a `-` subtracts; a name with one is written `{}['{last}-{tail}']`", head.join("."));
    Mistake { help: Some(help), ..mistake }
}

fn dynamic(schema: &Value) -> Value {
    // Which part is read is not known; that a secret may be among them is.
    if types::holds_secret(schema) { types::map_to(&types::secret()) } else { types::any() }
}

fn later(phase: Phase) -> u8 {
    match phase {
        Phase::Main => 0,
        Phase::OnFailure => 1,
        Phase::Finally => 2,
    }
}

fn environment_type(root: &str, environment: Option<&Environment>) -> Value {
    match (root, environment) {
        ("connections", Some(e)) => {
            types::map_of(e.connections.keys().map(|n| (n.clone(), types::connection())))
        }
        ("connections", None) => types::map_to(&types::connection()),
        ("secrets", Some(e)) => types::map_of(e.secrets.keys().map(|n| (n.clone(), types::secret()))),
        ("secrets", None) => types::map_to(&types::secret()),
        ("env", None) => types::map_of(ENV_FIELDS.iter().map(|name| ((*name).to_owned(), types::any()))),
        (_, None) => types::any(),
        (_, Some(e)) => environment_value(root, e).as_ref().map_or_else(types::any, types::of_value),
    }
}
