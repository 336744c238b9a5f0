//! Restores a dump: one streaming pass, in bounded memory, exactly once.
//!
//! | part       | what it does                                              |
//! |------------|-----------------------------------------------------------|
//! | `params`   | what it takes and gives                                   |
//! | `action`   | decides what may be touched, and when success may be said |
//! | `proof`    | what proves that the bytes are the recorded ones          |
//! | `reading`  | where the dump's bytes come from                          |
//! | `feed`     | a thread that reads the dump                              |
//! | `archive`  | takes an archive apart                                    |
//! | `ahead`    | which of its tables are read before their turn            |
//! | `early`    | what of an archive's end comes as soon as rows are in     |
//! | `batch`    | cuts it into chunks, always at the same places            |
//! | `rewrite`  | takes constraints apart into what is long and what locks  |
//! | `put_off`  | what comes when everything small stands                   |
//! | `locks`    | which chunks may go side by side                          |
//! | `ties`     | which tables keep an order of their own                   |
//! | `schedule` | which one comes next                                      |
//! | `load`     | keeps several connections at work                         |
//! | `load/rest`| keeps what is left when only statements are, for a resume |
//! | `pass`     | reads rows that go nowhere                                |
//! | `lane`     | one of them: carries a chunk over, with its marker        |
//! | `width`    | how many connections are at work at once                  |
//! | `lanes`    | opens as many of them as the server has room for          |
//! | `phases`   | when what was over                                        |
//! | `fault`    | why a restore stops                                       |
//! | `markers`  | what the target remembers of it                           |
//! | `platform` | what a platform owns in the target                        |
//! | `verify`   | compares the result with the dump                         |
//! | `grants`   | who may do something with what                            |
//! | `empty`    | takes everything back                                     |
//!
//! The one rule (P9): success is said only after the sha256 of the bytes that were loaded matched the
//! recorded one and the dump said that it is whole. A fresh target is filled while that hash is computed.
//! Nobody can see it meanwhile: its address is known to no application before a later step, tagged
//! `expose`, runs (G08), and that step needs this one's success. What turns out to be unverified is
//! removed before the error is returned. A target that holds data is not touched before the whole object
//! was hashed, unless the store's own checksum already proved the same.

mod action;
mod ahead;
mod archive;
mod batch;
mod early;
mod empty;
mod fault;
mod feed;
mod grants;
mod lane;
mod lanes;
mod load;
mod locks;
mod markers;
mod params;
mod pass;
mod phases;
mod platform;
mod proof;
mod put_off;
mod reading;
mod rewrite;
mod schedule;
mod ties;
mod verify;
mod width;

#[cfg(test)]
mod tests;

pub use action::Restore;
pub use params::{RestoreOutputs, RestoreParams, Skipped, Verify};
pub use platform::Profile;
