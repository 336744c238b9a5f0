//! What is to be done: the runbook language, its checks, and the plan that comes out of it.
//!
//! | part          | what it holds                                                        |
//! |---------------|----------------------------------------------------------------------|
//! | `yaml`        | text to a tree in which every key and value knows where it stands    |
//! | `document`    | a runbook as its author wrote it, with spans                         |
//! | `environment` | where a runbook runs: connections, secrets, policy                   |
//! | `template`    | `{{ … }}` and bare expressions                                       |
//! | `compile`     | documents to one flat DAG of typed steps: the [`workflow::Workflow`] |
//! | `guard`       | the golden rules, checked on that DAG                                |
//! | `action`      | the contract between an action and whoever runs it                   |
//! | `diagnostic`  | mistakes in a runbook, many at a time, each at its line              |
//!
//! The one rule: nothing here touches a file, a network, a clock or a runtime. What comes in is
//! text and data, what goes out is data. The same text always compiles to the same digest.

pub mod action;
pub mod diagnostic;
pub mod document;
pub mod environment;
pub mod secret;
pub mod types;
pub mod workflow;
