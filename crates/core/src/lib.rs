//! What is to be done: the runbook language, its checks, and the plan that comes out of it.
//!
//! | part          | what it holds                                                        |
//! |---------------|----------------------------------------------------------------------|
//! | `yaml`        | text to a tree in which every key and value knows where it stands    |
//! | `decode`      | that tree to a document, with all mistakes at once                   |
//! | `document`    | a runbook as its author wrote it, with spans                         |
//! | `environment` | where a runbook runs; `environment_file` reads it                    |
//! | `schema`      | JSON Schemas of both, for editors                                    |
//! | `template`    | `{{ … }}` and bare expressions                                       |
//! | `compile`     | documents to one flat DAG of typed steps: the [`workflow::Workflow`] |
//! | `graph`       | what has certainly happened when a step runs: ancestors, dominance   |
//! | `guard`       | the golden rules, checked on that DAG                                |
//! | `scope`       | what a step's templates see while a run is under way                 |
//! | `evidence`    | what a finished step proves: checks, and the levels V0 to V7         |
//! | `key`         | idempotency keys, and digests that no field order changes            |
//! | `action`      | the contract between an action and whoever runs it                   |
//! | `diagnostic`  | mistakes in a runbook, many at a time, each at its line              |
//!
//! The one rule: nothing here touches a file, a network, a clock or a runtime. What comes in is
//! text and data, what goes out is data. The same text always compiles to the same digest.

pub mod action;
pub mod compile;
pub mod decode;
pub mod diagnostic;
pub mod document;
pub mod environment;
pub mod environment_file;
pub mod evidence;
pub mod graph;
pub mod guard;
pub mod key;
pub mod schema;
pub mod scope;
pub mod secret;
pub mod suggest;
pub mod template;
pub mod types;
pub mod workflow;
pub mod yaml;

#[cfg(test)]
mod testing;
