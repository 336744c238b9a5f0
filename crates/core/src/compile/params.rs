//! `with` against the parameters of its action: unknown and missing ones, wrong types of literals and of
//! references, secrets where they would be written in the clear.

use serde_json::{Map, Value};

use super::names::{Names, Place};
use super::texts::locate;
use super::types::{self, Misfit};
use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::document::{Tree, TreeKind};
use crate::suggest;
use crate::template::has_expression;

/// Checks parameters.
pub(super) struct Params<'a, 'p, 'd> {
    pub(super) names: &'a Names<'p, 'd>,
    pub(super) sources: &'a Sources,
    pub(super) place: Place,
    /// `action `postgres.restore``: what the parameters are of.
    pub(super) of: String,
}

impl Params<'_, '_, '_> {
    /// Checks a whole `with`; `uses` is where to point when it was left out.
    pub(super) fn check(&self, with: Option<&Tree>, uses: Span, schema: &Value, found: &mut Vec<Diagnostic>) {
        match with {
            Some(tree) if matches!(tree.kind, TreeKind::Map(_)) => self.map(tree, schema, true, found),
            // Another shape was reported by the decoder.
            Some(_) => {}
            None => self.missing(&[], uses, schema, true, found),
        }
    }

    /// Checks one value.
    pub(super) fn value(&self, tree: &Tree, schema: &Value, found: &mut Vec<Diagnostic>) {
        if types::is_any(schema) && !types::is_secret(schema) {
            self.inside(tree, schema, found);
            return;
        }
        if let Some(text) = tree.as_str().filter(|text| has_expression(text)) {
            self.template(tree, text, schema, found);
            return;
        }
        if tree.kind == TreeKind::Null && types::is_nullable(schema) {
            return;
        }
        let variants = types::variants(schema);
        if let [only] = variants.as_slice() {
            self.literal(tree, only, found);
            return;
        }
        let mut closest: Option<Vec<Diagnostic>> = None;
        for variant in &variants {
            let mut mistakes = Vec::new();
            self.literal(tree, variant, &mut mistakes);
            if mistakes.is_empty() {
                return;
            }
            let is_same_shape = types::has_type(variant, types::type_of(&tree.to_value()));
            if is_same_shape && types::choices(variant).is_none() {
                closest = Some(mistakes);
            }
        }
        found.extend(closest.unwrap_or_else(|| vec![self.wrong(tree, schema)]));
    }

    /// A value of unknown type may still hold templates, and secrets may not go there.
    fn inside(&self, tree: &Tree, schema: &Value, found: &mut Vec<Diagnostic>) {
        match &tree.kind {
            TreeKind::String(text) if has_expression(text) => self.template(tree, text, schema, found),
            TreeKind::List(items) => items.iter().for_each(|item| self.inside(item, schema, found)),
            TreeKind::Map(entries) => entries.iter().for_each(|(_, item)| self.inside(item, schema, found)),
            _ => {}
        }
    }

    fn template(&self, tree: &Tree, text: &str, schema: &Value, found: &mut Vec<Diagnostic>) {
        let given = self.names.type_of_text(self.place, text);
        let misfit = match types::fits(schema, &given.schema) {
            Ok(()) if given.holds_secret && !types::holds_secret(schema) => Misfit::Secret,
            Ok(()) => return,
            Err(misfit) => misfit,
        };
        let span = locate(self.sources, tree.span, text, 0..text.len());
        found.push(match misfit {
            Misfit::Secret => {
                let message = format!("a secret would be written in the clear by {}", self.of);
                let help =
                    "give it only to a parameter whose type is a secret (`runbook actions` shows them)";
                Diagnostic::error("secret-exposed", span, message).help(help)
            }
            Misfit::Type if given.is_text => {
                let message = format!("{} is wanted, and this gives a text", types::name_of(schema));
                let help = "write one `{{ … }}` and nothing around it: its value keeps its type";
                Diagnostic::error("wrong-type", span, message).help(help)
            }
            Misfit::Type => {
                let (wanted, gives) = (types::name_of(schema), types::name_of(&given.schema));
                let mut mistake = Diagnostic::error(
                    "wrong-type",
                    span,
                    format!("{wanted} is wanted, and this gives {gives}"),
                );
                mistake.help = fitting_field(schema, &given.schema, text);
                mistake
            }
        });
    }

    fn literal(&self, tree: &Tree, schema: &Value, found: &mut Vec<Diagnostic>) {
        let value = match &tree.kind {
            TreeKind::Map(_) if types::has_type(schema, "object") => {
                return self.map(tree, schema, false, found);
            }
            TreeKind::List(items) if types::has_type(schema, "array") => {
                let of = schema.get("items").cloned().unwrap_or_else(types::any);
                return items.iter().for_each(|item| self.value(item, &of, found));
            }
            _ => tree.to_value(),
        };
        if let Some(choices) = types::choices(schema) {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !choices.contains(&text) {
                let mut mistake = self.wrong(tree, schema);
                mistake.help = suggest::closest(&text, choices.iter().map(String::as_str))
                    .map(|n| format!("did you mean `{n}`?"));
                found.push(mistake);
            }
            return;
        }
        let given = types::type_of(&value);
        let fits = types::types(schema).is_none_or(|wanted| {
            wanted.iter().any(|wanted| wanted == given || (wanted == "number" && given == "integer"))
        });
        if !fits {
            found.push(self.wrong(tree, schema));
        } else if types::is_secret(schema)
            && !types::may_be_plain(schema)
            && value.as_str().is_some_and(|text| !text.is_empty())
        {
            let help = "define it under `secrets` of the environment and write `{{ secrets.NAME }}`";
            let message = "a secret stands here in the clear";
            found.push(Diagnostic::error("secret-literal", tree.span, message).help(help));
        } else {
            self.bounds(tree, &value, schema, found);
        }
    }

    fn bounds(&self, tree: &Tree, value: &Value, schema: &Value, found: &mut Vec<Diagnostic>) {
        let Some(number) = value.as_f64() else { return };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let message = match (bound("minimum"), bound("maximum")) {
            (Some(least), _) if number < least => format!("{value} is less than {least}"),
            (_, Some(most)) if number > most => format!("{value} is more than {most}"),
            _ => return,
        };
        found.push(Diagnostic::error("bad-value", tree.span, message));
    }

    fn map(&self, tree: &Tree, schema: &Value, is_with: bool, found: &mut Vec<Diagnostic>) {
        let TreeKind::Map(entries) = &tree.kind else { return };
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let others = schema.get("additionalProperties");
        for (key, value) in entries {
            if let Some(of) = properties.get(&key.value) {
                self.value(value, of, found);
                continue;
            }
            match others {
                Some(Value::Object(_) | Value::Bool(true)) => {
                    self.value(value, others.unwrap_or(&Value::Bool(true)), found);
                }
                None if properties.is_empty() && !is_with => self.inside(value, &types::any(), found),
                _ => {
                    let message = if is_with {
                        format!("{} has no parameter `{}`", self.of, key.value)
                    } else {
                        format!("{} has no field `{}`", types::name_of(schema), key.value)
                    };
                    let code = if is_with { "unknown-parameter" } else { "unknown-field" };
                    let mut mistake = Diagnostic::error(code, key.span, message);
                    mistake.help = suggest::did_you_mean(&key.value, properties.keys().map(String::as_str));
                    found.push(mistake);
                }
            }
        }
        let written: Vec<&str> = entries.iter().map(|(key, _)| key.value.as_str()).collect();
        let start = Span { end: entries.first().map_or(tree.span.end, |(key, _)| key.span.end), ..tree.span };
        self.missing(&written, start, schema, is_with, found);
    }

    fn missing(
        &self,
        written: &[&str],
        at: Span,
        schema: &Value,
        is_with: bool,
        found: &mut Vec<Diagnostic>,
    ) {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str).filter(|name| !written.contains(name)) {
            let ty = schema.get("properties").and_then(|p| p.get(name));
            let ty = ty.map_or_else(|| "a value".to_owned(), types::name_of);
            let (code, message) = if is_with {
                ("missing-parameter", format!("{} needs `{name}`", self.of))
            } else {
                ("missing-field", format!("{} needs `{name}`", types::name_of(schema)))
            };
            found.push(Diagnostic::error(code, at, message).help(format!("add `{name}`: {ty}")));
        }
    }

    fn wrong(&self, tree: &Tree, schema: &Value) -> Diagnostic {
        let value = tree.to_value();
        let gives = types::name_of(&types::of_value(&value));
        let gives = if value.is_null() { "nothing".to_owned() } else { gives };
        let message = format!("{} is wanted, and this is {gives}", types::name_of(schema));
        let mistake = Diagnostic::error("wrong-type", tree.span, message);
        match &tree.kind {
            TreeKind::Number(_) | TreeKind::Bool(_) if types::has_type(schema, "string") => {
                mistake.help(format!("write it in quotes: \"{value}\""))
            }
            _ => mistake,
        }
    }
}

/// The field of a value that would fit: a project is given where its connection is wanted.
fn fitting_field(wanted: &Value, given: &Value, text: &str) -> Option<String> {
    let path = text.trim().strip_prefix("{{")?.strip_suffix("}}")?.trim();
    let properties = given.get("properties")?.as_object()?;
    wanted.get("x-runbook-type")?;
    let (name, _) = properties
        .iter()
        .find(|(_, ty)| ty.get("x-runbook-type").is_some() && types::fits(wanted, ty).is_ok())?;
    Some(format!("did you mean `{{{{ {path}.{name} }}}}`?"))
}
