//! When the phases of a restore began and ended. They overlap; what is told is when the last part of each was over.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::postgres::sql::What;

use super::batch::Line;

/// What a part of a restore is about; later ones outweigh earlier ones where a part is about several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Phase {
    /// Schemas, tables, functions, and whatever else is made.
    Schema,
    /// Rows and large objects.
    Rows,
    /// Indexes, keys and unique constraints, and what the planner knows of tables.
    Indexes,
    /// Foreign keys that are checked.
    References,
}

impl Phase {
    pub(super) fn of(line: &Line) -> Self {
        match &line.what {
            What::Insert { .. } | What::LargeObject | What::Setval { .. } => Self::Rows,
            What::Create { kind: "index", .. } | What::AddConstraint { .. } | What::Analyze { .. } => {
                Self::Indexes
            }
            What::Validate { .. } => Self::References,
            _ => Self::Schema,
        }
    }
}

/// Seconds after the attempt began at which each phase was over; none for one that did not take place in it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PhaseTimes {
    /// The first rows went in: what comes before them was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_from: Option<f64>,
    /// All rows were in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<f64>,
    /// All indexes and keys were built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexes: Option<f64>,
    /// The database could be used: everything was there, policies and grants included; foreign keys may have been
    /// unchecked still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usable: Option<f64>,
    /// All foreign keys were checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references: Option<f64>,
    /// Everything was compared with the dump, and the sha256 matched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<f64>,
}

/// Notes moments.
#[derive(Debug)]
pub(super) struct Phases {
    began: Instant,
    times: PhaseTimes,
}

impl Default for Phases {
    fn default() -> Self {
        Self { began: Instant::now(), times: PhaseTimes::default() }
    }
}

impl Phases {
    /// Counts from an earlier moment.
    pub(super) fn since(began: Instant) -> Self {
        Self { began, ..Self::default() }
    }

    fn now(&self) -> Option<f64> {
        Some(self.began.elapsed().as_secs_f64())
    }

    /// A part of a phase begins.
    pub(super) fn began(&mut self, phase: Phase) {
        if phase == Phase::Rows && self.times.rows_from.is_none() {
            self.times.rows_from = self.now();
        }
    }

    /// A part of a phase is over.
    pub(super) fn ended(&mut self, phase: Phase) {
        let now = self.now();
        match phase {
            Phase::Schema => {}
            Phase::Rows => self.times.rows = now,
            Phase::Indexes => self.times.indexes = now,
            Phase::References => self.times.references = now,
        }
        if phase != Phase::References {
            self.times.usable = now;
        }
    }

    /// Everything is over and proven.
    pub(super) fn verified(mut self) -> PhaseTimes {
        self.times.verified = self.now();
        self.times
    }
}
