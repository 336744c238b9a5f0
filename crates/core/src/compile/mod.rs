//! Documents, environment, inputs and registry to one [`Workflow`](crate::workflow::Workflow), or to
//! every mistake that can be known before anything runs. Reads files only through [`Loader`].
//!
//! | part      | what it does                                                            |
//! |-----------|-------------------------------------------------------------------------|
//! | `load`    | reads the root and every runbook it uses; refuses recursion             |
//! | `expand`  | puts used runbooks in their place: one flat list of steps               |
//! | `step`    | one written step to one step of the workflow, defaults applied          |
//! | `texts`   | every template and expression of a step, with its place and what it sees |
//! | `edges`   | who needs whom: written, by default, and by reference                   |
//! | `order`   | a deterministic order that respects the needs; cycles                   |
//! | `types`   | JSON Schemas as types: fields, what fits where, what is secret          |
//! | `names`   | what a reference means and which type it has                            |
//! | `params`  | `with` against the parameters of its action                             |
//! | `check`   | all of the above for every step, in order                               |
//! | `inputs`  | the values of the root's inputs                                         |
//! | `digest`  | one hash over everything that decides what would be done                |

mod check;
mod digest;
mod edges;
mod expand;
mod inputs;
mod load;
mod names;
mod order;
mod params;
mod request;
mod step;
mod texts;
mod types;

pub use expand::STEPS_MAX;
pub use load::{DEPTH_MAX, FILES_MAX};
pub use request::{Compiled, Loader, Request, Waiver, compile};

#[cfg(test)]
mod tests;
