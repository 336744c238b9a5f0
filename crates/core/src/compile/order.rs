//! A deterministic order that respects the needs: phase by phase, and in written order among the steps
//! that are ready. Finds cycles and shows each as a chain.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::expand::{Node, Plan};
use crate::diagnostic::Diagnostic;
use crate::workflow::{Phase, Step, Work};

/// Indices of nodes in order, or the cycle as a diagnostic and `None`.
pub(super) fn order(plan: &Plan<'_>, found: &mut Vec<Diagnostic>) -> Option<Vec<usize>> {
    let count = plan.nodes.len();
    let mut open: Vec<usize> = plan.nodes.iter().map(|node| node.needs.len()).collect();
    let mut wanted_by: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (index, node) in plan.nodes.iter().enumerate() {
        for &need in &node.needs {
            wanted_by[need].push(index);
        }
    }
    let rank = |index: usize| Reverse((phase_rank(plan.nodes[index].step.phase), index));
    let mut ready: BinaryHeap<_> = (0..count).filter(|&index| open[index] == 0).map(rank).collect();
    let mut order = Vec::with_capacity(count);
    while let Some(Reverse((_, index))) = ready.pop() {
        order.push(index);
        for &next in &wanted_by[index] {
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(rank(next));
            }
        }
    }
    if order.len() == count {
        return Some(order);
    }
    found.push(cycle(plan, &open));
    None
}

/// The steps in that order.
pub(super) fn into_steps(plan: Plan<'_>, order: &[usize]) -> Vec<Step> {
    let mut by_index: HashMap<usize, Node<'_>> = plan.nodes.into_iter().enumerate().collect();
    order.iter().filter_map(|index| by_index.remove(index)).map(|node| node.step).collect()
}

fn phase_rank(phase: Phase) -> u8 {
    match phase {
        Phase::Main => 0,
        Phase::OnFailure => 1,
        Phase::Finally => 2,
    }
}

/// Walks from a step that never became ready to one that it waits for, until one comes again.
fn cycle(plan: &Plan<'_>, open: &[usize]) -> Diagnostic {
    let waiting = |index: &&usize| open[**index] > 0;
    let mut at = open.iter().position(|&count| count > 0).unwrap_or(0);
    let mut walk: Vec<usize> = Vec::new();
    let start = loop {
        if let Some(start) = walk.iter().position(|&seen| seen == at) {
            break start;
        }
        walk.push(at);
        // A step that never became ready waits for another such step.
        at = plan.nodes[at].needs.iter().find(waiting).copied().unwrap_or(at);
    };
    let chain = &walk[start..];
    let mut names: Vec<&str> = chain.iter().map(|&index| name(&plan.nodes[index])).collect();
    // Begin and end of a used runbook are one step to the author.
    names.dedup();
    if names.len() == 1 || names.first() != names.last() {
        names.push(names[0]);
    }
    let first = &plan.nodes[chain[0]];
    let message = format!("steps wait for each other: {}", names.join(" → "));
    let mut mistake = Diagnostic::error("cycle", first.decl.id.span, message).help(
        "`a → b` means that a needs b, by `needs`, by a reference, or by standing below it; remove one",
    );
    for &index in chain.iter().skip(1) {
        let node = &plan.nodes[index];
        mistake = mistake.related(node.decl.id.span, format!("`{}` is here", name(node)));
    }
    mistake
}

/// A begin is shown as the step that the author wrote.
fn name<'p>(node: &'p Node<'_>) -> &'p str {
    let path = node.step.path.as_str();
    if node.step.work == Work::Begin { path.trim_end_matches("/(begin)") } else { path }
}
