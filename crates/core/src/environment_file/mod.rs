//! An environment file to an [`Environment`](crate::environment::Environment): strict, all mistakes
//! at once, each at its place. Reads no secret: what travels is where each comes from. A literal
//! where a secret belongs is refused, and no message repeats it.

mod load;
mod merge;
mod providers;
mod sections;
pub(crate) mod shapes;
mod text;

#[cfg(test)]
mod tests;

pub use load::{Loaded, decode, extends};
