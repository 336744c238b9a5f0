//! A rehearsal of the worst: the process dies by SIGKILL as soon as a given record is durable. No handler
//! runs, nothing is tidied up; what a power cut leaves, but for the disk's own cache.

use std::collections::BTreeSet;

use runbook_executor::event::{Event, News, Reporter};
use runbook_executor::record::Record;
use runbook_executor::store::Stored;

/// Dies at one record.
pub(crate) struct DieAfter(pub(crate) u64);

impl Reporter for DieAfter {
    fn event(&mut self, event: &Event<'_>) {
        if let News::Record { seq, .. } = event.news
            && seq >= self.0
        {
            die();
        }
    }
}

/// Dies at the first record of each kind of each step, checkpoints by name: the journal is its memory, so a run
/// that is resumed often enough was killed at every kind of moment, and comes to its end.
pub(crate) struct DieAtNew(BTreeSet<String>);

impl DieAtNew {
    /// Knows what is in the journal already.
    pub(crate) fn after(stored: &[Stored]) -> Self {
        let records = stored.iter().filter_map(|stored| Record::decode(&stored.body).ok());
        Self(records.map(|record| moment(&record)).collect())
    }
}

impl Reporter for DieAtNew {
    fn event(&mut self, event: &Event<'_>) {
        if let News::Record { record, .. } = event.news
            && self.0.insert(moment(record))
        {
            die();
        }
    }
}

fn moment(record: &Record) -> String {
    let step = record.step().map_or("", |step| step.as_str());
    let name = match record {
        Record::Checkpoint { name, .. } => name.as_str(),
        _ => "",
    };
    format!("{} {step} {name}", record.kind())
}

fn die() {
    // Cannot fail: a process may always signal itself.
    let _dead = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
