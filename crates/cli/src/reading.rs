//! Calling actions outside of a run, to look and never to change: what `plan` and `doctor` share. Keeps no
//! checkpoint, makes no secret, writes no record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_core::action::{
    ActionError, BoxFuture, Checkpoints, Context, Progress, ProgressSink, StopSignal,
};
use runbook_core::environment::Environment;
use runbook_core::scope::RunFacts;
use runbook_core::secret::{Revealed, SecretError, SecretText, Secrets};
use runbook_core::workflow::StepPath;
use runbook_executor::redact::Redactor;
use runbook_executor::secrets::RunSecrets;
use runbook_executor::vault::Vault;
use serde_json::Value;

use crate::failure::Failure;

/// What stands for the id of the run that is not there, in names that a run would make.
pub(crate) const RUN: &str = "RUNID";

/// What looking needs.
pub(crate) struct Reading {
    environment: Arc<Environment>,
    secrets: Arc<RunSecrets>,
    redactor: Redactor,
    base: PathBuf,
    facts: RunFacts,
    scratch: Scratch,
}

/// Where actions that only look put files, such as rows that a plan compares: private, and gone when the look is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let now = jiff::Timestamp::now().as_nanosecond();
        Self(std::env::temp_dir().join(format!("runbook-look-{}-{now}", std::process::id())))
    }

    fn of(&self, step: &StepPath) -> PathBuf {
        let name: String =
            step.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.0.display(), %error, "files of a plan stay behind");
        }
    }
}

impl Reading {
    /// In an environment, with parameters relative to `base`.
    pub(crate) fn new(
        environment: Environment,
        base: &Path,
        state_dir: &Path,
        actor: &str,
    ) -> Result<Self, Failure> {
        let redactor = crate::log::redactor();
        let vault = Vault::of(state_dir, RUN).map_err(|error| Failure::io("look for kept secrets", error))?;
        let secrets = Arc::new(RunSecrets::new(&environment.secrets, vault, redactor.clone()));
        let facts = RunFacts {
            id: RUN.to_owned(),
            short_id: RUN.chars().take(8).collect(),
            started_at: jiff::Timestamp::now(),
            actor: actor.to_owned(),
        };
        Ok(Self {
            environment: Arc::new(environment),
            secrets,
            redactor,
            base: base.to_owned(),
            facts,
            scratch: Scratch::new(),
        })
    }

    /// Where it looks.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What templates see of the run that is not there.
    pub(crate) fn facts(&self) -> &RunFacts {
        &self.facts
    }

    /// Secrets of the environment that have no value.
    pub(crate) fn missing_secrets(&self) -> Vec<SecretError> {
        self.secrets.resolve_all()
    }

    /// Text without any value that was resolved.
    pub(crate) fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
    }

    /// What an action is given.
    pub(crate) fn context(&self, step: &StepPath) -> Context {
        Context {
            run: self.facts.id.clone(),
            run_short: self.facts.short_id.clone(),
            step: step.clone(),
            attempt: 1,
            epoch: 0,
            key: String::new(),
            started_at: self.facts.started_at,
            actor: self.facts.actor.clone(),
            environment: Arc::clone(&self.environment),
            base: self.base.clone(),
            artifacts: self.scratch.of(step),
            secrets: Arc::new(LookOnly(Arc::clone(&self.secrets))),
            progress: Arc::new(Silent),
            checkpoints: Arc::new(Nothing),
            stop: Arc::new(Never),
        }
    }
}

/// Reveals what the environment has; keeps values only until the look is over, in no file.
struct LookOnly(Arc<RunSecrets>);

impl Secrets for LookOnly {
    fn reveal(&self, text: &SecretText) -> Result<Revealed, SecretError> {
        self.0.reveal(text)
    }
    fn keep(&self, field: &str, _value: &str) -> Result<SecretText, SecretError> {
        // Whatever was fetched is forgotten again: the reference leads nowhere, and nothing asks.
        Ok(SecretText::reference(&format!("plan/{field}")))
    }
    fn kept(&self, _field: &str) -> Result<Option<Revealed>, SecretError> {
        Ok(None)
    }
}

struct Silent;

impl ProgressSink for Silent {
    fn report(&self, _progress: Progress) {}
}

struct Nothing;

impl Checkpoints for Nothing {
    fn get(&self, _name: &str) -> Option<Value> {
        None
    }
    fn save<'a>(&'a self, name: &'a str, _value: Value) -> BoxFuture<'a, Result<(), ActionError>> {
        Box::pin(async move {
            Err(ActionError::refused(format!("save the checkpoint `{name}`: a plan changes nothing")))
        })
    }
}

struct Never;

impl StopSignal for Never {
    fn requested(&self) -> bool {
        false
    }
    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}
