//! What a watcher is told: every record once it is durable, and passing news. An event carries all that a
//! display needs, so a reporter has no clock and asks nobody. A reporter cannot fail a run.

use std::time::Duration;

use jiff::Timestamp;
use runbook_core::action::Progress;
use runbook_core::workflow::{StepPath, Workflow};

use crate::machine::Machine;
use crate::record::Record;

/// One piece of news about a run.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The run's id.
    pub run: &'a str,
    /// When.
    pub at: Timestamp,
    /// Since the run was started.
    pub elapsed: Duration,
    /// What is run.
    pub workflow: &'a Workflow,
    /// Where the run stands, this event included.
    pub machine: &'a Machine,
    /// The news.
    pub news: News<'a>,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// A record is durable, by this engine or by somebody else.
    Record {
        /// Its number.
        seq: u64,
        /// The record.
        record: &'a Record,
    },
    /// The latest word from inside a step; older ones may have been left out.
    Progress {
        /// The step instance.
        step: &'a StepPath,
        /// What it says.
        progress: &'a Progress,
    },
    /// Something that a person should know and that stops nothing; redacted.
    Warning(&'a str),
    /// Time passed. Comes about ten times a second, for clocks on a screen.
    Tick,
    /// The wish to stop was heard; what is in flight comes to its end or to a checkpoint first.
    Stopping,
}

/// Someone who is told about a run; cannot stop it.
pub trait Reporter: Send {
    /// Tells. Called on the engine's own task: quick, and never waiting for the network.
    fn event(&mut self, event: &Event<'_>);
}
