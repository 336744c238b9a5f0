//! A runbook bound to an environment and inputs: what `run` and `plan` start from. Starts the sandbox when
//! the environment is built on it.

use std::path::PathBuf;

use runbook_core::action::Registry;
use runbook_core::compile::{Request, Waiver, compile};
use runbook_core::diagnostic::Sources;
use runbook_core::document::Kind;
use runbook_core::environment::Environment;
use runbook_core::workflow::Workflow;

use crate::arguments::{Bound, Global};
use crate::command::{check, live, sandbox};
use crate::failure::Failure;
use crate::project::{self, LoadedEnvironment};
use crate::ui::Ui;

/// Everything that a run is pinned to.
pub(crate) struct Bounded {
    /// What would be done.
    pub(crate) workflow: Workflow,
    /// Where.
    pub(crate) environment: Environment,
    /// The environment's files.
    pub(crate) environment_files: LoadedEnvironment,
    /// The runbook's files, by the names that they are used under.
    pub(crate) sources: Sources,
    /// Name of the root file in `sources`.
    pub(crate) runbook: String,
    /// Its folder.
    pub(crate) base: PathBuf,
    /// Inputs as given.
    pub(crate) inputs: std::collections::BTreeMap<String, serde_json::Value>,
    /// Guards waived.
    pub(crate) waivers: Vec<Waiver>,
}

/// Compiles; `None` when there were mistakes, which are told.
pub(crate) async fn bind(
    ui: &Ui,
    global: &Global,
    given: &Bound,
    registry: &dyn Registry,
) -> Result<Option<Bounded>, Failure> {
    let state_dir = project::state_dir(global)?;
    let (base, runbook, folder) = project::runbook(&given.runbook)?;
    if project::wants_sandbox(&base, &given.env) {
        sandbox::ensure(ui, &state_dir).await?;
    }
    let mut files = project::environment(&base, &given.env, &state_dir)?;
    if check::tell_beside(ui, &given.runbook, &files.diagnostics, &files.sources) {
        return Ok(None);
    }
    let Some(mut environment) = files.environment.take() else { return Ok(None) };
    let inputs = project::inputs(&given.input)?;
    let reason = given.reason.clone().unwrap_or_default();
    let waivers: Vec<Waiver> = given
        .waive
        .iter()
        .map(|guard| Waiver { guard: guard.clone(), reason: reason.clone(), by: project::actor(global) })
        .collect();
    let request = Request {
        runbook: &runbook,
        environment: Some(&environment),
        inputs: Some(&inputs),
        registry,
        waivers: &waivers,
    };
    let compiled = compile(&request, &folder);
    if check::tell_beside(ui, &given.runbook, &compiled.diagnostics, &check::named(&compiled.sources, &base))
    {
        return Ok(None);
    }
    let Some(workflow) = compiled.workflow else { return Ok(None) };
    if workflow.kind == Kind::Drill {
        environment.guarded = Some(live::databases(&base, &state_dir, &project::actor(global)).await?);
    }
    Ok(Some(Bounded {
        workflow,
        environment,
        environment_files: files,
        sources: compiled.sources,
        runbook,
        base,
        inputs,
        waivers,
    }))
}
