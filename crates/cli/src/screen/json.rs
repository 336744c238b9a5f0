//! A run as JSON lines on stdout: one versioned object a line, for programs. The shape is published as
//! `schemas/events.schema.json`.

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use runbook_executor::event::{Event, News, Reporter};
use runbook_executor::record::Record;
use serde_json::{Value, json};

/// Lines of progress of one step are at least this far apart.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// The reporter for programs.
#[derive(Default)]
pub(crate) struct JsonLines {
    began: bool,
    shown: HashMap<String, Duration>,
}

impl Reporter for JsonLines {
    fn event(&mut self, event: &Event<'_>) {
        if !self.began {
            self.began = true;
            say(&json!({
                "v": 1, "kind": "run", "run": event.run, "runbook": event.workflow.name,
                "plan": event.workflow.digest, "at": event.at,
            }));
        }
        match event.news {
            News::Record { seq, record } => say(&record_line(event.run, seq, event.at, record)),
            News::Progress { step, progress } => {
                let due = self
                    .shown
                    .get(step.as_str())
                    .is_none_or(|at| event.elapsed.saturating_sub(*at) >= PROGRESS_EVERY);
                if due {
                    self.shown.insert(step.as_str().to_owned(), event.elapsed);
                    say(&json!({
                        "v": 1, "kind": "progress", "run": event.run, "at": event.at, "step": step,
                        "done": progress.done, "total": progress.total, "unit": progress.unit,
                        "message": progress.message,
                    }));
                }
            }
            News::Warning(text) => {
                say(&json!({ "v": 1, "kind": "warning", "run": event.run, "at": event.at, "message": text }));
            }
            News::Stopping => say(&json!({ "v": 1, "kind": "stopping", "run": event.run, "at": event.at })),
            News::Tick => {}
        }
    }
}

/// A record as a line: its own fields, and which run, where and when.
pub(crate) fn record_line(run: &str, seq: u64, at: Timestamp, record: &Record) -> Value {
    let body = sources_left_out(record);
    let mut line = json!({ "v": 1, "kind": record.kind(), "run": run, "seq": seq, "at": at });
    if let (Value::Object(line), Value::Object(body)) = (&mut line, body) {
        for (key, value) in body {
            if key != "kind" {
                line.insert(key, value);
            }
        }
    }
    line
}

/// A record as JSON, with the pinned files by name only: their texts would fill the screen.
pub(crate) fn sources_left_out(record: &Record) -> Value {
    let mut body = serde_json::to_value(record).unwrap_or(Value::Null);
    if let Some(sources) = body.get_mut("sources").and_then(Value::as_array_mut) {
        for source in sources {
            *source = source.get("path").cloned().unwrap_or(Value::Null);
        }
    }
    body
}

/// A reader that went away cannot fail a run: the journal has it all.
fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    let _unheard = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// JSON Schema of the lines.
pub(crate) fn events_schema() -> Value {
    let text = json!({ "type": "string" });
    let whole = json!({ "type": "integer", "minimum": 0 });
    let moment = json!({ "type": "string", "format": "date-time" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of runbook --json",
        "description": "One object a line. A reader ignores kinds and keys that it does not know; `v` grows when \
                        a key changes its meaning. Kinds not listed in `oneOf` are records of the journal, with \
                        the record's own keys.",
        "type": "object",
        "required": ["v", "kind"],
        "properties": {
            "v": { "const": 1 },
            "kind": { "type": "string", "description": "What the line says." },
            "run": { "type": "string", "description": "The run's id." },
            "seq": { "type": "integer", "minimum": 1, "description": "Number of the record in its journal." },
            "at": moment,
            "step": { "type": "string", "description": "Path of the step, with the item key where there is one." },
        },
        "oneOf": [
            { "title": "first line of run and resume", "required": ["run", "plan", "runbook"],
              "properties": { "kind": { "const": "run" }, "plan": text, "runbook": text } },
            { "title": "progress inside a step", "required": ["run", "step", "done", "unit"],
              "properties": { "kind": { "const": "progress" }, "done": whole, "unit": text,
                              "total": { "type": ["integer", "null"] }, "message": text } },
            { "title": "something to know that stops nothing", "required": ["message"],
              "properties": { "kind": { "const": "warning" }, "message": text } },
            { "title": "the command failed", "required": ["status", "message"],
              "properties": { "kind": { "const": "error" }, "status": whole, "message": text,
                              "causes": { "type": "array", "items": text },
                              "notes": { "type": "array", "items": text },
                              "hints": { "type": "array", "items": text } } },
            { "title": "last line of run and resume", "required": ["run", "outcome", "status"],
              "properties": { "kind": { "const": "end" }, "outcome": text, "status": whole,
                              "outputs": { "type": "object" },
                              "in_force": { "type": "array", "items": { "type": "object" } } } },
            { "title": "a record of the journal", "required": ["run", "seq", "at"],
              "properties": { "kind": { "not": { "enum": ["run", "progress", "warning", "error", "end"] } } } },
            { "title": "any other line of a command that is no run",
              "properties": { "kind": { "enum": ["action", "backup", "backup_inspected", "backup_verified", "check", "diagnostic", "doctor", "drill",
                                                  "listed", "plan", "report", "resume_plan", "said", "sandbox", "status", "stopping",
                                                  "verified"] } },
              "not": { "required": ["seq"] } },
        ],
    })
}
