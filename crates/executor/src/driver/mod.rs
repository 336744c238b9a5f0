//! Carries out what the machine says: the loop that takes the lease, appends, calls actions and tells
//! watchers. All that is impure about a run is here: clock, randomness, tasks, files of artifacts.
//!
//! | part          | what it holds                                                  |
//! |---------------|----------------------------------------------------------------|
//! | `engine`      | starting, driving, loading: what the cli calls                 |
//! | `environment` | taking a run with its environment, and giving that back        |
//! | `pinned`      | the first record to a compiled workflow, and back              |
//! | `skeleton`    | a workflow to what the machine needs to know of it             |
//! | `sitting`     | one process at work on one run: the loop                       |
//! | `commands`    | one command of the machine to records and tasks                |
//! | `commit`      | group commit, foreign records, fencing                         |
//! | `prepare`     | everything that is worked out before a step starts             |
//! | `attempt`     | calling an action: context, timeout, stop                      |
//! | `settle`      | what an action said, to records                                |
//! | `resume_plan` | what a resume would do                                         |
//!
//! The one rule: a record is durable before the thing that it announces is begun, shown or relied upon.

mod attempt;
mod commands;
mod commit;
mod end;
mod engine;
mod environment;
mod lease;
mod pinned;
mod prepare;
mod rehearsal;
mod resume_plan;
mod secret_fields;
mod settle;
mod sitting;
mod skeleton;
mod stop;

pub use end::{Problem, RunEnd, RunOutcome};
pub(crate) use end::{outcome as outcome_of, problems as problems_of};
pub use engine::{Clock, DriveOptions, Engine, EngineError, NewRun, StatePaths};
pub use pinned::Loaded;
pub use rehearsal::Rehearsal;
pub use resume_plan::{ResumeLine, ResumeWhat};
pub use skeleton::skeleton_of;
pub use stop::Stop;
