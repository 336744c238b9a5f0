//! Starting a run, driving it, loading it: what the cli calls. Starting and resuming are one path: `start`
//! only writes the first record, `drive` does everything else.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use runbook_core::action::Registry;
use runbook_core::diagnostic::{Diagnostic, Sources};
use runbook_core::environment::Environment;
use runbook_core::workflow::Workflow;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::attempt::ProgressHub;
use super::commit::After;
use super::end::RunEnd;
use super::lease::renew_in_background;
use super::pinned::{LastPlan, Loaded, decode, fold, load};
use super::rehearsal::Rehearsal;
use super::sitting::{SAVES_WAITING_MAX, Shared, Sitting};
use super::stop::Stop;
use crate::event::{News, Reporter};
use crate::holder::Holder;
use crate::machine::IllegalRecord;
use crate::record::{Final, Record, RecordError, RunStarted, Waived};
use crate::redact::Redactor;
use crate::secrets::RunSecrets;
use crate::store::{AppendError, Journal, JournalError, LeaseError, RunRow};
use crate::vault::{Vault, VaultError};

/// The time. Injected, so that tests have their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Where what is not in the journal lies.
#[derive(Debug, Clone)]
pub struct StatePaths {
    /// The state directory; holds `vault/` and `artifacts/RUN/STEP/`.
    pub root: PathBuf,
}

/// A run to be started: everything that a resume will need.
pub struct NewRun<'a> {
    /// What was compiled.
    pub workflow: &'a Workflow,
    /// All runbook files that were read.
    pub sources: &'a Sources,
    /// Path of the root runbook in `sources`.
    pub runbook: String,
    /// Folder of the root runbook file, absolute: relative paths in parameters start there.
    pub base: PathBuf,
    /// What the environment file said.
    pub environment: &'a Environment,
    /// The environment's files: path and text. The first is the environment's own.
    pub environment_files: Vec<(String, String)>,
    /// The inputs as they were given to `compile`.
    pub inputs: BTreeMap<String, Value>,
    /// Guards waived from the start, as they were given to `compile`.
    pub waivers: Vec<Waived>,
    /// Who starts it.
    pub actor: String,
}

/// How to drive.
#[derive(Clone)]
pub struct DriveOptions {
    /// Who drives.
    pub actor: String,
    /// Raised by whoever catches Ctrl-C.
    pub stop: Stop,
    /// Approvals of a local or staging environment are given in the actor's name, and recorded as such.
    pub yes: bool,
    /// Stay while only people can move the run on; else the sitting ends with [`super::RunOutcome::Waiting`].
    pub waits_for_people: bool,
    /// What goes wrong on purpose.
    pub rehearsal: Option<Rehearsal>,
}

/// Why a run could not be worked on. The run itself is as its journal says.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Somebody else holds the run, or the environment, or this process lost it.
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// Somebody else took the run over.
    #[error("go on: the run was taken over by another process")]
    Fenced(#[source] AppendError),
    /// The lease is not kept alive any more.
    #[error("go on: the lease of the run is not renewed any more")]
    LeaseEnded,
    /// A record of this run.
    #[error("work with record {seq} of run {run}")]
    Record {
        /// The run.
        run: String,
        /// Which record.
        seq: u64,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// A record that no version of this program would have appended.
    #[error("replay record {seq} of run {run}")]
    Replay {
        /// The run.
        run: String,
        /// Which record.
        seq: u64,
        /// Why it does not fit.
        #[source]
        source: IllegalRecord,
    },
    /// The journal has no first record.
    #[error("read run {run}: its first record does not say what is run")]
    NoFirst {
        /// The run.
        run: String,
    },
    /// What a run pinned is not whole.
    #[error("read run {run}: {why}")]
    Pinned {
        /// The run.
        run: String,
        /// In what way.
        why: String,
    },
    /// The pinned texts do not compile with this version of the program.
    #[error("compile what run {run} pinned: {} mistakes", diagnostics.len())]
    Compile {
        /// The run.
        run: String,
        /// The texts.
        sources: Box<Sources>,
        /// The mistakes.
        diagnostics: Vec<Diagnostic>,
    },
    /// This version of the program would do something else.
    #[error(
        "resume run {run}: this program makes another plan of its runbook; resume it with version {version}"
    )]
    OtherPlan {
        /// The run.
        run: String,
        /// The version that started it.
        version: String,
    },
    /// The vault of the run.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A request of a person does not fit.
    #[error(transparent)]
    Illegal(#[from] IllegalRecord),
    /// The process is ending.
    #[error("go on: the process is shutting down")]
    Shutdown,
}

/// Starts, drives and loads runs.
#[derive(Clone)]
pub struct Engine {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) registry: Arc<dyn Registry>,
    paths: StatePaths,
    pub(crate) clock: Clock,
    last: LastPlan,
    redactor: Redactor,
}

impl Engine {
    /// An engine on a journal, with these actions.
    pub fn new(journal: Arc<dyn Journal>, registry: Arc<dyn Registry>, paths: StatePaths) -> Self {
        Self {
            journal,
            registry,
            paths,
            clock: Arc::new(Timestamp::now),
            last: LastPlan::default(),
            redactor: Redactor::new(),
        }
    }

    /// With another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// With a redactor that others use, too: it learns every secret of the runs that are driven.
    #[must_use]
    pub fn with_redactor(mut self, redactor: Redactor) -> Self {
        self.redactor = redactor;
        self
    }

    /// Writes the first record of a new run and gives its id. Nothing is done yet: [`Engine::drive`] does it.
    pub fn start(&self, new: NewRun<'_>) -> Result<String, EngineError> {
        let run = hex::encode(rand::random::<[u8; 10]>());
        let mut sources = new.sources.files().to_vec();
        let mut environment_paths = Vec::new();
        for (path, text) in new.environment_files {
            environment_paths.push(path.clone());
            sources.push(runbook_core::diagnostic::Source { path, text });
        }
        let mut environment_paths = environment_paths.into_iter();
        let at = (self.clock)();
        let skeleton = super::skeleton_of(new.workflow, self.registry.as_ref());
        let writes = skeleton.steps.iter().any(|b| b.calls && b.effect != runbook_core::action::Effect::Read);
        let first = RunStarted {
            sources,
            runbook: new.runbook,
            name: new.workflow.name.clone(),
            environment: environment_paths.next().unwrap_or_default(),
            environment_base: environment_paths.next(),
            environment_name: new.environment.name.clone(),
            base: new.base.to_string_lossy().into_owned(),
            inputs: new.inputs,
            digest: new.workflow.digest.clone(),
            actor: new.actor,
            waivers: new.waivers,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            writes,
        };
        let row = RunRow {
            id: run.clone(),
            runbook: first.name.clone(),
            environment: first.environment_name.clone(),
            created_at: at,
            writes,
        };
        let body = Record::RunStarted(Box::new(first)).encode();
        let body = body.map_err(|source| EngineError::Record { run: run.clone(), seq: 1, source })?;
        self.journal.create(&row, &body, at)?;
        Ok(run)
    }

    /// The run as its journal has it: for `status`, `report`, `resume --plan`.
    pub fn load(&self, run: &str) -> Result<Loaded, EngineError> {
        load(self.journal.as_ref(), self.registry.as_ref(), &self.last, run)
    }

    /// Works on a run until it is finished, or until it cannot go on here. A run that is finished is left
    /// alone, but for an environment that it still has. Needs a tokio runtime with time
    /// enabled, and not within a `LocalSet`: on several threads it waits for the disk on its own.
    pub async fn drive(
        &self,
        run: &str,
        options: DriveOptions,
        reporters: Vec<Box<dyn Reporter>>,
    ) -> Result<RunEnd, EngineError> {
        let row = self.journal.run(run)?;
        let loaded = self.load(run)?;
        let holder = Holder::me(&options.actor);
        if loaded.machine.finished().is_some() {
            self.give_back(run, &row.environment, &holder)?;
            return Ok(RunEnd::of(&loaded));
        }
        let lease = self.take(&row, &holder)?;
        let result = self.sit(loaded, lease.epoch, &holder, options, reporters).await;
        let is_finished = matches!(&result, Ok(loaded) if loaded.machine.finished().is_some());
        match self.journal.release(run, lease.epoch, is_finished) {
            // Whoever took it over holds it now.
            Err(JournalError::NotHeld { .. }) | Ok(()) => {}
            Err(error) if result.is_ok() => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "could not release the run"),
        }
        result.map(|loaded| RunEnd::of(&loaded))
    }

    async fn sit(
        &self,
        mut loaded: Loaded,
        epoch: u64,
        holder: &Holder,
        options: DriveOptions,
        reporters: Vec<Box<dyn Reporter>>,
    ) -> Result<Loaded, EngineError> {
        let run = loaded.run.clone();
        let (renewal, lost) =
            renew_in_background(self.journal.clone(), run.clone(), epoch, self.clock.clone());
        let seen = self.journal.changed()?;
        // What came between the first look and the lease.
        let newer = decode(&run, self.journal.read(&run, loaded.machine.seq())?)?;
        fold(&run, &mut loaded.machine, &newer)?;
        if loaded.machine.finished().is_some() {
            return Ok(loaded);
        }
        let redactor = self.redactor.clone();
        let vault = Vault::of(&self.paths.root, &run)?;
        let secrets = RunSecrets::new(&loaded.environment.secrets, vault, redactor.clone());
        let (saves_in, saves) = mpsc::channel(SAVES_WAITING_MAX);
        let artifacts = self.paths.root.join("artifacts").join(&run);
        let steps: HashMap<_, _> =
            loaded.workflow.steps.iter().enumerate().map(|(at, s)| (s.path.clone(), at)).collect();
        let shared = Arc::new(Shared {
            run,
            facts: loaded.facts(),
            actor: options.actor.clone(),
            workflow: loaded.workflow.clone(),
            steps,
            environment: loaded.environment.clone(),
            registry: self.registry.clone(),
            journal: self.journal.clone(),
            base: loaded.base(),
            artifacts,
            secrets: secrets.clone(),
            redactor,
            progress: Arc::new(ProgressHub::default()),
            saves: saves_in,
            clock: self.clock.clone(),
        });
        let mut sitting = Sitting {
            shared,
            machine: loaded.machine,
            epoch,
            options,
            reporters,
            pending: Vec::new(),
            busy: HashSet::new(),
            tasks: JoinSet::new(),
            about: HashMap::new(),
            tokens: HashMap::new(),
            shared_keys: HashMap::new(),
            saves,
            lost,
            seen,
            wake_at: None,
            is_over: false,
            said_stopping: false,
            misfit: None,
        };
        sitting.open(holder).await?;
        sitting.work().await?;
        drop(renewal);
        self.close_vault(&secrets, &sitting);
        Ok(Loaded { machine: sitting.machine, ..loaded })
    }

    /// What steps made is destroyed when nothing can want it any more; a run that was given up can still be
    /// rolled back.
    fn close_vault(&self, secrets: &RunSecrets, sitting: &Sitting) {
        let ended = sitting.machine.finished();
        if matches!(ended, Some(Final::Succeeded | Final::RolledBack))
            && let Err(error) = secrets.destroy_made()
        {
            tracing::warn!(%error, "could not destroy the secrets that the run made");
        }
    }
}

impl Sitting {
    /// Says that this process works on the run, and makes the secrets known to the redactor before anything
    /// else is written. A secret that cannot be had fails the step that wants it, not the run.
    async fn open(&mut self, holder: &Holder) -> Result<(), EngineError> {
        let (host, pid) = (holder.host.clone(), holder.pid);
        let opened = Record::Opened { epoch: self.epoch, actor: holder.actor.clone(), host, pid };
        self.machine.check(self.now(), &opened)?;
        self.push(opened, After::Nothing);
        self.commit().await?;
        let secrets = self.shared.secrets.clone();
        let missing = tokio::task::spawn_blocking(move || secrets.resolve_all()).await;
        for error in missing.map_err(|_| EngineError::Shutdown)? {
            let warning = self.clean(&format!("could not {error}"));
            self.tell(News::Warning(&warning));
        }
        Ok(())
    }
}
