//! Work on many objects at once, as many as the pace allows. After a failure or a wish to stop nothing new is
//! begun; what is in flight is finished, so that it can be noted.

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use runbook_core::action::{ActionError, BoxFuture, Context};

use super::pace::Pace;

/// One piece of work on its way.
pub(super) type Job<'a, T> = BoxFuture<'a, Result<T, ActionError>>;

/// The jobs in flight.
pub(super) struct Crew<'a, T> {
    ctx: &'a Context,
    pace: &'a Pace,
    running: FuturesUnordered<Job<'a, T>>,
    failed: Option<ActionError>,
    over: bool,
}

impl<'a, T> Crew<'a, T> {
    pub(super) fn new(ctx: &'a Context, pace: &'a Pace) -> Self {
        Self { ctx, pace, running: FuturesUnordered::new(), failed: None, over: false }
    }

    /// The next result, in any order; none when all is done. The first failure is told after everything that was
    /// in flight has come back.
    pub(super) async fn next(
        &mut self,
        mut begin: impl FnMut() -> Option<Job<'a, T>>,
    ) -> Result<Option<T>, ActionError> {
        loop {
            while !self.over
                && self.failed.is_none()
                && !self.ctx.stop.requested()
                && self.running.len() < self.pace.limit()
            {
                match begin() {
                    Some(job) => self.running.push(job),
                    None => self.over = true,
                }
            }
            match self.running.next().await {
                Some(Ok(done)) => return Ok(Some(done)),
                Some(Err(error)) => {
                    self.failed.get_or_insert(error);
                }
                None => break,
            }
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None if self.over => Ok(None),
            None => Err(stopped()),
        }
    }
}

/// The run wants to stop, and what was done is noted.
pub(super) fn stopped() -> ActionError {
    ActionError::unchanged("go on with the objects: the run was asked to stop").code("stopped")
}
