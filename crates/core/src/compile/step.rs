//! One written step to one step of the workflow, with the defaults applied.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::decode::coerce_input;
use crate::diagnostic::{Diagnostic, Spanned};
use crate::document::{
    ApprovalDecl, CheckDecl, Document, ProbeDecl, RetryDecl, StepDecl, Tree, TreeKind, UndoDecl,
};
use crate::environment::{APPROVAL_TIMEOUT_DEFAULT, Environment};
use crate::template::has_expression;
use crate::workflow::{
    Approval, Check, Expression, ForEach, Phase, Probe, Retry, Step, StepPath, Template, Undo, Work,
};

/// Makes the step; for a runbook used as a step its begin takes what comes before the effect, its end what
/// comes after.
pub(super) fn build(
    decl: &StepDecl,
    path: StepPath,
    scope: &str,
    work: Work,
    phase: Phase,
    environment: Option<&Environment>,
) -> Step {
    let is_begin = work == Work::Begin;
    let is_end = matches!(work, Work::End { .. });
    let is_action = !is_begin && !is_end;
    Step {
        path,
        scope: scope.to_owned(),
        phase,
        title: decl.title.as_ref().unwrap_or(&decl.id).value.clone(),
        why: prose(decl.why.as_ref()),
        if_it_fails: prose(decl.if_it_fails.as_ref()),
        with: if is_end { BTreeMap::new() } else { with(decl.with.as_ref()) },
        needs: Vec::new(),
        condition: decl.condition.as_ref().filter(|_| !is_end).map(expression),
        preconditions: if is_end { Vec::new() } else { checks(&decl.preconditions) },
        postconditions: if is_begin { Vec::new() } else { checks(&decl.postconditions) },
        for_each: decl.for_each.as_ref().filter(|_| is_action).map(|each| ForEach {
            items: Template(each.items.to_value()),
            as_name: each.as_name.value.clone(),
            key: text(&each.key),
            max_parallel: each.max_parallel,
        }),
        timeout: decl.timeout.filter(|_| is_action).map(|d| d.value),
        retry: retry(decl.retry.as_ref()),
        idempotency_key: decl.idempotency_key.as_ref().filter(|_| is_action).map(text),
        probe: decl.probe.as_ref().filter(|_| is_action).map(probe),
        approval: decl.approval.as_ref().filter(|_| !is_end).map(|a| approval(a, environment)),
        continue_on_error: decl.continue_on_error && is_action,
        undo: if is_action { undo(decl.undo.as_ref()) } else { Undo::None },
        point_of_no_return: decl.point_of_no_return && !is_begin,
        // The tags of a used runbook speak of what is done when it is done.
        tags: if is_begin { Vec::new() } else { decl.tags.iter().map(|tag| tag.value.clone()).collect() },
        expect_duration: decl.expect_duration.filter(|_| !is_begin).map(|d| d.value),
        span: decl.span,
        work,
    }
}

/// The outputs of a used runbook, for its end.
pub(super) fn outputs(document: &Document) -> BTreeMap<String, Template> {
    document.outputs.iter().map(|(name, tree)| (name.value.clone(), Template(tree.to_value()))).collect()
}

/// Completes what a used runbook is given: literal values get their declared type, inputs left out their
/// default or none. Mistakes are reported where the values are checked.
pub(super) fn fill_inputs(document: &Document, with: &mut BTreeMap<String, Template>) {
    for input in &document.inputs {
        let name = &input.name.value;
        let literal = match with.get(name) {
            Some(template) if is_literal(&template.0) => template.0.clone(),
            Some(_) => continue,
            None => input.default.as_ref().map_or(Value::Null, Tree::to_value),
        };
        let value = coerce_input(input, &literal).unwrap_or(literal);
        with.insert(name.clone(), Template(value));
    }
}

/// What a used runbook cannot do without must be there when it is entered, before anything in it is done: the
/// checker cannot know whether an optional input was given.
pub(super) fn need_inputs(document: &Document, uses: &str, step: &mut Step) {
    for input in document.inputs.iter().filter(|input| input.required && input.default.is_none()) {
        let name = &input.name.value;
        let Some(Value::String(text)) = step.with.get(name).map(|template| &template.0) else { continue };
        let whole = text.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        let Some(given) = whole.filter(|given| !given.contains("{{") && !given.contains("}}")) else {
            continue;
        };
        step.preconditions.push(Check {
            check: Expression(format!("({}) is not none", given.trim())),
            message: Some(Template(
                format!("`{uses}` needs the input `{name}`, and nothing was given").into(),
            )),
        });
    }
}

/// Whether nothing is to be filled in.
pub(super) fn is_literal(value: &Value) -> bool {
    match value {
        Value::String(text) => !has_expression(text),
        Value::Array(items) => items.iter().all(is_literal),
        Value::Object(fields) => fields.values().all(is_literal),
        _ => true,
    }
}

/// Keys that have no meaning on a runbook used as a step.
pub(super) fn refuse_on_runbook(decl: &StepDecl, found: &mut Vec<Diagnostic>) {
    let span = |written: bool| written.then_some(decl.uses.span);
    let undo = decl.undo.as_ref().map(|undo| match undo {
        UndoDecl::None(span) => *span,
        UndoDecl::Uses { uses, .. } => uses.span,
    });
    let keys = [
        ("for_each", decl.for_each.as_ref().map(|each| each.as_name.span)),
        ("retry", span(decl.retry.is_some())),
        ("timeout", decl.timeout.map(|d| d.span)),
        ("idempotency_key", decl.idempotency_key.as_ref().map(|key| key.span)),
        ("probe", decl.probe.as_ref().map(|probe| probe.uses.span)),
        ("undo", undo),
        ("continue_on_error", span(decl.continue_on_error)),
    ];
    for (key, place) in keys {
        if let Some(place) = place {
            let message = format!("`{key}` has no meaning on a runbook used as a step");
            let help = format!("write `{key}` on the steps inside `{}`", decl.uses.value);
            found.push(Diagnostic::error("not-on-a-runbook", place, message).help(help));
        }
    }
}

fn prose(text: Option<&Spanned<String>>) -> Option<String> {
    text.map(|text| text.value.clone())
}

fn text(text: &Spanned<String>) -> Template {
    Template(text.value.as_str().into())
}

fn expression(text: &Spanned<String>) -> Expression {
    Expression(text.value.trim().to_owned())
}

fn with(tree: Option<&Tree>) -> BTreeMap<String, Template> {
    match tree.map(|tree| &tree.kind) {
        Some(TreeKind::Map(entries)) => {
            entries.iter().map(|(name, tree)| (name.value.clone(), Template(tree.to_value()))).collect()
        }
        _ => BTreeMap::new(),
    }
}

fn checks(list: &[CheckDecl]) -> Vec<Check> {
    list.iter()
        .map(|check| Check { check: expression(&check.check), message: check.message.as_ref().map(text) })
        .collect()
}

fn retry(decl: Option<&RetryDecl>) -> Retry {
    let standard = Retry::default();
    let Some(decl) = decl else { return standard };
    let initial_interval = decl.initial_interval.unwrap_or(standard.initial_interval);
    Retry {
        max_attempts: decl.max_attempts.unwrap_or(standard.max_attempts),
        initial_interval,
        multiplier: decl.multiplier.unwrap_or(standard.multiplier),
        max_interval: decl.max_interval.unwrap_or(standard.max_interval.max(initial_interval)),
        jitter: decl.jitter.unwrap_or(standard.jitter),
        on_exhausted: decl.on_exhausted.unwrap_or(standard.on_exhausted),
    }
}

fn probe(decl: &ProbeDecl) -> Probe {
    Probe {
        action: decl.uses.value.clone(),
        with: with(decl.with.as_ref()),
        happened: expression(&decl.happened),
    }
}

/// Who may answer is the environment's word where the step says nothing; four eyes are always the
/// environment's.
fn approval(decl: &ApprovalDecl, environment: Option<&Environment>) -> Approval {
    let written: Vec<String> = decl.approvers.iter().map(|name| name.value.clone()).collect();
    let policy = environment.map(|environment| &environment.approvers);
    Approval {
        prompt: text(&decl.prompt),
        min_approvals: decl.min_approvals,
        timeout: decl.timeout.unwrap_or(APPROVAL_TIMEOUT_DEFAULT),
        approvers: if written.is_empty() {
            policy.map(|p| p.names.clone()).unwrap_or_default()
        } else {
            written
        },
        four_eyes: policy.is_some_and(|p| p.four_eyes),
    }
}

fn undo(decl: Option<&UndoDecl>) -> Undo {
    match decl {
        None => Undo::Auto,
        Some(UndoDecl::None(_)) => Undo::None,
        Some(UndoDecl::Uses { uses, with: params }) => {
            Undo::Uses { action: uses.value.clone(), with: with(params.as_ref()) }
        }
    }
}
