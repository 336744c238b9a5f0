//! The first record of a run to a compiled workflow: a resume knows only what the journal holds, never the
//! files on disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use runbook_core::action::Registry;
use runbook_core::compile::{Loader, Request, Waiver, compile};
use runbook_core::diagnostic::{Severity, SourceId, Sources};
use runbook_core::environment::Environment;
use runbook_core::environment_file;
use runbook_core::scope::RunFacts;
use runbook_core::workflow::Workflow;

use super::engine::EngineError;
use super::skeleton::skeleton_of;
use crate::machine::{Machine, Skeleton};
use crate::record::{Record, RunStarted, Waived};
use crate::store::{Journal, Stored};

/// A run as its journal has it: what is run, and where it stands.
pub struct Loaded {
    /// The run's id.
    pub run: String,
    /// The first record.
    pub first: Arc<RunStarted>,
    /// Compiled from the pinned texts.
    pub workflow: Arc<Workflow>,
    /// Decoded from the pinned texts.
    pub environment: Arc<Environment>,
    /// Where the run stands.
    pub machine: Machine,
    /// All records, with their times, in order.
    pub records: Vec<(Timestamp, Record)>,
}

impl Loaded {
    /// Folder that relative paths in parameters start from.
    pub fn base(&self) -> PathBuf {
        PathBuf::from(&self.first.base)
    }

    /// What templates see of the run.
    pub fn facts(&self) -> RunFacts {
        RunFacts {
            id: self.run.clone(),
            short_id: short_id(&self.run),
            started_at: self.records.first().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at),
            actor: self.first.actor.clone(),
        }
    }
}

/// First 8 characters of a run's id.
pub(super) fn short_id(run: &str) -> String {
    run.chars().take(8).collect()
}

struct PinnedFiles<'a>(&'a RunStarted);

impl Loader for PinnedFiles<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let file = self.0.sources.iter().find(|source| source.path == path);
        file.map(|source| source.text.clone()).ok_or_else(|| "the run did not pin that file".to_owned())
    }
}

pub(super) fn waivers(waived: &[Waived]) -> Vec<Waiver> {
    let waiver = |w: &Waived| Waiver { guard: w.guard.clone(), reason: w.reason.clone(), by: w.by.clone() };
    waived.iter().map(waiver).collect()
}

/// What the first record of a run compiles to.
#[derive(Clone)]
struct Plan {
    /// The hash of that record.
    hash: [u8; 32],
    first: Arc<RunStarted>,
    workflow: Arc<Workflow>,
    environment: Arc<Environment>,
    skeleton: Arc<Skeleton>,
}

/// The plan of the run that was loaded last: the same hash is the same texts, so they are compiled once and
/// not at every look at the run.
#[derive(Clone, Default)]
pub(super) struct LastPlan(Arc<Mutex<Option<Plan>>>);

impl LastPlan {
    fn get(
        &self,
        run: &str,
        hash: [u8; 32],
        first: &RunStarted,
        registry: &dyn Registry,
    ) -> Result<Plan, EngineError> {
        // Only whole plans are put in there, so a panic elsewhere leaves nothing half done.
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = last.as_ref().filter(|plan| plan.hash == hash) {
            return Ok(plan.clone());
        }
        let environment = environment(run, first)?;
        let workflow = workflow(run, first, &environment, registry)?;
        let plan = Plan {
            hash,
            skeleton: Arc::new(skeleton_of(&workflow, registry)),
            first: Arc::new(first.clone()),
            workflow: Arc::new(workflow),
            environment: Arc::new(environment),
        };
        *last = Some(plan.clone());
        Ok(plan)
    }
}

/// Reads a run and folds it.
pub(super) fn load(
    journal: &dyn Journal,
    registry: &dyn Registry,
    last: &LastPlan,
    run: &str,
) -> Result<Loaded, EngineError> {
    let stored = journal.read(run, 0)?;
    let hash = stored.first().map(|first| first.hash).unwrap_or_default();
    let records = decode(run, stored)?;
    let Some((_, Record::RunStarted(first))) = records.first() else {
        return Err(EngineError::NoFirst { run: run.to_owned() });
    };
    let Plan { first, workflow, environment, skeleton, .. } = last.get(run, hash, first, registry)?;
    let mut machine = Machine::new(skeleton);
    fold(run, &mut machine, &records)?;
    Ok(Loaded { run: run.to_owned(), first, workflow, environment, machine, records })
}

/// Bytes to records.
pub(super) fn decode(run: &str, stored: Vec<Stored>) -> Result<Vec<(Timestamp, Record)>, EngineError> {
    let one = |stored: Stored| match Record::decode(&stored.body) {
        Ok(record) => Ok((stored.at, record)),
        Err(source) => Err(EngineError::Record { run: run.to_owned(), seq: stored.seq, source }),
    };
    stored.into_iter().map(one).collect()
}

/// Takes records in, in order.
pub(super) fn fold(
    run: &str,
    machine: &mut Machine,
    records: &[(Timestamp, Record)],
) -> Result<(), EngineError> {
    for (at, record) in records {
        let seq = machine.seq() + 1;
        machine.apply(*at, record).map_err(|source| EngineError::Replay {
            run: run.to_owned(),
            seq,
            source,
        })?;
    }
    Ok(())
}

fn environment(run: &str, first: &RunStarted) -> Result<Environment, EngineError> {
    let mut sources = Sources::default();
    let ids: BTreeMap<&str, SourceId> = first
        .sources
        .iter()
        .map(|s| (s.path.as_str(), sources.add(s.path.clone(), s.text.clone())))
        .collect();
    let missing = || EngineError::Pinned {
        run: run.to_owned(),
        why: "the environment file is not among its files".into(),
    };
    let id = *ids.get(first.environment.as_str()).ok_or_else(missing)?;
    let base = first.environment_base.as_ref().and_then(|base| ids.get(base.as_str()).copied());
    let mut environment = environment_file::decode(&sources, id, base).ok().map_err(|diagnostics| {
        EngineError::Compile { run: run.to_owned(), sources: Box::new(sources), diagnostics }
    })?;
    // Who waived the guard wants the writes: the actions compare with nothing then.
    let is_waived = first.waivers.iter().any(|waiver| waiver.guard == "G02");
    environment.guarded = first.guarded.clone().filter(|_| !is_waived);
    Ok(environment)
}

fn workflow(
    run: &str,
    first: &RunStarted,
    environment: &Environment,
    registry: &dyn Registry,
) -> Result<Workflow, EngineError> {
    let waivers = waivers(&first.waivers);
    let request = Request {
        runbook: &first.runbook,
        environment: Some(environment),
        inputs: Some(&first.inputs),
        registry,
        waivers: &waivers,
    };
    let compiled = compile(&request, &PinnedFiles(first));
    let mut diagnostics = compiled.diagnostics;
    diagnostics.retain(|d| d.severity == Severity::Error);
    let Some(workflow) = compiled.workflow else {
        let sources = Box::new(compiled.sources);
        return Err(EngineError::Compile { run: run.to_owned(), sources, diagnostics });
    };
    if workflow.digest != first.digest {
        let (run, version) = (run.to_owned(), first.version.clone());
        return Err(EngineError::OtherPlan { run, version });
    }
    Ok(workflow)
}
