//! One step.

use super::entry;
use super::fields::{Fields, Mistakes, shown};
use super::scalar::{self, NameKind};
use super::spellings;
use crate::diagnostic::{Diagnostic, Spanned};
use crate::document::{StepDecl, Tree, TreeKind};

/// Decodes one entry of a list of steps. `ordinal` (from 1) names a step that has no id.
pub(super) fn decode(tree: &Tree, ordinal: usize, mistakes: &mut Mistakes) -> Option<StepDecl> {
    let fields = Fields::open(tree, &spellings::STEP, mistakes)?;
    let text = |key: &str, m: &mut Mistakes| fields.get(key).and_then(|tree| scalar::text(tree, key, m));
    Some(StepDecl {
        id: id(&fields, ordinal, mistakes),
        title: text("title", mistakes),
        uses: uses(&fields, mistakes),
        with: fields.get("with").and_then(|tree| parameters(tree, mistakes)),
        needs: fields.get("needs").map(|tree| needs(tree, mistakes)),
        condition: fields.get("if").and_then(|tree| scalar::expression(tree, "if", mistakes)),
        preconditions: entry::checks(&fields, "preconditions", mistakes),
        postconditions: entry::checks(&fields, "postconditions", mistakes),
        for_each: fields.get("for_each").and_then(|tree| entry::for_each(tree, mistakes)),
        timeout: fields.get("timeout").and_then(|tree| scalar::duration(tree, "timeout", mistakes)),
        retry: fields.get("retry").and_then(|tree| entry::retry(tree, mistakes)),
        idempotency_key: text("idempotency_key", mistakes),
        probe: fields.get("probe").and_then(|tree| entry::probe(tree, mistakes)),
        approval: fields.get("approval").and_then(|tree| entry::approval(tree, mistakes)),
        continue_on_error: flag(&fields, "continue_on_error", mistakes),
        undo: fields.get("undo").and_then(|tree| entry::undo(tree, mistakes)),
        point_of_no_return: flag(&fields, "point_of_no_return", mistakes),
        tags: fields.get("tags").map(|tree| tags(tree, mistakes)).unwrap_or_default(),
        why: text("why", mistakes),
        if_it_fails: text("if_it_fails", mistakes),
        expect_duration: fields.get("expect").and_then(|tree| entry::expect(tree, mistakes)),
        span: fields.span(),
    })
}

fn flag(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> bool {
    fields.get(key).and_then(|tree| scalar::boolean(tree, key, mistakes)).unwrap_or(false)
}

fn id(fields: &Fields<'_>, ordinal: usize, mistakes: &mut Mistakes) -> Spanned<String> {
    let help = "add `id: …`: a short name that stays the same when the step moves";
    let written = fields.required("id", help, mistakes);
    written.and_then(|tree| scalar::name(tree, "id", "a step", NameKind::Id, mistakes)).unwrap_or_else(|| {
        let span = written.map_or(fields.span(), |tree| tree.span);
        Spanned::new(format!("step-{ordinal}"), span)
    })
}

/// The action's name or a runbook's path; empty when it was reported as missing.
fn uses(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Spanned<String> {
    let help = "add `uses: …`: an action (`runbook actions` lists them), or `./other.yaml`";
    let missing = || Spanned::new(String::new(), fields.span());
    let Some(tree) = fields.required("uses", help, mistakes) else { return missing() };
    let Some(uses) = scalar::text(tree, "uses", mistakes) else { return missing() };
    check_uses(&uses, mistakes);
    uses
}

/// Whether this names a file and not an action.
pub(super) fn is_file(uses: &str) -> bool {
    uses.starts_with("./") || uses.starts_with("../")
}

fn check_uses(uses: &Spanned<String>, mistakes: &mut Mistakes) {
    let value = uses.value.as_str();
    let (problem, help) = if value.contains("{{") {
        ("cannot be a template", "name the action or the file itself; `if` chooses between steps".to_owned())
    } else if is_file(value) {
        if value.ends_with(".yaml") || value.ends_with(".yml") {
            return;
        }
        ("names no runbook file", format!("write `{}.yaml`", shown(value)))
    } else if value.ends_with(".yaml") || value.ends_with(".yml") {
        ("looks like a file and has no `./`", format!("write `./{}`", shown(value.trim_start_matches('/'))))
    } else if !is_action_name(value) {
        (
            "is no name of an action",
            "`runbook actions` lists the actions, named like `system.verb`".to_owned(),
        )
    } else {
        return;
    };
    let message = format!("`{}` {problem}", shown(value));
    mistakes.push(Diagnostic::error("bad-uses", uses.span, message).help(help));
}

/// `system.verb`, or one word for what belongs to no system (`notify`).
pub(super) fn is_action_name(value: &str) -> bool {
    value.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

/// `with`: a map, or it is reported and left out.
pub(super) fn parameters(tree: &Tree, mistakes: &mut Mistakes) -> Option<Tree> {
    if matches!(tree.kind, TreeKind::Map(_)) {
        return Some(tree.clone());
    }
    let help = matches!(tree.kind, TreeKind::List(_))
        .then(|| "write `name: value` lines without the dashes".to_owned());
    scalar::wrong_type(tree, "with", "a map of parameters", help, mistakes);
    None
}

fn needs(tree: &Tree, mistakes: &mut Mistakes) -> Vec<Spanned<String>> {
    if matches!(tree.kind, TreeKind::Null) {
        let help = "write `needs: []` to start at once, or remove it to need the step above".to_owned();
        scalar::wrong_type(tree, "needs", "a list of steps", Some(help), mistakes);
        return Vec::new();
    }
    scalar::texts(tree, "needs", mistakes)
}

fn tags(tree: &Tree, mistakes: &mut Mistakes) -> Vec<Spanned<String>> {
    let tags = scalar::texts(tree, "tags", mistakes);
    for tag in &tags {
        scalar::check_name(tag, "a tag", NameKind::Tag, mistakes);
    }
    tags
}
