//! The contract between an action and whoever runs it. core knows an action by its
//! [`Description`]; the executor calls it through [`Action`]; the actions crate implements it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::environment::Environment;
use crate::secret::{SecretError, Secrets};
use crate::workflow::StepPath;

/// A future that can be stored; core has no runtime of its own.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What may be repeated (DESIGN section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It changes nothing.
    Read,
    /// It moves the target to a named state; twice is once.
    Idempotent,
    /// Effect and idempotency key commit in one transaction in the target.
    Transactional,
    /// The remote deduplicates on the idempotency key.
    Keyed,
    /// None of these: in doubt, its probe decides.
    Once,
}

/// What an action does to a database it is given; what the guards read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Looks.
    Read,
    /// Changes rows or schema, keeping what is there.
    Write,
    /// Fills it from a backup.
    Restore,
    /// Removes what is there.
    Destroy,
}

/// A parameter that names a target, and what happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Name of the parameter; its schema has `x-runbook-type: connection`.
    pub param: &'static str,
    /// What happens to it.
    pub access: Access,
}

/// What core, help pages, schemas and guards know of an action.
#[derive(Debug, Clone, Serialize)]
pub struct Description {
    /// `system.verb`
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What may be repeated.
    pub effect: Effect,
    /// JSON Schema (2020-12) of `with`, an object; descriptions are the help.
    pub params: Value,
    /// JSON Schema of the outputs, an object.
    pub outputs: Value,
    /// Databases it touches.
    pub targets: Vec<Target>,
    /// It changes what users are served: wants the tag `expose` (G08). Example: `vercel.env`.
    pub exposes: bool,
    /// It asks a person and does nothing else: counts as an approval for G05 and G07.
    pub asks: bool,
    /// It asks, and the answer is one of several options: no approval, whatever is chosen.
    pub chooses: bool,
    /// Permissions it needs, in the words of the system.
    pub permissions: &'static [&'static str],
    /// One step in YAML; a test runs it.
    pub example: &'static str,
    /// Whether [`Action::probe`] can settle a step in doubt.
    pub has_probe: bool,
    /// Whether [`Action::undo`] does something.
    pub has_undo: bool,
    /// Whether [`Action::plan`] looks at the real target.
    pub has_plan: bool,
}

/// Something that stays in force after a step until another step ends it: frozen writes, disabled
/// crons, a temporary database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InForce {
    /// Stable key; the step that ends it names the same: `vercel.crons/polaris`.
    pub key: String,
    /// A sentence without a full stop: `the crons of project polaris are off`.
    pub text: String,
}

/// What a successful attempt says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Outputs by the schema. Secret fields hold references made by [`Secrets::keep`] or handed in.
    pub outputs: Value,
    /// One short phrase for people: `214 objects, 112,408 rows`.
    pub summary: String,
    /// What is now in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_force: Vec<InForce>,
    /// Keys of what is no longer in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub released: Vec<String>,
}

/// What a run would do to the real target; read-only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Preview {
    /// In words and numbers, one line each.
    Changes {
        /// What would happen.
        lines: Vec<String>,
        /// What would be lost, in a sentence; shown in capitals and asked for.
        #[serde(default)]
        destroys: Option<String>,
    },
    /// It cannot be told before; says why.
    Unknown(String),
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Probed {
    /// The effect is there; with the outcome as if the attempt had returned.
    Happened(Outcome),
    /// The effect is not there: safe to start again.
    Absent,
    /// It cannot be told; says why.
    Unclear(String),
}

/// What is known about the world after an attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aftermath {
    /// Nothing was changed, or what was changed is checkpointed; trying again is safe and may help.
    Unchanged {
        /// The remote's own wish.
        retry_after: Option<Duration>,
    },
    /// Trying again cannot help.
    Refused,
    /// The request may have been carried out; find out before trying again.
    Unknown,
}

/// Why an attempt did not succeed. The text is a lower-case fragment that can follow "could not".
#[derive(Debug, thiserror::Error)]
#[error("{attempted}")]
pub struct ActionError {
    /// What was attempted, on what, and what went wrong when there is no source.
    pub attempted: String,
    /// What the world looks like.
    pub aftermath: Aftermath,
    /// What to do, a sentence.
    pub hint: Option<String>,
    /// Stable code for what a caller treats differently, such as `checksum-mismatch`.
    pub code: Option<&'static str>,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ActionError {
    /// Trying again cannot help.
    pub fn refused(attempted: impl Into<String>) -> Self {
        Self::new(attempted, Aftermath::Refused)
    }
    /// Nothing was changed; trying again may help.
    pub fn unchanged(attempted: impl Into<String>) -> Self {
        Self::new(attempted, Aftermath::Unchanged { retry_after: None })
    }
    /// It may have happened.
    pub fn unknown(attempted: impl Into<String>) -> Self {
        Self::new(attempted, Aftermath::Unknown)
    }
    /// With the aftermath given.
    pub fn new(attempted: impl Into<String>, aftermath: Aftermath) -> Self {
        Self { attempted: attempted.into(), aftermath, hint: None, code: None, source: None }
    }
    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    /// Adds the stable code.
    #[must_use]
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }
}

impl From<SecretError> for ActionError {
    fn from(error: SecretError) -> Self {
        Self::refused("read a secret").because(error)
    }
}

/// Passing news from inside a step.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all, when known.
    pub total: Option<u64>,
    /// `bytes`, `rows`, `tables`.
    pub unit: &'static str,
    /// What is being worked on: `public.messages`.
    pub message: String,
}

/// Hears progress; never blocks, never fails.
pub trait ProgressSink: Send + Sync {
    /// Tells. May be called often: throttling belongs to whoever shows it.
    fn report(&self, progress: Progress);
}

/// Durable progress inside a step. Survives the process; belongs to one step instance of one run.
pub trait Checkpoints: Send + Sync {
    /// What was saved last under a name.
    fn get(&self, name: &str) -> Option<Value>;
    /// Saves; durable when the future is ready.
    fn save<'a>(&'a self, name: &'a str, value: Value) -> BoxFuture<'a, Result<(), ActionError>>;
}

/// Told when the run wants to stop: finish or checkpoint what is in flight, then return
/// [`ActionError::unchanged`] with code `stopped`.
pub trait StopSignal: Send + Sync {
    /// Whether it was asked for.
    fn requested(&self) -> bool;
    /// Ready when it is asked for.
    fn wait(&self) -> BoxFuture<'_, ()>;
}

/// Everything an action is given beside its parameters.
#[derive(Clone)]
pub struct Context {
    /// The run's id.
    pub run: String,
    /// First 8 characters of it, for names.
    pub run_short: String,
    /// The step instance.
    pub step: StepPath,
    /// Counts all attempts of this step instance, from 1.
    pub attempt: u32,
    /// Fencing epoch of the engine that runs this attempt.
    pub epoch: u64,
    /// The step's idempotency key: 32 lower-case hex digits, or the author's text.
    pub key: String,
    /// When this run was started.
    pub started_at: jiff::Timestamp,
    /// Who runs it.
    pub actor: String,
    /// Where it runs.
    pub environment: Arc<Environment>,
    /// Folder of the root runbook file: relative paths in parameters start here.
    pub base: PathBuf,
    /// A folder of this step instance for files that are evidence; inside a private one, kept. Not there yet:
    /// an action that has such files makes it, with what is above it.
    pub artifacts: PathBuf,
    /// Values of secrets.
    pub secrets: Arc<dyn Secrets>,
    /// Hears progress.
    pub progress: Arc<dyn ProgressSink>,
    /// Durable progress.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// The wish to stop.
    pub stop: Arc<dyn StopSignal>,
}

impl Context {
    /// The `application_name` of this attempt's database sessions: names run, step and epoch, and fits
    /// PostgreSQL's 63 bytes. [`Context::session_prefix`] finds the sessions of all epochs.
    pub fn session_name(&self) -> String {
        format!("{}{}", self.session_prefix(), self.epoch)
    }

    /// What all sessions of this step instance begin with: `runbook/RUN8/STEP…/`. The step is cut to 32
    /// bytes and made unique by a hash when it was cut.
    pub fn session_prefix(&self) -> String {
        use sha2::Digest as _;
        let step: String =
            self.step.as_str().chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect();
        let step = if step.len() <= 32 {
            step
        } else {
            let hash = sha2::Sha256::digest(self.step.as_str().as_bytes());
            format!("{}~{}", &step[..23], hex::encode(&hash[..4]))
        };
        format!("runbook/{}/{step}/", self.run_short)
    }
}

/// One action. Stateless; reaches the world through its parameters and the context.
pub trait Action: Send + Sync {
    /// What it is.
    fn description(&self) -> &Description;

    /// What would happen to the real target. Changes nothing.
    fn plan<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Preview, ActionError>>;

    /// Does it.
    fn run<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Outcome, ActionError>>;

    /// Did an attempt whose outcome was lost happen? Changes nothing.
    fn probe<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<Probed, ActionError>>;

    /// Takes back what `run` did, given what it was called with and what it returned. Twice is once.
    fn undo<'a>(
        &'a self,
        ctx: &'a Context,
        params: Value,
        outputs: Value,
    ) -> BoxFuture<'a, Result<Outcome, ActionError>>;

    /// Proves that no work of an older epoch of this step instance is alive, ending it first (P4): looks
    /// for sessions with [`Context::session_prefix`] and another epoch, ends them, waits until they are
    /// gone. Says how many it ended. Work that comes to its end by itself may be waited for instead, as long as no stop is
    /// asked for. An action that leaves no work behind its process returns 0.
    fn fence<'a>(&'a self, ctx: &'a Context, params: Value) -> BoxFuture<'a, Result<u32, ActionError>>;
}

/// All actions by name.
pub trait Registry: Send + Sync {
    /// The action with this name.
    fn get(&self, name: &str) -> Option<&dyn Action>;
    /// All descriptions, sorted by name.
    fn descriptions(&self) -> Vec<&Description>;
}
