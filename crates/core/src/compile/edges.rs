//! Who needs whom. A step needs the step written above it; `needs` replaces that; a reference always adds
//! its step. Edges stay within a phase: a later phase starts when the earlier one is over anyway.

use std::collections::{HashMap, HashSet};

use super::expand::{Plan, Slot, lists};
use super::texts;
use crate::diagnostic::Diagnostic;
use crate::document::{Document, StepDecl};
use crate::suggest;
use crate::workflow::{Phase, Work};

/// Fills in `needs` of every node.
pub(super) fn connect(plan: &mut Plan<'_>, found: &mut Vec<Diagnostic>) {
    for instance in 0..plan.instances.len() {
        for (list, steps) in lists(plan.instances[instance].document) {
            written(plan, instance, list, steps, found);
        }
    }
    for node in 0..plan.nodes.len() {
        implied(plan, node);
    }
    for instance in 0..plan.instances.len() {
        enclose(plan, instance);
    }
    for index in 0..plan.nodes.len() {
        let mut needs = std::mem::take(&mut plan.nodes[index].needs);
        needs.sort_unstable();
        needs.dedup();
        plan.nodes[index].step.needs = needs.iter().map(|&n| plan.nodes[n].step.path.clone()).collect();
        plan.nodes[index].needs = needs;
    }
}

fn written(
    plan: &mut Plan<'_>,
    instance: usize,
    list: Phase,
    steps: &[StepDecl],
    found: &mut Vec<Diagnostic>,
) {
    let mut above: Option<Slot> = None;
    for decl in steps {
        let Some(&slot) = plan.instances[instance].slots.get(decl.id.value.as_str()) else { continue };
        match &decl.needs {
            None => plan.nodes[slot.first].needs.extend(above.map(|above| above.last)),
            Some(names) => {
                for name in names {
                    match lookup(plan, instance, list, decl, name, found) {
                        Some(needed) => plan.nodes[slot.first].needs.push(needed.last),
                        None => continue,
                    }
                }
            }
        }
        above = Some(slot);
    }
}

fn lookup(
    plan: &Plan<'_>,
    instance: usize,
    list: Phase,
    decl: &StepDecl,
    name: &crate::diagnostic::Spanned<String>,
    found: &mut Vec<Diagnostic>,
) -> Option<Slot> {
    let slots = &plan.instances[instance].slots;
    let Some(&slot) = slots.get(name.value.as_str()) else {
        // A step whose runbook could not be read has no slot; that was reported.
        if !is_declared(plan.instances[instance].document, &name.value) {
            let message = format!("step `{}` needs `{}`, and no step has that id", decl.id.value, name.value);
            let mut mistake = Diagnostic::error("unknown-step", name.span, message);
            mistake.help = suggest::did_you_mean(&name.value, ids(slots, Some(list)));
            found.push(mistake);
        }
        return None;
    };
    if slot.list != list {
        let message = format!(
            "step `{}` of `{}` cannot need `{}` of `{}`",
            decl.id.value,
            list_name(list),
            name.value,
            list_name(slot.list)
        );
        let help = "remove it: each list starts when the one before it is over";
        found.push(Diagnostic::error("need-across-lists", name.span, message).help(help));
        return None;
    }
    Some(slot)
}

/// Ids that can be meant, sorted.
pub(super) fn ids<'d>(slots: &HashMap<&'d str, Slot>, list: Option<Phase>) -> Vec<&'d str> {
    let mut ids: Vec<&str> = slots
        .iter()
        .filter(|(_, slot)| list.is_none_or(|list| slot.list == list))
        .map(|(id, _)| *id)
        .collect();
    ids.sort_unstable();
    ids
}

pub(super) fn is_declared(document: &Document, id: &str) -> bool {
    lists(document).into_iter().any(|(_, steps)| steps.iter().any(|step| step.id.value == id))
}

pub(super) fn list_name(list: Phase) -> &'static str {
    match list {
        Phase::Main => "steps",
        Phase::OnFailure => "on_failure",
        Phase::Finally => "finally",
    }
}

/// Adds what the node's templates refer to; what they refer to wrongly is reported with the names.
fn implied(plan: &mut Plan<'_>, index: usize) {
    let node = &plan.nodes[index];
    let mut needs = Vec::new();
    let written = texts::of_step(node.decl, &node.step.work);
    add_references(plan, index, node.instance, &written, &mut needs);
    if let (Work::End { .. }, Some(inner)) = (&node.step.work, node.inner) {
        add_references(plan, index, inner, &texts::of_outputs(plan.instances[inner].document), &mut needs);
    }
    plan.nodes[index].needs.extend(needs);
}

fn add_references(
    plan: &Plan<'_>,
    index: usize,
    instance: usize,
    list: &[texts::Text<'_>],
    needs: &mut Vec<usize>,
) {
    // A step that reads its own output is reported with the names; as a cycle it would read oddly.
    let node = &plan.nodes[index];
    let own = (node.instance == instance).then_some(node.decl.id.value.as_str());
    for text in list {
        for reference in text.references() {
            let [root, id, ..] = reference.path.as_slice() else { continue };
            if root != "steps" || own == Some(id.as_str()) {
                continue;
            }
            if let Some(slot) = plan.instances[instance].slots.get(id.as_str())
                && plan.nodes[slot.last].step.phase == plan.nodes[index].step.phase
            {
                needs.push(slot.last);
            }
        }
    }
}

/// What is inside starts after the begin and is over before the end.
fn enclose(plan: &mut Plan<'_>, instance: usize) {
    let (Some(begin), Some(end)) = (plan.instances[instance].begin, plan.instances[instance].end) else {
        return;
    };
    let mut slots: Vec<Slot> = plan.instances[instance].slots.values().copied().collect();
    slots.sort_unstable_by_key(|slot| slot.first);
    let phase = plan.nodes[begin].step.phase;
    for slot in &slots {
        let first = &mut plan.nodes[slot.first];
        if first.step.phase == phase && first.needs.is_empty() {
            first.needs.push(begin);
        }
    }
    let main: Vec<Slot> = slots.into_iter().filter(|slot| slot.list == Phase::Main).collect();
    let needed: HashSet<usize> =
        main.iter().flat_map(|slot| plan.nodes[slot.first].needs.iter().copied()).collect();
    let open: Vec<usize> = main.iter().map(|slot| slot.last).filter(|last| !needed.contains(last)).collect();
    plan.nodes[end].needs.extend(if open.is_empty() { vec![begin] } else { open });
}
