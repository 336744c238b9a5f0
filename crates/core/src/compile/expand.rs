//! Puts used runbooks in their place: a flat list of nodes in written order, with `Work::Begin` and
//! `Work::End` around the steps of a runbook used as a step. Knows no edges yet.
//!
//! `on_failure` and `finally` of a used runbook belong to those phases of the whole run; they are skipped
//! when that runbook was never entered ([`Step::begin`]).

use std::collections::HashMap;

use super::load::{Library, is_file};
use super::step;
use crate::diagnostic::Diagnostic;
use crate::document::{Document, StepDecl};
use crate::environment::Environment;
use crate::workflow::{Phase, Step, StepPath, Work};

/// Steps of one workflow, all runbooks together. A runbook that uses another twice at each of twelve levels
/// would have millions.
pub const STEPS_MAX: usize = 10_000;

/// Everything in one place, before edges.
pub(super) struct Plan<'d> {
    /// In written order; a begin stands before what is inside, its end after.
    pub(super) nodes: Vec<Node<'d>>,
    /// Each use of a runbook; the root is the first.
    pub(super) instances: Vec<Instance<'d>>,
}

/// One step of the workflow to be, and what it was made of.
pub(super) struct Node<'d> {
    pub(super) step: Step,
    pub(super) decl: &'d StepDecl,
    /// Whose names its templates see.
    pub(super) instance: usize,
    /// For begin and end: the use that they enclose.
    pub(super) inner: Option<usize>,
    /// Indices of nodes that must be done or skipped first.
    pub(super) needs: Vec<usize>,
}

/// One use of a runbook.
pub(super) struct Instance<'d> {
    pub(super) document: &'d Document,
    /// Prefix of its steps: empty, or `triage/`.
    pub(super) prefix: String,
    pub(super) begin: Option<usize>,
    pub(super) end: Option<usize>,
    /// By id: where its step is.
    pub(super) slots: HashMap<&'d str, Slot>,
}

/// A step as its siblings see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The node that does the work first: the step itself, or its begin.
    pub(super) first: usize,
    /// The node whose outputs are the step's.
    pub(super) last: usize,
    /// Which of the three lists it was written in.
    pub(super) list: Phase,
}

/// The written lists of a document with the phase that each has in the root.
pub(super) fn lists(document: &Document) -> [(Phase, &[StepDecl]); 3] {
    [
        (Phase::Main, &document.steps),
        (Phase::OnFailure, &document.on_failure),
        (Phase::Finally, &document.finally),
    ]
}

/// Flattens the root; `None` when it became too large, which is reported.
pub(super) fn expand<'d>(
    library: &'d Library,
    root: &'d Document,
    environment: Option<&Environment>,
    found: &mut Vec<Diagnostic>,
) -> Option<Plan<'d>> {
    let plan = Plan { nodes: Vec::new(), instances: Vec::new() };
    let mut expander = Expander { library, environment, plan, depth: 0, is_full: false, found };
    expander.enter(root, String::new(), None, Phase::Main);
    (!expander.is_full).then_some(expander.plan)
}

struct Expander<'d, 'a> {
    library: &'d Library,
    environment: Option<&'a Environment>,
    plan: Plan<'d>,
    /// How many uses are open: a recursion, which was reported, must end here.
    depth: usize,
    is_full: bool,
    found: &'a mut Vec<Diagnostic>,
}

impl<'d> Expander<'d, '_> {
    fn enter(&mut self, document: &'d Document, prefix: String, begin: Option<usize>, phase: Phase) -> usize {
        let instance = self.plan.instances.len();
        self.plan.instances.push(Instance { document, prefix, begin, end: None, slots: HashMap::new() });
        for (list, steps) in lists(document) {
            for decl in steps {
                let slot = self.place(decl, instance, if list == Phase::Main { phase } else { list }, list);
                if let Some(slot) = slot {
                    self.plan.instances[instance].slots.insert(&decl.id.value, slot);
                }
            }
        }
        instance
    }

    fn place(&mut self, decl: &'d StepDecl, instance: usize, phase: Phase, list: Phase) -> Option<Slot> {
        if self.plan.nodes.len() >= STEPS_MAX {
            if !std::mem::replace(&mut self.is_full, true) {
                let message =
                    format!("the runbook has more than {STEPS_MAX} steps, those of used runbooks included");
                let help = "use `for_each`, or split it into runbooks that are run on their own";
                self.found.push(Diagnostic::error("too-many-steps", decl.span, message).help(help));
            }
            return None;
        }
        if !is_file(&decl.uses.value) {
            let node = self.push(decl, instance, Work::Action { name: decl.uses.value.clone() }, phase);
            return Some(Slot { first: node, last: node, list });
        }
        step::refuse_on_runbook(decl, self.found);
        let document = self.library.used_by(decl)?;
        if self.depth >= super::DEPTH_MAX {
            return None;
        }
        let first = self.push(decl, instance, Work::Begin, phase);
        step::fill_inputs(document, &mut self.plan.nodes[first].step.with);
        step::need_inputs(document, &decl.uses.value, &mut self.plan.nodes[first].step);
        let prefix = format!("{}{}/", self.plan.instances[instance].prefix, decl.id.value);
        self.depth += 1;
        let inner = self.enter(document, prefix, Some(first), phase);
        self.depth -= 1;
        let last = self.push(decl, instance, Work::End { outputs: step::outputs(document) }, phase);
        for node in [first, last] {
            self.plan.nodes[node].inner = Some(inner);
        }
        self.plan.instances[inner].end = Some(last);
        Some(Slot { first, last, list })
    }

    fn push(&mut self, decl: &'d StepDecl, instance: usize, work: Work, phase: Phase) -> usize {
        let prefix = &self.plan.instances[instance].prefix;
        let begin = if work == Work::Begin { "/(begin)" } else { "" };
        let path = StepPath::new(format!("{prefix}{}{begin}", decl.id.value));
        let step = step::build(decl, path, prefix, work, phase, self.environment);
        self.plan.nodes.push(Node { step, decl, instance, inner: None, needs: Vec::new() });
        self.plan.nodes.len() - 1
    }
}
