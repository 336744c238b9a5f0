//! Tests of whole runs: of the machine alone, thousands of random ones from seeds, with crashes, requests of
//! people and stale engines, against a model that knows nothing of the machine; and of the driver, with scripted
//! actions and a process that dies where it is told to.

mod bench;
mod carry;
mod holding;
mod model;
mod people;
mod plan;
mod records;
mod runs;
mod samples;
mod scenarios;
mod world;
