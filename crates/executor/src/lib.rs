//! Where a run stands and what comes next: state machine, journal, driver.
//!
//! | part       | what it holds                                              | touches the world          |
//! |------------|------------------------------------------------------------|----------------------------|
//! | `record`   | the durable facts of a run, as they are kept               | no                         |
//! | `machine`  | the fold of the records, and what comes next               | no                         |
//! | `driver`   | the loop that carries commands out                         | through actions            |
//! | `requests` | what people ask of a run, from any process                 | through the journal        |
//! | `event`    | what a watcher is told                                     | no                         |
//! | `view`     | a run as `status` and `report` show it                     | no                         |
//! | `report`   | a run as a report tells it to somebody who was not there   | no                         |
//! | `store`    | where records are kept                                     | disk                       |
//! | `portable` | a run's journal as one file, for another machine           | no                         |
//! | `holder`   | who holds a lease, and whether that process lives          | looks at processes         |
//! | `secrets`  | where the values behind references come from               | environment, files         |
//! | `vault`    | secrets that steps made                                    | disk                       |
//! | `redact`   | takes every known secret out of every text                 | no                         |
//!
//! The one rule: a record is durable before the thing that it announces is begun, shown or relied upon. An
//! action may therefore be called twice, but no finished step ever runs again.

pub mod driver;
pub mod event;
pub mod holder;
pub mod machine;
pub mod portable;
pub mod record;
pub mod redact;
pub mod report;
pub mod requests;
pub mod secrets;
#[cfg(test)]
mod sim;
pub mod store;
pub mod vault;
pub mod view;
