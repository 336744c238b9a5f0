//! Keeps the lease alive in the background, and tells at once when it is lost.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::engine::{Clock, EngineError};
use crate::store::{Journal, LEASE_RENEW_EVERY, LEASE_TTL, LeaseError};

/// Renews until it is dropped.
pub(super) struct Renewal(JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) fn renew_in_background(
    journal: Arc<dyn Journal>,
    run: String,
    epoch: u64,
    clock: Clock,
) -> (Renewal, oneshot::Receiver<EngineError>) {
    let (tell, lost) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut renewed = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(LEASE_RENEW_EVERY).await;
            let (journal, run, now) = (journal.clone(), run.clone(), clock());
            let result = tokio::task::spawn_blocking(move || journal.renew(&run, epoch, now)).await;
            let error = match result {
                Ok(Ok(())) => {
                    renewed = tokio::time::Instant::now();
                    continue;
                }
                Ok(Err(LeaseError::Store(error))) => {
                    tracing::warn!(%error, "could not renew the lease");
                    // Others may take the run from here on: going on would be a guess.
                    if renewed.elapsed() < LEASE_TTL {
                        continue;
                    }
                    EngineError::Lease(LeaseError::Store(error))
                }
                Ok(Err(error)) => EngineError::Lease(error),
                Err(_) => EngineError::Shutdown,
            };
            // The engine may have ended in the meantime.
            let _ended = tell.send(error);
            return;
        }
    });
    (Renewal(task), lost)
}
