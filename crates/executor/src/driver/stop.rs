//! The wish to stop, in two strengths. Whoever catches Ctrl-C holds one end, the engine and every attempt
//! the other.

use std::sync::Arc;

use runbook_core::action::{BoxFuture, StopSignal};
use tokio::sync::watch;

/// A wish to stop that can only grow stronger. Clones share it.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<u8>>);

const GENTLE: u8 = 1;
const NOW: u8 = 2;

impl Default for Stop {
    fn default() -> Self {
        Self::new()
    }
}

impl Stop {
    /// Nobody wants to stop yet.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    /// Finish or checkpoint what is in flight, then stop.
    pub fn gentle(&self) {
        self.raise(GENTLE);
    }

    /// Stop at once; what is in flight is settled by the next resume.
    pub fn now(&self) {
        self.raise(NOW);
    }

    /// Stop, in either strength.
    pub fn is_wanted(&self) -> bool {
        *self.0.borrow() >= GENTLE
    }

    /// Stop at once.
    pub fn is_wanted_now(&self) -> bool {
        *self.0.borrow() >= NOW
    }

    fn raise(&self, level: u8) {
        self.0.send_if_modified(|now| {
            let grows = level > *now;
            *now = (*now).max(level);
            grows
        });
    }

    /// Ready when the wish is stronger than it was at the last call with the same receiver.
    pub(super) fn watch(&self) -> watch::Receiver<u8> {
        self.0.subscribe()
    }

    async fn wanted(&self) {
        // The sender lives as long as `self`, so waiting cannot fail.
        let mut level = self.0.subscribe();
        let _ended = level.wait_for(|level| *level >= GENTLE).await;
    }
}

impl StopSignal for Stop {
    fn requested(&self) -> bool {
        self.is_wanted()
    }
    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.wanted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_to_stop_wakes_all_who_wait_and_never_weakens() {
        let stop = Stop::new();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.wait().await }
        });
        stop.now();
        stop.gentle();
        waiting.await.unwrap();
        assert!(stop.is_wanted_now() && stop.requested());
    }
}
