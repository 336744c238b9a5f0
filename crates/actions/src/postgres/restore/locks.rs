//! What a part of a restore locks, by PostgreSQL's own table of lock modes. Two parts whose locks do not conflict may
//! go side by side, in any order; two whose locks do conflict go in the order of the dump. That is all that makes a
//! parallel restore the same as a serial one. Pure: knows no session and no clock.

use serde::{Deserialize, Serialize};

/// A lock on a table (PostgreSQL documentation, "Explicit Locking", table 13.2). Modes that no part takes are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Mode {
    /// Reads rows that others refer to: the parent while a foreign key is validated.
    RowShare,
    /// Rows go in.
    RowExclusive,
    /// A constraint is validated.
    ShareUpdateExclusive,
    /// An index is built.
    Share,
    /// A foreign key is added, on both tables.
    ShareRowExclusive,
    /// The table's definition changes, or it is truncated.
    AccessExclusive,
}

use Mode::{AccessExclusive, RowExclusive, RowShare, Share, ShareRowExclusive, ShareUpdateExclusive};

impl Mode {
    /// Whether the server lets both be held at once.
    fn goes_with(self, other: Self) -> bool {
        let among = |these: &[Self]| these.contains(&other);
        match self {
            RowShare => other != AccessExclusive,
            RowExclusive => among(&[RowShare, RowExclusive, ShareUpdateExclusive]),
            ShareUpdateExclusive => among(&[RowShare, RowExclusive]),
            Share => among(&[RowShare, Share]),
            ShareRowExclusive => among(&[RowShare]),
            AccessExclusive => false,
        }
    }
}

/// What a part needs for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Needs {
    /// That everything before it is done, and nothing after it has begun.
    Everything,
    /// These locks, one a table; none at all is possible.
    Locks(Vec<(String, Mode)>),
}

impl Needs {
    /// One lock.
    pub(super) fn lock(table: &str, mode: Mode) -> Self {
        Self::Locks(vec![(table.to_owned(), mode)])
    }

    /// What two parts need together. Of two locks on one table the stronger stays; where neither covers the other,
    /// the strongest there is.
    pub(super) fn and(self, other: Self) -> Self {
        let (Self::Locks(mut mine), Self::Locks(others)) = (self, other) else { return Self::Everything };
        for (table, mode) in others {
            match mine.iter_mut().find(|(held, _)| *held == table) {
                Some((_, held)) if *held == mode => {}
                Some((_, held)) => *held = held.with(mode),
                None => mine.push((table, mode)),
            }
        }
        Self::Locks(mine)
    }

    /// Whether two parts must not be at work at once.
    pub(super) fn conflicts(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Locks(mine), Self::Locks(others)) => mine.iter().any(|(table, mode)| {
                others.iter().any(|(held, with)| held == table && !mode.goes_with(*with))
            }),
            _ => true,
        }
    }
}

impl Mode {
    fn with(self, other: Self) -> Self {
        let covers = |strong: Self, weak: Self| {
            MODES.iter().all(|mode| weak.goes_with(*mode) || !strong.goes_with(*mode))
        };
        if covers(self, other) {
            self
        } else if covers(other, self) {
            other
        } else {
            AccessExclusive
        }
    }
}

const MODES: [Mode; 6] =
    [RowShare, RowExclusive, ShareUpdateExclusive, Share, ShareRowExclusive, AccessExclusive];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_conflict_as_the_server_says() {
        // `x` conflicts; rows and columns in the order of `MODES`.
        let table = ["     x", "   xxx", "  xxxx", " xx xx", " xxxxx", "xxxxxx"];
        for (row, mine) in table.iter().zip(MODES) {
            for (mark, other) in row.chars().zip(MODES) {
                assert_eq!(mine.goes_with(other), mark == ' ', "{mine:?} with {other:?}");
                assert_eq!(mine.goes_with(other), other.goes_with(mine), "{mine:?} with {other:?}");
            }
        }
    }

    #[test]
    fn what_two_parts_need_together_conflicts_with_whatever_either_conflicts_with() {
        for one in MODES {
            for two in MODES {
                let both = Needs::lock("t", one).and(Needs::lock("t", two));
                for other in MODES.map(|mode| Needs::lock("t", mode)) {
                    let either =
                        Needs::lock("t", one).conflicts(&other) || Needs::lock("t", two).conflicts(&other);
                    assert!(!either || both.conflicts(&other), "{one:?} and {two:?} with {other:?}");
                }
            }
        }
        let both = Needs::lock("a", Share).and(Needs::lock("b", RowExclusive));
        assert!(both.conflicts(&Needs::lock("b", Share)) && !both.conflicts(&Needs::lock("a", Share)));
        assert_eq!(both.and(Needs::Everything), Needs::Everything);
        assert!(!Needs::Locks(Vec::new()).conflicts(&Needs::lock("a", AccessExclusive)));
        assert!(Needs::Locks(Vec::new()).conflicts(&Needs::Everything));
    }
}
