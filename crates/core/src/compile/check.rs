//! Checks every step in order, so that the types of what it refers to are known: names, syntax,
//! parameters, secrets; then notes the types of its own outputs.

use serde_json::Value;

use super::expand::{Node, Plan};
use super::names::{Names, Place};
use super::params::Params;
use super::request::Request;
use super::step::is_literal;
use super::texts::{self, Text, Use, locate};
use super::types;
use crate::action::{Description, Effect};
use crate::decode::coerce_input;
use crate::diagnostic::{Diagnostic, Sources, Span, Spanned};
use crate::document::{Document, InputDecl, Tree, TreeKind, UndoDecl};
use crate::suggest;
use crate::template::{check_expression, check_text, has_expression};
use crate::workflow::Work;

/// Finds everything that is wrong with the steps of a plan. `order` puts what is referred to first.
pub(super) fn check(
    plan: &Plan<'_>,
    order: &[usize],
    request: &Request<'_>,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) {
    let names = Names::new(plan, request.registry, request.environment);
    let mut checker = Checker { names, request, sources, found };
    for instance in &plan.instances {
        checker.defaults(instance.document);
    }
    for &index in order {
        checker.node(index);
    }
    checker.texts(None, 0, &texts::of_outputs(plan.instances[0].document));
    // A runbook used twice has each of its mistakes twice.
    let mut seen: Vec<Diagnostic> = Vec::new();
    std::mem::take(found).into_iter().for_each(|mistake| {
        if seen.iter().rev().take(SAME_WITHIN).all(|other| *other != mistake) {
            seen.push(mistake);
        }
    });
    *found = seen;
}

/// How far back a mistake is looked for among those already found.
const SAME_WITHIN: usize = 500;

struct Checker<'p, 'd, 'f> {
    names: Names<'p, 'd>,
    request: &'p Request<'p>,
    sources: &'p Sources,
    found: &'f mut Vec<Diagnostic>,
}

impl<'p, 'd> Checker<'p, 'd, '_> {
    fn defaults(&mut self, document: &Document) {
        for default in document.inputs.iter().filter_map(|input| input.default.as_ref()) {
            if !is_literal(&default.to_value()) {
                let message = "a default is taken as it is, without filling in templates";
                let help = "leave the default out, and use `| default(…)` where the input is read";
                self.found.push(Diagnostic::error("template-in-default", default.span, message).help(help));
            }
        }
    }

    fn node(&mut self, index: usize) {
        let plan = self.names.plan;
        let node = &plan.nodes[index];
        self.texts(Some(index), node.instance, &texts::of_step(node.decl, &node.step.work));
        match (&node.step.work, node.inner) {
            (Work::Action { name }, _) => self.action(index, node, name),
            (Work::Begin, Some(inner)) => self.begin(index, node, inner),
            (Work::End { .. }, Some(inner)) => self.end(index, inner),
            _ => {}
        }
        self.approvers(node);
    }

    fn action(&mut self, index: usize, node: &Node<'d>, name: &str) {
        let decl = node.decl;
        if let Some(description) = self.description(&decl.uses) {
            self.params(index, Use::With, decl.with.as_ref(), &decl.uses, description);
            let outputs = &description.outputs;
            let outputs = if decl.for_each.is_some() { types::map_to(outputs) } else { outputs.clone() };
            self.names.outputs.insert(index, outputs);
        }
        if let Some(each) = &decl.for_each {
            self.items(index, node.instance, &each.items);
        }
        if let Some(probe) = &decl.probe
            && let Some(description) = self.description(&probe.uses)
        {
            self.params(index, Use::ProbeWith, probe.with.as_ref(), &probe.uses, description);
            if description.effect != Effect::Read {
                let message = format!("`{}` changes things, so it cannot probe", probe.uses.value);
                let help = format!("a probe asks whether `{name}` happened; use an action that only reads");
                self.found.push(Diagnostic::error("probe-writes", probe.uses.span, message).help(help));
            }
        }
        if let Some(UndoDecl::Uses { uses, with }) = &decl.undo
            && let Some(description) = self.description(uses)
        {
            self.params(index, Use::UndoWith, with.as_ref(), uses, description);
        }
    }

    fn items(&mut self, index: usize, instance: usize, items: &Tree) {
        let Some(text) = items.as_str() else { return };
        let place = Place { node: Some(index), instance, at: Use::Items };
        let given = self.names.type_of_text(place, text);
        let list = types::input(crate::document::InputType::List);
        if types::fits(&list, &given.schema) == Err(types::Misfit::Type) {
            let message = format!("a list is wanted, and this gives {}", types::name_of(&given.schema));
            self.found.push(Diagnostic::error("wrong-type", items.span, message));
        }
    }

    fn begin(&mut self, index: usize, node: &Node<'d>, inner: usize) {
        let document = self.names.plan.instances[inner].document;
        let uses = &node.decl.uses;
        let entries = match node.decl.with.as_ref().map(|with| &with.kind) {
            Some(TreeKind::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        for (name, tree) in entries {
            match document.inputs.iter().find(|input| input.name.value == name.value) {
                Some(input) => self.given_input(index, inner, input, tree),
                None => {
                    let message = format!("runbook `{}` has no input `{}`", uses.value, name.value);
                    let known = document.inputs.iter().map(|input| input.name.value.as_str());
                    let mut mistake = Diagnostic::error("unknown-parameter", name.span, message);
                    mistake.help = suggest::did_you_mean(&name.value, known);
                    self.found.push(mistake);
                }
            }
        }
        for input in document.inputs.iter().filter(|input| input.required) {
            let name = &input.name.value;
            if !entries.iter().any(|(written, _)| written.value == *name) {
                let message = format!("runbook `{}` needs `{name}`", uses.value);
                self.found.push(
                    Diagnostic::error("missing-parameter", uses.span, message)
                        .related(input.span, "declared here")
                        .help(format!("add `{name}` under `with`")),
                );
            }
        }
    }

    fn given_input(&mut self, index: usize, inner: usize, input: &InputDecl, tree: &Tree) {
        let value = tree.to_value();
        if is_literal(&value) {
            if let Err(why) = coerce_input(input, &value) {
                let message = format!("input `{}`: {why}", input.name.value);
                self.found.push(
                    Diagnostic::error("wrong-type", tree.span, message).related(input.span, "declared here"),
                );
            }
            return;
        }
        let place =
            Place { node: Some(index), instance: self.names.plan.nodes[index].instance, at: Use::With };
        let Some(text) = tree.as_str() else { return };
        let given = self.names.type_of_text(place, text);
        let wanted = types::input(input.ty.value);
        if types::fits(&wanted, &given.schema) == Err(types::Misfit::Type) {
            let message = format!(
                "input `{}` is {}, and this gives {}",
                input.name.value,
                types::name_of(&wanted),
                types::name_of(&given.schema)
            );
            self.found.push(
                Diagnostic::error("wrong-type", tree.span, message).related(input.span, "declared here"),
            );
        }
        // Inside, the input has the type of what it is given: a connection stays one, a secret too.
        let schema = if given.holds_secret { types::secret() } else { given.schema };
        self.names.inputs.insert((inner, input.name.value.clone()), schema);
    }

    fn end(&mut self, index: usize, inner: usize) {
        let document = self.names.plan.instances[inner].document;
        self.texts(Some(index), inner, &texts::of_outputs(document));
        let place = Place { node: Some(index), instance: inner, at: Use::Outputs };
        let fields: Vec<(String, Value)> = document
            .outputs
            .iter()
            .map(|(name, tree)| (name.value.clone(), self.type_of_tree(place, tree)))
            .collect();
        self.names.outputs.insert(index, types::map_of(fields));
    }

    fn type_of_tree(&self, place: Place, tree: &Tree) -> Value {
        match &tree.kind {
            TreeKind::String(text) if has_expression(text) => {
                let given = self.names.type_of_text(place, text);
                if given.holds_secret { types::secret() } else { given.schema }
            }
            TreeKind::Map(entries) => {
                types::map_of(entries.iter().map(|(k, v)| (k.value.clone(), self.type_of_tree(place, v))))
            }
            _ => types::of_value(&tree.to_value()),
        }
    }

    /// The description of an action, or the mistake.
    fn description(&mut self, uses: &Spanned<String>) -> Option<&'p Description> {
        let registry = self.request.registry;
        if let Some(action) = registry.get(&uses.value) {
            return Some(action.description());
        }
        // An empty name was reported by the decoder.
        if !uses.value.is_empty() {
            let names: Vec<&str> = registry.descriptions().iter().map(|d| d.name).collect();
            let near = suggest::closest(&uses.value, names).map(|name| format!("did you mean `{name}`?"));
            let help = near.unwrap_or_else(|| "`runbook actions` lists them".to_owned());
            let message = format!("there is no action `{}`", uses.value);
            self.found.push(Diagnostic::error("unknown-action", uses.span, message).help(help));
        }
        None
    }

    fn params(
        &mut self,
        index: usize,
        at: Use,
        with: Option<&Tree>,
        uses: &Spanned<String>,
        description: &Description,
    ) {
        let place = Place { node: Some(index), instance: self.names.plan.nodes[index].instance, at };
        let of = format!("action `{}`", description.name);
        let params = Params { names: &self.names, sources: self.sources, place, of };
        params.check(with, uses.span, &description.params, self.found);
    }

    /// Names who may not answer by the environment's word.
    fn approvers(&mut self, node: &Node<'_>) {
        let Some(environment) = self.request.environment else { return };
        let allowed = &environment.approvers.names;
        let Some(approval) = node.decl.approval.as_ref().filter(|_| node.step.approval.is_some()) else {
            return;
        };
        for name in
            approval.approvers.iter().filter(|name| !allowed.is_empty() && !allowed.contains(&name.value))
        {
            let message = format!("`{}` is no approver of environment `{}`", name.value, environment.name);
            let mut mistake = Diagnostic::error("unknown-approver", name.span, message);
            mistake.help = suggest::did_you_mean(&name.value, allowed.iter().map(String::as_str));
            self.found.push(mistake);
        }
    }

    fn texts(&mut self, node: Option<usize>, instance: usize, list: &[Text<'_>]) {
        for text in list {
            let checked = if text.is_bare { check_expression(text.text) } else { check_text(text.text) };
            if let Err(error) = checked {
                let span = locate(self.sources, text.span, text.text, error.at);
                let mut mistake = Diagnostic::error("template-syntax", span, error.message);
                mistake.help = error.help;
                self.found.push(mistake);
                continue;
            }
            let place = match node {
                Some(node) => Place::of(node, instance, text),
                None => Place { node: None, instance, at: text.at },
            };
            self.references(place, text);
        }
    }

    fn references(&mut self, place: Place, text: &Text<'_>) {
        // Where the rest of a name with a hyphen would begin: it is no mistake of its own.
        let mut tail_at = None;
        for reference in text.references() {
            if tail_at == Some(reference.at.start) {
                continue;
            }
            let span = locate(self.sources, text.span, text.text, reference.at.clone());
            match self.names.resolve(place, &reference) {
                Err(mistake) => {
                    tail_at = reference.hyphen.is_some().then_some(reference.at.end + 1);
                    self.found.push(Diagnostic {
                        help: mistake.help,
                        ..Diagnostic::error(mistake.code, span, mistake.message)
                    });
                }
                Ok(schema) if types::is_secret(&schema) => self.secret(text, reference.alone, span),
                Ok(schema) if types::holds_secret(&schema) && !text.at.takes_secrets() && !text.is_bare => {
                    self.secret(text, false, span);
                }
                Ok(_) => {}
            }
        }
    }

    /// A secret is a reference until a request is built: it can be handed on, and nothing else.
    fn secret(&mut self, text: &Text<'_>, alone: bool, span: Span) {
        if text.is_bare || (text.at.takes_secrets() && !alone) {
            let message = "a secret cannot be worked with: its value is not there until a request is built";
            let help = "let it stand alone in its braces: `{{ secrets.NAME }}`";
            self.found.push(Diagnostic::error("secret-computed", span, message).help(help));
        } else if !text.at.takes_secrets() {
            let message = "a secret would be shown, or written to the journal";
            self.found
                .push(Diagnostic::error("secret-exposed", span, message).help("remove it from this text"));
        }
    }
}
