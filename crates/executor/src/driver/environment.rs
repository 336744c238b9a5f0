//! Taking a run with its environment, and giving an environment back that a run kept beyond its end: its
//! process died between the last record and the release. Nobody has to be asked about that.

use super::engine::{Engine, EngineError};
use crate::holder::{Holder, Liveness};
use crate::record::Record;
use crate::store::{Lease, LeaseError, RunRow};

impl Engine {
    /// Whether a process works on the run, or may do so as far as can be seen from here.
    pub fn is_driven(&self, run: &str) -> Result<bool, EngineError> {
        Ok(self.journal.lease(run)?.is_some_and(|info| info.alive != Liveness::Dead))
    }

    /// Takes a run, and its environment when it writes.
    pub(super) fn take(&self, row: &RunRow, holder: &Holder) -> Result<Lease, EngineError> {
        let take = || self.journal.take_lease(&row.id, &row.environment, holder, row.writes, (self.clock)());
        match take() {
            Err(LeaseError::EnvironmentHeld { run, .. })
                if self.give_back(&run, &row.environment, holder)? =>
            {
                Ok(take()?)
            }
            taken => Ok(taken?),
        }
    }

    /// Frees an environment that `run` has although it is over and nobody works on it; says whether it did.
    pub(super) fn give_back(
        &self,
        run: &str,
        environment: &str,
        holder: &Holder,
    ) -> Result<bool, EngineError> {
        if self.journal.environment_run(environment)?.as_deref() != Some(run) || !self.is_over(run)? {
            return Ok(false);
        }
        // Under the run's own lease: whoever begins to roll it back meanwhile keeps the environment.
        let lease = match self.journal.take_lease(run, environment, holder, false, (self.clock)()) {
            Err(LeaseError::RunHeld { .. }) => return Ok(false),
            lease => lease?,
        };
        let is_over = self.is_over(run);
        self.journal.release(run, lease.epoch, matches!(is_over, Ok(true)))?;
        is_over
    }

    /// Whether the run is finished. From its last records alone: another version of this program may have
    /// started it, so that it cannot be compiled here.
    fn is_over(&self, run: &str) -> Result<bool, EngineError> {
        for stored in self.journal.read(run, 0)?.iter().rev() {
            match Record::decode(&stored.body) {
                // All that a finished run takes in, but the wish to roll it back, which opens it again.
                Ok(Record::Noted { .. }) => {}
                Ok(last) => return Ok(matches!(last, Record::RunFinished { .. })),
                Err(source) => {
                    return Err(EngineError::Record { run: run.to_owned(), seq: stored.seq, source });
                }
            }
        }
        Ok(false)
    }
}
