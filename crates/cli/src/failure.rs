//! What a person reads when something went wrong: heading, causes, the state of the world, what is still
//! in force, the next command. The only place that turns an error into words and an exit status.

use std::error::Error;

use crate::exit::Exit;
use crate::ui::Ui;

/// An error on its way to a person.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    heading: String,
    causes: Vec<String>,
    notes: Vec<String>,
    hints: Vec<String>,
}

impl Failure {
    /// With an exit status and what was attempted.
    pub(crate) fn new(exit: Exit, heading: impl Into<String>) -> Self {
        Self { exit, heading: heading.into(), causes: Vec::new(), notes: Vec::new(), hints: Vec::new() }
    }

    /// The command line is wrong.
    pub(crate) fn usage(heading: impl Into<String>) -> Self {
        Self::new(Exit::Usage, heading)
    }

    /// A runbook or environment is wrong.
    pub(crate) fn invalid(heading: impl Into<String>) -> Self {
        Self::new(Exit::Invalid, heading)
    }

    /// The tool or the machine is at fault.
    pub(crate) fn io(attempted: impl Into<String>, error: impl Error) -> Self {
        Self::new(Exit::Internal, attempted).because(error)
    }

    /// Adds an error and its sources as causes, each once.
    #[must_use]
    pub(crate) fn because(mut self, error: impl Error) -> Self {
        self.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if self.causes.last() != Some(&text) {
                self.causes.push(text);
            }
            source = cause.source();
        }
        self
    }

    /// Adds a line about the world now.
    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The status to end with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Tells it; as a JSON line too when lines are wanted.
    pub(crate) fn tell(&self, ui: &Ui) {
        if ui.json {
            let line = serde_json::json!({
                "v": 1, "kind": "error", "status": self.exit.status(), "message": self.heading,
                "causes": self.causes, "notes": self.notes, "hints": self.hints,
            });
            ui.line(&line.to_string());
        }
        ui.error(&self.text());
    }

    /// The words.
    pub(crate) fn text(&self) -> String {
        let heading = match self.exit {
            Exit::Internal if self.causes.is_empty() => format!("internal error: {}", self.heading),
            _ => format!("error: {}", self.heading),
        };
        let mut lines = vec![heading];
        lines.extend(self.causes.iter().map(|cause| format!("  caused by: {cause}")));
        if !self.notes.is_empty() {
            lines.push(String::new());
            lines.extend(self.notes.iter().map(|note| format!("  {note}")));
        }
        if !self.hints.is_empty() {
            lines.push(String::new());
            lines.extend(self.hints.iter().map(|hint| format!("  hint: {hint}")));
        }
        lines.join("\n")
    }
}
