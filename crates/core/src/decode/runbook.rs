//! The whole file: from its text to a document and everything that is wrong with it.

use std::collections::HashMap;

use super::fields::{Fields, Mistakes, describe};
use super::scalar::{self, NameKind};
use super::{input, spellings, step};
use crate::diagnostic::{Diagnostic, SourceId, Sources, Span, Spanned};
use crate::document::{Document, InputDecl, Kind, Objectives, StepDecl, Tree, TreeKind};
use crate::yaml;

/// Steps of one file, all lists together: twice what a generated runbook was ever seen to have.
pub const STEPS_MAX: usize = 20_000;
/// Inputs of one file.
pub const INPUTS_MAX: usize = 200;

/// Decodes one runbook file. The document is there whenever the file is a map, also when mistakes were
/// found, so that later checks can find more. What such a document may be relied upon for: ids of
/// steps are unique over all three lists, names of inputs and outputs are unique, and `uses` is empty
/// only where that was reported here.
pub fn runbook(sources: &Sources, id: SourceId) -> (Option<Document>, Vec<Diagnostic>) {
    let (tree, mistakes) = yaml::parse(sources, id);
    let mut mistakes = Mistakes::with(mistakes);
    let document = tree.and_then(|tree| document(&tree, &mut mistakes));
    (document, mistakes.into_list(sources))
}

fn document(tree: &Tree, mistakes: &mut Mistakes) -> Option<Document> {
    let fields = Fields::open(tree, &spellings::RUNBOOK, mistakes)?;
    let text = |key: &str, m: &mut Mistakes| fields.get(key).and_then(|tree| scalar::text(tree, key, m));
    let mut steps = Steps::default();
    Some(Document {
        name: name(&fields, mistakes),
        title: text("title", mistakes),
        why: text("why", mistakes),
        kind: kind(&fields, mistakes),
        objectives: fields.get("objectives").map(|tree| objectives(tree, mistakes)).unwrap_or_default(),
        inputs: fields.get("inputs").map(|tree| inputs(tree, mistakes)).unwrap_or_default(),
        steps: main_steps(&fields, &mut steps, mistakes),
        on_failure: steps.list(fields.get("on_failure"), "on_failure", mistakes),
        finally: steps.list(fields.get("finally"), "finally", mistakes),
        outputs: fields.get("outputs").map(|tree| outputs(tree, mistakes)).unwrap_or_default(),
        deadline: fields.get("deadline").and_then(|tree| scalar::duration(tree, "deadline", mistakes)),
    })
}

fn name(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Spanned<String> {
    let tree = fields.required("name", "add `name: …`: what `runbook list` calls it", mistakes);
    tree.and_then(|tree| scalar::name(tree, "name", "a runbook", NameKind::Id, mistakes))
        .unwrap_or_else(|| Spanned::new("unnamed".into(), fields.span()))
}

fn kind(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Spanned<Kind> {
    const WORDS: [(&str, Kind); 3] =
        [("incident", Kind::Incident), ("drill", Kind::Drill), ("maintenance", Kind::Maintenance)];
    fields
        .required("kind", "add `kind: incident`, `kind: drill` or `kind: maintenance`", mistakes)
        .and_then(|tree| scalar::keyword(tree, "kind", &WORDS, mistakes))
        .unwrap_or(Spanned::new(Kind::Maintenance, fields.span()))
}

fn objectives(tree: &Tree, mistakes: &mut Mistakes) -> Objectives {
    let Some(fields) = Fields::open(tree, &spellings::OBJECTIVES, mistakes) else {
        return Objectives::default();
    };
    let duration =
        |key: &str, m: &mut Mistakes| fields.get(key).and_then(|tree| scalar::duration(tree, key, m));
    Objectives { rpo: duration("rpo", mistakes), rto: duration("rto", mistakes) }
}

fn inputs(tree: &Tree, mistakes: &mut Mistakes) -> Vec<InputDecl> {
    let TreeKind::Map(entries) = &tree.kind else {
        let help = "write `inputs: { name: { type: string } }`".to_owned();
        scalar::wrong_type(tree, "inputs", "a map from name to input", Some(help), mistakes);
        return Vec::new();
    };
    if let Some((name, _)) = entries.get(INPUTS_MAX) {
        let message =
            format!("a runbook has at most {INPUTS_MAX} inputs, and this one has {}", entries.len());
        mistakes.push(Diagnostic::error("too-many-inputs", name.span, message));
    }
    entries.iter().take(INPUTS_MAX).map(|(name, tree)| input::declaration(name, tree, mistakes)).collect()
}

fn outputs(tree: &Tree, mistakes: &mut Mistakes) -> Vec<(Spanned<String>, Tree)> {
    let TreeKind::Map(entries) = &tree.kind else {
        let help = "write `outputs: { name: \"{{ steps.ID.field }}\" }`".to_owned();
        scalar::wrong_type(tree, "outputs", "a map from name to value", Some(help), mistakes);
        return Vec::new();
    };
    for (name, _) in entries {
        scalar::check_name(name, "an output", NameKind::Variable, mistakes);
    }
    entries.clone()
}

fn main_steps(fields: &Fields<'_>, steps: &mut Steps, mistakes: &mut Mistakes) -> Vec<StepDecl> {
    let tree = fields.required("steps", "add `steps:` and below it `- id: …` with `uses: …`", mistakes);
    if let Some(tree) = tree
        && matches!(&tree.kind, TreeKind::List(items) if items.is_empty())
    {
        let place = fields.key_span("steps").unwrap_or(tree.span);
        mistakes.push(
            Diagnostic::error("empty-steps", place, "the runbook has no steps")
                .help("write at least one: `- id: …` with `uses: …`"),
        );
    }
    steps.list(tree, "steps", mistakes)
}

/// What all lists of steps share: the count, and which ids are taken.
#[derive(Default)]
struct Steps {
    count: usize,
    taken: HashMap<String, Span>,
}

impl Steps {
    fn list(&mut self, tree: Option<&Tree>, key: &str, mistakes: &mut Mistakes) -> Vec<StepDecl> {
        let Some(tree) = tree else { return Vec::new() };
        let TreeKind::List(items) = &tree.kind else {
            let help = match &tree.kind {
                TreeKind::Map(entries) => entries.first().map_or_else(
                    || "write a list: `- id: …`".to_owned(),
                    |(name, _)| {
                        format!("write a list: `- id: {}` and so on", super::fields::shown(&name.value))
                    },
                ),
                _ => format!("write `- id: …` with `uses: …` below `{key}:`"),
            };
            let message = format!("`{key}` must be a list of steps, found {}", describe(tree));
            mistakes.push(Diagnostic::error("wrong-type", tree.span, message).help(help));
            return Vec::new();
        };
        let mut steps = Vec::with_capacity(items.len().min(STEPS_MAX));
        for item in items {
            self.count += 1;
            if self.count == STEPS_MAX + 1 {
                let message = format!("a runbook has at most {STEPS_MAX} steps");
                mistakes.push(
                    Diagnostic::error("too-many-steps", item.span, message)
                        .help("use `for_each`, or move parts to runbooks of their own"),
                );
            }
            if self.count > STEPS_MAX {
                break;
            }
            if let Some(mut step) = step::decode(item, self.count, mistakes) {
                self.take(&mut step, mistakes);
                steps.push(step);
            }
        }
        steps
    }

    /// Makes the id unique, so that later checks can go on after a duplicate was reported.
    fn take(&mut self, step: &mut StepDecl, mistakes: &mut Mistakes) {
        let id = &mut step.id;
        if let Some(first) = self.taken.get(&id.value) {
            mistakes.push(
                Diagnostic::error(
                    "duplicate-step",
                    id.span,
                    format!("a second step has the id `{}`", id.value),
                )
                .related(*first, "the first one is here")
                .help("an id names a step's checkpoint: give this one another"),
            );
            // No id that an author can write holds a `#`.
            id.value = format!("{}#{}", id.value, self.count);
        }
        self.taken.insert(id.value.clone(), id.span);
    }
}
