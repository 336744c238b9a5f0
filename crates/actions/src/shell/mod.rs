//! Programs of this machine, as a last resort for what has no action of its own. The process group belongs to the
//! run: what an earlier attempt left alive is ended before anything is repeated.

mod capture;
mod group;
mod params;
mod run;

pub use run::Run;

#[cfg(test)]
mod tests;
