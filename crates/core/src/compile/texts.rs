//! Every template and expression of a written step, with its place and what it may see. Edges and
//! reference checks both read this list, so that neither can forget one.

use crate::diagnostic::{SourceId, Sources, Span, Spanned};
use crate::document::{CheckDecl, Document, StepDecl, Tree, TreeKind, UndoDecl};
use crate::template::{Reference, expression_references, references};
use crate::workflow::Work;

/// Where in a step a text stands; decides what it sees and where its value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// `with`
    With,
    /// `if`, and `check` of preconditions.
    Condition,
    /// `check` of postconditions.
    After,
    /// Shown to people: prompts and messages before the effect.
    Prose,
    /// `message` of postconditions.
    ProseAfter,
    /// `for_each.items`
    Items,
    /// `for_each.key` and `idempotency_key`: written to the journal in the clear.
    Key,
    /// `probe.with`
    ProbeWith,
    /// `probe.happened`
    Happened,
    /// `undo.with`
    UndoWith,
    /// `outputs` of a runbook.
    Outputs,
}

impl Use {
    /// Whether `steps.ID` may be the step itself.
    pub(super) fn sees_own(self) -> bool {
        matches!(self, Self::After | Self::ProseAfter | Self::UndoWith)
    }

    /// Whether the item of a `for_each` is there: not before the items are known.
    pub(super) fn sees_item(self) -> bool {
        !matches!(self, Self::Condition | Self::Prose | Self::Items | Self::Outputs)
    }

    /// Whether the value may hold a secret, as a reference.
    pub(super) fn takes_secrets(self) -> bool {
        matches!(self, Self::With | Self::ProbeWith | Self::UndoWith | Self::Outputs | Self::Items)
    }
}

/// One text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text<'d> {
    pub(super) text: &'d str,
    pub(super) span: Span,
    pub(super) at: Use,
    /// A bare expression, without braces.
    pub(super) is_bare: bool,
}

impl Text<'_> {
    pub(super) fn references(&self) -> Vec<Reference> {
        if self.is_bare { expression_references(self.text) } else { references(self.text) }
    }
}

/// The texts of a step that are evaluated by the node doing `work`, in the scope the step was written in.
pub(super) fn of_step<'d>(decl: &'d StepDecl, work: &Work) -> Vec<Text<'d>> {
    let mut list = Vec::new();
    if !matches!(work, Work::End { .. }) {
        before(decl, &mut list);
    }
    if *work != Work::Begin {
        checks(&decl.postconditions, Use::After, Use::ProseAfter, &mut list);
    }
    if matches!(work, Work::Action { .. }) {
        around(decl, &mut list);
    }
    list
}

/// The texts of a runbook's `outputs`, in its own scope.
pub(super) fn of_outputs(document: &Document) -> Vec<Text<'_>> {
    let mut list = Vec::new();
    for (_, tree) in &document.outputs {
        leaves(tree, Use::Outputs, &mut list);
    }
    list
}

fn before<'d>(decl: &'d StepDecl, list: &mut Vec<Text<'d>>) {
    if let Some(tree) = &decl.with {
        leaves(tree, Use::With, list);
    }
    if let Some(condition) = &decl.condition {
        bare(condition, Use::Condition, list);
    }
    checks(&decl.preconditions, Use::Condition, Use::Prose, list);
    if let Some(approval) = &decl.approval {
        text(&approval.prompt, Use::Prose, list);
    }
}

fn around<'d>(decl: &'d StepDecl, list: &mut Vec<Text<'d>>) {
    if let Some(each) = &decl.for_each {
        leaves(&each.items, Use::Items, list);
        text(&each.key, Use::Key, list);
    }
    if let Some(key) = &decl.idempotency_key {
        text(key, Use::Key, list);
    }
    if let Some(probe) = &decl.probe {
        if let Some(tree) = &probe.with {
            leaves(tree, Use::ProbeWith, list);
        }
        bare(&probe.happened, Use::Happened, list);
    }
    if let Some(UndoDecl::Uses { with: Some(tree), .. }) = &decl.undo {
        leaves(tree, Use::UndoWith, list);
    }
}

fn checks<'d>(checks: &'d [CheckDecl], at: Use, prose: Use, list: &mut Vec<Text<'d>>) {
    for check in checks {
        bare(&check.check, at, list);
        if let Some(message) = &check.message {
            text(message, prose, list);
        }
    }
}

fn bare<'d>(value: &'d Spanned<String>, at: Use, list: &mut Vec<Text<'d>>) {
    list.push(Text { text: &value.value, span: value.span, at, is_bare: true });
}

fn text<'d>(value: &'d Spanned<String>, at: Use, list: &mut Vec<Text<'d>>) {
    list.push(Text { text: &value.value, span: value.span, at, is_bare: false });
}

fn leaves<'d>(tree: &'d Tree, at: Use, list: &mut Vec<Text<'d>>) {
    match &tree.kind {
        TreeKind::String(text) => list.push(Text { text, span: tree.span, at, is_bare: false }),
        TreeKind::List(items) => items.iter().for_each(|item| leaves(item, at, list)),
        TreeKind::Map(entries) => entries.iter().for_each(|(_, value)| leaves(value, at, list)),
        TreeKind::Null | TreeKind::Bool(_) | TreeKind::Number(_) => {}
    }
}

/// The place in the file of a part of a text: exact where the text stands in the file as it is, else where
/// that part is found, else the whole value (a quoted text with escapes, a folded one).
pub(super) fn locate(sources: &Sources, span: Span, text: &str, part: std::ops::Range<usize>) -> Span {
    let found = || {
        let written = source_part(sources, span.source, span.start..span.end)?;
        if let Some(at) = written.find(text) {
            let start = span.start + at + part.start;
            return Some(Span { start, end: span.start + at + part.end, ..span });
        }
        let snippet = text.get(part.clone()).filter(|snippet| !snippet.is_empty())?;
        let at = written.find(snippet)?;
        Some(Span { start: span.start + at, end: span.start + at + snippet.len(), ..span })
    };
    found().unwrap_or(span)
}

fn source_part(sources: &Sources, id: SourceId, range: std::ops::Range<usize>) -> Option<&str> {
    sources.get(id).text.get(range)
}
