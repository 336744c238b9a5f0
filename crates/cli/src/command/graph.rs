//! `runbook graph`: the steps and what they need, as text, Graphviz or Mermaid. Pure after compiling.

use std::fmt::Write as _;

use runbook_core::workflow::{Phase, Step, Work, Workflow};

use crate::arguments::{Global, Graph, GraphForm};
use crate::command::check;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::ui::Ui;

pub(crate) fn graph(ui: &Ui, global: &Global, given: &Graph) -> Result<Exit, Failure> {
    let registry = runbook_actions::registry();
    let environment = match &given.env {
        None => None,
        Some(name) => {
            let (base, _, _) = project::runbook(&given.runbook)?;
            project::environment(&base, name, &project::state_dir(global)?)?.environment
        }
    };
    let compiled = check::compiled(&given.runbook, environment.as_ref(), &registry)?;
    let Some(workflow) = &compiled.workflow else {
        check::tell(ui, &given.runbook, &compiled.diagnostics, &compiled.sources);
        return Ok(Exit::Invalid);
    };
    ui.block(&match given.format {
        GraphForm::Text => text(workflow),
        GraphForm::Dot => dot(workflow),
        GraphForm::Mermaid => mermaid(workflow),
    });
    Ok(Exit::Succeeded)
}

/// What a step is, in a word.
fn what(step: &Step) -> &str {
    match &step.work {
        Work::Action { name } => name,
        Work::Begin => "(begin)",
        Work::End { .. } => "(end)",
    }
}

fn text(workflow: &Workflow) -> String {
    let widest = workflow.steps.iter().map(|s| s.path.as_str().chars().count()).max().unwrap_or(0);
    let action = workflow.steps.iter().map(|s| what(s).len()).max().unwrap_or(0);
    let mut text = format!("{}: {}\n", workflow.name, workflow.title);
    let mut phase = Phase::Main;
    for (number, step) in workflow.steps.iter().enumerate() {
        if step.phase != phase {
            phase = step.phase;
            let name = if phase == Phase::Finally { "finally" } else { "on_failure" };
            let _ = writeln!(text, "{name}:");
        }
        let needs: Vec<String> = step
            .needs
            .iter()
            .filter_map(|need| workflow.steps.iter().position(|s| &s.path == need))
            .map(|at| (at + 1).to_string())
            .collect();
        let needs = if needs.is_empty() { "-".to_owned() } else { needs.join(" ") };
        let tags = if step.tags.is_empty() { String::new() } else { format!("  [{}]", step.tags.join(", ")) };
        let _ = writeln!(
            text,
            "{:4}  {:widest$}  {:action$}  needs {needs}{tags}",
            number + 1,
            step.path.as_str(),
            what(step)
        );
    }
    text
}

fn dot(workflow: &Workflow) -> String {
    let mut text = format!("digraph {:?} {{\n  rankdir=LR;\n  node [shape=box];\n", workflow.name);
    for step in &workflow.steps {
        let label = format!("{}\n{}", step.path, what(step));
        let _ = writeln!(text, "  {:?} [label={label:?}];", step.path.as_str());
    }
    for step in &workflow.steps {
        for need in &step.needs {
            let _ = writeln!(text, "  {:?} -> {:?};", need.as_str(), step.path.as_str());
        }
    }
    text.push_str("}\n");
    text
}

fn mermaid(workflow: &Workflow) -> String {
    let at = |path: &str| workflow.steps.iter().position(|s| s.path.as_str() == path);
    let mut text = "flowchart LR\n".to_owned();
    for (number, step) in workflow.steps.iter().enumerate() {
        let _ = writeln!(text, "  s{number}[\"{}<br/>{}\"]", step.path, what(step));
    }
    for (number, step) in workflow.steps.iter().enumerate() {
        for need in step.needs.iter().filter_map(|need| at(need.as_str())) {
            let _ = writeln!(text, "  s{need} --> s{number}");
        }
    }
    text
}
