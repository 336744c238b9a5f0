//! What is compiled, and what comes out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{check, digest, edges, expand, inputs, load, order};
use crate::action::Registry;
use crate::diagnostic::{Diagnostic, Severity, Sources};
use crate::document::Document;
use crate::environment::Environment;
use crate::guard;
use crate::workflow::{Template, Workflow};

/// Reads runbook files; the cli reads the disk, a resume reads the texts that the journal pinned.
pub trait Loader {
    /// The text of a file. The error is a phrase for people: `no such file`.
    fn read(&self, path: &str) -> Result<String, String>;
}

/// A golden rule set aside for one run, by a person with a reason. A file cannot waive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiver {
    /// The guard's code: `G07`.
    pub guard: String,
    /// Why, in the words of who waived.
    pub reason: String,
    /// Who waived.
    pub by: String,
}

/// What to compile.
pub struct Request<'a> {
    /// Path of the root file, as a person would name it, with `/`.
    pub runbook: &'a str,
    /// Where it would run; without it nothing that depends on the environment is checked.
    pub environment: Option<&'a Environment>,
    /// Values of the root's inputs; `None` checks without values and asks for none.
    pub inputs: Option<&'a BTreeMap<String, Value>>,
    /// All actions.
    pub registry: &'a dyn Registry,
    /// Golden rules set aside: their mistakes become warnings.
    pub waivers: &'a [Waiver],
}

/// What came out.
pub struct Compiled {
    /// The workflow; `None` when there is an error among the diagnostics.
    pub workflow: Option<Workflow>,
    /// Everything found, by file and place.
    pub diagnostics: Vec<Diagnostic>,
    /// The files that were read, the root first; what a run pins.
    pub sources: Sources,
}

/// Compiles a runbook with all runbooks it uses. Finds as many mistakes at once as it can. The same texts,
/// inputs, environment and waivers always give the same digest.
pub fn compile(request: &Request<'_>, loader: &dyn Loader) -> Compiled {
    let mut found = Vec::new();
    let library = load::load(request.runbook, loader, &mut found);
    let workflow = library.root().and_then(|root| assemble(request, &library, root, &mut found));
    let is_sound = !found.iter().any(|d| d.severity == Severity::Error);
    found.sort_by_key(|d| d.span.map(|span| (span.source, span.start)));
    Compiled { workflow: workflow.filter(|_| is_sound), diagnostics: found, sources: library.into_sources() }
}

fn assemble(
    request: &Request<'_>,
    library: &load::Library,
    root: &Document,
    found: &mut Vec<Diagnostic>,
) -> Option<Workflow> {
    let values = inputs::resolve(root, request.inputs, found);
    let mut plan = expand::expand(library, root, request.environment, found)?;
    edges::connect(&mut plan, found);
    let order = order::order(&plan, found)?;
    check::check(&plan, &order, request, library.sources(), found);
    let mut workflow = Workflow {
        name: root.name.value.clone(),
        title: root.title.as_ref().unwrap_or(&root.name).value.clone(),
        kind: root.kind.value,
        rpo: root.objectives.rpo.map(|d| d.value),
        rto: root.objectives.rto.map(|d| d.value),
        deadline: root.deadline.map(|d| d.value),
        inputs: values,
        steps: order::into_steps(plan, &order),
        outputs: root
            .outputs
            .iter()
            .map(|(name, tree)| (name.value.clone(), Template(tree.to_value())))
            .collect(),
        digest: String::new(),
    };
    // A guard judges what would run; after an error nothing would.
    if !found.iter().any(|d| d.severity == Severity::Error) {
        guard::check(&workflow, request.environment, request.registry, request.waivers, found);
    }
    workflow.digest = digest::digest(&workflow, request.environment, request.waivers);
    Some(workflow)
}
