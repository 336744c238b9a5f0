//! Masking: personal values are replaced by keyed pseudonyms, while a dump is loaded or in place, and a leak check
//! proves that nothing of them is left.
//!
//! | part         | what it does                                                     |
//! |--------------|------------------------------------------------------------------|
//! | `rules`      | reads the rule file, and the shipped rules of the platform        |
//! | `columns`    | which columns there are, and of what shape                        |
//! | `plan`       | a rule for each column, or the list of those that have none       |
//! | `keys`       | the keys derived from the one secret                              |
//! | `pseudonym`  | a value's stand-in: same domain and value, same stand-in          |
//! | `value`      | applies a rule to one value, inside JSON and arrays too           |
//! | `copy`       | rows as COPY writes them                                          |
//! | `scan`       | looks through a dump first: tables with rows, foreign keys        |
//! | `taint`      | remembers source values, as keyed hashes only                     |
//! | `detect`     | shapes of personal data                                           |
//! | `stream`     | masks what a restore loads                                        |
//! | `in_place`   | `postgres.mask`                                                   |
//! | `leak_check` | `postgres.leak_check`                                             |
//!
//! No error and no output here quotes a value of a row.

mod columns;
mod copy;
mod detect;
mod in_place;
mod keys;
mod leak_check;
mod output;
mod plan;
mod pseudonym;
mod rules;
mod scan;
mod search;
mod stream;
mod taint;
mod value;

#[cfg(test)]
mod tests;

pub(super) use in_place::mark;
pub use in_place::{Mask, MaskOutputs, MaskParams};
pub use leak_check::{LeakCheck, LeakCheckOutputs, LeakCheckParams};
pub use output::{Masked, TaintFile};
pub(super) use stream::{Masker, is_statistics};
