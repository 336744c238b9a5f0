//! Secrets that a run makes, and the places that they must reach. Values go into the vault and to those places,
//! and nowhere else.

mod distribute;
mod generate;
mod places;
mod rotate;

pub use distribute::Distribute;
pub use generate::Generate;
pub use rotate::Rotate;
