//! A rehearsal of the worst: the process dies by SIGKILL as soon as a given record is durable. No handler
//! runs, nothing is tidied up; what a power cut leaves, but for the disk's own cache.

use runbook_executor::event::{Event, News, Reporter};

/// Dies at one record.
pub(crate) struct DieAfter(pub(crate) u64);

impl Reporter for DieAfter {
    fn event(&mut self, event: &Event<'_>) {
        if let News::Record { seq, .. } = event.news
            && seq >= self.0
        {
            // Cannot fail: a process may always signal itself.
            let _dead =
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
