//! Secrets that a run makes. Values go into the vault and nowhere else.

mod generate;

pub use generate::Generate;
