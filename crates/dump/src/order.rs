//! The order in which pg_restore goes through an archive. Picks nothing out: what a profile leaves out is its own affair.

use crate::archive::{Entry, Pass, Section};

/// What is to be restored of one archive, in order.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    items: Vec<Item<'a>>,
}

/// One entry in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item<'a> {
    /// The entry.
    pub entry: &'a Entry,
    /// The pass in which it comes.
    pub pass: Pass,
    /// The part of the restore in which it comes.
    pub part: Part,
}

/// The parts of a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Statements that come before rows, in this order, on one connection.
    PreData,
    /// Rows, large objects and sequence values. Tables may be loaded in any order and side by side.
    Data,
    /// Statements that come after rows.
    PostData,
    /// Grants.
    Acl,
    /// Contents of materialized views, event triggers.
    Refresh,
}

impl<'a> Plan<'a> {
    /// Orders the entries as pg_restore does: three passes over the table of contents. Settings are left out, and so
    /// is what concerns the database itself, unless `with_database`.
    pub fn new(toc: &'a [Entry], with_database: bool) -> Self {
        let mut parts = Parts::default();
        let wanted = |entry: &&Entry| !entry.is_setting() && (with_database || !entry.is_database());
        let mut items: Vec<Item<'a>> = toc
            .iter()
            .filter(wanted)
            .map(|entry| Item { entry, pass: entry.pass(), part: parts.of(entry) })
            .collect();
        items.sort_by_key(|item| item.pass);
        Self { items }
    }

    /// All items in order.
    pub fn iter(&self) -> impl Iterator<Item = &Item<'a>> {
        self.items.iter()
    }

    /// The entries of one part, in order.
    pub fn part(&self, part: Part) -> impl Iterator<Item = &'a Entry> {
        self.items.iter().filter(move |item| item.part == part).map(|item| item.entry)
    }
}

/// Entries without a section (comments, labels) belong to the part that they stand in.
struct Parts {
    now: Part,
}

impl Default for Parts {
    fn default() -> Self {
        Self { now: Part::PreData }
    }
}

impl Parts {
    fn of(&mut self, entry: &Entry) -> Part {
        match entry.pass() {
            Pass::Acl => return Part::Acl,
            Pass::Refresh => return Part::Refresh,
            Pass::Main => {}
        }
        match entry.section {
            Section::None => {}
            Section::PreData => self.now = Part::PreData,
            Section::Data => self.now = Part::Data,
            Section::PostData => self.now = Part::PostData,
        }
        self.now
    }
}
