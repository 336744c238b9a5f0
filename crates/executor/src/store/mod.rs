//! Where records are kept: the [`Journal`] trait, its stores, and the hash chain they all share.
//!
//! | part      | what it holds                                                       |
//! |-----------|---------------------------------------------------------------------|
//! | `journal` | the trait and its types: what any store promises                    |
//! | `error`   | what can go wrong, in words that say who holds what and what to do  |
//! | `chain`   | how one record's hash follows from the one before                   |
//! | `lease`   | when a lease may be taken over; pure                                |
//! | `keys`    | what a claim on an idempotency key comes to; pure                   |
//! | `sqlite`  | the store for one machine: one file, many processes                 |
//! | `memory`  | the store for tests: the same promises, gone at the end             |
//!
//! Nothing here knows what is inside a record: bodies are bytes.

mod chain;
#[cfg(test)]
mod contract;
mod error;
mod journal;
mod keys;
mod lease;
mod memory;
mod sqlite;

pub use chain::{Link, genesis, prove};
pub use error::{AppendError, JournalError, LeaseError};
pub use journal::{
    Found, Journal, KeyClaim, LEASE_RENEW_EVERY, LEASE_TTL, Lease, LeaseInfo, RECORD_BYTES_MAX, RunRow,
    Stored, Verified,
};
pub use memory::MemoryJournal;
pub use sqlite::SqliteJournal;
