//! What a scenario stands on: a folder, a journal in memory, a world, and a runbook from a text.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_core::compile::{Loader, Request, compile};
use runbook_core::diagnostic::Sources;
use runbook_core::environment_file;
use runbook_core::workflow::StepPath;
use tempfile::TempDir;

use super::world::{Actions, Dying, World};
use crate::driver::{DriveOptions, Engine, NewRun, RunEnd, StatePaths, Stop};
use crate::machine::State;
use crate::record::Record;
use crate::store::{Journal, MemoryJournal};

struct OneFile(String);

impl Loader for OneFile {
    fn read(&self, path: &str) -> Result<String, String> {
        if path == "it.yaml" { Ok(self.0.clone()) } else { Err("no such file".to_owned()) }
    }
}

/// Three steps in a row and one for the end.
pub(super) const CHAIN: &str = "
steps:
  - { id: a, uses: t.idempotent }
  - id: b
    uses: t.keyed
    retry: { max_attempts: 2, initial_interval: 1ms }
    if_it_fails: Call the vendor.
  - { id: c, uses: t.once }
finally:
  - { id: tidy, uses: t.read }
";

/// One test's own world.
pub(super) struct Bench {
    pub(super) world: Arc<World>,
    pub(super) journal: Arc<MemoryJournal>,
    pub(super) folder: TempDir,
    pub(super) kind: &'static str,
}

impl Bench {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (world, journal) = (Arc::<World>::default(), Arc::new(MemoryJournal::new()));
        let _first = world.journal.set(journal.clone());
        Self { world, journal, folder, kind: "local" }
    }

    pub(super) fn engine_on(&self, journal: Dying) -> (Engine, Arc<Dying>) {
        let journal = Arc::new(journal);
        let registry = Arc::new(Actions::new(&self.world));
        let paths = StatePaths { root: self.folder.path().to_owned() };
        (Engine::new(journal.clone(), registry, paths), journal)
    }

    pub(super) fn engine(&self) -> Engine {
        self.engine_on(Dying::never(&self.journal)).0
    }

    #[track_caller]
    pub(super) fn start(&self, engine: &Engine, steps: &str) -> String {
        let text = format!("name: it\nkind: maintenance\n{steps}");
        let kind = self.kind;
        let environment_text = format!(
            "name: {kind}\nkind: {kind}\ndata: synthetic\nsecrets: {{ token: {{ file: /nowhere/token }} }}\n"
        );
        let mut sources = Sources::default();
        let id = sources.add("env.yaml", environment_text.clone());
        let environment =
            environment_file::decode(&sources, id, None).ok().expect("the environment is sound");
        let inputs = BTreeMap::new();
        let registry = Actions::new(&self.world);
        let request = Request {
            runbook: "it.yaml",
            environment: Some(&environment),
            inputs: Some(&inputs),
            registry: &registry,
            waivers: &[],
        };
        let compiled = compile(&request, &OneFile(text));
        let workflow = compiled.workflow.unwrap_or_else(|| panic!("{:#?}", compiled.diagnostics));
        let new = NewRun {
            workflow: &workflow,
            sources: &compiled.sources,
            runbook: "it.yaml".to_owned(),
            base: self.folder.path().to_owned(),
            environment: &environment,
            environment_files: vec![("env.yaml".to_owned(), environment_text)],
            inputs,
            waivers: Vec::new(),
            actor: "ada".to_owned(),
        };
        engine.start(new).expect("the run starts")
    }

    pub(super) fn records(&self, run: &str) -> Vec<&'static str> {
        let stored = self.journal.read(run, 0).expect("the journal is whole");
        stored.iter().map(|s| Record::decode(&s.body).expect("a record").kind()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let early = self.world.early.lock().expect("no action panicked in there");
        assert!(
            early.is_empty() || std::thread::panicking(),
            "called before their start was durable: {early:?}"
        );
    }
}

pub(super) fn options() -> DriveOptions {
    DriveOptions {
        actor: "ada".to_owned(),
        stop: Stop::new(),
        yes: false,
        waits_for_people: false,
        rehearsal: None,
    }
}

pub(super) async fn drive(engine: &Engine, run: &str) -> RunEnd {
    engine.drive(run, options(), Vec::new()).await.expect("the engine works")
}

pub(super) fn step(path: &str) -> StepPath {
    StepPath::new(path)
}

pub(super) fn state(engine: &Engine, run: &str, path: &str) -> State {
    engine.load(run).expect("the run loads").machine.instance(&step(path)).expect("the step exists").state
}
