//! Work on many objects at once, as many as the pace allows and memory holds. After a failure or a wish to stop nothing
//! new is begun; what is in flight is finished, so that it can be noted.

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use runbook_core::action::{ActionError, BoxFuture, Context};

use super::pace::Pace;
use super::service::CHUNK;

/// One piece of work, and how many bytes of memory it holds while it is on its way.
pub(super) struct Job<'a, T> {
    bytes: u64,
    work: BoxFuture<'a, Result<T, ActionError>>,
}

impl<'a, T> Job<'a, T> {
    /// Work on an object of that size, which is read in chunks and sent in chunks.
    pub(super) fn on(size: u64, work: impl Future<Output = Result<T, ActionError>> + Send + 'a) -> Self {
        Self { bytes: size.min(CHUNK) * 2 + SMALL, work: work.boxed() }
    }
}

/// Work in flight holds no more than this together, unless one piece alone does.
const BYTES_MAX: u64 = 96 << 20;
/// What a request holds beside its body.
const SMALL: u64 = 32 << 10;

/// The jobs in flight.
pub(super) struct Crew<'a, T> {
    ctx: &'a Context,
    pace: &'a Pace,
    running: FuturesUnordered<BoxFuture<'a, (u64, Result<T, ActionError>)>>,
    bytes: u64,
    /// What was begun and does not fit yet.
    waiting: Option<Job<'a, T>>,
    failed: Option<ActionError>,
    over: bool,
}

impl<'a, T: 'a> Crew<'a, T> {
    pub(super) fn new(ctx: &'a Context, pace: &'a Pace) -> Self {
        let running = FuturesUnordered::new();
        Self { ctx, pace, running, bytes: 0, waiting: None, failed: None, over: false }
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
                let Some(job) = self.waiting.take().or_else(&mut begin) else {
                    self.over = true;
                    break;
                };
                if self.bytes + job.bytes > BYTES_MAX && !self.running.is_empty() {
                    self.waiting = Some(job);
                    break;
                }
                self.bytes += job.bytes;
                let Job { bytes, work } = job;
                self.running.push(work.map(move |done| (bytes, done)).boxed());
            }
            let Some((bytes, done)) = self.running.next().await else { break };
            self.bytes -= bytes;
            match done {
                Ok(done) => return Ok(Some(done)),
                Err(error) => {
                    self.failed.get_or_insert(error);
                }
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
