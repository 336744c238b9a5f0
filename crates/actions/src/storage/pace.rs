//! How many requests may be in flight: grows while answers come quickly, halves when the service asks for
//! time. Counts and measures; sends nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Requests in flight, at first and at most: with some 10 ms each way 32 are worth having, and 128 lose a third again.
/// What they hold in memory is bounded elsewhere.
const FIRST: f64 = 4.0;
const MOST: f64 = 32.0;
/// A small request that takes so many times as long as the quickest means that others wait.
const SLOW_TIMES: u32 = 5;
/// And at least so long: below, the network's own moods count.
const SLOW_MIN: Duration = Duration::from_millis(400);

/// Shared by all requests to one service.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    limit: f64,
    quickest: Option<Duration>,
    not_before: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { limit: FIRST, quickest: None, not_before: None }))
    }

    /// How many may be in flight now.
    pub(super) fn limit(&self) -> usize {
        // Between 1 and MOST, so nothing is lost.
        let mut allowed = 1;
        let limit = self.state().limit;
        while f64::from(allowed) + 1.0 <= limit {
            allowed += 1;
        }
        usize::try_from(allowed).unwrap_or(1)
    }

    /// How long to wait before the next request, when the service asked for time.
    pub(super) fn wait(&self) -> Option<Duration> {
        let left = self.state().not_before?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// A small request was answered well.
    pub(super) fn answered(&self, took: Duration) {
        let mut state = self.state();
        let quickest = state.quickest.map_or(took, |known| known.min(took));
        state.quickest = Some(quickest);
        if took > SLOW_MIN && took > quickest * SLOW_TIMES {
            state.limit = (state.limit * 0.8).max(1.0);
        } else {
            state.limit = (state.limit + 1.0 / state.limit).min(MOST);
        }
    }

    /// The service is busy, and nothing shall be sent for so long.
    pub(super) fn refused(&self, pause: Duration) {
        let mut state = self.state();
        state.limit = (state.limit / 2.0).max(1.0);
        let until = Instant::now() + pause;
        state.not_before = Some(state.not_before.map_or(until, |known| known.max(until)));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing here is half-written when a holder panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quick_answers_raise_the_limit_and_a_refusal_halves_it() {
        let pace = Pace::new();
        let first = pace.limit();
        (0..600).for_each(|_| pace.answered(Duration::from_millis(20)));
        let most = pace.limit();
        pace.refused(Duration::from_secs(9));
        assert_eq!((first, most, pace.limit()), (4, 32, 16));
        assert!(pace.wait().is_some_and(|left| left > Duration::from_secs(8)));
        (0..9).for_each(|_| pace.refused(Duration::ZERO));
        assert_eq!(pace.limit(), 1, "something always goes on");
    }

    #[test]
    fn answers_that_become_slow_lower_the_limit() {
        let pace = Pace::new();
        (0..600).for_each(|_| pace.answered(Duration::from_millis(50)));
        (0..3).for_each(|_| pace.answered(Duration::from_secs(2)));
        assert_eq!(pace.limit(), 16);
    }
}
