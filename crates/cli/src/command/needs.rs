//! What the runbooks of a folder need: which systems their steps talk to, and the strictest RPO that they promise. Reads
//! files, asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use runbook_actions::ready::System;
use runbook_core::document::Kind;
use runbook_core::environment::Environment;
use runbook_core::workflow::{Step, Work};

use crate::command::check;
use crate::project;

/// What a folder of runbooks needs.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Each system with the runbooks that use it.
    pub(crate) systems: BTreeMap<System, BTreeSet<String>>,
    /// Whether any step dumps a database.
    pub(crate) dumps: bool,
    /// The strictest RPO of a runbook for incidents.
    pub(crate) rpo: Option<Duration>,
    /// Runbooks that rehearse.
    pub(crate) drills: BTreeSet<String>,
    /// How many runbooks were read.
    pub(crate) runbooks: usize,
    /// Runbooks with mistakes, and the first of each.
    pub(crate) broken: Vec<(String, String)>,
}

/// Reads all runbooks of a folder.
pub(crate) fn look(dir: &Path, environment: Option<&Environment>) -> Needs {
    let registry = runbook_actions::registry();
    let mut needs = Needs::default();
    for path in project::runbooks(dir) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let compiled = match check::compiled(&path, environment, &registry) {
            Ok(compiled) => compiled,
            Err(failure) => {
                needs.broken.push((name, failure.text()));
                continue;
            }
        };
        needs.runbooks += 1;
        let Some(workflow) = compiled.workflow else {
            // A part that freezes and does not reopen is refused by itself; those that use it are read too.
            let other = compiled.diagnostics.iter().find(|d| {
                d.severity == runbook_core::diagnostic::Severity::Error && !d.code.starts_with('G')
            });
            if let Some(mistake) = other {
                needs.broken.push((name, mistake.message.clone()));
            }
            continue;
        };
        if workflow.kind == Kind::Incident {
            needs.rpo = [needs.rpo, workflow.rpo].into_iter().flatten().min();
        }
        if workflow.kind == Kind::Drill {
            needs.drills.insert(workflow.name.clone());
        }
        for step in &workflow.steps {
            needs.add(step, &workflow.name);
        }
    }
    needs
}

impl Needs {
    fn add(&mut self, step: &Step, runbook: &str) {
        let Work::Action { name } = &step.work else { return };
        self.dumps |= name == "postgres.dump";
        for system in System::of_action(name) {
            self.systems.entry(system.clone()).or_default().insert(runbook.to_owned());
        }
        let to = step.with.get("to").and_then(|template| template.0.as_str());
        if let ("notify", Some(to)) = (name.as_str(), to)
            && to != "show"
            && !to.contains("{{")
        {
            let system = System::Notify(to.to_owned());
            self.systems.entry(system).or_default().insert(runbook.to_owned());
        }
    }
}
