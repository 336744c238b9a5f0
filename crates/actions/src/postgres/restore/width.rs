//! How many connections are at work. What a server can do at once is nowhere to be asked, so it is tried: two begin, then
//! all there are, which stay if they have the rows go in faster. Pure: knows no connection, and is told the time.

use std::time::Instant;

/// How many begin.
const FIRST: usize = 2;
/// How much faster rows must go in with all connections for all of them to stay. With more of them than processors, each
/// only takes what the others lack, and rows of one table lose their order.
const FASTER: f64 = 1.3;

/// Finds the number.
#[derive(Debug)]
pub(super) struct Width {
    max: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Rows are measured with the first number.
    First(Option<Window>),
    /// Rows are measured with all; with the first number so many a second went in.
    All(f64, Window),
    /// Found.
    Found(usize),
}

/// Rows of one table that went in, while others waited: then nothing but the server sets the pace.
#[derive(Debug)]
struct Window {
    table: String,
    /// Chunks that were under way before are passed over.
    skip: usize,
    chunks: usize,
    rows: u64,
    since: Instant,
}

impl Window {
    fn new(table: &str, skip: usize, since: Instant) -> Self {
        Self { table: table.to_owned(), skip, chunks: 0, rows: 0, since }
    }

    /// Rows a second, when enough chunks went in.
    fn take(&mut self, rows: u64, wanted: usize, now: Instant) -> Option<f64> {
        if self.skip > 0 {
            self.skip -= 1;
            self.since = now;
            return None;
        }
        self.chunks += 1;
        self.rows += rows;
        let seconds = now.duration_since(self.since).as_secs_f64();
        (self.chunks >= wanted && seconds > 0.0).then(|| self.rows as f64 / seconds)
    }
}

impl Width {
    /// `max` connections are there; with `fixed` all of them are wanted.
    pub(super) fn new(max: usize, fixed: bool) -> Self {
        let state = if fixed || max <= FIRST { State::Found(max) } else { State::First(None) };
        Self { max, state }
    }

    /// How many may carry rows.
    pub(super) fn for_rows(&self) -> usize {
        match self.state {
            State::First(_) => FIRST,
            State::All(..) => self.max,
            State::Found(found) => found,
        }
    }

    /// How many may carry anything else. Nothing speaks against all of them while nothing was found.
    pub(super) fn for_others(&self) -> usize {
        match self.state {
            State::Found(found) => found,
            _ => self.max,
        }
    }

    /// A chunk of rows of a table is in; `more` were waiting for a connection.
    pub(super) fn loaded(&mut self, table: &str, rows: u64, more: bool, now: Instant) {
        let (window, wanted) = match &mut self.state {
            State::Found(_) => return,
            State::First(window) => (window.as_mut(), 2 * FIRST),
            State::All(_, window) => (Some(window), 2 * self.max),
        };
        // Rows of another table cost something else.
        let Some(window) = window.filter(|window| more && window.table == table) else {
            self.state = State::First(Some(Window::new(table, FIRST, now)));
            return;
        };
        let Some(rate) = window.take(rows, wanted, now) else { return };
        self.state = match self.state {
            State::All(first, _) => {
                tracing::debug!(first, all = rate, "rows a second over {FIRST} connections and over all");
                State::Found(if rate >= first * FASTER { self.max } else { FIRST })
            }
            _ => State::All(rate, Window::new(table, self.max, now)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Loads chunks on a server that can do so many at once; how many connections it comes to.
    fn found(max: usize, cores: f64, chunks: usize, more: bool) -> usize {
        let mut width = Width::new(max, false);
        let mut now = Instant::now();
        for _ in 0..chunks {
            let speed = cores.min(width.for_rows() as f64);
            now += Duration::from_secs_f64(1.0 / speed);
            width.loaded("t", 1000, more, now);
        }
        width.for_others()
    }

    #[test]
    fn as_many_stay_as_have_the_rows_go_in_faster() {
        assert_eq!(found(4, 2.0, 50, true), 2);
        assert_eq!(found(4, 2.5, 50, true), 2);
        assert_eq!(found(4, 3.0, 50, true), 4);
        assert_eq!(found(4, 8.0, 50, true), 4);
        assert_eq!(found(2, 8.0, 50, true), 2);
    }

    #[test]
    fn nothing_is_found_where_the_dump_or_the_network_sets_the_pace() {
        assert_eq!(found(4, 2.0, 50, false), 4);
        assert_eq!(found(4, 2.0, 15, true), 4);
    }

    #[test]
    fn only_rows_of_one_table_are_compared() {
        let mut width = Width::new(4, false);
        let mut now = Instant::now();
        for at in 0..100 {
            now += Duration::from_secs(1);
            width.loaded(if at % 3 == 0 { "a" } else { "b" }, 1000, true, now);
        }
        assert_eq!((width.for_rows(), width.for_others()), (2, 4));
    }

    #[test]
    fn a_number_that_was_asked_for_stays() {
        let width = Width::new(7, true);
        assert_eq!((width.for_rows(), width.for_others()), (7, 7));
    }
}
