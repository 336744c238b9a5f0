//! Ancestors and dominance on a workflow: what has certainly happened when a step runs.
//!
//! Steps are AND-joins: a step starts when everything it needs is done or skipped, and a failed step stops
//! what depends on it. So an ancestor was done before the step starts, unless it may have been skipped,
//! its failure may have been ignored, or it had no items to work on. A dominates S when
//!
//! - A is an ancestor of S by `needs`, within and across runbooks used as steps, and
//! - each condition that A depends on (its own `if` and those of the begins it is inside of) is one that S
//!   depends on too, textually and in the same scope, inputs of used runbooks traced to what they are given: outputs, inputs and variables do not change during
//!   a run, so the same condition gives the same answer, and
//! - A is not `continue_on_error`, and
//! - A has no `for_each`, or one over a written list that is not empty.
//!
//! A step that waits for a failed one is blocked, and blocks in turn: `continue_on_error` ignores the
//! failure of the step that has it, never that of an earlier one.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::template::expression_references;
use crate::workflow::{Step, StepPath, Workflow};

/// A condition and the scope it is read in.
type Gate = (String, String);

/// Runbooks inside of runbooks that a condition is followed out of.
const HOPS_MAX: usize = 32;

/// A workflow with its paths looked up. Cheap to make; answers are walks over the edges.
pub struct Graph<'w> {
    workflow: &'w Workflow,
    index: HashMap<&'w str, usize>,
}

impl<'w> Graph<'w> {
    /// Looks up all paths once.
    pub fn new(workflow: &'w Workflow) -> Self {
        let index = workflow.steps.iter().enumerate().map(|(at, step)| (step.path.as_str(), at)).collect();
        Self { workflow, index }
    }

    /// The step at a path, without a walk over all steps.
    pub fn step(&self, path: &str) -> Option<&'w Step> {
        self.index.get(path).map(|&at| &self.workflow.steps[at])
    }

    /// Every step that is over when this one starts, in the order of the workflow.
    pub fn ancestors(&self, path: &StepPath) -> Vec<&'w Step> {
        let mut seen = vec![false; self.workflow.steps.len()];
        let mut open: Vec<usize> = self.index.get(path.as_str()).copied().into_iter().collect();
        while let Some(at) = open.pop() {
            for need in &self.workflow.steps[at].needs {
                if let Some(&need) = self.index.get(need.as_str())
                    && !std::mem::replace(&mut seen[need], true)
                {
                    open.push(need);
                }
            }
        }
        self.workflow.steps.iter().zip(seen).filter(|(_, seen)| *seen).map(|(step, _)| step).collect()
    }

    /// Whether `ancestor` is over when `step` starts.
    pub fn is_ancestor(&self, ancestor: &StepPath, step: &StepPath) -> bool {
        self.ancestors(step).iter().any(|found| found.path == *ancestor)
    }

    /// Every step that was done in each execution in which this one runs.
    pub fn dominators(&self, path: &StepPath) -> Vec<&'w Step> {
        let Some(step) = self.step(path.as_str()) else { return Vec::new() };
        let gates = self.gates(step);
        let mut found = self.ancestors(path);
        found.retain(|ancestor| {
            !ancestor.continue_on_error && !may_be_empty(ancestor) && self.gates(ancestor).is_subset(&gates)
        });
        found
    }

    /// Whether `dominator` was done in each execution in which `step` runs.
    pub fn dominates(&self, dominator: &StepPath, step: &StepPath) -> bool {
        self.dominators(step).iter().any(|found| found.path == *dominator)
    }

    /// Whether `step` is not skipped when `other` is not: its conditions are conditions of `other` too.
    pub fn runs_whenever(&self, step: &Step, other: &Step) -> bool {
        self.gates(step).is_subset(&self.gates(other))
    }

    /// The conditions that decide whether a step is skipped: its own, and those of the begins around it.
    fn gates(&self, step: &'w Step) -> BTreeSet<Gate> {
        let mut gates = BTreeSet::new();
        let mut at = Some(step);
        while let Some(step) = at {
            gates.extend(step.condition.as_ref().map(|condition| self.outermost(step, &condition.0)));
            at = step.begin().and_then(|begin| self.step(begin.as_str()));
        }
        gates
    }

    /// A condition in the outermost scope where it can be written: `inputs.x` inside of a runbook that is given
    /// `x: "{{ inputs.y }}"` asks the same as `inputs.y` around it, so conditions of two used runbooks can be one.
    fn outermost(&self, step: &Step, condition: &str) -> Gate {
        let mut gate = (step.scope.clone(), condition.trim().to_owned());
        for _ in 0..HOPS_MAX {
            let Some(begin) = self.step(&format!("{}(begin)", gate.0)) else { break };
            let Some(text) = outside(&gate.1, begin) else { break };
            gate = (begin.scope.clone(), text);
        }
        gate
    }
}

/// The condition as whoever uses the runbook would write it; nothing when it depends on what is inside.
fn outside(condition: &str, begin: &Step) -> Option<String> {
    let is_inside = |root: &str| !matches!(root, "inputs" | "vars" | "env" | "run" | "connections");
    if expression_references(condition).iter().any(|reference| is_inside(&reference.path[0])) {
        return None;
    }
    let mut written = String::new();
    let mut rest = condition;
    let mut quote = None;
    while let Some(c) = rest.chars().next() {
        let follows_word =
            written.ends_with(|before: char| before.is_alphanumeric() || "_.".contains(before));
        let name = rest.strip_prefix("inputs.").filter(|_| quote.is_none() && !follows_word);
        if let Some(name) = name {
            let length = name.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(name.len());
            let given = given(&begin.with.get(&name[..length])?.0)?;
            rest = &name[length..];
            let is_all = written.is_empty() && rest.is_empty();
            written.push_str(&if is_all { given } else { format!("({given})") });
            continue;
        }
        match quote {
            Some(open) if open == c => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            _ => {}
        }
        written.push(c);
        rest = &rest[c.len_utf8()..];
    }
    Some(written)
}

/// What an input is given, as an expression.
fn given(value: &Value) -> Option<String> {
    let Value::String(text) = value else {
        return (!value.is_array() && !value.is_object()).then(|| match value {
            Value::Null => "none".to_owned(),
            other => other.to_string(),
        });
    };
    if !text.contains("{{") && !text.contains("{%") {
        return Some(value.to_string());
    }
    let inside = text.trim().strip_prefix("{{")?.strip_suffix("}}")?;
    (!inside.contains("{{") && !inside.contains("}}")).then(|| inside.trim().to_owned())
}

fn may_be_empty(step: &Step) -> bool {
    match step.for_each.as_ref().map(|each| &each.items.0) {
        None => false,
        Some(Value::Array(items)) => items.is_empty(),
        Some(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing;
    use crate::workflow::{Expression, Work};

    /// A random step: which earlier ones it needs (bits), which condition it has, whether its failure is
    /// ignored, whether it stands inside the one group.
    type Shape = (u8, u8, bool, bool);

    /// Two conditions, one group with a condition of its own.
    const CONDITIONS: [&str; 3] = ["c0", "c1", "group"];

    fn workflow(shapes: &[Shape], group_has_condition: bool) -> Workflow {
        let inside: Vec<bool> = shapes.iter().map(|shape| shape.3).collect();
        let path = |at: usize| StepPath::new(if inside[at] { format!("g/s{at}") } else { format!("s{at}") });
        let mut begin = testing::step("g/(begin)", "");
        begin.work = Work::Begin;
        begin.condition = group_has_condition.then(|| Expression("group".into()));
        let mut steps = vec![begin];
        for (at, &(needs, condition, ignored, inner)) in shapes.iter().enumerate() {
            let mut step = testing::step(path(at).as_str(), if inner { "g/" } else { "" });
            step.continue_on_error = ignored;
            step.condition = CONDITIONS[..2].get(usize::from(condition)).map(|c| Expression((*c).into()));
            step.needs = (0..at).filter(|n| needs >> n & 1 == 1).map(path).collect();
            if inner {
                step.needs.push(StepPath::new("g/(begin)"));
            }
            steps.push(step);
        }
        testing::workflow(steps)
    }

    #[derive(Clone, Copy, PartialEq)]
    enum End {
        Done,
        Skipped,
        Failed,
        Blocked,
    }

    /// Runs it with given answers to conditions and given failures, by the rules in words: needs first, a
    /// skipped one satisfies, a failed or blocked one blocks.
    fn execute(workflow: &Workflow, answers: u32, failures: u32) -> Vec<End> {
        let mut ends: Vec<End> = Vec::new();
        for (at, step) in workflow.steps.iter().enumerate() {
            let of = |path: &StepPath| workflow.steps.iter().position(|s| s.path == *path).unwrap();
            let is_blocked = step.needs.iter().any(|need| match ends[of(need)] {
                End::Blocked => true,
                End::Failed => !workflow.steps[of(need)].continue_on_error,
                End::Done | End::Skipped => false,
            });
            // The scope is part of a condition: the same text inside the group is another question.
            let answer = |c: &Expression| {
                let bit = CONDITIONS.iter().position(|name| *name == c.0).unwrap();
                answers >> (bit + if step.scope.is_empty() { 0 } else { 3 }) & 1 == 1
            };
            let is_shut_out = step.begin().is_some_and(|begin| ends[of(&begin)] != End::Done);
            ends.push(if is_blocked {
                End::Blocked
            } else if is_shut_out || step.condition.as_ref().is_some_and(|c| !answer(c)) {
                End::Skipped
            } else if failures >> at & 1 == 1 {
                End::Failed
            } else {
                End::Done
            });
        }
        ends
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn dominance_is_what_every_execution_shows(
            shapes in prop::collection::vec((any::<u8>(), 0u8..5, prop::bool::weighted(0.2), any::<bool>()), 1..5),
            group_has_condition: bool,
        ) {
            let workflow = workflow(&shapes, group_has_condition);
            let graph = Graph::new(&workflow);
            let count = workflow.steps.len();
            let mut always = vec![vec![true; count]; count];
            for answers in 0..32u32 {
                for failures in 0..1u32 << count {
                    let ends = execute(&workflow, answers, failures);
                    for (step, dominators) in always.iter_mut().enumerate() {
                        if matches!(ends[step], End::Done | End::Failed) {
                            for (at, held) in dominators.iter_mut().enumerate() {
                                *held &= ends[at] == End::Done;
                            }
                        }
                    }
                }
            }
            for (s, step) in workflow.steps.iter().enumerate() {
                for (a, other) in workflow.steps.iter().enumerate().filter(|(a, _)| *a != s) {
                    prop_assert_eq!(
                        graph.dominates(&other.path, &step.path), always[s][a],
                        "{} over {}", other.path, step.path
                    );
                }
            }
        }
    }

    #[test]
    fn a_condition_is_followed_to_what_its_inputs_are_given() {
        let mut begin = testing::step("a/(begin)", "");
        begin.with = [
            ("asked", serde_json::json!("{{ inputs.read_only }}")),
            ("sure", serde_json::json!(true)),
            ("word", serde_json::json!("it's")),
            ("mixed", serde_json::json!("x-{{ inputs.read_only }}")),
        ]
        .map(|(name, value)| (name.to_owned(), crate::workflow::Template(value)))
        .into();
        for (inside, around) in [
            ("inputs.asked", Some("inputs.read_only")),
            ("not inputs.asked and inputs.sure", Some("not (inputs.read_only) and (true)")),
            ("inputs.word == 'inputs.asked'", Some("(\"it's\") == 'inputs.asked'")),
            ("env.kind == 'local'", Some("env.kind == 'local'")),
            ("inputs.mixed == 'x'", None),
            ("steps.x.failed == 0", None),
            ("inputs.unknown", None),
        ] {
            assert_eq!(outside(inside, &begin).as_deref(), around, "{inside}");
        }
    }

    #[test]
    fn a_loop_over_nothing_dominates_nothing() {
        let mut asks = testing::step("ask", "");
        let mut then = testing::step("then", "");
        then.needs = vec![asks.path.clone()];
        for (items, expected) in [
            (serde_json::json!("{{ inputs.l }}"), false),
            (serde_json::json!([]), false),
            (serde_json::json!([1]), true),
        ] {
            asks.for_each = Some(testing::each(items.clone()));
            let workflow = testing::workflow(vec![asks.clone(), then.clone()]);
            assert_eq!(Graph::new(&workflow).dominates(&asks.path, &then.path), expected, "{items}");
        }
    }
}
