//! `runbook check`: every mistake of every file given, and nothing run.

use std::path::Path;

use runbook_core::action::Registry;
use runbook_core::compile::{Compiled, Request, compile};
use runbook_core::diagnostic::{Diagnostic, Severity, Sources};
use runbook_core::environment::Environment;
use serde_json::json;

use crate::arguments::{Check, Global};
use crate::excerpt;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::ui::Ui;

pub(crate) fn check(ui: &Ui, global: &Global, given: &Check) -> Result<Exit, Failure> {
    let registry = runbook_actions::registry();
    let mut broken = 0;
    for path in &given.runbooks {
        let environment = match &given.env {
            None => None,
            Some(name) => {
                let (base, _, _) = project::runbook(path)?;
                let loaded = project::environment(&base, name, &project::state_dir(global)?)?;
                if tell(ui, path, &loaded.diagnostics, &loaded.sources) {
                    broken += 1;
                    continue;
                }
                loaded.environment
            }
        };
        let compiled = compiled(path, environment.as_ref(), &registry)?;
        broken += usize::from(tell(ui, path, &compiled.diagnostics, &compiled.sources));
        if let (Some(workflow), false) = (&compiled.workflow, has_errors(&compiled.diagnostics)) {
            let steps = crate::words::count(workflow.steps.len(), "step");
            ui.remark(&format!("{}: {}, {steps}, no mistakes", path.display(), workflow.name));
        }
    }
    Ok(if broken == 0 { Exit::Succeeded } else { Exit::Invalid })
}

/// Compiles without values for inputs.
pub(crate) fn compiled(
    path: &Path,
    environment: Option<&Environment>,
    registry: &dyn Registry,
) -> Result<Compiled, Failure> {
    let (base, name, folder) = project::runbook(path)?;
    let request = Request { runbook: &name, environment, inputs: None, registry, waivers: &[] };
    let mut compiled = compile(&request, &folder);
    compiled.sources = named(&compiled.sources, &base);
    Ok(compiled)
}

/// The same files under the names that a person would use from where they are.
pub(crate) fn named(sources: &Sources, base: &Path) -> Sources {
    let mut named = Sources::default();
    for file in sources.files() {
        named.add(project::shown(&base.join(&file.path)), file.text.clone());
    }
    named
}

/// Tells the mistakes; whether there are errors among them.
pub(crate) fn tell(ui: &Ui, path: &Path, diagnostics: &[Diagnostic], sources: &Sources) -> bool {
    if ui.json {
        diagnostics.iter().for_each(|diagnostic| ui.line(&line(path, diagnostic, sources).to_string()));
    } else if !diagnostics.is_empty() {
        ui.block(&excerpt::render(diagnostics, sources, ui.color));
    }
    has_errors(diagnostics)
}

/// Like [`tell`], for a command whose result is another: its first line of JSON carries what a program waits for, so
/// what are warnings only goes to stderr.
pub(crate) fn tell_beside(ui: &Ui, path: &Path, diagnostics: &[Diagnostic], sources: &Sources) -> bool {
    if !ui.json || has_errors(diagnostics) {
        return tell(ui, path, diagnostics, sources);
    }
    if !diagnostics.is_empty() {
        ui.remark(excerpt::render(diagnostics, sources, false).trim_end());
    }
    false
}

pub(crate) fn has_errors(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|d| d.severity == Severity::Error)
}

fn line(path: &Path, diagnostic: &Diagnostic, sources: &Sources) -> serde_json::Value {
    let place = diagnostic.span.map(|span| {
        let (line, column) = sources.line_column(span);
        json!({ "file": sources.get(span.source).path, "line": line, "column": column })
    });
    json!({
        "v": 1, "kind": "diagnostic", "runbook": path.to_string_lossy(), "code": diagnostic.code,
        "severity": diagnostic.severity, "message": diagnostic.message, "place": place, "help": diagnostic.help,
    })
}
