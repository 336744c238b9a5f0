//! Where a run stands: a fold over its records, and what comes next. Pure: no clock, I/O or randomness,
//! so the same machine runs under the driver, under the simulator and, later, on many computers.
//!
//! | part       | what it holds                                              |
//! |------------|------------------------------------------------------------|
//! | `skeleton` | what the machine needs to know of a workflow               |
//! | `state`    | where every step stands                                    |
//! | `read`     | what anybody may ask of it                                 |
//! | `rules`    | which record is legal now: the table to read first         |
//! | `apply`    | what each record changes                                   |
//! | `next`     | commands: what may be done now                             |

mod apply;
mod next;
mod read;
mod rules;
mod skeleton;
mod state;

pub use next::{Command, Next};
pub use rules::{IllegalRecord, approval_digest};
pub use skeleton::{Bone, Skeleton, UndoPlan};
pub use state::{
    Answer, Approval, Attempt, Closed, Failure, Force, Instance, Machine, NodeView, Sitting, Started, State,
    UndoState,
};
