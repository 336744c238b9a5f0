//! What the machine needs to know of a workflow; small, so that the simulator can make up its own.

use std::time::Duration;

use runbook_core::action::Effect;
use runbook_core::workflow::{OnExhausted, Phase, StepPath};

/// All steps of all phases, in an order that respects `needs`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Skeleton {
    /// The steps.
    pub steps: Vec<Bone>,
    /// Stop starting steps of the main phase after this long.
    pub deadline: Option<Duration>,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Bone {
    /// Its path.
    pub path: StepPath,
    /// Positions of the steps that must be done or skipped first; all smaller than its own.
    pub needs: Vec<usize>,
    /// Position of the `(begin)` of the runbook that it belongs to; one of `needs` or before them.
    pub within: Option<usize>,
    /// When it may run.
    pub phase: Phase,
    /// It has an `if`.
    pub conditional: bool,
    /// It has a `for_each`, with this many instances in flight at once.
    pub each: Option<u32>,
    /// A person is asked before it starts.
    pub asks: bool,
    /// It calls an action; else it is the entry or the exit of a runbook used as a step.
    pub calls: bool,
    /// What may be repeated.
    pub effect: Effect,
    /// A probe can settle it, and is to be asked before it is repeated.
    pub probe: bool,
    /// Attempts in one sitting.
    pub attempts_max: u32,
    /// When they are used up.
    pub on_exhausted: OnExhausted,
    /// A failure does not stop what depends on it.
    pub continue_on_error: bool,
    /// What a rollback does with it.
    pub undo: UndoPlan,
    /// After this a rollback is refused.
    pub point_of_no_return: bool,
}

/// What a rollback does with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UndoPlan {
    /// There is nothing to take back.
    Nothing,
    /// The effect stays, and it is said why.
    Keep(String),
    /// The effect is taken back.
    Act,
}

impl Bone {
    /// A main step that reads, with nothing special about it.
    pub fn plain(path: impl Into<String>, needs: Vec<usize>) -> Self {
        Self {
            path: StepPath::new(path),
            needs,
            within: None,
            phase: Phase::Main,
            conditional: false,
            each: None,
            asks: false,
            calls: true,
            effect: Effect::Read,
            probe: false,
            attempts_max: 3,
            on_exhausted: OnExhausted::Pause,
            continue_on_error: false,
            undo: UndoPlan::Nothing,
            point_of_no_return: false,
        }
    }
}
