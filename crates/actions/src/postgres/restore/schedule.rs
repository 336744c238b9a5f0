//! Which part of a restore comes next. Parts are given in the order of the dump; one may start when nothing before
//! it that is not done conflicts with it ([`Needs`]). Of those that may, the heaviest goes first: a long one that is
//! begun last is waited for alone. Pure: starts nothing itself.

use std::collections::VecDeque;

use super::locks::Needs;

/// Parts that wait, and what the running ones hold.
#[derive(Debug)]
pub(super) struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    running: Vec<(u64, Needs)>,
    tickets: u64,
}

#[derive(Debug)]
struct Waiting<T> {
    needs: Needs,
    weight: u64,
    part: T,
}

/// A part that may start now.
#[derive(Debug)]
pub(super) struct Started<T> {
    /// What [`Queue::done`] wants to hear.
    pub(super) ticket: u64,
    /// The part.
    pub(super) part: T,
    /// What it holds.
    pub(super) needs: Needs,
    /// As it was given.
    pub(super) weight: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: Vec::new(), tickets: 0 }
    }
}

impl<T> Queue<T> {
    /// Takes the next part of the dump. `weight` is about how long it takes, in bytes of its table.
    pub(super) fn push(&mut self, needs: Needs, weight: u64, part: T) {
        self.waiting.push_back(Waiting { needs, weight, part });
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The parts that wait, in their order, with what they need and their weights.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&T, &Needs, u64)> {
        self.waiting.iter().map(|waiting| (&waiting.part, &waiting.needs, waiting.weight))
    }

    /// Whether nothing waits and nothing runs.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// The part to start now; none while each that waits conflicts with one before it, and none when there is no `room`
    /// for the one that is next.
    pub(super) fn start(&mut self, room: impl FnOnce(&T) -> bool) -> Option<Started<T>> {
        let best = self.best()?;
        if !room(&self.waiting.get(best)?.part) {
            return None;
        }
        let started = self.waiting.remove(best)?;
        let ticket = self.tickets;
        self.tickets += 1;
        let Waiting { needs, weight, part } = started;
        self.running.push((ticket, needs.clone()));
        Some(Started { ticket, part, needs, weight })
    }

    fn best(&self) -> Option<usize> {
        let mut best: Option<(usize, u64)> = None;
        for (at, one) in self.waiting.iter().enumerate() {
            let ahead = self.running.iter().map(|(_, needs)| needs);
            let mut ahead = ahead.chain(self.waiting.iter().take(at).map(|before| &before.needs));
            if best.is_none_or(|(_, weight)| one.weight > weight)
                && !ahead.any(|before| before.conflicts(&one.needs))
            {
                best = Some((at, one.weight));
            }
            if one.needs == Needs::Everything {
                break;
            }
        }
        best.map(|(at, _)| at)
    }

    /// A part is over.
    pub(super) fn done(&mut self, ticket: u64) {
        self.running.retain(|(running, _)| *running != ticket);
    }

    /// Forgets what has not begun.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::locks::Mode;
    use super::*;

    fn needs() -> impl Strategy<Value = Needs> {
        let modes = prop::sample::select(vec![
            Mode::RowShare,
            Mode::RowExclusive,
            Mode::ShareUpdateExclusive,
            Mode::Share,
            Mode::ShareRowExclusive,
            Mode::AccessExclusive,
        ]);
        let lock = ("[abc]", modes);
        prop_oneof![
            1 => Just(Needs::Everything),
            6 => prop::collection::btree_map(lock.0, lock.1, 0..3).prop_map(|locks| Needs::Locks(locks.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn parts_that_conflict_go_in_order_and_every_part_goes_once(
            parts in prop::collection::vec((needs(), 0..5_u64), 0..30),
            lanes in 1..5_usize,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 100),
        ) {
            let mut queue = Queue::default();
            for (at, (needs, weight)) in parts.iter().enumerate() {
                queue.push(needs.clone(), *weight, at);
            }
            let (mut running, mut over, mut picks) = (Vec::new(), Vec::new(), picks.iter().cycle());
            while !queue.is_idle() {
                while running.len() < lanes && let Some(started) = queue.start(|_| true) {
                    for (_, other) in &running {
                        let (_, other): &(u64, usize) = &(0, *other);
                        prop_assert!(!parts[*other].0.conflicts(&parts[started.part].0), "{other} and {}", started.part);
                    }
                    for before in 0..started.part {
                        let conflicts = parts[before].0.conflicts(&parts[started.part].0);
                        prop_assert!(!conflicts || over.contains(&before), "{before} before {}", started.part);
                    }
                    running.push((started.ticket, started.part));
                }
                prop_assert!(!running.is_empty(), "nothing runs and something waits");
                let (ticket, part) = running.remove(picks.next().unwrap().index(running.len()));
                queue.done(ticket);
                over.push(part);
            }
            over.sort_unstable();
            prop_assert_eq!(over, (0..parts.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_heaviest_that_may_start_goes_first() {
        let mut queue = Queue::default();
        for (table, weight) in [("a", 1), ("b", 9), ("c", 5)] {
            queue.push(Needs::lock(table, Mode::Share), weight, table);
        }
        assert!(
            queue.start(|part| *part != "b").is_none(),
            "the next one waits for room, and no other goes before it"
        );
        queue.push(Needs::Everything, 99, "last");
        let order = std::iter::from_fn(|| {
            let started = queue.start(|_| true)?;
            queue.done(started.ticket);
            Some(started.part)
        });
        assert_eq!(order.collect::<Vec<_>>(), ["b", "c", "a", "last"]);
    }
}
