//! The durable facts of a run. A record is versioned JSON and small; what it means is decided by
//! `machine`, and nothing here looks at another record, a clock or a file.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_core::action::{Aftermath, Outcome};
use runbook_core::diagnostic::Source;
use runbook_core::environment::LiveDatabase;
use runbook_core::workflow::StepPath;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version that this program writes, and the newest that it reads.
pub const RECORD_VERSION: u32 = 1;
/// Longest record in bytes: the first one holds every file of the runbook, all others are small.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// One durable fact. `step` is always the path of a step instance: with the item key where there is one,
/// save for `condition`, `expanded` and `step_skipped`, which are about the step as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields of each kind are explained by the line above it")]
pub enum Record {
    /// First of every journal: what is run, where, for whom.
    RunStarted(Box<RunStarted>),
    /// A process took the lease and goes on from here.
    Opened { epoch: u64, actor: String, host: String, pid: u32 },
    /// That process stopped working on the run, which can be resumed.
    Closed { epoch: u64, why: Ended },
    /// The result of `if`, once for all.
    Condition { step: StepPath, result: bool },
    /// The items of `for_each`, once for all.
    Expanded { step: StepPath, items: Vec<Item> },
    /// People are asked; `digest` binds the answer to the plan and the rendered parameters.
    ApprovalRequested(Box<ApprovalRequested>),
    /// One person said yes, or which of the options it is.
    ApprovalGiven {
        step: StepPath,
        digest: String,
        by: String,
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        choice: Option<String>,
    },
    /// One person said no.
    ApprovalDenied { step: StepPath, digest: String, by: String, reason: Option<String> },
    /// Nobody answered in time, or the answer is too old to start on.
    ApprovalExpired { step: StepPath },
    /// What was asked about has changed.
    ApprovalVoided { step: StepPath, why: String },
    /// Durable before the first effect of the attempt.
    AttemptStarted(Box<AttemptStarted>),
    /// Progress inside a step that survives the process.
    Checkpoint { step: StepPath, name: String, value: Value },
    /// An attempt did not succeed.
    AttemptFailed(Box<AttemptFailed>),
    /// All work of earlier attempts is proven dead; `ended` pieces of it had to be ended.
    Fenced { step: StepPath, epoch: u64, ended: u32 },
    /// What a probe found about a step in doubt.
    Probed { step: StepPath, found: Found, why: Option<String> },
    /// The step succeeded.
    StepDone(Box<StepDone>),
    /// The step does not apply.
    StepSkipped { step: StepPath, why: SkippedWhy },
    /// The step must not start as things stand.
    StepRefused { step: StepPath, why: RefusedWhy, message: String, hint: Option<String> },
    /// The step cannot go on, outside of an attempt.
    StepFailed { step: StepPath, message: String, hint: Option<String> },
    /// Whether the effect happened is for a person to say.
    StepInDoubt { step: StepPath, why: String },
    /// A person said it.
    Resolved { step: StepPath, verdict: Verdict, by: String, reason: String, outputs: Option<Value> },
    /// A person wants the run to stop where it can go on later.
    PauseRequested { by: String, reason: Option<String> },
    /// A person wants the run given up.
    CancelRequested { by: String, reason: Option<String> },
    /// A person wants the effects taken back.
    RollbackRequested { by: String, reason: Option<String> },
    /// A person wants a finished step done once more.
    Rerun { step: StepPath, by: String, reason: String },
    /// A line for the timeline.
    Noted { by: String, text: String },
    /// A guard does not hold for this run, on this person's word.
    GuardWaived { guard: String, by: String, reason: String },
    /// Durable before the first effect of an undo.
    UndoStarted { step: StepPath, epoch: u64 },
    /// The effect is taken back.
    Undone { step: StepPath, outcome: Outcome },
    /// The undo did not succeed; the rollback stops here until it is resumed.
    UndoFailed { step: StepPath, message: String, hint: Option<String> },
    /// The effect stays.
    UndoSkipped { step: StepPath, why: String },
    /// Nothing more will happen in this run.
    RunFinished { outcome: Final },
}

/// What is run, where, for whom. Holds every text that the workflow is compiled from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// All files, runbooks and environment.
    pub sources: Vec<Source>,
    /// Path of the root runbook in `sources`.
    pub runbook: String,
    /// Its name.
    pub name: String,
    /// Path of the environment file in `sources`.
    pub environment: String,
    /// Path of the file that it extends.
    pub environment_base: Option<String>,
    /// Its name.
    pub environment_name: String,
    /// Folder of the root runbook file.
    pub base: String,
    /// Inputs as they were given.
    pub inputs: BTreeMap<String, Value>,
    /// Plan digest.
    pub digest: String,
    /// Who started it.
    pub actor: String,
    /// Guards waived from the start.
    pub waivers: Vec<Waived>,
    /// Version of this program.
    pub version: String,
    /// Whether it changes anything, and so wants the environment for itself.
    pub writes: bool,
    /// Of a drill: the live databases that it must not write to, as they were when it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarded: Option<Vec<LiveDatabase>>,
}

/// A guard that does not hold for this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// Its code: `G03`.
    pub guard: String,
    /// Who waived it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// One item of a `for_each`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// Its key, unique in the list.
    pub key: String,
    /// The item.
    pub value: Value,
}

/// A question to people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApprovalRequested {
    /// What would start.
    pub step: StepPath,
    /// [`crate::machine::approval_digest`] of what would start.
    pub digest: String,
    /// The question.
    pub prompt: String,
    /// How many must say yes.
    pub min: u32,
    /// Who may answer; empty means anybody.
    pub approvers: Vec<String>,
    /// Whoever started the run may not answer.
    pub four_eyes: bool,
    /// An answer, and a start on it, must come before.
    pub expires_at: Timestamp,
    /// What there is to choose from; empty when the answer is yes or no.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<Choice>,
}

/// One of several answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What is said to choose it.
    pub name: String,
    /// What it means.
    pub text: String,
}

/// The start of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptStarted {
    /// Which step.
    pub step: StepPath,
    /// From 1, over all sittings.
    pub attempt: u32,
    /// Fencing epoch of the engine.
    pub epoch: u64,
    /// Idempotency key.
    pub key: String,
    /// Rendered parameters; secrets are markers.
    pub params: Value,
    /// Digest of them.
    pub params_digest: String,
}

/// The end of an attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// Which step.
    pub step: StepPath,
    /// Which attempt.
    pub attempt: u32,
    /// Could not …, with the causes after it, redacted.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Stable code.
    pub code: Option<String>,
    /// What the world looks like.
    pub aftermath: Aftermath,
    /// What follows.
    pub then: Then,
    /// How long the attempt took.
    pub duration_ms: u64,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Another attempt, not before that moment.
    Retry(Timestamp),
    /// None: attempts are used up, or cannot help.
    GiveUp,
    /// It was asked to stop and did; it goes on when the run is resumed.
    Stopped,
}

/// The end of a step that succeeded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepDone {
    /// Which step.
    pub step: StepPath,
    /// What it gave; secrets are markers.
    pub outcome: Outcome,
    /// How long the last attempt took.
    pub duration_ms: u64,
    /// Set when the effect was done under the same key before, `RUN/STEP`: nothing was done now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_key_of: Option<String>,
}

/// What a probe found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// The effect is there; `step_done` follows in the same transaction.
    Happened,
    /// It is not there.
    Absent,
    /// It cannot be told.
    Unclear,
}

/// Why a step does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkippedWhy {
    /// Its `if` is false.
    Condition,
    /// The runbook that it belongs to is skipped.
    Within,
}

/// Why a step must not start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedWhy {
    /// A precondition is false.
    Precondition,
    /// A guard is against it.
    Guard,
    /// Its idempotency key is taken.
    Key,
}

/// What a person says about a step in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The effect is there.
    Done,
    /// It is not: do it again.
    Again,
}

/// Why a process stopped working on a run that is not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// A step failed.
    Failed,
    /// A step is in doubt.
    InDoubt,
    /// A step was refused.
    Refused,
    /// Somebody asked for a pause.
    Paused,
    /// The run took longer than its `deadline`.
    Deadline,
    /// Only people can move it on.
    Waiting,
    /// The process was asked to stop.
    Stopped,
}

/// How a run ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Final {
    /// All that had to be done is done.
    Succeeded,
    /// Given up after a failed step.
    Failed,
    /// Given up on request.
    Cancelled,
    /// Its effects were taken back.
    RolledBack,
}

const KINDS: [&str; 31] = [
    "run_started",
    "opened",
    "closed",
    "condition",
    "expanded",
    "approval_requested",
    "approval_given",
    "approval_denied",
    "approval_expired",
    "approval_voided",
    "attempt_started",
    "checkpoint",
    "attempt_failed",
    "fenced",
    "probed",
    "step_done",
    "step_skipped",
    "step_refused",
    "step_failed",
    "step_in_doubt",
    "resolved",
    "pause_requested",
    "cancel_requested",
    "rollback_requested",
    "rerun",
    "noted",
    "guard_waived",
    "undo_started",
    "undone",
    "undo_failed",
    "undo_skipped",
];
const KIND_LAST: &str = "run_finished";

/// Why bytes are not a record of this program.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not JSON, or without `v` and `kind`.
    #[error("read a record: it is not a versioned JSON record")]
    NotARecord(#[source] serde_json::Error),
    /// Written by a newer program.
    #[error(
        "read a record of version {0}: this program knows versions up to {RECORD_VERSION}; use a newer one"
    )]
    Version(u32),
    /// Written by a newer program.
    #[error("read a record of kind `{0}`: this program does not know that kind; use a newer one")]
    Kind(String),
    /// Fields are missing or of the wrong type.
    #[error("read a record of kind `{kind}`: its fields are not those of version {RECORD_VERSION}")]
    Shape {
        /// Which kind.
        kind: String,
        /// What is wrong with them.
        #[source]
        source: serde_json::Error,
    },
    /// It would not fit, or cannot be written as JSON.
    #[error("write a record of kind `{kind}`: it has {bytes} bytes, the limit is {RECORD_BYTES_MAX}")]
    TooLong {
        /// Which kind.
        kind: &'static str,
        /// How long it would be.
        bytes: usize,
    },
    /// A value has no JSON form.
    #[error("write a record of kind `{kind}`")]
    Unwritable {
        /// Which kind.
        kind: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Deserialize)]
struct Head {
    v: u32,
    kind: String,
}

#[derive(Serialize)]
struct Versioned<'a> {
    v: u32,
    #[serde(flatten)]
    record: &'a Record,
}

impl Record {
    /// The record as it is kept.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let kind = self.kind();
        let bytes = serde_json::to_vec(&Versioned { v: RECORD_VERSION, record: self })
            .map_err(|source| RecordError::Unwritable { kind, source })?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLong { kind, bytes: bytes.len() });
        }
        Ok(bytes)
    }

    /// Reads what [`Record::encode`] wrote, by this version of the program or an older one.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let head: Head = serde_json::from_slice(bytes).map_err(RecordError::NotARecord)?;
        if head.v == 0 || head.v > RECORD_VERSION {
            return Err(RecordError::Version(head.v));
        }
        if head.kind != KIND_LAST && !KINDS.contains(&head.kind.as_str()) {
            return Err(RecordError::Kind(head.kind));
        }
        serde_json::from_slice(bytes).map_err(|source| RecordError::Shape { kind: head.kind, source })
    }

    /// Its kind, as it stands in the journal.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted(_) => "run_started",
            Self::Opened { .. } => "opened",
            Self::Closed { .. } => "closed",
            Self::Condition { .. } => "condition",
            Self::Expanded { .. } => "expanded",
            Self::ApprovalRequested(_) => "approval_requested",
            Self::ApprovalGiven { .. } => "approval_given",
            Self::ApprovalDenied { .. } => "approval_denied",
            Self::ApprovalExpired { .. } => "approval_expired",
            Self::ApprovalVoided { .. } => "approval_voided",
            Self::AttemptStarted(_) => "attempt_started",
            Self::Checkpoint { .. } => "checkpoint",
            Self::AttemptFailed(_) => "attempt_failed",
            Self::Fenced { .. } => "fenced",
            Self::Probed { .. } => "probed",
            Self::StepDone(_) => "step_done",
            Self::StepSkipped { .. } => "step_skipped",
            Self::StepRefused { .. } => "step_refused",
            Self::StepFailed { .. } => "step_failed",
            Self::StepInDoubt { .. } => "step_in_doubt",
            Self::Resolved { .. } => "resolved",
            Self::PauseRequested { .. } => "pause_requested",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::RollbackRequested { .. } => "rollback_requested",
            Self::Rerun { .. } => "rerun",
            Self::Noted { .. } => "noted",
            Self::GuardWaived { .. } => "guard_waived",
            Self::UndoStarted { .. } => "undo_started",
            Self::Undone { .. } => "undone",
            Self::UndoFailed { .. } => "undo_failed",
            Self::UndoSkipped { .. } => "undo_skipped",
            Self::RunFinished { .. } => KIND_LAST,
        }
    }

    /// The step that it is about.
    pub fn step(&self) -> Option<&StepPath> {
        match self {
            Self::Condition { step, .. }
            | Self::Expanded { step, .. }
            | Self::ApprovalGiven { step, .. }
            | Self::ApprovalDenied { step, .. }
            | Self::ApprovalExpired { step }
            | Self::ApprovalVoided { step, .. }
            | Self::Checkpoint { step, .. }
            | Self::Fenced { step, .. }
            | Self::Probed { step, .. }
            | Self::StepSkipped { step, .. }
            | Self::StepRefused { step, .. }
            | Self::StepFailed { step, .. }
            | Self::StepInDoubt { step, .. }
            | Self::Resolved { step, .. }
            | Self::Rerun { step, .. }
            | Self::UndoStarted { step, .. }
            | Self::Undone { step, .. }
            | Self::UndoFailed { step, .. }
            | Self::UndoSkipped { step, .. } => Some(step),
            Self::ApprovalRequested(r) => Some(&r.step),
            Self::AttemptStarted(r) => Some(&r.step),
            Self::AttemptFailed(r) => Some(&r.step),
            Self::StepDone(r) => Some(&r.step),
            _ => None,
        }
    }
}
