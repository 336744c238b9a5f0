//! A runbook as its author wrote it: every value with its span, nothing resolved, no defaults applied
//! that need another file. `yaml` and `decode` make it, `compile` reads it.

use std::time::Duration;

use crate::diagnostic::{Span, Spanned};

/// Any YAML value with its place; what stands under `with` and in defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// The value.
    pub kind: TreeKind,
    /// Where it stands.
    pub span: Span,
}

/// The shapes a [`Tree`] takes.
#[derive(Debug, Clone, PartialEq)]
pub enum TreeKind {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`; nothing else is a boolean.
    Bool(bool),
    /// Any YAML 1.2 number.
    Number(serde_json::Number),
    /// Text; may hold templates.
    String(String),
    /// A sequence.
    List(Vec<Tree>),
    /// A mapping, in written order; keys are unique.
    Map(Vec<(Spanned<String>, Tree)>),
}

/// What a runbook is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something is damaged.
    Incident,
    /// A rehearsal; must not touch what is live.
    Drill,
    /// Planned work.
    Maintenance,
}

/// One runbook file.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// `name`
    pub name: Spanned<String>,
    /// `title`
    pub title: Option<Spanned<String>>,
    /// `why`: prose about the whole.
    pub why: Option<Spanned<String>>,
    /// `kind`
    pub kind: Spanned<Kind>,
    /// `objectives`
    pub objectives: Objectives,
    /// `inputs`, in written order.
    pub inputs: Vec<InputDecl>,
    /// `steps`, in written order.
    pub steps: Vec<StepDecl>,
    /// `on_failure`: run when the run is given up as failed.
    pub on_failure: Vec<StepDecl>,
    /// `finally`: run last, whatever happened.
    pub finally: Vec<StepDecl>,
    /// `outputs`: name to template.
    pub outputs: Vec<(Spanned<String>, Tree)>,
    /// `deadline`: the run stops starting steps after this long.
    pub deadline: Option<Spanned<Duration>>,
}

/// The RPO and RTO that a run is measured against.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Objectives {
    /// Data lost at most.
    pub rpo: Option<Spanned<Duration>>,
    /// Time to reopen at most.
    pub rto: Option<Spanned<Duration>>,
}

/// The type of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputType {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// RFC 3339, or the word `latest`.
    Timestamp,
    /// `90s`, `45m`, `24h`, `7d`, or a sum such as `1h 30m`.
    Duration,
    /// A list of anything.
    List,
    /// A mapping of anything.
    Map,
}

/// One entry of `inputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct InputDecl {
    /// The input's name.
    pub name: Spanned<String>,
    /// `type`
    pub ty: Spanned<InputType>,
    /// `default`
    pub default: Option<Tree>,
    /// `required`; true unless there is a default or it says false. A missing optional input is `none`.
    pub required: bool,
    /// `enum`: the allowed values.
    pub allowed: Option<Vec<Tree>>,
    /// `help`
    pub help: Option<Spanned<String>>,
    /// The whole entry.
    pub span: Span,
}

/// One step as written. See DESIGN section 3 for what each key means.
#[derive(Debug, Clone, PartialEq)]
pub struct StepDecl {
    /// `id`: lower-case letters, digits, `-` and `_`.
    pub id: Spanned<String>,
    /// `title`
    pub title: Option<Spanned<String>>,
    /// `uses`: an action's name, or `./file.yaml`.
    pub uses: Spanned<String>,
    /// `with`: a map when written.
    pub with: Option<Tree>,
    /// `needs`: `None` means the step above.
    pub needs: Option<Vec<Spanned<String>>>,
    /// `if`: a bare expression.
    pub condition: Option<Spanned<String>>,
    /// `preconditions`
    pub preconditions: Vec<CheckDecl>,
    /// `postconditions`
    pub postconditions: Vec<CheckDecl>,
    /// `for_each`
    pub for_each: Option<ForEachDecl>,
    /// `timeout`, per attempt.
    pub timeout: Option<Spanned<Duration>>,
    /// `retry`
    pub retry: Option<RetryDecl>,
    /// `idempotency_key`: a template.
    pub idempotency_key: Option<Spanned<String>>,
    /// `probe`: a read action that settles the step when in doubt.
    pub probe: Option<ProbeDecl>,
    /// `approval`
    pub approval: Option<ApprovalDecl>,
    /// `continue_on_error`
    pub continue_on_error: bool,
    /// `undo`
    pub undo: Option<UndoDecl>,
    /// `point_of_no_return`
    pub point_of_no_return: bool,
    /// `tags`
    pub tags: Vec<Spanned<String>>,
    /// `why`
    pub why: Option<Spanned<String>>,
    /// `if_it_fails`
    pub if_it_fails: Option<Spanned<String>>,
    /// `expect.duration`
    pub expect_duration: Option<Spanned<Duration>>,
    /// The whole step.
    pub span: Span,
}

/// `check` and `message`.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckDecl {
    /// A bare boolean expression.
    pub check: Spanned<String>,
    /// What to say when it is false; may hold templates.
    pub message: Option<Spanned<String>>,
}

/// `for_each`
#[derive(Debug, Clone, PartialEq)]
pub struct ForEachDecl {
    /// `items`: a template that gives a list, or a list.
    pub items: Tree,
    /// `as`: the item's name in templates.
    pub as_name: Spanned<String>,
    /// `key`: a template over the item; unique in the list.
    pub key: Spanned<String>,
    /// `max_parallel`, 1 when left out.
    pub max_parallel: u32,
}

/// `retry`; what is left out takes the defaults of [`crate::workflow::Retry`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RetryDecl {
    /// `max_attempts`
    pub max_attempts: Option<u32>,
    /// `initial_interval`
    pub initial_interval: Option<Duration>,
    /// `multiplier`
    pub multiplier: Option<f64>,
    /// `max_interval`
    pub max_interval: Option<Duration>,
    /// `jitter`, a share between 0 and 1.
    pub jitter: Option<f64>,
    /// `on_exhausted`
    pub on_exhausted: Option<crate::workflow::OnExhausted>,
}

/// `probe: { uses, with, happened }`
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeDecl {
    /// An action of effect class `read`.
    pub uses: Spanned<String>,
    /// Its parameters.
    pub with: Option<Tree>,
    /// A bare boolean expression over `probe` (the action's outputs): true when the effect is there.
    pub happened: Spanned<String>,
}

/// `approval`
#[derive(Debug, Clone, PartialEq)]
pub struct ApprovalDecl {
    /// `prompt`: a template.
    pub prompt: Spanned<String>,
    /// `min_approvals`, 1 when left out.
    pub min_approvals: u32,
    /// `timeout`: how long the question stands.
    pub timeout: Option<Duration>,
    /// `approvers`: names; the environment's when left out.
    pub approvers: Vec<Spanned<String>>,
    /// The whole entry.
    pub span: Span,
}

/// `undo`: `none`, or another action.
#[derive(Debug, Clone, PartialEq)]
pub enum UndoDecl {
    /// `undo: none`: leave the effect as it is in a rollback.
    None(Span),
    /// `undo: { uses, with }`
    Uses {
        /// The action.
        uses: Spanned<String>,
        /// Its parameters; templates may read the step's own outputs as `steps.ID`.
        with: Option<Tree>,
    },
}
