//! What a runbook compiles to: one flat DAG of steps with nothing left to look up but run-time
//! values. The executor reads it and never the documents.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::diagnostic::Span;
use crate::document::Kind;

/// Where a step stands in the flat DAG: `restore`, or `triage/freeze` for a step of a runbook used
/// as a step. Item instances add the key: `copy[eu]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepPath(String);

impl StepPath {
    /// Wraps a path that the compiler made.
    pub fn new(path: impl Into<String>) -> Self {
        Self(path.into())
    }
    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The instance of this step for one item of its `for_each`.
    #[must_use]
    pub fn item(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl std::fmt::Display for StepPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A compiled runbook, bound to an environment and to inputs.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// The runbook's name.
    pub name: String,
    /// Its title, or its name.
    pub title: String,
    /// What it is for.
    pub kind: Kind,
    /// RPO it is measured against.
    pub rpo: Option<Duration>,
    /// RTO it is measured against.
    pub rto: Option<Duration>,
    /// Stop starting steps after this long.
    pub deadline: Option<Duration>,
    /// Inputs of the root runbook, all resolved and typed.
    pub inputs: BTreeMap<String, Value>,
    /// All steps of all phases, in an order that respects `needs`.
    pub steps: Vec<Step>,
    /// Outputs of the root runbook: templates over its scope.
    pub outputs: BTreeMap<String, Template>,
    /// Lower-case hex sha256 over everything that decides what would be done: steps, inputs,
    /// environment (secret references, not values), waivers.
    pub digest: String,
}

impl Workflow {
    /// The step at a path (without an item key).
    pub fn step(&self, path: &StepPath) -> Option<&Step> {
        self.steps.iter().find(|s| &s.path == path)
    }
}

/// When a step may run at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The runbook's `steps`.
    Main,
    /// `on_failure`: after the main phase was given up as failed or cancelled.
    OnFailure,
    /// `finally`: last, whatever happened.
    Finally,
}

/// What a node of the DAG does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Calls an action from the registry.
    Action {
        /// Its name.
        name: String,
    },
    /// Enters a runbook used as a step: its path ends in `/(begin)`; evaluates `with` to that runbook's
    /// inputs, which become this node's outputs. Skipped: everything inside is skipped.
    Begin,
    /// Leaves it: its path is the step's own; evaluates that runbook's `outputs` to this node's outputs.
    End {
        /// Name to template, in the inner scope.
        outputs: BTreeMap<String, Template>,
    },
}

/// One node of the DAG.
#[derive(Debug, Clone)]
pub struct Step {
    /// Its place and name.
    pub path: StepPath,
    /// The prefix whose `steps` and `inputs` its templates see: empty for the root, `triage/` inside
    /// the runbook used as step `triage`.
    pub scope: String,
    /// What it does.
    pub work: Work,
    /// When it may run.
    pub phase: Phase,
    /// Title, or the id.
    pub title: String,
    /// Prose for people.
    pub why: Option<String>,
    /// What to tell a person when it failed.
    pub if_it_fails: Option<String>,
    /// Parameters: templates at the leaves.
    pub with: BTreeMap<String, Template>,
    /// Steps that must be done or skipped first; written and implied, same phase.
    pub needs: Vec<StepPath>,
    /// False: skipped.
    pub condition: Option<Expression>,
    /// False: the step is refused, before its approval and before its effect.
    pub preconditions: Vec<Check>,
    /// False after the effect: the step failed. Templates see the step's own outputs as `steps.ID`.
    pub postconditions: Vec<Check>,
    /// Runs once per item.
    pub for_each: Option<ForEach>,
    /// Per attempt.
    pub timeout: Option<Duration>,
    /// What to do after a failed attempt.
    pub retry: Retry,
    /// Author's key, reaching beyond one run.
    pub idempotency_key: Option<Template>,
    /// Author's probe.
    pub probe: Option<Probe>,
    /// Asked before the effect.
    pub approval: Option<Approval>,
    /// A failure does not stop what depends on it.
    pub continue_on_error: bool,
    /// What a rollback does.
    pub undo: Undo,
    /// After this a rollback is refused.
    pub point_of_no_return: bool,
    /// Author's tags.
    pub tags: Vec<String>,
    /// How long it is expected to take.
    pub expect_duration: Option<Duration>,
    /// Where it was written.
    pub span: Span,
}

/// A value whose string leaves may hold `{{ … }}`. Text that is one expression whole keeps its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub Value);

/// A bare expression.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// A pre- or postcondition.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// Must be a boolean.
    pub check: Expression,
    /// Said when false.
    pub message: Option<Template>,
}

/// One instance of the step per item.
#[derive(Debug, Clone, PartialEq)]
pub struct ForEach {
    /// Gives the list; evaluated once and journaled.
    pub items: Template,
    /// The item's name in templates.
    pub as_name: String,
    /// Gives each item's key: unique, text.
    pub key: Template,
    /// Instances in flight at once.
    pub max_parallel: u32,
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// Attempts since the last resume, the first included.
    pub max_attempts: u32,
    /// Wait before the second attempt.
    pub initial_interval: Duration,
    /// Growth of the wait.
    pub multiplier: f64,
    /// Longest wait.
    pub max_interval: Duration,
    /// Share of the wait that is random, 0 to 1.
    pub jitter: f64,
    /// When attempts are used up.
    pub on_exhausted: OnExhausted,
}

impl Default for Retry {
    /// Three attempts, 2 s growing twofold to 1 min, a fifth of it random, then pause.
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval: Duration::from_secs(2),
            multiplier: 2.0,
            max_interval: Duration::from_secs(60),
            jitter: 0.2,
            on_exhausted: OnExhausted::Pause,
        }
    }
}

/// When attempts are used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnExhausted {
    /// The run pauses and asks a person.
    #[default]
    Pause,
    /// The step fails.
    Fail,
}

/// A read action that settles a step in doubt.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// The action.
    pub action: String,
    /// Its parameters.
    pub with: BTreeMap<String, Template>,
    /// Boolean over `probe`, the action's outputs.
    pub happened: Expression,
}

/// A question to people.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// The question.
    pub prompt: Template,
    /// How many must say yes.
    pub min_approvals: u32,
    /// How long it stands.
    pub timeout: Duration,
    /// Who may answer; empty means anybody.
    pub approvers: Vec<String>,
    /// The starter of the run may not answer.
    pub four_eyes: bool,
}

/// What a rollback does with a step that is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Undo {
    /// The action's own undo, when it has one.
    Auto,
    /// Nothing, on the author's word.
    None,
    /// Another action.
    Uses {
        /// The action.
        action: String,
        /// Its parameters.
        with: BTreeMap<String, Template>,
    },
}
