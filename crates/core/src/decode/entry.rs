//! The maps and lists inside a step: conditions, `for_each`, `retry`, `probe`, `approval`, `undo`.

use std::time::Duration;

use super::fields::{Fields, Mistakes, shown};
use super::scalar::{self, NameKind};
use super::{spellings, step};
use crate::diagnostic::{Diagnostic, Spanned};
use crate::document::{ApprovalDecl, CheckDecl, ForEachDecl, ProbeDecl, RetryDecl, Tree, TreeKind, UndoDecl};
use crate::workflow::OnExhausted;

/// Attempts of one step; with the longest wait this is days.
const ATTEMPTS_MAX: u32 = 100;
/// Growth of a wait; beyond it the second wait is the longest one anyway.
const MULTIPLIER_MAX: f64 = 100.0;
/// Instances of one step at once; each holds connections.
const PARALLEL_MAX: u32 = 256;
/// People who must say yes.
const APPROVALS_MAX: u32 = 20;
/// Names that templates already have.
const RESERVED: &[&str] = &[
    "inputs",
    "steps",
    "env",
    "run",
    "vars",
    "connections",
    "backups",
    "notify",
    "secrets",
    "probe",
    "loop",
];

/// `preconditions` and `postconditions`
pub(super) fn checks(fields: &Fields<'_>, key: &str, mistakes: &mut Mistakes) -> Vec<CheckDecl> {
    let Some(tree) = fields.get(key) else { return Vec::new() };
    match &tree.kind {
        TreeKind::List(items) => items.iter().filter_map(|item| check(item, key, mistakes)).collect(),
        TreeKind::Map(_) | TreeKind::String(_) => {
            let help = "put a dash in front: `- check: …`".to_owned();
            scalar::wrong_type(tree, key, "a list", Some(help), mistakes);
            check_inside(tree, key, mistakes).into_iter().collect()
        }
        _ => {
            scalar::wrong_type(tree, key, "a list of conditions", None, mistakes);
            Vec::new()
        }
    }
}

fn check(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<CheckDecl> {
    if let TreeKind::String(text) = &tree.kind {
        let help = format!("write `- check: {}`", shown(text));
        scalar::wrong_type(tree, key, "a list of maps", Some(help), mistakes);
    }
    check_inside(tree, key, mistakes)
}

fn check_inside(tree: &Tree, key: &str, mistakes: &mut Mistakes) -> Option<CheckDecl> {
    if matches!(tree.kind, TreeKind::String(_)) {
        return Some(CheckDecl { check: scalar::expression(tree, key, mistakes)?, message: None });
    }
    let fields = Fields::open(tree, &spellings::CHECK, mistakes)?;
    let message = fields.get("message").and_then(|tree| scalar::text(tree, "message", mistakes));
    let check = fields.required("check", "add `check: …`, an expression that must be true", mistakes)?;
    Some(CheckDecl { check: scalar::expression(check, "check", mistakes)?, message })
}

/// `for_each`
pub(super) fn for_each(tree: &Tree, mistakes: &mut Mistakes) -> Option<ForEachDecl> {
    let fields = Fields::open(tree, &spellings::FOR_EACH, mistakes)?;
    let items = fields.required("items", "add `items: …`, a list or a template that gives one", mistakes);
    let items = items.filter(|tree| is_items(tree, mistakes));
    let as_name = fields
        .get("as")
        .and_then(|tree| scalar::text(tree, "as", mistakes))
        .unwrap_or_else(|| Spanned::new("item".into(), fields.span()));
    if RESERVED.contains(&as_name.value.as_str()) {
        let message = format!("`{}` has a meaning in templates already", as_name.value);
        scalar::bad_value(as_name.span, message, "choose another name, such as `item`", mistakes);
    } else {
        scalar::check_name(&as_name, "an item", NameKind::Variable, mistakes);
    }
    let help = format!(
        "add what tells the items apart, since positions shift: `key: \"{{{{ {}.name }}}}\"`",
        shown(&as_name.value)
    );
    let key = fields.required("key", &help, mistakes).and_then(|tree| scalar::text(tree, "key", mistakes));
    let max_parallel = fields
        .get("max_parallel")
        .and_then(|tree| scalar::integer(tree, "max_parallel", 1..=PARALLEL_MAX, mistakes))
        .unwrap_or(1);
    Some(ForEachDecl { items: items?.clone(), as_name, key: key?, max_parallel })
}

fn is_items(tree: &Tree, mistakes: &mut Mistakes) -> bool {
    match &tree.kind {
        TreeKind::List(_) => true,
        TreeKind::String(text) if text.contains("{{") => true,
        TreeKind::String(text) => {
            let help = format!("write `\"{{{{ {} }}}}\"`, or a list", shown(text));
            scalar::wrong_type(tree, "items", "a list or a template", Some(help), mistakes);
            false
        }
        _ => {
            scalar::wrong_type(tree, "items", "a list or a template", None, mistakes);
            false
        }
    }
}

/// `retry`
pub(super) fn retry(tree: &Tree, mistakes: &mut Mistakes) -> Option<RetryDecl> {
    if let TreeKind::Number(count) = &tree.kind {
        let help = format!("write `retry: {{ max_attempts: {count} }}`");
        scalar::wrong_type(tree, "retry", "a map", Some(help), mistakes);
        return None;
    }
    let fields = Fields::open(tree, &spellings::RETRY, mistakes)?;
    let duration = |key: &str, m: &mut Mistakes| -> Option<Spanned<Duration>> {
        fields.get(key).and_then(|tree| scalar::duration(tree, key, m))
    };
    let initial = duration("initial_interval", mistakes);
    let max = duration("max_interval", mistakes);
    if let (Some(initial), Some(max)) = (initial, max)
        && initial.value > max.value
    {
        mistakes.push(
            Diagnostic::error("bad-value", initial.span, "`initial_interval` is longer than `max_interval`")
                .related(max.span, "the longest wait")
                .help("make `max_interval` the longer one"),
        );
    }
    let words = [("pause", OnExhausted::Pause), ("fail", OnExhausted::Fail)];
    Some(RetryDecl {
        max_attempts: fields
            .get("max_attempts")
            .and_then(|tree| scalar::integer(tree, "max_attempts", 1..=ATTEMPTS_MAX, mistakes)),
        initial_interval: initial.map(|interval| interval.value),
        multiplier: fields
            .get("multiplier")
            .and_then(|tree| scalar::number(tree, "multiplier", 1.0..=MULTIPLIER_MAX, mistakes)),
        max_interval: max.map(|interval| interval.value),
        jitter: fields.get("jitter").and_then(|tree| scalar::number(tree, "jitter", 0.0..=1.0, mistakes)),
        on_exhausted: fields
            .get("on_exhausted")
            .and_then(|tree| scalar::keyword(tree, "on_exhausted", &words, mistakes))
            .map(|word| word.value),
    })
}

/// `probe`
pub(super) fn probe(tree: &Tree, mistakes: &mut Mistakes) -> Option<ProbeDecl> {
    let fields = Fields::open(tree, &spellings::PROBE, mistakes)?;
    let uses = fields.required("uses", "add `uses: …`, an action that only reads", mistakes);
    let uses = uses.and_then(|tree| action(tree, mistakes));
    let with = fields.get("with").and_then(|tree| step::parameters(tree, mistakes));
    let help = "add `happened: …`, an expression over `probe` that is true when the effect is there";
    let happened = fields.required("happened", help, mistakes);
    let happened = happened.and_then(|tree| scalar::expression(tree, "happened", mistakes));
    Some(ProbeDecl { uses: uses?, with, happened: happened? })
}

/// An action's name where a runbook cannot stand.
fn action(tree: &Tree, mistakes: &mut Mistakes) -> Option<Spanned<String>> {
    let uses = scalar::text(tree, "uses", mistakes)?;
    if step::is_action_name(&uses.value) {
        return Some(uses);
    }
    let message = format!("`{}` is no name of an action", shown(&uses.value));
    let help = if step::is_file(&uses.value) {
        "only an action can stand here, no runbook"
    } else {
        "`runbook actions` lists the actions, named like `system.verb`"
    };
    mistakes.push(Diagnostic::error("bad-uses", uses.span, message).help(help));
    None
}

/// `approval`
pub(super) fn approval(tree: &Tree, mistakes: &mut Mistakes) -> Option<ApprovalDecl> {
    match &tree.kind {
        TreeKind::String(text) => {
            let help = format!("write `approval: {{ prompt: \"{}\" }}`", shown(text));
            scalar::wrong_type(tree, "approval", "a map", Some(help), mistakes);
            let prompt = Spanned::new(text.clone(), tree.span);
            return Some(ApprovalDecl {
                prompt,
                min_approvals: 1,
                timeout: None,
                approvers: Vec::new(),
                span: tree.span,
            });
        }
        TreeKind::Bool(_) => {
            let help = "write `approval: { prompt: … }`, or remove it".to_owned();
            scalar::wrong_type(tree, "approval", "a map", Some(help), mistakes);
            return None;
        }
        _ => {}
    }
    let fields = Fields::open(tree, &spellings::APPROVAL, mistakes)?;
    let prompt = fields.required("prompt", "add `prompt: …`, the question that people are asked", mistakes);
    let prompt = prompt.and_then(|tree| scalar::text(tree, "prompt", mistakes));
    Some(ApprovalDecl {
        // An approval whose prompt is wrong is still an approval: the guards must see it.
        prompt: prompt.unwrap_or_else(|| Spanned::new("Go on?".into(), fields.span())),
        min_approvals: fields
            .get("min_approvals")
            .and_then(|tree| scalar::integer(tree, "min_approvals", 1..=APPROVALS_MAX, mistakes))
            .unwrap_or(1),
        timeout: fields
            .get("timeout")
            .and_then(|tree| scalar::duration(tree, "timeout", mistakes))
            .map(|timeout| timeout.value),
        approvers: fields
            .get("approvers")
            .map(|tree| scalar::texts(tree, "approvers", mistakes))
            .unwrap_or_default(),
        span: fields.span(),
    })
}

/// `undo`
pub(super) fn undo(tree: &Tree, mistakes: &mut Mistakes) -> Option<UndoDecl> {
    match &tree.kind {
        TreeKind::String(word) if word == "none" => return Some(UndoDecl::None(tree.span)),
        TreeKind::String(name) if step::is_action_name(name) => {
            let help = format!("write `undo: {{ uses: {name} }}`");
            scalar::wrong_type(tree, "undo", "`none` or a map", Some(help), mistakes);
            return Some(UndoDecl::Uses { uses: Spanned::new(name.clone(), tree.span), with: None });
        }
        TreeKind::Map(_) => {}
        _ => {
            let help = "write `undo: none`, or `undo: { uses: …, with: … }`".to_owned();
            scalar::wrong_type(tree, "undo", "`none` or a map", Some(help), mistakes);
            return None;
        }
    }
    let fields = Fields::open(tree, &spellings::UNDO, mistakes)?;
    let with = fields.get("with").and_then(|tree| step::parameters(tree, mistakes));
    let uses = fields.required("uses", "add `uses: …`, the action that takes the effect back", mistakes)?;
    Some(UndoDecl::Uses { uses: action(uses, mistakes)?, with })
}

/// `expect`
pub(super) fn expect(tree: &Tree, mistakes: &mut Mistakes) -> Option<Spanned<Duration>> {
    if let TreeKind::String(text) = &tree.kind {
        let help = format!("write `expect: {{ duration: {} }}`", shown(text));
        scalar::wrong_type(tree, "expect", "a map", Some(help), mistakes);
        return None;
    }
    let fields = Fields::open(tree, &spellings::EXPECT, mistakes)?;
    fields.get("duration").and_then(|tree| scalar::duration(tree, "duration", mistakes))
}
